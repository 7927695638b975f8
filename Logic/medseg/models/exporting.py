"""Write a model as a zip file that can be installed elsewhere."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.files import atomic_path
from medseg.models.records import RECORD
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from medseg.models.package import ModelPackage

_BLOCK = 1 << 20


def export_model(package: ModelPackage, path: str | Path, progress: Progress = NO_PROGRESS) -> Path:
    """Write the model's folder to the zip file ``path``, whole or not at all, and return where it is.

    An existing folder as ``path`` gets a file named after the model and its version.

    Raises
    ------
    InputError
        When ``path`` does not end in ``.zip``.
    WriteError
        When it cannot be written; what stood there before is untouched.
    Cancelled
        When the user asked to stop; nothing is written.
    """
    path = Path(path)
    if path.is_dir():
        path = path / f"{package.name}-{package.version}.zip"
    if path.suffix.lower() != ".zip":
        raise InputError(f"{path} does not end in .zip.", advice="A model is exported as a zip file.")
    files = [file for file in sorted(package.folder.rglob("*")) if file.is_file()]
    total, done = max(sum(file.stat().st_size for file in files), 1), 0
    with atomic_path(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            member = zipfile.ZipInfo.from_file(file, f"{package.name}/{file.relative_to(package.folder).as_posix()}")
            # Weights hardly pack, and packing them would take most of the time.
            packs = file.suffix.lower() in (".json", ".csv", ".md", ".txt") or file.name in ("LICENSE", RECORD)
            member.compress_type = zipfile.ZIP_DEFLATED if packs else zipfile.ZIP_STORED
            with file.open("rb") as source, archive.open(member, "w") as sink:
                while block := source.read(_BLOCK):
                    sink.write(block)
                    done += len(block)
                    progress.update(done / total, "Writing the zip file")
    return path
