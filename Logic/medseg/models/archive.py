"""Install a model package from a zip file."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from medseg.errors import ModelError, WriteError
from medseg.models.fields import inside
from medseg.models.library import user_models_folder
from medseg.models.placing import folder_beside, replace_folder
from medseg.models.reading import METADATA, read_package
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medseg.models.library import ModelLibrary
    from medseg.models.package import ModelPackage

_LARGEST_TOTAL = 8 << 30
_MOST_FILES = 2000
_LARGEST_RATIO = 200
"""Text packs to about a tenth, weights hardly at all; what unfolds to 200 times its size is a bomb."""

_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BLOCK = 1 << 20


def import_zip(
    path: str | Path,
    library: ModelLibrary | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = NO_PROGRESS,
) -> ModelPackage:
    """Unpack the model package in the zip file ``path`` into the user's models, whole or not at all.

    The package may lie at the top of the archive or in one folder. It is read and the hash of its weights is checked
    before it appears in the library, under its own name.

    Parameters
    ----------
    library
        Where it goes: the first folder of this library; ``None``: the user's folder of models.
    overwrite
        Replace a package of the same name.

    Raises
    ------
    ModelError
        When the file is no zip of a usable package, is damaged, or is unsafe to unpack (members that leave the folder,
        links, sizes beyond any model).
    UntrustedModelError
        When the package would run code of its own.
    WriteError
        When there is a package of this name already, or the folder cannot be written.
    Cancelled
        When the user asked to stop; nothing is left behind.
    """
    path = Path(path)
    root = library.paths[0] if library is not None else user_models_folder()
    with folder_beside(root) as temporary:
        draft = temporary / "package"
        _unpack(path, draft, progress)
        package = read_package(draft)
        package.weights.verify()
        final = root / package.name
        if final.exists() and not overwrite:
            raise WriteError(
                f"There is a model '{package.name}' already in {root}.", advice="Remove it first, or replace it."
            )
        replace_folder(draft, final, temporary)
    return read_package(final)


def _unpack(path: Path, target: Path, progress: Progress) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check(members, path)
            prefix = _top(members, path)
            total = sum(member.file_size for member in members)
            done = 0
            for member in members:
                relative = member.filename.removeprefix(prefix)
                for block in _unpack_member(archive, member, inside(target, relative)):
                    done += block
                    progress.update(done / max(total, 1), "Unpacking the model")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelError(f"There is no zip file {path}.", advice="Choose the zip file of a model.") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError, zlib.error) as error:
        raise ModelError(
            f"{path} is no usable zip file: {str(error)[:200]}.", advice="Download the model again."
        ) from error


def _unpack_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Path) -> Iterator[int]:
    """Write one member to ``file`` and yield the bytes of each block; stop when it is larger than it says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, file.open("xb") as sink:
        while block := source.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise zipfile.BadZipFile(f"{member.filename} is larger than it says")
            sink.write(block)
            yield len(block)


def _check(members: list[zipfile.ZipInfo], path: Path) -> None:
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if len(members) > _MOST_FILES or total > _LARGEST_TOTAL or total > _LARGEST_RATIO * max(packed, 1) + (1 << 20):
        raise ModelError(
            f"{path} would unfold to {len(members)} files of {total / 1e6:.0f} MB in all, which no model is.",
            advice="It was not unpacked; get the model from a source that you trust.",
        )
    if len({member.filename.casefold() for member in members}) < len(members):
        raise ModelError(f"{path} holds two files of one name.", advice="Download the model again.")
    for member in members:
        name = member.filename
        kind = stat.S_IFMT(member.external_attr >> 16)
        parts = PurePosixPath(name).parts
        climbs = name.startswith("/") or ".." in parts or any(mark in name for mark in "\\:\0")
        if climbs or kind not in (0, stat.S_IFREG) or member.compress_type not in _PACKINGS:
            raise ModelError(
                f"{path} holds the member {name[:200]!r}, which leads outside, is a link or is packed unusually.",
                advice="It was not unpacked; get the model from a source that you trust.",
            )


def _top(members: list[zipfile.ZipInfo], path: Path) -> str:
    """Return the folder of the archive, with a slash, in which the package lies ("" for the top)."""
    found = [member.filename.removesuffix(METADATA) for member in members if member.filename.endswith(METADATA)]
    if len(found) != 1 or found[0].count("/") > 1:
        raise ModelError(f"{path} does not hold one model package.", advice="Choose the zip file of a single model.")
    prefix = found[0]
    if not all(member.filename.startswith(prefix) for member in members):
        raise ModelError(
            f"{path} holds files beside the model package {prefix}.", advice="Choose the zip file of a single model."
        )
    return prefix
