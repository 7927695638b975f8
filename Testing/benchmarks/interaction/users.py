"""The simulated user at work: clicks into the middle of the largest error, judged and timed click by click."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.correction import Click, next_click
from medseg.correction.prompts import Prompt
from medseg.correction.region import bounding_box
from medseg.correction.session import Corrector
from medseg.metrics import dice
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.session import Tool
    from medseg.volumes import Volume


@dataclass(frozen=True)
class Session:
    """What became of a segment, click by click.

    Attributes
    ----------
    before
        Dice of what it began with.
    scores
        Dice after each click; it stays when nothing is wrong any more.
    seconds, processor_seconds
        From a click to the segment after it, by the wall clock and summed over the threads; of the clicks that were
        made.
    """

    before: float
    scores: tuple[float, ...]
    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...]


def clicked(
    tool: Tool, volume: Volume, truth: np.ndarray, mask: np.ndarray, clicks: int, progress: Progress = NO_PROGRESS
) -> Session:
    """Correct a segment by so many clicks, each into the middle of its own largest error.

    Parameters
    ----------
    tool
        Made for this volume, new.
    truth, mask
        (k, j, i) bool, what the segment should be, and what it is; the mask is not changed.
    """
    work = Corrector(tool, volume, mask)
    before = dice(work.mask, truth)
    scores: list[float] = []
    costs: list[tuple[float, float]] = []
    for number in range(clicks):
        progress.update(number / clicks)
        click = _next(work.mask, truth, volume.geometry.spacing[::-1])
        if click is not None:
            ras = volume.geometry.ijk_to_ras_points(np.array(click.place[::-1], np.float64))
            prompt = Prompt("point", ras, click.positive)
            begun, processor = time.perf_counter(), time.process_time()
            work.add(prompt)
            costs.append((time.perf_counter() - begun, time.process_time() - processor))
        scores.append(dice(work.mask, truth))
    return Session(before, tuple(scores), tuple(wall for wall, _ in costs), tuple(busy for _, busy in costs))


def _next(mask: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> Click | None:
    """Return what :func:`medseg.correction.next_click` returns, without looking where there is neither."""
    box = bounding_box(mask | truth)
    if box is None:
        return None
    click = next_click(mask[box.slices], truth[box.slices], spacing=spacing)
    if click is None:
        return None
    return Click(tuple(int(at + start) for at, start in zip(click.place, box.start, strict=True)), click.positive)
