"""Split one segment into its instances: a mask of all vertebrae into vertebrae, of all ribs into ribs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.analysis.components import CONNECTIVITIES, connected_components, separated_parts, touching_ends
from medseg.analysis.naming import head_to_feet, instance_labels
from medseg.analysis.small_objects import remove_small_instances, voxel_threshold
from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from medseg.labels import Label
    from medseg.volumes import Volume

METHODS = ("components", "watershed")
SLICES_FIRST = "LPI"
"""The orientation in which the first array axis (k) runs from the head to the feet."""


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """How to split.

    Attributes
    ----------
    method
        "components": what is not connected is separate. "watershed": also parts that are connected by a neck
        (:func:`~medseg.analysis.components.separated_parts`; our choice, in no paper).
    connectivity
        6 (default: touching bones are the common failure) or 26 neighbours.
    neck_mm
        With "watershed": how much less deep a neck is than the parts that it connects, in mm; smaller cuts more. On
        real vertebrae of 3 mm voxels, 3 mm separated bodies and 2 mm cut processes off. Below a voxel it means little.
    minimum_mm3
        Smaller instances are removed.
    keep_ends
        Keep small instances that touch the top or the bottom slice: the scan may have cut them.

    Raises
    ------
    InputError
        When a value is outside its range.
    """

    method: Literal["components", "watershed"] = "components"
    connectivity: int = 6
    neck_mm: float = 3.0
    minimum_mm3: float = 0.0
    keep_ends: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"'{self.method}' is no way to split a segment.", advice=f"Choose {' or '.join(METHODS)}.")
        if self.connectivity not in CONNECTIVITIES:
            raise InputError(f"The connectivity is {self.connectivity}.", advice="Choose 6 or 26 neighbours.")
        if not 0 < self.neck_mm <= 1000:
            raise InputError(f"The neck is {self.neck_mm} mm.", advice="Give a length above 0 mm, such as 2.")
        if not 0 <= self.minimum_mm3 < 1e12:
            raise InputError(f"The minimum volume is {self.minimum_mm3} mm³.", advice="Give 0 or more, such as 500.")


@dataclasses.dataclass(frozen=True)
class InstanceResult:
    """A segment in its instances.

    Attributes
    ----------
    labelmap
        On the grid of the label map that was given, uint8 or uint16: 1 to n, from the head to the feet.
    labels
        "<segment> a", "<segment> b" and so on with the codes of the segment.
    notices
        What the user should know, whole sentences.
    """

    labelmap: Volume
    labels: LabelTable
    notices: tuple[str, ...] = ()


def split_instances(
    labelmap: Volume,
    label: Label,
    options: SplitOptions | None = None,
    *,
    progress: Progress = NO_PROGRESS,
) -> InstanceResult:
    """Split the voxels of ``label`` into instances.

    Parameters
    ----------
    labelmap
        Integers, (k, j, i), any orientation and spacing. Not changed.
    label
        Its value is looked for; its name and codes are handed on.
    options
        See :class:`SplitOptions`.
    progress
        May cancel between two steps.

    Raises
    ------
    InputError
        When the label map has no voxel of the label, or all instances are smaller than the minimum.
    Cancelled
        When the user asked to stop.
    """
    options = options or SplitOptions()
    progress.update(0.0, "Looking for the segment")
    upright = labelmap.reorient(SLICES_FIRST)
    mask = upright.array == label.value
    box = _box_with_margin(mask)
    if box is None:
        raise InputError(
            f"The segment '{label.name}' (value {label.value}) has no voxel in this label map.",
            advice="Choose another segment.",
        )
    progress.update(0.1, "Splitting the segment")
    instances = np.zeros(mask.shape, np.int32)
    if options.method == "watershed":
        instances[box] = separated_parts(
            mask[box],
            upright.geometry.spacing,
            neck_mm=options.neck_mm,
            connectivity=options.connectivity,
        )
    else:
        instances[box] = connected_components(mask[box], options.connectivity)
    progress.update(0.7, "Removing small parts")
    fewest = voxel_threshold(options.minimum_mm3, upright.geometry.voxel_volume_mm3)
    removed = remove_small_instances(instances, fewest, keep_ends=options.keep_ends)
    order = head_to_feet(instances, upright.geometry)
    if not order.size:
        raise InputError(
            f"All {len(removed)} parts of '{label.name}' are smaller than {options.minimum_mm3:g} mm³.",
            advice="Choose a smaller minimum volume.",
        )
    progress.update(0.9, "Naming the parts")
    labels = LabelTable(instance_labels(label, len(order), 1))
    numbers = np.zeros(int(instances.max()) + 1, np.uint8 if len(order) <= 255 else np.uint16)
    numbers[order] = np.arange(1, len(order) + 1)
    numbered = numbers[instances]
    notices = _notices(label, numbered, removed, labels)
    turned = upright.with_array(numbered).reorient(labelmap.geometry.orientation)
    progress.update(1.0, "Done")
    # Equal up to the last bits of the matrix: the caller gets the geometry that he gave.
    return InstanceResult(dataclasses.replace(turned, geometry=labelmap.geometry), labels, notices)


def _box_with_margin(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """Return the smallest box around the mask with a voxel of background on each side that has one."""
    sides = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if found.size == 0:
            return None
        sides.append(slice(max(int(found[0]) - 1, 0), int(found[-1]) + 2))
    return sides[0], sides[1], sides[2]


def _notices(label: Label, numbered: np.ndarray, removed: list[int], labels: LabelTable) -> tuple[str, ...]:
    notices = []
    if removed:
        count = "1 part" if len(removed) == 1 else f"{len(removed)} parts"
        notices.append(f"{count} of '{label.name}' smaller than the minimum volume were removed.")
    if len(labels) == 1:
        notices.append(
            f"'{label.name}' is in one piece: if it shows several bones, separate it at necks, or at less deep ones."
        )
    cut = [labels.by_value(int(value)).name for value in touching_ends(numbered)]
    if cut:
        names = ", ".join(cut) if len(cut) <= 6 else f"{len(cut)} parts"
        notices.append(f"At the top or bottom of the scan, perhaps cut by it: {names}.")
    return tuple(notices)
