"""Scores of rows that several ranks share."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

from torch import nn

from surgery.errors import InputError
from surgery.measuring.ledger import digest
from surgery.measuring.ranks import Link, Meeting
from surgery.measuring.rows import Row
from surgery.measuring.scoring import Found, Guarded, Scorer
from surgery.modules.engines import is_spread

ROUNDING = 1e-3  # of a score: what the same model may differ by on another device


@dataclass
class Together:
    """Every rank scores every row, in the order of rank 0, whose scores are kept.

    Attributes:
        told: that scores differ.
    """

    link: Link
    scorer: Scorer
    told: bool = False
    here: bool = field(default=True, init=False)

    def scores(self, rows: Iterable[Row], guard: Guarded) -> Generator[tuple[Row, Found], None, None]:
        with contextlib.closing(self.scorer.scores(self._followed(rows), guard)) as scores:
            for row, found in scores:
                everyone = self.link.every(found)
                self._compare(row, everyone)
                yield row, everyone[0]

    def _followed(self, rows: Iterable[Row]) -> Generator[Row, None, None]:
        source = iter(rows)
        while (row := self.link.first(lambda: next(source, None))) is not None:
            yield row

    def _compare(self, row: Row, found: Sequence[Found]) -> None:
        values = [one.score.value for one in found]
        low, high = min(values), max(values)
        if self.told or self.link.rank or high - low <= ROUNDING * max(abs(low), abs(high)):
            return
        self.told = True
        warnings.warn(
            f"ranks have different scores at widths {row.fraction or row.widths}: from {low:.6g} to {high:.6g}, and "
            f"{values[0]:.6g} of rank 0 is kept. If each validates data of its own, let validate reduce the score over "
            "all ranks (torch.distributed.all_reduce), or use the same data",
            stacklevel=2,
        )


@dataclass
class Split:
    """Each row is scored by one rank, the next that is free; all ranks get all scores."""

    meeting: Meeting
    scorer: Scorer
    rounds: int = 0
    here: bool = field(default=False, init=False)

    def scores(self, rows: Iterable[Row], guard: Guarded) -> Generator[tuple[Row, Found], None, None]:
        asked = self.meeting.first(lambda: list(rows))
        self.rounds += 1
        left = dict(enumerate(asked))
        while (number := self.meeting.number(self._key("next"))) < len(asked):
            with contextlib.closing(self.scorer.scores([asked[number]], guard)) as scores:
                for _, found in scores:
                    self.meeting.say(self._key(number), found)
            for done in [number for number in left if self.meeting.said(self._key(number))]:
                yield left.pop(done), self.meeting.heard(self._key(done))
        for number, row in left.items():
            yield row, self.meeting.heard(self._key(number))

    def _key(self, name: object) -> str:
        return f"row/{self.rounds}/{name}"


@dataclass
class Led:
    """Rank 0 has the scores computed, by an executor of its own; the others get them."""

    link: Link
    scorer: Scorer
    here: bool = field(default=False, init=False)

    def scores(self, rows: Iterable[Row], guard: Guarded) -> Generator[tuple[Row, Found], None, None]:
        with contextlib.closing(self.scorer.scores(rows, guard)) as scores:
            while (found := self.link.first(lambda: next(scores, None))) is not None:
                yield found


def check_alike(link: Link, what: str, value: object) -> None:
    """Raises InputError, on all ranks, where they have not the same: a row is one of one model, whoever scores it."""
    found = link.every(value)
    others = [str(rank) for rank, one in enumerate(found) if one != found[0]]
    if others:
        raise InputError(
            f"rank {', '.join(others)} has other {what} than rank 0: all ranks make this call alike. A model that one "
            "rank has loaded is sent to the others by torch.distributed.broadcast"
        )


def check_weights(link: Link, wrapped: nn.Module, buffers: bool) -> None:
    """Raises InputError where ranks have models of different weights. Those that share one have the same."""
    if isinstance(link, Meeting) and not is_spread(wrapped):
        check_alike(link, "weights", digest(wrapped, buffers))


def rank_scorer(link: Link, wrapped: nn.Module, here: Scorer, workers: Scorer | None, split: bool) -> Scorer:
    """What scores rows: here or by workers, and as rank 0 was told where there are several.

    Raises InputError where ranks cannot run the model one by one.
    """
    if not isinstance(link, Meeting):
        return workers or here
    if link.first(lambda: split):
        if is_spread(wrapped):
            raise InputError(
                "executor=surgery.ranks('split'): the model is sharded, and each forward needs all ranks: leave out "
                "executor="
            )
        return Split(link, here)
    return Together(link, here) if link.first(lambda: workers is None) else Led(link, workers or here)
