"""All pieces, by kind of data."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment
from tests.laws.fuzz.fragments.attention import ATTENTION
from tests.laws.fuzz.fragments.images import IMAGES
from tests.laws.fuzz.fragments.sequence import SEQUENCE
from tests.laws.fuzz.fragments.vectors import VECTORS

KINDS: dict[str, list[Fragment]] = {
    "sequence": [*ATTENTION, *SEQUENCE],
    "tokens": [*ATTENTION, *SEQUENCE],
    "images": IMAGES,
    "vectors": VECTORS,
}
TABLES = {kind: {one.name: one for one in pieces} for kind, pieces in KINDS.items()}
