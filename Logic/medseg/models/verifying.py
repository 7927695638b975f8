"""Check installed models against the checksums that are known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.models.package import sha256_of
from medseg.models.records import file_hashes, read_record
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.models.library import ModelLibrary
    from medseg.models.package import ModelPackage


@dataclass(frozen=True)
class Verification:
    """What was found out about a model.

    Attributes
    ----------
    name
        The model, or the folder of one that cannot be read.
    problems
        One sentence each; empty when all is well.
    compared
        How many files were compared with a checksum; 0 when none is known of the model.
    """

    name: str
    problems: tuple[str, ...]
    compared: int

    @property
    def is_sound(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def verify_library(
    library: ModelLibrary, names: tuple[str, ...] = (), progress: Progress = NO_PROGRESS
) -> list[Verification]:
    """Check all models of a library, or those of the given names; every file is read anew.

    Raises
    ------
    ModelError
        When there is no model of one of the names.
    """
    if names:
        packages, broken = [library.find(name) for name in names], []
    else:
        packages, broken = library.packages(), library.broken()
    found = [
        verify_model(package, progress.part(at / len(packages), (at + 1) / len(packages)))
        for at, package in enumerate(packages)
    ]
    return [*found, *(Verification(folder.name, (str(error),), 0) for folder, error in broken)]


def verify_model(package: ModelPackage, progress: Progress = NO_PROGRESS) -> Verification:
    """Compare the weights with the SHA-256 in the package, and all files with those noted at the installation.

    Raises
    ------
    Cancelled
        When the user asked to stop.
    """
    record = read_record(package.folder)
    expected = dict(record.files) if record is not None else {}
    described = {
        file.path.relative_to(package.folder).as_posix(): file.sha256 for file in package.weights_files if file.sha256
    }
    progress.update(0.0, f"Checking {package.name}")
    try:
        if not expected:
            actual = {name: sha256_of(package.folder / name) for name in described if (package.folder / name).is_file()}
        else:
            actual = file_hashes(package.folder, progress)
    except OSError as error:
        return Verification(package.name, (f"A file cannot be read: {error.strerror or error}.",), 0)
    # What the package says of its weights holds whatever was noted.
    known = expected | described
    problems = [_missing(name) for name in known if name not in actual]
    problems += [_changed(name) for name, digest in known.items() if actual.get(name, digest) != digest]
    problems += _extra(package.folder, expected, actual) if expected else []
    return Verification(package.name, tuple(problems), len(known))


def _missing(name: str) -> str:
    return f"{name} is missing; install the model again."


def _changed(name: str) -> str:
    return f"{name} is damaged or was changed since the installation; install the model again."


def _extra(folder: Path, expected: dict[str, str], actual: dict[str, str]) -> list[str]:
    """Name files that were not installed; what the system leaves in every folder does not count."""
    return [
        f"{name} did not come with the model."
        for name in actual
        if name not in expected and (folder / name).name not in (".DS_Store", "Thumbs.db", "desktop.ini")
    ]
