"""Samples painted on label maps: the labels are read in the window of a sample, and only that is painted.

A window with finer voxels than the image sees it as it sees a scan, linear in between. The idea is that of SynthSeg and
SynthMorph (:mod:`medseg.training.synthesis`); that any label, or several that touch, is a structure to click at, and
all numbers are ours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.correction.intensity import normalised
from medseg.correction.region import Region
from medseg.correction.window import Window
from medseg.training.correction.samples import FEWEST, LabelledScan, LabelMap, Sample, random_window, with_start
from medseg.training.synthesis.painting import Contrast, paint, random_contrast
from medseg.training.synthesis.warps import read_labels_at

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.training.correction.recipe import CorrectionRecipe
    from medseg.training.correction.sources import LabelMapsSource
    from medseg.training.synthesis import Draws, PaintingSection

_LABELS = 256
_MARGIN = 1
_TRIES = 4
_BENDS = (0.2, 0.5)
"""How far apart the control points of a deformation are, from and to, as a part of the window."""
_MOST_NEIGHBOURS = 2
_LEAST_TOUCH = 4
"""Voxels in which a neighbour touches a structure that it is united with."""


def painted_sample(
    label_map: LabelMap, value: int, source: LabelMapsSource, recipe: CorrectionRecipe, draws: Draws
) -> Sample | None:
    """Return a structure of a label map in an image that is painted on what a random window shows.

    Parameters
    ----------
    value
        The label, one of ``label_map.structures``; the others of these may be united with it. All labels are below 256.

    Returns
    -------
    Sample or None
        Of (1, k, j, i), or (1, j, i) for a network of slices; ``None`` when no window that was tried shows 8 voxels of
        the structure.
    """
    for _ in range(_TRIES):
        window, edge = random_window(label_map, value, recipe.samples, recipe.window, draws)
        canvas, frame = _canvas(window, edge / max(window.size) / draws.uniform(*source.voxels_mm))
        seen = _labels_in(canvas, label_map, source.bend, draws)
        united = [value]
        if draws.chance(source.unions):
            united += _neighbours(seen, value, set(label_map.structures), draws)
        shown = torch.isin(seen, torch.tensor(united, dtype=seen.dtype)).float()
        truth = (_in_window(shown, frame, window) > 0.5).float()
        if truth.sum() >= FEWEST:
            contrast = _contrast(source.painting, draws)
            for values in (contrast.means, contrast.spreads):
                values[united] = values[value].clone()
            image = normalised(_in_window(paint(seen, contrast, source.painting, draws), frame, window))
            sample = with_start(image, truth, edge, recipe.samples, draws)
            return Sample(*(part.squeeze(1) for part in sample)) if recipe.is_flat else sample
    return None


def painted_scan(label_map: LabelMap, painting: PaintingSection, draws: Draws) -> LabelledScan:
    """Return a whole label map, with labels below 256, and an image that is painted on it."""
    image = paint(torch.from_numpy(label_map.labels), _contrast(painting, draws), painting, draws)
    return LabelledScan(label_map.labels, label_map.spacing, label_map.structures, image.numpy())


def _contrast(painting: PaintingSection, draws: Draws) -> Contrast:
    return random_contrast(_LABELS, draws, black=not draws.chance(painting.background_probability))


def _canvas(window: Window, share: float) -> tuple[Window, Window]:
    """Return the grid that is painted for a window: how it lies in the label map, and how it lies in the window.

    Parameters
    ----------
    share
        The voxel size of the window over that of the image. From 1 on, the window itself is painted.
    """
    share = min(share, 1.0)
    margin = _MARGIN if share < 1 else 0
    k, j, i = (1 if count == 1 else math.ceil((count - 1) * share) + 1 + 2 * margin for count in window.size)
    frame = Window((k, j, i), (np.array(window.size) - 1) / 2, np.eye(3) / share)
    return Window((k, j, i), window.centre, window.steps / share), frame


def _in_window(values: Tensor, frame: Window, window: Window) -> Tensor:
    """Return values (k, j, i) of the grid that is painted at the voxels of the window, (1, \\*size)."""
    return torch.from_numpy(frame.put_back(values[None], Region((0, 0, 0), window.size)))[None]


def _labels_in(window: Window, label_map: LabelMap, bend: float, draws: Draws) -> Tensor:
    """Return the labels that a window sees through a random deformation, (k, j, i) uint8; 0 beyond the border.

    Nothing folds: displacements of a fifth of the distance of the control points, the most that a recipe may ask for,
    leave Jacobians above a half (tried).
    """
    step = draws.uniform(*_BENDS) * max(window.size)
    field = draws.smooth(window.size, step, channels=3)
    field *= draws.uniform(0, bend) * step / field.square().sum(0).max().sqrt().clamp(min=1e-6)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.from_numpy(window.steps)
    pose[:3, 3] = torch.from_numpy(window.centre - (np.array(label_map.labels.shape) - 1) / 2)
    # Both grids in voxels of the label map: the window brings its steps along.
    return read_labels_at(torch.from_numpy(label_map.labels), 1.0, pose, field, 1.0)


def _neighbours(seen: Tensor, value: int, wanted: set[int], draws: Draws) -> list[int]:
    """Return one or two of the structures that touch one in a window, in a random order; none when none does."""
    touching = torch.zeros(_LABELS, dtype=torch.int64)
    inside = seen == value
    for axis, count in enumerate(seen.shape):
        first, second = (seen.narrow(axis, start, count - 1) for start in (0, 1))
        here, there = (inside.narrow(axis, start, count - 1) for start in (0, 1))
        touching += torch.bincount(torch.cat([second[here], first[there]]).to(torch.int64), minlength=_LABELS)
    found = [other for other in sorted(wanted - {value}) if touching[other] >= _LEAST_TOUCH]
    return [found[place] for place in draws.order(len(found))[: draws.whole(1, _MOST_NEIGHBOURS)]]
