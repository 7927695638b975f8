"""From an image on any grid to what a network takes: its orientation, its spacing, its intensities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.grids import sample_intensities, sampling_between
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from medseg.models.package import Preprocessing


def network_geometry(geometry: Geometry, preprocessing: Preprocessing) -> Geometry:
    """Return the grid on which the network sees an image of ``geometry``.

    The axes are permuted and flipped to the model's orientation, exactly; an oblique grid stays oblique. Where the
    model gives a spacing, the grid is laid over the same field of view with the same centre.
    """
    oriented = upright_geometry(geometry).reoriented(preprocessing.orientation)
    spacing = [
        own if asked is None else asked for asked, own in zip(preprocessing.spacing, oriented.spacing, strict=True)
    ]
    if np.allclose(spacing, oriented.spacing, rtol=1e-5, atol=0):
        return oriented
    return oriented.with_spacing((spacing[0], spacing[1], spacing[2]))


def to_network_grid(volume: Volume, preprocessing: Preprocessing, *, progress: Progress = NO_PROGRESS) -> Volume:
    """Return ``volume`` as the network takes it: float32, on :func:`network_geometry`, intensities prepared.

    Linear interpolation; beyond the outermost voxel centres their value goes on. The name and modality are kept.

    Raises
    ------
    GeometryError
        When the grid is one that cannot be resampled.
    Cancelled
        When ``progress`` says so, between two slices or two intensity steps.
    """
    oriented = upright(volume).reorient(preprocessing.orientation)
    target = network_geometry(oriented.geometry, preprocessing)
    prepared = np.empty(target.shape, np.float32)
    sample_intensities(oriented.array, sampling_between(oriented.geometry, target), prepared, progress=progress)
    for step in preprocessing.intensity:
        progress.check()
        step.apply_in_place(prepared)
    return Volume(prepared, target, name=volume.name, modality=volume.modality)


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
