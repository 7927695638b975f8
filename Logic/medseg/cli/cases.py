"""What to segment and where to put it, settled before anything is computed."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medseg.errors import InputError, WriteError
from medseg.files import write_error
from medseg.volumes.folders import image_files, stem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SEGMENTATION_ENDING = ".seg.nrrd"
LABELMAP_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
OUTPUT_ENDINGS = (SEGMENTATION_ENDING, *LABELMAP_ENDINGS)
_PLACEHOLDER = "{name}"
_PROBE_BYTES = 256 * 1024  # more than a folder entry, less than anybody notices


@dataclass(frozen=True)
class Case:
    """One job: ``paths`` holds a file or DICOM folder for each input of the model."""

    name: str
    paths: tuple[Path, ...]


def find_cases(inputs: Sequence[Path], slots: int) -> list[Case]:
    """Return the cases that ``inputs`` name: files, DICOM folders and folders of either.

    ``slots`` is how many images the model takes for one case; with several, the inputs are the images of one case.

    Raises
    ------
    InputError
        When a folder holds no image, or the number of inputs is not ``slots``.
    """
    if slots > 1:
        if len(inputs) != slots:
            raise InputError(
                f"This model takes {slots} images of one patient and {len(inputs)} were given.",
                advice="`medseg models` shows which ones, in order.",
            )
        return [Case(case_name(inputs[0]), tuple(inputs))]
    paths = [path for given in inputs for path in _images(given)]
    names = [case_name(path) for path in paths]
    often = Counter(names)
    names = [
        f"{path.resolve().parent.name}_{name}" if often[name] > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(
            f"Several inputs are named {', '.join(twice)}, so their outputs would overwrite each other.",
            advice="Give each once, or run them one after the other.",
        )
    return [Case(name, (path,)) for path, name in zip(paths, names, strict=True)]


def _images(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]  # a missing file fails as one case when it is read, and the others are done
    found = image_files(given)
    if not found:
        raise InputError(
            f"The folder {given} holds no image that MedSeg reads.",
            advice="Give a folder of DICOM files, NIfTI, NRRD or MetaImage files.",
        )
    return found


def case_name(path: Path) -> str:
    """Return the name of a file without its ending, or the name of a folder."""
    path = path.resolve()
    return path.name if path.is_dir() else stem(path)


def outputs_for(option: str, text: str, cases: Sequence[Case], endings: Sequence[str]) -> list[Path]:
    """Return one output path for each case.

    ``text`` is a file name (one case only), a folder, or a file name with ``{name}``. A folder is made when several
    cases or a closing slash say that it is one; files in it are called after their case, with the first of ``endings``.

    Raises
    ------
    typer.BadParameter
        When ``text`` cannot be such a name (a wrong command line).
    WriteError
        When the folder cannot be made or written to.
    InputError
        When an output would overwrite an input.
    """
    lower = text.lower()
    has_ending = any(lower.endswith(ending) for ending in endings)
    if _PLACEHOLDER in text:
        if not has_ending:
            raise typer.BadParameter(f"{text} must end with {_either(endings)}.", param_hint=option)
        paths = [Path(text.replace(_PLACEHOLDER, case.name)) for case in cases]
    elif is_folder(text) or (len(cases) > 1 and not has_ending):
        paths = [make_folder(Path(text)) / f"{case.name}{endings[0]}" for case in cases]
    elif len(cases) > 1:
        raise typer.BadParameter(
            f"{len(cases)} inputs need a folder, or a name with {_PLACEHOLDER} for each input's own.", param_hint=option
        )
    elif not has_ending:
        raise typer.BadParameter(
            f"{text} must end with {_either(endings)}, or be a folder (with / at its end).", param_hint=option
        )
    else:
        paths = [Path(text)]
    spare_inputs(paths, cases)
    check_writable(paths)
    return paths


def is_folder(text: str) -> bool:
    """Return whether a name is that of a folder: one that is there, or one to be made, as its closing slash says."""
    return Path(text).is_dir() or text.endswith(("/", os.sep))


def make_folder(path: Path) -> Path:
    """Make ``path`` and its parents where they are missing; raise ``WriteError`` when that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def spare_inputs(paths: Iterable[Path], cases: Iterable[Case]) -> None:
    """Raise ``InputError`` when an output would overwrite an input."""
    inputs = {given.resolve() for case in cases for given in case.paths}
    for path in paths:
        if path.resolve() in inputs:
            raise InputError(f"{path} is both an input and an output.", advice="Choose another name or folder.")


def check_writable(paths: Iterable[Path]) -> None:
    """Raise now what writing to ``paths`` would raise after minutes of computing.

    Raises
    ------
    WriteError
        When a folder is missing, read-only or on a full disk, or a folder stands where a file should go.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            raise WriteError(f"{path} is a folder, not a file.", advice="Choose another name for the output.")
        folders.setdefault(path.parent, path)
    for folder, path in folders.items():
        if not folder.is_dir():
            raise WriteError(f"The folder {folder} does not exist.", advice=f"Make it first: mkdir -p {folder}")
        try:
            with tempfile.NamedTemporaryFile(prefix=".medseg-", dir=folder) as probe:
                probe.write(b"\0" * _PROBE_BYTES)
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise write_error(path, error) from error


def _either(endings: Sequence[str]) -> str:
    return endings[0] if len(endings) == 1 else f"{', '.join(endings[:-1])} or {endings[-1]}"
