"""All pieces, by kind of data."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment
from tests.laws.fuzz.fragments.attention import ATTENTION
from tests.laws.fuzz.fragments.details import DETAILS
from tests.laws.fuzz.fragments.images import IMAGES
from tests.laws.fuzz.fragments.memories import MEMORIES
from tests.laws.fuzz.fragments.pairs import GRAPHS, PAIRS
from tests.laws.fuzz.fragments.pyramids import PYRAMIDS
from tests.laws.fuzz.fragments.sequence import SEQUENCE
from tests.laws.fuzz.fragments.structured import STRUCTURED
from tests.laws.fuzz.fragments.vectors import VECTORS

KINDS: dict[str, list[Fragment]] = {
    "sequence": [*ATTENTION, *SEQUENCE, *STRUCTURED, *DETAILS],
    "tokens": [*ATTENTION, *SEQUENCE, *STRUCTURED, *DETAILS],
    "images": [*IMAGES, *PYRAMIDS],
    "vectors": [*VECTORS, *MEMORIES, *STRUCTURED, *DETAILS],
    "pairs": [*PAIRS, *PAIRS, *SEQUENCE, *STRUCTURED, *DETAILS],
    "graphs": [*GRAPHS, *GRAPHS, *STRUCTURED, *DETAILS],
}
NAMES = {
    kind: [one.name for one in pieces] for kind, pieces in KINDS.items()
}  # what is there twice is drawn twice as often
TABLES = {kind: {one.name: one for one in pieces} for kind, pieces in KINDS.items()}
