"""All pieces, by kind of data."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment
from tests.laws.fuzz.fragments.attention import ATTENTION
from tests.laws.fuzz.fragments.sequence import SEQUENCE

TABLES: dict[str, dict[str, Fragment]] = {
    "sequence": {one.name: one for one in [*ATTENTION, *SEQUENCE]},
}
