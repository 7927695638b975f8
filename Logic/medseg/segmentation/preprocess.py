"""From an image on any grid to what a network takes: its orientation, its spacing, its intensities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.grids import sample_intensities, sampling_between
from medseg.segmentation.postprocessing import clean_labels
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from medseg.models.package import Preprocessing


def shown_geometry(volume: Volume, preprocessing: Preprocessing) -> Geometry:
    """Return the part of the volume's grid that the network is shown, in the model's orientation.

    The whole of it, unless the model asks for the box of the body (``fit_in_plane``): then the smallest box in the
    plane of i and j that holds every voxel above the threshold, with all slices. Where there is no such voxel, the
    whole plane.
    """
    fit = preprocessing.fit_in_plane
    if fit is None:
        return upright_geometry(volume.geometry).reoriented(preprocessing.orientation)
    straight = upright(volume)
    oriented = straight.geometry.reoriented(preprocessing.orientation)
    body: np.ndarray = straight.array > fit.threshold
    if fit.largest_component and body.any():
        body = body.astype(np.uint8)
        clean_labels(body, (1,), largest_component=True)
    axes, flips = straight.geometry.axis_changes(preprocessing.orientation)
    start, stop = [0, 0, 0], list(oriented.shape)
    for axis in (0, 1):
        own = axes[axis]
        # Axis (i, j, k) number ``own`` of an array (k, j, i): the others are looked through.
        filled = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != 2 - own)))
        if filled.size:
            low, high = int(filled[0]), int(filled[-1]) + 1
            if flips[axis]:
                low, high = straight.geometry.size[own] - high, straight.geometry.size[own] - low
            start[2 - axis], stop[2 - axis] = low, high
    return oriented.cropped(start, stop)


def network_geometry(geometry: Geometry, preprocessing: Preprocessing) -> Geometry:
    """Return the grid on which the network sees an image of which ``geometry`` is shown (:func:`shown_geometry`).

    The axes are permuted and flipped to the model's orientation, exactly; an oblique grid stays oblique. Where the
    model gives a spacing, or a number of voxels for the plane, the grid is laid over the same field of view with the
    same centre.
    """
    oriented = upright_geometry(geometry).reoriented(preprocessing.orientation)
    spacing = [
        own if asked is None else asked for asked, own in zip(preprocessing.spacing, oriented.spacing, strict=True)
    ]
    if preprocessing.fit_in_plane is not None:
        spacing[:2] = [
            length / size for length, size in zip(oriented.extent_mm, preprocessing.fit_in_plane.size, strict=False)
        ]
    if np.allclose(spacing, oriented.spacing, rtol=1e-5, atol=0):
        return oriented
    return oriented.with_spacing((spacing[0], spacing[1], spacing[2]))


def to_network_grid(
    volume: Volume,
    preprocessing: Preprocessing,
    *,
    shown: Geometry | None = None,
    progress: Progress = NO_PROGRESS,
) -> Volume:
    """Return ``volume`` as the network takes it: float32, on :func:`network_geometry`, intensities prepared.

    Linear interpolation; beyond the outermost voxel centres their value goes on. The name and modality are kept.

    Parameters
    ----------
    shown
        The part of the grid that the network is shown; :func:`shown_geometry` of ``volume`` when omitted.

    Raises
    ------
    GeometryError
        When the grid is one that cannot be resampled.
    Cancelled
        When ``progress`` says so, between two slices or two intensity steps.
    """
    shown = shown or shown_geometry(volume, preprocessing)
    oriented = upright(volume).reorient(preprocessing.orientation)
    target = network_geometry(shown, preprocessing)
    prepared = np.empty(target.shape, np.float32)
    seen = oriented.array[box_within(oriented.geometry, shown)]
    sample_intensities(seen, sampling_between(shown, target), prepared, progress=progress)
    for step in preprocessing.intensity:
        progress.check()
        step.apply_in_place(prepared)
    return Volume(prepared, target, name=volume.name, modality=volume.modality)


def box_within(whole: Geometry, part: Geometry) -> tuple[slice, slice, slice]:
    """Return where the voxels of ``part`` lie in an array (k, j, i) of the grid ``whole``.

    Raises
    ------
    GeometryError
        When they are not all voxels of ``whole``.
    """
    start = whole.offset_of(part)
    if start is None or any(
        low < 0 or low + count > size for low, count, size in zip(start, part.shape, whole.shape, strict=True)
    ):
        raise GeometryError(
            "A part of a grid has voxels that the grid does not have.", advice="Give a part of the same grid."
        )
    k, j, i = (slice(low, low + count) for low, count in zip(start, part.shape, strict=True))
    return k, j, i


def upright_geometry(geometry: Geometry) -> Geometry:
    """Return ``geometry``, or for a sheared one a grid with right angles that covers it.

    The i axis and the plane of i and j keep their direction; the k axis becomes their normal. Spacing along the new
    axes is the distance of the old voxel planes, so a tilted CT stack keeps the distance of its slices.
    """
    if not geometry.is_sheared:
        return geometry
    edges = geometry.ijk_to_ras[:3, :3]
    axes, steps = np.linalg.qr(edges)
    spacing = np.abs(np.diag(steps))
    axes = axes * np.sign(np.diag(steps))
    last = np.asarray(geometry.size) - 1.0
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * last
    along = geometry.ijk_to_ras_points(corners) @ axes
    low, high = along.min(axis=0), along.max(axis=0)
    size = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = axes @ low
    return Geometry((int(size[2]), int(size[1]), int(size[0])), matrix)


def upright(volume: Volume) -> Volume:
    """Return ``volume``, or a sheared one resampled linearly onto :func:`upright_geometry`; its minimum outside."""
    target = upright_geometry(volume.geometry)
    if target is volume.geometry:
        return volume
    return volume.resample(target, interpolation="linear", fill=float(volume.array.min()))
