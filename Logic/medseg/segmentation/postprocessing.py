"""Clean up a labelmap, one label at a time and within that label's bounding box only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

Box = tuple[slice, slice, slice]


def clean_labels(
    labels: np.ndarray,
    values: Iterable[int],
    *,
    largest_component: bool = False,
    fill_holes: bool = False,
    minimum_voxels: float = 0.0,
    progress: Progress = NO_PROGRESS,
) -> None:
    """Clean ``labels`` (k, j, i), uint8 or uint16, in place.

    Parameters
    ----------
    labels
        Changed in place.
    values
        The labels to clean, in this order.
    largest_component
        Keep of every label only its largest connected part (26 neighbours, as MONAI's ``KeepLargestConnectedComponent``
        does by default); the rest becomes background. Of two parts of one size the first in memory order stays.
    fill_holes
        Give a label the background that it encloses (connected by 26 neighbours, as MONAI's ``FillHoles`` does by
        default). Other than there, labels inside a hole keep their voxels.
    minimum_voxels
        Connected parts of fewer voxels become background.
    progress
        Told after every label; may cancel between two of them.
    """
    if not (largest_component or fill_holes or minimum_voxels > 1):
        return
    wanted = list(values)
    boxes = bounding_boxes(labels)
    for index, value in enumerate(wanted):
        progress.update(index / len(wanted), "Cleaning the segments")
        if value not in boxes:
            continue
        crop = labels[boxes[value]]
        if largest_component or minimum_voxels > 1:
            _drop_parts(crop, value, largest=largest_component, minimum_voxels=minimum_voxels)
        if fill_holes:
            _fill_holes(crop, value)


def bounding_boxes(labels: np.ndarray) -> dict[int, Box]:
    """Return for every value but 0 the smallest box that holds it, as slices (k, j, i)."""
    found: dict[int, list[int]] = {}
    for k, plane in enumerate(labels):
        rows = np.flatnonzero(plane.any(axis=1))
        if rows.size == 0:
            continue
        part = plane[rows[0] : rows[-1] + 1]
        for value in np.flatnonzero(np.bincount(part.ravel())):
            if value == 0:
                continue
            mask = part == value
            j, i = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            here = [k, k, int(j[0] + rows[0]), int(j[-1] + rows[0]), int(i[0]), int(i[-1])]
            box = found.setdefault(int(value), here)
            found[int(value)] = [
                (min if side % 2 == 0 else max)(old, new) for side, (old, new) in enumerate(zip(box, here, strict=True))
            ]
    return {
        value: (slice(box[0], box[1] + 1), slice(box[2], box[3] + 1), slice(box[4], box[5] + 1))
        for value, box in found.items()
    }


def _drop_parts(crop: np.ndarray, value: int, *, largest: bool, minimum_voxels: float) -> None:
    import SimpleITK as sitk

    parts = sitk.ConnectedComponent(_mask(crop, value), True)
    numbers = sitk.GetArrayViewFromImage(parts)
    sizes = _counts(numbers)
    keep = sizes >= minimum_voxels
    if largest:
        keep &= np.arange(len(sizes)) == 1 + int(np.argmax(sizes[1:]))
    keep[0] = True
    if keep.all():
        return
    for part, plane in zip(numbers, crop, strict=True):
        plane[~keep[part]] = 0


def _fill_holes(crop: np.ndarray, value: int) -> None:
    import SimpleITK as sitk

    # The view does not keep the image alive: it needs a name of its own.
    filled = sitk.BinaryFillhole(_mask(crop, value), True, 1)
    for full, plane in zip(sitk.GetArrayViewFromImage(filled), crop, strict=True):
        plane[(full != 0) & (plane == 0)] = value


def _mask(crop: np.ndarray, value: int) -> Any:
    import SimpleITK as sitk

    return sitk.GetImageFromArray((crop == value).view(np.uint8))


def _counts(numbers: np.ndarray) -> np.ndarray:
    """Return how many voxels have each number, without a 64-bit copy of the whole array."""
    sizes = np.zeros(int(numbers.max()) + 1, np.int64)
    for plane in numbers:
        found = np.bincount(plane.ravel())
        sizes[: len(found)] += found
    return sizes
