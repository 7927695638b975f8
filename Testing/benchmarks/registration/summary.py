"""One method over all pairs of a group, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.registration.measure import mean_of_worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.registration.pair import Measure
    from benchmarks.registration.records import Record


@dataclass(frozen=True)
class Summary:
    """Means over the pairs for which a method gave a transform.

    Attributes
    ----------
    method
        Its name.
    pairs, of
        For how many there is one, and how many there are.
    accuracy
        Mean error in mm, or mean Dice over labels and pairs.
    worst
        Mean over the pairs of the error of the worst 30 % of the points, or mean of the worst 30 % of all Dice values.
    median, p95
        Of the error in mm; NaN where Dice is measured.
    folded, most_folded
        Mean and largest share of folded voxels, 0 to 1.
    seconds, processor_seconds
        Of a pair.
    peak_bytes
        Largest of all pairs.
    """

    method: str
    pairs: int
    of: int
    accuracy: float
    worst: float
    median: float
    p95: float
    folded: float
    most_folded: float
    seconds: float
    processor_seconds: float
    peak_bytes: int

    @property
    def complete(self) -> bool:
        """Whether there is a transform for every pair."""
        return self.pairs == self.of


def summarise(method: str, measure: Measure, records: Sequence[Record]) -> Summary | None:
    """Return the summary of a method's records of one group; ``None`` when it gave no transform at all."""
    done = [record for record in records if record.measured is not None and record.costs is not None]
    if not done:
        return None
    measured = [record.measured for record in done if record.measured is not None]
    costs = [record.costs for record in done if record.costs is not None]
    median = p95 = math.nan
    if measure == "mm":
        points = [one.points for one in measured if one.points is not None]
        accuracy, worst, median, p95 = (
            _mean([getattr(one, name) for one in points]) for name in ("mean", "worst", "median", "p95")
        )
    else:
        overlaps = [value for one in measured for value in one.dice.values()]
        accuracy, worst = _mean(overlaps), mean_of_worst(overlaps, high=False)
    return Summary(
        method=method,
        pairs=len(done),
        of=len(records),
        accuracy=accuracy,
        worst=worst,
        median=median,
        p95=p95,
        folded=_mean([one.folded for one in measured]),
        most_folded=max(one.folded for one in measured),
        seconds=_mean([one.seconds for one in costs]),
        processor_seconds=_mean([one.processor_seconds for one in costs]),
        peak_bytes=max(one.peak_bytes for one in costs),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
