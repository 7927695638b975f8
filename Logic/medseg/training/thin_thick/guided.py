"""Shape-based interpolation that a network corrects by the image: what the per-case tool does by default.

Ours, not the paper's. The paper's first requirement (the prediction matches what was drawn on the thick slices) is
kept, but the network is given the shape that interpolation predicts there when only every second or third thick slice
had been drawn, and learns what the image says about its error. On thin slices it is given the shape between the thick
slices next to them. The score of a label is

    ``phi = d / (tau (1 + q)) + 4 q f(image, d, q)``,   ``q = share (1 - share) gap²``,

with d the interpolated distance in pixels, tau learned, f the network and q how uncertain the interpolation is: 1 and 2
in training (every second and third slice), at most 1/4 in use, 0 in the middle of a thick slice, where the shape is
what was drawn. The error of interpolation grows like q, and so does the correction that is allowed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from medseg.losses.thin_thick import dice_and_entropy
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.thin_thick.network import SliceUNet
from medseg.training.thin_thick.shapes import Between, LabelShapes

if TYPE_CHECKING:
    from medseg.training.thin_thick.case import Case

_GAPS = (2, 3)
_NEAR_OUTLINE = 6.0  # pixels: where patches are centred
_NEAR_LABEL = 24.0  # pixels: as far from a label the image may still make one
_CANDIDATES = 4096
_JITTER_OF_CENTRE = 8  # pixels
_JITTER_OF_GREY = 0.1
_DISTANCE_SCALE = 6.0  # pixels: distances enter the network as tanh(d / 6)
_CONTEXT = 1  # thin slices on either side
_LEAST_TAU = 0.2
_ALL = slice(None)


@dataclass(frozen=True)
class Schedule:
    """How long and on what a network is trained.

    Attributes
    ----------
    steps
        Changes of the weights.
    seconds
        Training ends here at the latest.
    batch, patch
        Patches a step and their edge in pixels.
    rate
        The learning rate: it rises over 20 steps, then falls along a cosine to 0.
    seed
        The same seed, the same result (but for the order of sums on several threads or a GPU).
    """

    steps: int = 400
    seconds: float = 180.0
    batch: int = 8
    patch: int = 80
    rate: float = 3e-3
    seed: int = 0

    def optimised(self, parameters: list[nn.Parameter], progress: Progress) -> Steps:
        """Return an iterator over the steps that sets the learning rate of an optimiser of ``parameters``."""
        return Steps(self, torch.optim.AdamW(parameters, self.rate), progress)


class Steps:
    """Runs the steps of a :class:`Schedule`; ``done`` is the share that is over, ``taken`` the number."""

    def __init__(self, schedule: Schedule, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
        self._schedule, self._optimiser, self._progress = schedule, optimiser, progress
        self.done, self.taken, self.was_cut = 0.0, 0, False

    def __iter__(self) -> Steps:
        self._begun = time.monotonic()
        return self

    def __next__(self) -> int:
        spent = (time.monotonic() - self._begun) / self._schedule.seconds
        by_steps = self.taken / self._schedule.steps
        self.done = max(by_steps, spent)
        if self.done >= 1:
            self.was_cut = by_steps < 1
            raise StopIteration
        self._progress.update(self.done, f"Learning from the image, step {self.taken + 1}")
        warm = min(1.0, (self.taken + 1) / 20)
        for group in self._optimiser.param_groups:
            group["lr"] = self._schedule.rate * warm * 0.5 * (1 + math.cos(math.pi * self.done))
        self.taken += 1
        return self.taken - 1

    def descend(self, loss: Tensor) -> None:
        """Change the weights once."""
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()


class Guided(nn.Module):
    """The formula at the head of this file for all labels at once."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.network = SliceUNet(2 * _CONTEXT + 2 + labels + 1, labels)
        self.tau = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor, distances: Tensor, doubt: Tensor) -> Tensor:
        """Return scores (B, labels, rows, columns); the background's is 0.

        Parameters
        ----------
        image
            (B, 4, rows, columns): the thin slice between its neighbours, and the mean over a thick slice around it.
        distances
            (B, labels, rows, columns) in pixels, interpolated.
        doubt
            (B,): q.
        """
        q = doubt[:, None, None, None]
        asked = torch.cat([image, torch.tanh(distances / _DISTANCE_SCALE), q.expand_as(image[:, :1])], 1)
        asked = asked.contiguous(memory_format=torch.channels_last)
        return distances / (self.tau.clamp_min(_LEAST_TAU) * (1 + q)) + 4 * q * self.network(asked)


def fit_guided(
    case: Case, shapes: LabelShapes, schedule: Schedule, device: str = "cpu", progress: Progress = NO_PROGRESS
) -> tuple[Guided, Steps] | None:
    """Train on the thick slices of a case; ``None`` when there are fewer than three, or none near a label is inside."""
    rng = np.random.default_rng(schedule.seed)
    draw = _Draws(case, shapes, schedule, rng)
    if not draw.possible:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        model = Guided(len(case.values))
    # A third faster on processors.
    model.to(device, memory_format=torch.channels_last).train()
    steps = schedule.optimised(list(model.parameters()), progress)
    for _ in steps:
        image, distances, doubt, classes = (part.to(device) for part in draw.batch())
        scores = model(image, distances, doubt)
        scores = torch.cat([torch.zeros_like(scores[:, :1]), scores], 1)
        steps.descend(dice_and_entropy(scores.softmax(1)[..., None], classes[..., None]))
    return model.eval(), steps


def guided_scores(model: Guided, case: Case, distances: np.ndarray, place: Between, slice_: int) -> np.ndarray:
    """Return the scores (labels, rows, columns) of a thin slice of the crop, given its interpolated distances.

    The network is asked in the box around what is near a label; beyond it the distances are the scores.
    """
    near = np.asarray((distances > -_NEAR_LABEL).any(0))
    scores = distances / max(float(model.tau.detach()), _LEAST_TAU)
    if place.doubt == 0 or not near.any():
        return scores
    used = [np.flatnonzero(np.asarray(near.any(axis))) for axis in (1, 0)]
    rows, columns = (slice(int(places[0]), int(places[-1]) + 1) for places in used)
    device, box = model.tau.device, (slice(None), rows, columns)
    with torch.inference_mode():
        found = model(
            torch.from_numpy(image_channels(case, slice_, rows, columns))[None].to(device),
            torch.from_numpy(np.ascontiguousarray(distances[box]))[None].to(device),
            torch.tensor([place.doubt], dtype=torch.float32, device=device),
        )
    scores[box] = found[0].cpu().numpy()
    return scores


def image_channels(case: Case, slice_: int, rows: slice = _ALL, columns: slice = _ALL) -> np.ndarray:
    """Return (4, rows, columns) float32: a thin slice, its neighbours, and the mean over a thick slice around it."""
    image = case.image[:, rows, columns]
    last = len(image) - 1
    near = [image[min(max(slice_ + step, 0), last)] for step in range(-_CONTEXT, _CONTEXT + 1)]
    half = case.ratio // 2
    around = [image[min(max(slice_ + step, 0), last)] for step in range(-half, half + 1)]
    mean = np.sum(around, axis=0)
    if case.ratio % 2 == 0:
        # As wide as the thick slice: the outermost of ratio + 1 slices count half.
        mean -= (around[0] + around[-1]) / 2
    return np.stack([*near, mean / case.ratio])


class _Draws:
    """Random patches of thick slices, each with the shape that fewer of the others predict for it."""

    def __init__(self, case: Case, shapes: LabelShapes, schedule: Schedule, rng: np.random.Generator) -> None:
        self._case, self._schedule, self._rng = case, schedule, rng
        self._near = [found for found in shapes.near_outlines(_NEAR_OUTLINE, _CANDIDATES, rng) if len(found)]
        labels = range(1, len(case.values) + 1)
        apart, *in_plane = case.thick_spacing
        # The distances in space of all slices would tell what was drawn on those that are left out.
        self._sparse = {
            (gap, first): LabelShapes(case.drawn[first::gap], labels, (apart * gap, in_plane[0], in_plane[1]))
            for gap in _GAPS
            for first in range(gap)
            if len(case.drawn) > first + gap
        }

    @property
    def possible(self) -> bool:
        return len(self._case.drawn) >= 3 and bool(self._near)

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        parts = [self._one() for _ in range(self._schedule.batch)]
        image, distances, doubt, classes = (np.stack(part) for part in zip(*parts, strict=True))
        return (
            torch.from_numpy(image),
            torch.from_numpy(distances),
            torch.from_numpy(doubt),
            torch.from_numpy(classes.astype(np.int64)),
        )

    def _one(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rng, case = self._rng, self._case
        candidates = self._near[int(rng.integers(len(self._near)))]
        number, row, column = candidates[int(rng.integers(len(candidates)))].tolist()
        # The slices next to an outline belong to the task: there a shape begins or ends.
        number = min(max(number + int(rng.integers(-1, 2)), 1), len(case.drawn) - 2)
        sparse, place, doubt = self._left_out(number)
        rows, columns = self._window(row, case.drawn.shape[1]), self._window(column, case.drawn.shape[2])
        middle = case.first + number * case.ratio + (case.ratio - 1) / 2
        slice_ = math.floor(middle) if rng.integers(2) else math.ceil(middle)
        image = image_channels(case, slice_, rows, columns)
        grey = rng.normal(0, _JITTER_OF_GREY, 2)
        image = image * np.float32(1 + grey[0]) + np.float32(grey[1])
        arrays = [image, sparse.at(place, rows, columns), case.drawn[number, rows, columns]]
        for axis in (-2, -1):
            if rng.integers(2):
                arrays = [np.flip(array, axis) for array in arrays]
        image, distances, classes = (np.ascontiguousarray(array) for array in arrays)
        return image, distances, np.float32(doubt), classes

    def _left_out(self, number: int) -> tuple[LabelShapes, Between, float]:
        """Return shapes that were measured without a slice, where it lies between them, and how uncertain that is."""
        gap = int(self._rng.choice(_GAPS))
        before = int(self._rng.integers(1, gap))
        if number - before < 0 or number - before + gap >= len(self._case.drawn):
            gap, before = 2, 1
        first = number - before
        place = Between(first // gap, before / gap)
        return self._sparse[gap, first % gap], place, place.doubt * gap**2

    def _window(self, middle: int, size: int) -> slice:
        edge = min(self._schedule.patch, size)
        middle += int(self._rng.integers(-_JITTER_OF_CENTRE, _JITTER_OF_CENTRE + 1))
        start = min(max(middle - edge // 2, 0), size - edge)
        return slice(start, start + edge)
