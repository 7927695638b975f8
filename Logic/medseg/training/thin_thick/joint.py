"""The paper's way for one case: a network that sees nothing but the image, trained with the joint loss.

The network (a 2D U-Net over the slices with their neighbours as channels), what it is trained on and for how long are
not given in the paper and our choice; see :mod:`medseg.losses.thin_thick` for the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medseg.losses.thin_thick import FeatureTap, ThinThickLoss
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.thin_thick.network import SliceUNet

if TYPE_CHECKING:
    from medseg.training.thin_thick.case import Case
    from medseg.training.thin_thick.guided import Schedule, Steps

# Without a shape to start from the network must see where in the body it is: five levels and large patches gave a left
# atrium a Dice of 0.89 where three levels and patches of 80 pixels gave 0.65, in the same time and from the thin truth.
_WIDTHS = (8, 16, 32, 64, 64)
_PATCH = 160
_GROUPS = 1  # patches a step with all thin slices of their group
_GROUPS_OF_THICK = 3  # patches a step when thin slices are not looked at
_ANYWHERE = 0.5  # share of patches that need not hold a label
_JITTER_OF_GREY = 0.1


def fit_joint(
    case: Case,
    weights: tuple[float, float, float],
    schedule: Schedule,
    device: str = "cpu",
    progress: Progress = NO_PROGRESS,
) -> tuple[SliceUNet, Steps]:
    """Train a network on the thin image and the thick labels of a case; ``weights`` are l1, l2, l3.

    Of the schedule, ``batch`` and ``patch`` are not used.
    """
    rng = np.random.default_rng(schedule.seed)
    looks_at_thin = bool(weights[1] or weights[2])
    draw = _Draws(case, _PATCH, rng, looks_at_thin=looks_at_thin)
    groups = _GROUPS if looks_at_thin else _GROUPS_OF_THICK
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        network = SliceUNet(3, len(case.values) + 1, _WIDTHS)
    network.to(device, memory_format=torch.channels_last).train()
    loss = ThinThickLoss(case.ratio, weights=weights)
    steps = schedule.optimised(list(network.parameters()), progress)
    with FeatureTap(network, "features") as tap:
        for _ in steps:
            thin, thick, classes = (part.to(device) for part in draw.batch(groups))
            # Slices are the network's batch; the loss wants those of a group along the last axis.
            scores = network(torch.cat([thin.flatten(0, 1), thick]).contiguous(memory_format=torch.channels_last))
            thin_scores, thick_scores = _parted(scores, thin.shape[1], groups)
            thin_features, thick_features = _parted(tap.take(), thin.shape[1], groups)
            parts = loss(
                thin_scores,
                thick_scores,
                classes[..., None],
                thin_features=thin_features,
                thick_features=thick_features,
                done=steps.done,
            )
            steps.descend(parts["loss"])
    return network.eval(), steps


def joint_scores(network: SliceUNet, case: Case, slice_: int) -> np.ndarray:
    """Return the scores (labels, rows, columns) of a thin slice of the crop, above that of the background."""
    with torch.inference_mode():
        image = torch.from_numpy(_with_neighbours(case.image, slice_))[None]
        found = network(image.to(network.head.weight.device))[0]
    return (found[1:] - found[:1]).cpu().numpy()


def _parted(maps: Tensor, ratio: int, groups: int) -> tuple[Tensor | None, Tensor]:
    """Return maps (groups ratio + groups, F, rows, columns) as (groups, F, rows, columns, ratio) and (..., 1)."""
    thick = maps[groups * ratio :][..., None]
    return (maps[: groups * ratio].unflatten(0, (groups, ratio)).movedim(1, -1) if ratio else None), thick


def _with_neighbours(
    image: np.ndarray, slice_: int, rows: slice = slice(None), columns: slice = slice(None)
) -> np.ndarray:
    last = len(image) - 1
    return np.stack([image[min(max(slice_ + step, 0), last), rows, columns] for step in (-1, 0, 1)])


class _Draws:
    """Random patches of thick slices with the thin slices that they are made of."""

    def __init__(self, case: Case, patch: int, rng: np.random.Generator, *, looks_at_thin: bool) -> None:
        self._case, self._patch, self._rng, self._looks_at_thin = case, patch, rng, looks_at_thin
        self._thick = case.thick_image()
        self._labelled = np.argwhere(case.drawn > 0)

    def batch(self, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return thin (groups, ratio or 0, 3, rows, columns), thick (groups, 3, ...) and classes (groups, ...)."""
        thin, thick, classes = (np.stack(part) for part in zip(*(self._one() for _ in range(groups)), strict=True))
        return torch.from_numpy(thin), torch.from_numpy(thick), torch.from_numpy(classes.astype(np.int64))

    def _one(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng, case = self._rng, self._case
        if rng.random() < _ANYWHERE:
            number, row, column = (int(rng.integers(size)) for size in case.drawn.shape)
        else:
            number, row, column = self._labelled[int(rng.integers(len(self._labelled)))].tolist()
        rows, columns = self._window(row, case.drawn.shape[1]), self._window(column, case.drawn.shape[2])
        members = range(*case.group(number).indices(len(case.image))) if self._looks_at_thin else ()
        thick = _with_neighbours(self._thick, number, rows, columns)
        thin = np.empty((len(members), *thick.shape), np.float32)
        for place, slice_ in enumerate(members):
            thin[place] = _with_neighbours(case.image, slice_, rows, columns)
        gain, shift = rng.normal(0, _JITTER_OF_GREY, 2).astype(np.float32)
        arrays = [thin * (1 + gain) + shift, thick * (1 + gain) + shift, case.drawn[number, rows, columns]]
        for axis in (-2, -1):
            if rng.integers(2):
                arrays = [np.flip(array, axis) for array in arrays]
        thin, thick, classes = (np.ascontiguousarray(array) for array in arrays)
        return thin, thick, classes

    def _window(self, middle: int, size: int) -> slice:
        edge = min(self._patch, size)
        start = min(max(middle - edge // 2 + int(self._rng.integers(-edge // 4, edge // 4 + 1)), 0), size - edge)
        return slice(start, start + edge)
