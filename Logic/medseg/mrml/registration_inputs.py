"""What the verb *Register* takes from the scene: volumes, masks, segmentations, landmarks, where to begin."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.backend.verbs_transfer import label_from_dict
from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.mrml.label_reading import LabelReading, read_labels
from medseg.mrml.labelmaps import label_values
from medseg.mrml.masks import segment_names
from medseg.mrml.points import landmarks_in_volumes
from medseg.mrml.thick import drawn_labels
from medseg.mrml.transforms import matrix_between
from medseg.mrml.volumes import node_name, volume_from_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from medseg.volumes import Geometry, Volume

Start = Literal["auto", "centre", "moments", "current", "landmarks", "transform"]
"""Where the alignment begins.

centre, moments
    The middles, or the centres of brightness, lie on each other.
current
    As the volumes lie to each other in the scene.
landmarks
    The landmarks lie on each other.
transform
    The moving volume is under a transform that is given.
auto
    "current" when there is a linear transform between the volumes, else "centre".
"""


@dataclass(frozen=True)
class RegistrationNodes:
    """The nodes of a registration; all but the two volumes may be ``None``.

    Attributes
    ----------
    fixed, moving
        ``vtkMRMLScalarVolumeNode``.
    fixed_mask, moving_mask
        Segmentations: the volumes are compared only within their segments.
    fixed_segmentation, moving_segmentation
        The same structures, with the same names, in both.
    fixed_points, moving_points
        Point lists with the same landmarks in the same order.
    initial
        A linear transform node that would bring the moving volume under it near to the fixed one.
    """

    fixed: Any
    moving: Any
    fixed_mask: Any = None
    moving_mask: Any = None
    fixed_segmentation: Any = None
    moving_segmentation: Any = None
    fixed_points: Any = None
    moving_points: Any = None
    initial: Any = None


@dataclass(frozen=True)
class RegistrationInputs:
    """What was read of the nodes on the main thread.

    Attributes
    ----------
    volumes
        Functions that give the volumes of the verb, in the order of its option ``inputs``; they touch no node, so they
        may be called in any thread.
    options
        The options of the verb that come from the nodes: ``inputs``, ``landmarks``, ``start_from_landmarks``,
        ``start`` and ``initial``.
    labels
        The segments of the moving segmentation, when there is one. Structures of the same name in the fixed one get
        the same values.
    names
        Of all structures, by value.
    fixed_geometry, moving_geometry
        The grids that were read.
    """

    volumes: tuple[Callable[[], Volume], ...]
    options: dict[str, Any]
    labels: LabelTable | None
    names: Mapping[int, str]
    fixed_geometry: Geometry
    moving_geometry: Geometry


def registration_inputs(nodes: RegistrationNodes, start: Start = "auto") -> RegistrationInputs:
    """Read the nodes of a registration.

    Raises
    ------
    InputError
        When a node is missing, of the wrong kind or empty, both volumes are the same, the segmentations share no name,
        the landmarks do not correspond, or there is no linear transform to begin with.
    GeometryError
        When a grid cannot be used.
    """
    if nodes.fixed is not None and nodes.fixed is nodes.moving:
        raise InputError("The fixed and the moving volume are the same.", advice="Choose two different volumes.")
    images = {"fixed": volume_from_node(nodes.fixed, copy=False), "moving": volume_from_node(nodes.moving, copy=False)}
    found: dict[str, Callable[[], Volume]] = {
        name: functools.partial(_copied, volume) for name, volume in images.items()
    }
    for name, mask, volume_node in (
        ("fixed_mask", nodes.fixed_mask, nodes.fixed),
        ("moving_mask", nodes.moving_mask, nodes.moving),
    ):
        if mask is not None:
            found[name] = read_labels(mask, volume_node).labelmap
    fixed_values, names = _common_values(nodes.fixed_segmentation, nodes.moving_segmentation)
    labels = None
    if nodes.fixed_segmentation is not None:
        reading = read_labels(nodes.fixed_segmentation, nodes.fixed)
        found["fixed_labels"] = functools.partial(_renumbered, reading, fixed_values)
    if nodes.moving_segmentation is not None:
        labels = LabelTable(map(label_from_dict, drawn_labels(nodes.moving_segmentation)))
        found["moving_labels"] = read_labels(nodes.moving_segmentation, nodes.moving).labelmap
    if labels is not None and fixed_values and not set(fixed_values.values()) & {label.value for label in labels}:
        raise InputError(
            "The two segmentations have no segment of the same name.",
            advice="Give the same structures the same names, or leave one of the segmentations out.",
        )
    return RegistrationInputs(
        volumes=tuple(found.values()),
        options={"inputs": list(found), **_landmarks(nodes, start), **_start(nodes, start)},
        labels=labels,
        names=names,
        fixed_geometry=images["fixed"].geometry,
        moving_geometry=images["moving"].geometry,
    )


def _copied(volume: Volume) -> Volume:
    return volume.with_array(volume.array.copy())


def _common_values(fixed: Any, moving: Any) -> tuple[dict[int, int], dict[int, str]]:
    """Return the label values that the structures of the fixed segmentation get, by their own, and all names by value.

    Structures of one name get the value that the moving segmentation has, others a free one. The second of two segments
    with one name is another structure than the first.
    """
    values: dict[tuple[str, int], int] = {}
    of_fixed: dict[int, int] = {}
    for node in (moving, fixed):
        if node is None:
            continue
        names = list(segment_names(node).values())
        if not names:
            raise InputError(f"'{node_name(node)}' has no segment.", advice="Choose another segmentation.")
        seen: Counter[str] = Counter()
        for own, name in zip(label_values(node).values(), names, strict=True):
            seen[name] += 1
            structure = (name, seen[name])
            if node is fixed:
                free = next(value for value in itertools.count(1) if value not in values.values())
                of_fixed[own] = values.setdefault(structure, free)
            else:
                values[structure] = own
    return of_fixed, {value: name for (name, _), value in values.items()}


def _renumbered(reading: LabelReading, values: Mapping[int, int]) -> Volume:
    labelmap = reading.labelmap()
    largest = max(values.values())
    table = np.zeros(max(values) + 1, np.uint8 if largest < 256 else np.uint16)
    for old, new in values.items():
        table[old] = new
    return labelmap.with_array(table[labelmap.array])


def _landmarks(nodes: RegistrationNodes, start: Start) -> dict[str, Any]:
    if nodes.fixed_points is None and nodes.moving_points is None and start != "landmarks":
        return {}
    if nodes.fixed_points is None or nodes.moving_points is None:
        raise InputError("Landmarks are needed in both volumes.", advice="Choose both point lists, or leave both out.")
    pairs = landmarks_in_volumes(nodes.fixed_points, nodes.fixed, nodes.moving_points, nodes.moving)
    return {"landmarks": [points.tolist() for points in pairs], "start_from_landmarks": start == "landmarks"}


def _start(nodes: RegistrationNodes, start: Start) -> dict[str, Any]:
    if start in ("centre", "moments"):
        return {"start": start}
    above = nodes.initial if start == "transform" else nodes.moving.GetParentTransformNode()
    if start == "transform" and above is None:
        raise InputError("No transform to begin with is chosen.", advice="Choose one, or begin elsewhere.")
    if start == "landmarks" or (start == "auto" and above is nodes.fixed.GetParentTransformNode()):
        return {}
    try:
        return {"initial": matrix_between(nodes.fixed, above).tolist()}
    except InputError:
        if start == "auto":
            return {}
        raise
