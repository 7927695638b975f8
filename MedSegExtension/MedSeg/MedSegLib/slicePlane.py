"""Along which index axis the slices of a volume lie, and what a radiologist calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from MedSegLib.parameterNode import SlicePlane

if TYPE_CHECKING:
    from medseg.training.thin_thick import SliceAxis
    from medseg.volumes import Geometry

AXES: tuple[SliceAxis, ...] = ("i", "j", "k")

PLANES = {
    "S": SlicePlane.AXIAL,
    "I": SlicePlane.AXIAL,
    "R": SlicePlane.SAGITTAL,
    "L": SlicePlane.SAGITTAL,
    "A": SlicePlane.CORONAL,
    "P": SlicePlane.CORONAL,
}
"""The plane of slices by the letter of the direction across them."""

SAME_PIXELS = 1.02
"""Planes whose pixels are as square as those of the best within this factor are as good (our choice)."""


def sliceAxis(geometry: Geometry, plane: SlicePlane) -> SliceAxis:
    """Return the index axis across the slices of a plane.

    ``AUTOMATIC`` is the plane that the volume was scanned in. Scanners make square pixels, whatever lies between two
    slices, so it is the axis across the squarest ones; where several are as square, it is k, across the slices as
    scanners store them. So the slices of a sagittal series stay sagittal, also when a file has them along i.
    """
    if plane is not SlicePlane.AUTOMATIC:
        return AXES[_planes(geometry).index(plane)]
    stretch = [_stretch(geometry, axis) for axis in range(3)]
    best = min(stretch)
    return "k" if stretch[2] <= best * SAME_PIXELS else AXES[stretch.index(best)]


def planeAlong(geometry: Geometry, axis: SliceAxis) -> SlicePlane:
    """Return the plane that the slices along an index axis lie in; of an oblique volume the nearest."""
    return _planes(geometry)[AXES.index(axis)]


def thickSlices(plane: SlicePlane, thickness: float) -> str:
    """Return what slices of a plane and a thickness in mm are called."""
    sentence = {
        SlicePlane.AXIAL: _("axial slices of {thickness} mm"),
        SlicePlane.SAGITTAL: _("sagittal slices of {thickness} mm"),
        SlicePlane.CORONAL: _("coronal slices of {thickness} mm"),
    }[plane]
    return sentence.format(thickness=f"{thickness:.3g}")


def _planes(geometry: Geometry) -> list[SlicePlane]:
    return [PLANES[letter] for letter in geometry.orientation]


def _stretch(geometry: Geometry, axis: int) -> float:
    """Return how much longer than broad the pixels of the slices along an axis are, from 1 on."""
    sides = [step for index, step in enumerate(geometry.spacing) if index != axis]
    return max(sides) / min(sides)
