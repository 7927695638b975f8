"""Read a folder of DICOM slices as one volume."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError, ReadError
from medseg.volumes.slices import Slice, Unusable, quiet, read_pixels, scan_folder
from medseg.volumes.stacking import Stack, build
from medseg.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PARALLEL = 2e-3  # of unit vectors: half a millimetre at the edge of a large field of view
_SAME_SPACING = 1e-4  # relative
_SAME_PLACE_MM = 0.01


@dataclasses.dataclass(frozen=True)
class Series:
    """One series in a folder: its UID, what the scanner called it, and its files in the order of their names."""

    uid: str
    description: str
    modality: str
    number: str
    files: tuple[Path, ...]

    @property
    def slices(self) -> int:
        """The number of its files."""
        return len(self.files)

    def __str__(self) -> str:
        name = f"'{self.description}'" if self.description else f"number {self.number or '?'}"
        images = "1 image" if self.slices == 1 else f"{self.slices} images"
        return f"{name} ({self.modality or 'modality unknown'}, {images})"


def find_series(folder: str | Path) -> list[Series]:
    """Return the DICOM series whose files lie in ``folder`` (not in its subfolders), by number and UID.

    Raises
    ------
    ReadError
        When the folder cannot be read or an image in it is damaged.
    """
    images, _ = scan_folder(Path(folder))
    return [_series(group) for group in _grouped(images)]


def read_dicom(folder: str | Path, series_uid: str | None = None, *, check: Callable[[], None] | None = None) -> Volume:
    """Read the DICOM slices in a folder as a volume.

    Slices are sorted by their positions, whatever their names and numbers say, and rescaled (Hounsfield units in CT).
    A stack that is tilted, uneven or has gaps is interpolated linearly onto an even grid with right angles over the
    same region (see :mod:`medseg.volumes.stacking`), and ``notes`` say so.

    Parameters
    ----------
    series_uid
        Which series, when there are several.
    check
        Called between files; what it raises stops the reading.

    Returns
    -------
    Volume
        Voxels (k, j, i) in the integer type of the rescaled pixels, or float32. k grows along the slices' normal. The
        name is the series' description; nothing of the patient is kept.

    Raises
    ------
    ReadError
        When the folder cannot be read or holds no DICOM image, an image is damaged, has several frames, is in colour
        or does not say where it lies.
    InputError
        When there are several series, or the series has slices of several orientations or sizes, several images at
        one position, or more slices missing than there are.
    """
    folder = Path(folder)
    images, others = scan_folder(folder, check)
    groups = _grouped(images)
    if series_uid is not None:
        groups = [group for group in groups if group[0].series == series_uid]
    if not groups:
        what = "no DICOM image" if series_uid is None else f"no DICOM series with the UID {series_uid}"
        raise ReadError(f"The folder {folder} holds {what}.", advice="Give the folder in which the slices lie.")
    if len(groups) > 1:
        listed = "; ".join(str(_series(group)) for group in groups[:8]) + ("; ..." if len(groups) > 8 else "")
        raise InputError(
            f"The folder {folder} holds {len(groups)} DICOM series: {listed}.",
            advice="Put the one that you want into a folder of its own.",
        )
    group = groups[0]
    name = f"The DICOM series {_series(group)}"
    notes = [_other_files(others)] if others else []
    slices = _usable(group)
    _check_alike(slices, name)
    slices, copies = _without_copies(slices)
    if copies:
        notes.append(f"{copies} files are copies of others and were left out." if copies > 1 else _ONE_COPY)
    stack = Stack.of(slices)
    _check_places(stack, name)

    def read(image: Slice) -> np.ndarray:
        if check is not None:
            check()
        return read_pixels(image)

    with quiet():
        array, geometry, more = build(stack, read)
    series = _series(group)
    return Volume(
        array,
        geometry,
        name=series.description or f"Series {series.number}".strip(),
        modality=series.modality,
        notes=(*notes, *more),
    )


_ONE_COPY = "1 file is a copy of another and was left out."


def _grouped(images: Sequence[Slice | Unusable]) -> list[list[Slice | Unusable]]:
    groups: dict[str, list[Slice | Unusable]] = defaultdict(list)
    for image in images:
        groups[image.series].append(image)

    def order(group: list[Slice | Unusable]) -> tuple[int, str]:
        number = group[0].series_number
        return (int(number) if number.isdecimal() else 0, group[0].series)

    return sorted(groups.values(), key=order)


def _series(group: Sequence[Slice | Unusable]) -> Series:
    first = group[0]
    files = tuple(image.path for image in group)
    return Series(first.series, first.description, first.modality, first.series_number, files)


def _other_files(count: int) -> str:
    if count == 1:
        return "1 file beside the slices is no DICOM image and was left out."
    return f"{count} files beside the slices are no DICOM images and were left out."


def _usable(group: Sequence[Slice | Unusable]) -> list[Slice]:
    for image in group:
        if isinstance(image, Unusable):
            raise ReadError(f"The DICOM image {image.path} {image.reason}.", advice=image.advice)
    return [image for image in group if isinstance(image, Slice)]


def _check_alike(slices: Sequence[Slice], name: str) -> None:
    """Refuse slices of several orientations, sizes or pixel spacings."""
    planes: list[list[Slice]] = []
    for image in slices:
        for plane in planes:
            apart = max(np.abs(image.across - plane[0].across).max(), np.abs(image.down - plane[0].down).max())
            if apart <= _PARALLEL:
                plane.append(image)
                break
        else:
            planes.append([image])
    if len(planes) > 1:
        planes.sort(key=len, reverse=True)
        listed = ", ".join(f"{len(plane)} {_plane_name(plane[0])}" for plane in planes[:6])
        raise InputError(
            f"{name} has slices of {len(planes)} orientations: {listed}{', ...' if len(planes) > 6 else ''}.",
            advice="Put the slices of one orientation into a folder of their own (the others may be scout images).",
        )
    sizes = Counter(image.size for image in slices)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {i} x {j} pixels" for (i, j), count in sizes.most_common(6))
        raise InputError(
            f"{name} has images of different sizes: {listed}.",
            advice="Put those of one size into a folder of their own.",
        )
    steps = np.array([image.spacing for image in slices])
    if np.abs(steps - steps[0]).max() > _SAME_SPACING * steps[0].min():
        raise InputError(
            f"{name} has images of different pixel spacings ({steps.min():.4g} to {steps.max():.4g} mm).",
            advice="Put those of one field of view into a folder of their own.",
        )


def _plane_name(image: Slice) -> str:
    normal = np.abs(image.normal)
    axis = int(np.argmax(normal))
    return f"{'' if normal[axis] > 0.99 else 'oblique '}{('sagittal', 'coronal', 'axial')[axis]}"


def _without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], int]:
    seen: set[str] = set()
    kept = []
    for image in slices:
        if image.instance and image.instance in seen:
            continue
        seen.add(image.instance)
        kept.append(image)
    return kept, len(slices) - len(kept)


def _check_places(stack: Stack, name: str) -> None:
    """Refuse several images at one position: a series in time, of several echoes or phases, or scanned twice."""
    if len(stack.along) < 2:
        return
    gaps = stack.gaps
    apart = gaps[gaps > _SAME_PLACE_MM]
    same = gaps <= min([_SAME_PLACE_MM, *(0.05 * apart)])
    if not same.any():
        return
    first = int(np.flatnonzero(same)[0])
    places = int(len(gaps) + 1 - same.sum())
    pair = stack.slices[first].dimensions, stack.slices[first + 1].dimensions
    differing = [key for key in pair[0] if pair[0][key] != pair[1].get(key)]
    if differing:
        values = list(dict.fromkeys(image.dimensions.get(differing[0], "?") for image in stack.slices))
        listed = ", ".join(values[:6]) + (", ..." if len(values) > 6 else "")
        why = f" They differ in {differing[0]} ({listed})."
    else:
        why = ""
    raise InputError(
        f"{name} has {len(stack.slices)} images at {places} positions: several volumes in one series (time points, "
        f"echoes, phases), or slices that were made twice.{why}",
        advice="Put the images of one volume into a folder of their own.",
    )
