"""A shaded picture of the surfaces of a labelmap, cast with numpy and SimpleITK alone (no OpenGL, no display)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.volumes import Volume

_AZIMUTH, _ELEVATION = np.deg2rad(32.0), np.deg2rad(18.0)
_LIGHT = (-0.45, 0.65, -0.75)  # from the viewer's upper left; (right, up, away from the viewer)
_MOST_SAMPLES = 120_000_000  # about 0.5 GB of float32 for the largest single segment


@dataclass(frozen=True)
class SurfaceView:
    """A rendered view: ``pixels`` (rows, columns, 4) float RGBA 0 to 1, and the size of a pixel in mm."""

    pixels: np.ndarray
    pixel_mm: float
    axes: np.ndarray
    """(3, 2): how far one mm along left, posterior and superior moves right and up in the picture."""


def view_axes() -> np.ndarray:
    """Return the rows right, up and forward (away from the viewer) of the camera, in left-posterior-superior axes.

    The camera stands in front of the patient, to the left and a little above, as an examiner would.
    """
    sin_a, cos_a, sin_e, cos_e = np.sin(_AZIMUTH), np.cos(_AZIMUTH), np.sin(_ELEVATION), np.cos(_ELEVATION)
    forward = np.array([-sin_a * cos_e, cos_a * cos_e, -sin_e])
    right = np.array([cos_a, sin_a, 0.0])
    return np.stack([right, np.cross(right, forward), forward])


def render_surface(
    labelmap: Volume, colors: Mapping[int, tuple[int, int, int]], *, width: int = 640, height: int = 640
) -> SurfaceView | None:
    """Render every label of ``labelmap`` that has a colour; ``None`` when it has none of them.

    Parameters
    ----------
    labelmap
        Integer labels, (k, j, i), orientation "LPS" (an oblique grid is drawn along its own axes).
    colors
        Red, green and blue (0 to 255) of each label value.
    width, height
        Size of the picture in pixels; the segments fill it but for a small margin.
    """
    spacing = np.asarray(labelmap.geometry.spacing, dtype=float)
    boxes = {value: box for value, box in _boxes(labelmap.array).items() if value in colors}
    if not boxes:
        return None
    axes = view_axes()
    low, high = _view_bounds(labelmap.array, boxes, spacing, axes)
    pixel = 1.08 * max((high[0] - low[0]) / width, (high[1] - low[1]) / height, 1e-3)
    centre = (low[:2] + high[:2]) / 2
    screen = _Screen(axes, pixel, (width, height), centre)
    for value, box in boxes.items():
        screen.draw(_Piece.cut(labelmap.array, value, box, spacing), np.asarray(colors[value]) / 255.0)
    return SurfaceView(screen.shaded(), pixel, axes[:2].T)


def _boxes(labels: np.ndarray) -> dict[int, tuple[slice, slice, slice]]:
    """Return the bounding box of every label value but 0."""
    boxes = {}
    for value in np.unique(labels):
        if value == 0:
            continue
        mask = labels == value
        spans = []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            filled = np.flatnonzero(mask.any(axis=others))
            spans.append(slice(int(filled[0]), int(filled[-1]) + 1))
        boxes[int(value)] = (spans[0], spans[1], spans[2])
    return boxes


def _view_bounds(
    labels: np.ndarray, boxes: Mapping[int, tuple[slice, ...]], spacing: np.ndarray, axes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest camera coordinates (mm) of labelled voxels."""
    lows, highs = [], []
    for value, box in boxes.items():
        found = np.argwhere(labels[box] == value)
        found = found[:: max(1, len(found) // 100_000)] + [part.start for part in box]
        seen = (found[:, ::-1] * spacing) @ axes.T
        lows.append(seen.min(0) - spacing.max())
        highs.append(seen.max(0) + spacing.max())
    return np.min(lows, axis=0), np.max(highs, axis=0)


@dataclass(frozen=True)
class _Piece:
    """One label, cut out and smoothed: ``field`` (k, j, i) crosses ``level`` at its surface."""

    field: np.ndarray
    level: float
    origin: np.ndarray  # (i, j, k) position of the first voxel, mm
    spacing: np.ndarray  # (i, j, k) mm

    @classmethod
    def cut(cls, labels: np.ndarray, value: int, box: tuple[slice, slice, slice], spacing: np.ndarray) -> _Piece:
        """Cut label ``value`` out of ``labels`` with a margin and smooth away the steps of its voxels."""
        import SimpleITK as sitk

        margin = 3
        mask = np.pad((labels[box] == value).astype(np.float32), margin)
        image = sitk.GetImageFromArray(mask)
        image.SetSpacing([float(step) for step in spacing])
        sigma = 0.95 * float(spacing.max())
        # Recursive filters want four voxels an axis, which the margin guarantees.
        field = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, sigma))
        level = min(0.5, 0.5 * float(field.max()))  # a thin structure does not vanish
        start = np.array([part.start for part in box][::-1]) - margin
        return cls(field, level, start * spacing, np.asarray(spacing, dtype=float))

    def corners(self) -> np.ndarray:
        """Return the (8, 3) positions (mm, i j k) of the corner voxels."""
        last = (np.array(self.field.shape[::-1]) - 1) * self.spacing
        choices = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1).T
        return self.origin + choices * last

    def sample(self, arrays: list[np.ndarray], points: np.ndarray) -> list[np.ndarray]:
        """Return linearly interpolated values of ``arrays`` (each shaped like the field) at (N, 3) positions in mm."""
        place = (points - self.origin) / self.spacing
        limit = np.array(self.field.shape[::-1]) - 2
        base = np.clip(np.floor(place).astype(int), 0, limit)
        rest = np.clip(place - base, 0.0, 1.0)
        sums = [np.zeros(len(points)) for _ in arrays]
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, rest, 1.0 - rest), axis=1)
            i, j, k = (base + corner).T
            for index, array in enumerate(arrays):
                sums[index] += weight * array[k, j, i]
        return sums


class _Screen:
    """The depth buffer: for each pixel the nearest surface, its normal and its colour."""

    def __init__(self, axes: np.ndarray, pixel: float, size: tuple[int, int], centre: np.ndarray):
        self.axes, self.pixel = axes, pixel
        width, height = size
        self.left = float(centre[0]) - pixel * (width - 1) / 2
        self.top = float(centre[1]) + pixel * (height - 1) / 2
        self.depth = np.full((height, width), np.inf)
        self.normal = np.zeros((height, width, 3))
        self.color = np.zeros((height, width, 3))

    def draw(self, piece: _Piece, color: np.ndarray) -> None:
        """Cast one ray a pixel through ``piece`` and keep the hits that are nearer than what is there."""
        seen = piece.corners() @ self.axes.T
        height, width = self.depth.shape
        first = [int(np.floor((seen[:, 0].min() - self.left) / self.pixel)), 0]
        first[1] = int(np.floor((self.top - seen[:, 1].max()) / self.pixel))
        last = [int(np.ceil((seen[:, 0].max() - self.left) / self.pixel)), 0]
        last[1] = int(np.ceil((self.top - seen[:, 1].min()) / self.pixel))
        columns = np.arange(max(first[0], 0), min(last[0] + 1, width))
        rows = np.arange(max(first[1], 0), min(last[1] + 1, height))
        near, far = float(seen[:, 2].min()), float(seen[:, 2].max())
        if not (len(columns) and len(rows)):
            return
        step = 0.75 * float(piece.spacing.min())
        count = int(np.ceil((far - near) / step)) + 2
        if count * len(columns) * len(rows) > _MOST_SAMPLES:
            count = max(8, _MOST_SAMPLES // (len(columns) * len(rows)))
            step = (far - near) / (count - 2)

        along = self._march(piece, columns, rows, (near, step, count))
        inside = along >= piece.level
        hit = inside.any(axis=0)
        if not hit.any():
            return
        index = np.maximum(inside.argmax(axis=0), 1)[hit]
        y, x = np.nonzero(hit)
        before, after = along[index - 1, y, x], along[index, y, x]
        fraction = np.clip((piece.level - before) / np.maximum(after - before, 1e-6), 0.0, 1.0)
        depth = near + (index - 1 + fraction) * step
        points = self._points(columns[x], rows[y], depth)
        gradient = np.stack(piece.sample(_gradients(piece), points), axis=1)
        normal = -gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)

        nearer = depth < self.depth[rows[y], columns[x]]
        place = rows[y][nearer], columns[x][nearer]
        self.depth[place] = depth[nearer]
        self.normal[place] = normal[nearer] @ self.axes.T
        self.color[place] = color

    def _march(
        self, piece: _Piece, columns: np.ndarray, rows: np.ndarray, depths: tuple[float, float, int]
    ) -> np.ndarray:
        """Return the field on the camera's grid (depth, row, column); ``depths`` is the first, the step, the count."""
        import SimpleITK as sitk

        near, step, count = depths
        image = sitk.GetImageFromArray(piece.field)
        image.SetSpacing([float(value) for value in piece.spacing])
        image.SetOrigin([float(value) for value in piece.origin])
        right, up, forward = self.axes
        directions = np.stack([right, -up, forward], axis=1)
        origin = self._points(columns[:1], rows[:1], np.array([near]))[0]
        resampler = sitk.ResampleImageFilter()
        resampler.SetInterpolator(sitk.sitkLinear)
        resampler.SetSize([len(columns), len(rows), count])
        resampler.SetOutputSpacing([self.pixel, self.pixel, step])
        resampler.SetOutputOrigin([float(value) for value in origin])
        resampler.SetOutputDirection([float(value) for value in directions.reshape(-1)])
        return sitk.GetArrayFromImage(resampler.Execute(image))

    def _points(self, columns: np.ndarray, rows: np.ndarray, depth: np.ndarray) -> np.ndarray:
        seen = np.stack([self.left + columns * self.pixel, self.top - rows * self.pixel, depth], axis=1)
        return seen @ self.axes

    def shaded(self) -> np.ndarray:
        """Return the (rows, columns, 4) picture: two lights, a highlight, and darker hollows."""
        hit = np.isfinite(self.depth)
        light = np.asarray(_LIGHT) / np.linalg.norm(_LIGHT)
        viewer = np.array([0.0, 0.0, -1.0])
        half = (light + viewer) / np.linalg.norm(light + viewer)
        diffuse = np.clip(self.normal @ light, 0.0, 1.0)
        facing = np.clip(self.normal @ viewer, 0.0, 1.0)
        highlight = np.clip(self.normal @ half, 0.0, 1.0) ** 24
        shade = (0.24 + 0.54 * diffuse + 0.30 * facing) * (1.0 - 0.45 * _hollows(self.depth, hit))
        pixels = np.zeros((*hit.shape, 4))
        pixels[..., :3] = np.clip(self.color * shade[..., None] + 0.16 * highlight[..., None], 0.0, 1.0)
        pixels[..., 3] = hit
        pixels[~hit, :3] = 0.0
        return pixels


def _gradients(piece: _Piece) -> list[np.ndarray]:
    """Return the gradient of the field per mm along i, j and k."""
    along_k, along_j, along_i = np.gradient(piece.field, *(float(step) for step in piece.spacing[::-1]))
    return [along_i, along_j, along_k]


def _hollows(depth: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Return 0 to 1: how much deeper a pixel lies than its surroundings (a cheap stand-in for ambient occlusion)."""
    import SimpleITK as sitk

    if not hit.any():
        return np.zeros(depth.shape)
    scale = max(depth.shape) / 36.0

    def blurred(values: np.ndarray) -> np.ndarray:
        image = sitk.GetImageFromArray(values.astype(np.float32))
        return sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, scale))

    cover = np.maximum(blurred(hit.astype(float)), 1e-3)
    reference = float(depth[hit].mean())
    around = blurred(np.where(hit, depth - reference, 0.0)) / cover
    spread = max(float(depth[hit].std()), 1e-3)
    return np.clip((np.where(hit, depth - reference, 0.0) - around) / spread, 0.0, 1.0) * hit
