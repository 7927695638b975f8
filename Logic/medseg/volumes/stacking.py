"""Slices that lie anywhere become a volume on an even grid with right angles.

Straight, even stacks are taken as they are. Tilted (sheared), uneven and incomplete stacks are interpolated linearly:
each slice is moved within its own plane to where it lies, then the volume is interpolated along the normal.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.volumes.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.volumes.slices import Slice

# Our choices. A slice may lie this far from the even grid (share of the slice distance, and in mm at least) ...
_EVEN_SHARE, _EVEN_MM = 0.02, 0.01
# ... this far beside its stack's axis (pixels), and the axis may lean this much from the normal (tangent).
_BESIDE_PIXELS, _LEAN = 0.1, 1e-3
_SAME_GAP = 0.03  # gaps that differ by less than this share are the same
_WHOLE_GAPS = 0.05  # a gap this near to a whole number of slice distances has lost whole slices


@dataclasses.dataclass(frozen=True)
class Stack:
    """Slices in order along the normal of their common plane.

    Attributes
    ----------
    slices
        At least one; their planes are parallel, their sizes and pixel spacings equal.
    along
        mm along the normal from the first slice; strictly growing.
    beside
        (n, 2) mm within the plane, along a row and down a column, from the first slice.
    """

    slices: Sequence[Slice]
    along: np.ndarray
    beside: np.ndarray

    @classmethod
    def of(cls, slices: Sequence[Slice]) -> Stack:
        """Sort parallel slices along their normal."""
        first = slices[0]
        axes = np.stack([first.across, first.down, first.normal])
        places = np.stack([image.position for image in slices]) @ axes.T
        order = np.argsort(places[:, 2], kind="stable")
        places = places[order] - places[order[0]]
        return cls([slices[index] for index in order], places[:, 2], places[:, :2])

    @property
    def gaps(self) -> np.ndarray:
        """Distances in mm of neighbouring slices along the normal."""
        return np.diff(self.along)

    @property
    def usual_gap(self) -> float:
        """The distance in mm of neighbouring slices where none is missing: the lower median, freed of rounding."""
        gaps = np.sort(self.gaps)
        middle = gaps[(len(gaps) - 1) // 2]
        return float(gaps[np.abs(gaps - middle) <= _SAME_GAP * middle].mean())

    @property
    def is_even(self) -> bool:
        """True when no slice lies further than the tolerance from evenly spaced places."""
        if len(self.along) < 3:
            return True
        even = np.linspace(0.0, self.along[-1], len(self.along))
        step = self.along[-1] / (len(self.along) - 1)
        return bool(np.abs(self.along - even).max() <= max(_EVEN_SHARE * step, _EVEN_MM))

    @property
    def is_straight(self) -> bool:
        """True when the slices lie above each other: no gantry tilt, no wandering field of view."""
        if len(self.along) < 2:
            return True
        lean = self.beside[-1] / self.along[-1]
        astray = np.abs(self.beside - self.along[:, None] * lean) / np.array(self.slices[0].spacing)
        return bool(np.linalg.norm(lean) <= _LEAN and astray.max() <= _BESIDE_PIXELS)

    @property
    def tilt_degrees(self) -> float:
        """The angle between the stack's axis and the normal."""
        return float(np.degrees(np.arctan2(np.linalg.norm(self.beside[-1]), self.along[-1])))


def build(stack: Stack, read: Callable[[Slice], np.ndarray]) -> tuple[np.ndarray, Geometry, list[str]]:
    """Return the voxels (k, j, i), their grid, and notes on what had to be done.

    Raises
    ------
    InputError
        When more slices are missing than there are.
    """
    dtype = np.result_type(*(image.dtype for image in stack.slices))
    if dtype.kind == "f":
        dtype = np.dtype(np.float32)
    if stack.is_even and stack.is_straight:
        array = np.empty((len(stack.slices), *stack.slices[0].size[::-1]), dtype)
        for index, image in enumerate(stack.slices):
            array[index] = read(image)
        return array, _straight_geometry(stack), []
    notes = _notes(stack)
    depths, step = _even_depths(stack)
    notes.append(f"The volume was interpolated linearly onto {len(depths)} even slices at a distance of {step:.4g} mm.")
    array, start = _interpolate(stack, depths, dtype, read)
    return array, _grid(stack, array.shape, start, step), notes


def _straight_geometry(stack: Stack) -> Geometry:
    first, last = stack.slices[0], stack.slices[-1]
    count = len(stack.slices)
    if count > 1:
        step = (last.position - first.position) / (count - 1)
    else:
        step = first.normal * (first.thickness if first.thickness > 0 else 1.0)
    length = float(np.linalg.norm(step))
    rows = np.stack([first.across, first.down, step / length]).T
    return Geometry.from_lps((count, *first.size[::-1]), (*first.spacing, length), first.position.tolist(), rows)


def _grid(stack: Stack, shape: tuple[int, ...], start: np.ndarray, step: float) -> Geometry:
    first = stack.slices[0]
    origin = first.position + start[0] * first.across + start[1] * first.down
    rows = np.stack([first.across, first.down, first.normal]).T
    return Geometry.from_lps(shape, (*first.spacing, step), origin.tolist(), rows)


def _notes(stack: Stack) -> list[str]:
    notes = []
    if not stack.is_straight:
        notes.append(
            f"The slices are shifted against each other (gantry tilt: the stack leans by {stack.tilt_degrees:.1f}°)."
        )
    if stack.is_even:
        return notes
    gap, gaps = stack.usual_gap, stack.gaps
    whole = np.rint(gaps / gap)
    holes = np.flatnonzero(whole > 1)
    if np.abs(gaps / gap - whole).max() <= _WHOLE_GAPS and len(holes):
        lost = int((whole[holes] - 1).sum())
        places = ", ".join(f"{gaps[hole]:.4g} mm after slice {hole + 1}" for hole in holes[:5])
        more = f" and {len(holes) - 5} more" if len(holes) > 5 else ""
        slices = "1 slice is" if lost == 1 else f"{lost} slices are"
        notes.append(f"{slices} missing (a gap of {places}{more}; the others are {gap:.4g} mm apart).")
    else:
        different = _distinct(gaps)
        shown = ", ".join(f"{value:.4g}" for value in different[:6]) + (", ..." if len(different) > 6 else "")
        notes.append(f"The slices are uneven: their distances are {shown} mm.")
    return notes


def _distinct(gaps: np.ndarray) -> list[float]:
    found: list[float] = []
    for gap in np.sort(gaps):
        if not found or gap > found[-1] * (1 + _SAME_GAP):
            found.append(float(gap))
    return found


def _even_depths(stack: Stack) -> tuple[np.ndarray, float]:
    """Return mm along the normal of evenly spaced slices from the first to the last, and their distance.

    Their distance is the usual one, changed a little so that both ends are kept.
    """
    length, count = float(stack.along[-1]), len(stack.along)
    steps = count - 1 if stack.is_even else max(1, round(length / stack.usual_gap))
    if steps + 1 > 2 * count + 1:
        raise InputError(
            f"The series has {count} slices where {steps + 1} should be (most are {stack.usual_gap:.4g} mm apart, the "
            f"largest gap is {stack.gaps.max():.4g} mm).",
            advice="Export the whole series, or put the slices of each part into a folder of its own.",
        )
    return np.linspace(0.0, length, steps + 1), length / steps


def _interpolate(
    stack: Stack, depths: np.ndarray, dtype: np.dtype, read: Callable[[Slice], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels at ``depths``, and mm (along a row, down a column) from the first slice to the first pixel."""
    spacing = np.array(stack.slices[0].spacing)
    shifts = stack.beside / spacing
    if stack.is_straight:
        shifts = np.zeros_like(shifts)
    low = np.floor(shifts.min(axis=0) + 1e-3).astype(int)
    high = np.ceil(shifts.max(axis=0) - 1e-3).astype(int)
    columns, rows = np.array(stack.slices[0].size) + high - low
    array = np.empty((len(depths), int(rows), int(columns)), dtype)
    outside = _outside_value(stack, read)

    planes: dict[int, np.ndarray] = {}

    def plane(index: int) -> np.ndarray:
        if index not in planes:
            moved = read(stack.slices[index]).astype(np.float32)
            for axis, world in ((0, 1), (1, 0)):
                moved = _shifted(moved, float(shifts[index, world] - low[world]), array.shape[axis + 1], axis, outside)
            planes[index] = moved
        return planes[index]

    upper = 0
    for index, depth in enumerate(depths):
        while stack.along[upper] < depth - 1e-6 and upper + 1 < len(stack.along):
            upper += 1
        lower = max(upper - 1, 0)
        for done in [key for key in planes if key < lower]:
            del planes[done]
        gap = stack.along[upper] - stack.along[lower]
        weight = 1.0 if gap == 0 else (depth - stack.along[lower]) / gap
        value = plane(upper)
        if weight < 1.0 - 1e-4:
            value = plane(lower) + np.float32(weight) * (value - plane(lower))
        array[index] = np.rint(value) if dtype.kind in "iu" else value
    return array, low * spacing


def _outside_value(stack: Stack, read: Callable[[Slice], np.ndarray]) -> float:
    """Return what is written where no slice was measured: the lowest value of the middle slice (air, padding)."""
    return float(read(stack.slices[len(stack.slices) // 2]).min()) if not stack.is_straight else 0.0


def _shifted(plane: np.ndarray, shift: float, size: int, axis: int, outside: float) -> np.ndarray:
    """Return ``plane`` with its pixels moved by ``shift`` >= 0 pixels along ``axis``, on ``size`` pixels."""
    if size == plane.shape[axis] and abs(shift) < 1e-3:
        return plane
    whole = int(np.floor(shift + 1e-3))
    part = np.float32(max(shift - whole, 0.0))
    plane = np.moveaxis(plane, axis, 0)
    result = np.full((size, *plane.shape[1:]), outside, np.float32)
    if part < 1e-3:
        result[whole : whole + len(plane)] = plane
    else:
        # The pixel at index n now lies at n + shift: index m is between m - whole - 1 and m - whole.
        result[whole + 1 : whole + len(plane)] = plane[1:] + part * (plane[:-1] - plane[1:])
    return np.moveaxis(result, 0, axis)
