"""One method over several structures, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.interaction.records import Record
    from benchmarks.interaction.users import Session


@dataclass(frozen=True)
class Reached:
    """The clicks that it took to a Dice.

    Attributes
    ----------
    clicks
        Mean over all structures; those that never get there count as all clicks.
    count, of
        For how many it was reached.
    """

    clicks: float
    count: int
    of: int


@dataclass(frozen=True)
class Seconds:
    """How long answers took: median and 95th percentile; NaN without any."""

    median: float
    p95: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Seconds:
        """Return those of some answers."""
        given = list(values)
        if not given:
            return cls(math.nan, math.nan)
        return cls(float(np.median(given)), float(np.percentile(given, 95)))


class Summary:
    """The sessions of one method.

    Parameters
    ----------
    records
        Of one method; at least one.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._done = [(record, record.session) for record in records if record.session is not None]
        self.of = len(records)

    @property
    def sessions(self) -> list[Session]:
        """What was measured."""
        return [session for _, session in self._done]

    @property
    def complete(self) -> bool:
        """Whether there is a session for every structure."""
        return len(self._done) == self.of

    @property
    def before(self) -> float:
        """Mean Dice of what was begun with."""
        return _mean(session.before for session in self.sessions)

    def after(self, clicks: int) -> float:
        """Return the mean Dice after so many clicks."""
        return _mean(session.scores[clicks - 1] for session in self.sessions)

    def over_kinds(self, clicks: int) -> float:
        """Return the mean over the kinds of structures of the mean Dice after so many clicks."""
        kinds: dict[tuple[str, str], list[float]] = {}
        for record, session in self._done:
            kinds.setdefault((record.group, record.structure), []).append(session.scores[clicks - 1])
        return _mean(_mean(scores) for scores in kinds.values())

    def reached(self, dice: float, *, within: int | None = None) -> Reached:
        """Return the clicks to a Dice, of the first ``within``; 0 where it is begun with."""
        found = [_clicks_to(session, dice) for session in self.sessions]
        most = max((len(session.scores) for session in self.sessions), default=0)
        count = sum(clicks is not None and clicks <= (within or most) for clicks in found)
        return Reached(_mean(most if clicks is None else clicks for clicks in found), count, len(found))

    def first_click(self) -> Seconds:
        """Return how long the first answers of sessions took."""
        return Seconds.of(session.seconds[0] for session in self.sessions if session.seconds)

    def later_clicks(self) -> Seconds:
        """Return how long the other answers took."""
        return Seconds.of(seconds for session in self.sessions for seconds in session.seconds[1:])


def busy_share(records: Iterable[Record]) -> float:
    """Return the processor seconds for each second of all answers, 1 without any: below 1 the machine was busy."""
    sessions = [record.session for record in records if record.session is not None]
    wall = sum(sum(session.seconds) for session in sessions)
    return sum(sum(session.processor_seconds) for session in sessions) / wall if wall else 1.0


def _clicks_to(session: Session, dice: float) -> int | None:
    for clicks, score in enumerate((session.before, *session.scores)):
        if score >= dice:
            return clicks
    return None


def _mean(values: Iterable[float]) -> float:
    given = list(values)
    return float(np.mean(given)) if given else math.nan
