"""Install a model package from a zip file."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from medseg.errors import ModelError, WriteError
from medseg.models.fields import inside
from medseg.models.installing import library_root, settle
from medseg.models.placing import folder_beside
from medseg.models.reading import METADATA
from medseg.models.records import Origin
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medseg.models.library import ModelLibrary
    from medseg.models.package import ModelPackage

_LARGEST_TOTAL = 8 << 30
_MOST_FILES = 2000
_LARGEST_RATIO = 200
"""Text packs to about a tenth, weights hardly at all; what unfolds to 200 times its size is a bomb."""

_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BLOCK = 1 << 20
_DEEPEST = 2
"""Folders in the archive above the package."""


def import_zip(
    path: str | Path,
    library: ModelLibrary | None = None,
    *,
    overwrite: bool = False,
    origin: Origin | None = None,
    check: Callable[[ModelPackage, Origin], None] | None = None,
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
    origin
        What to note about where it came from; ``None``: the name of the file.
    check
        Called with the unpacked package before it takes its place; what it raises keeps the model out.

    Raises
    ------
    ModelError
        When the file is no zip of a usable package, is damaged, or is unsafe to unpack (members that leave the folder,
        links, sizes beyond any model).
    UntrustedModelError
        When the package would run code of its own.
    WriteError
        When there is a package of this name already, the disk is full or the folder cannot be written.
    Cancelled
        When the user asked to stop; nothing is left behind.
    """
    path = Path(path)
    root = library_root(library)
    with folder_beside(root) as temporary:
        draft = _unpack(path, temporary, progress)
        return settle(draft, temporary, root, overwrite=overwrite, origin=origin or Origin(path.name), check=check)


def _unpack(path: Path, temporary: Path, progress: Progress) -> Path:
    """Unpack the model into a new folder in ``temporary``, named as in the archive, and return it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir() and not _is_litter(member)]
            _check(members, path)
            prefix = _top(members, path)
            target = temporary / "draft" / (PurePosixPath(prefix).name or path.stem)
            total = sum(member.file_size for member in members)
            _need_space(temporary, total)
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
    return target


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


def _is_litter(member: zipfile.ZipInfo) -> bool:
    """Whether the member is what macOS adds to every archive."""
    return member.filename.startswith("__MACOSX/") or PurePosixPath(member.filename).name == ".DS_Store"


def _need_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise WriteError(
            f"The model needs {size / 1e6:.0f} MB and the disk of {folder.parent} has only {free / 1e6:.0f} MB left.",
            advice="Free some space, or set MEDSEG_HOME to a folder on another disk.",
        )


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
    names = [member.filename for member in members]
    found = [name.removesuffix(METADATA) for name in names if name.endswith(METADATA)] or _results_folders(names)
    if len(found) != 1 or found[0].count("/") > _DEEPEST:
        raise ModelError(f"{path} does not hold one model package.", advice="Choose the zip file of a single model.")
    prefix = found[0]
    if not all(name.startswith(prefix) for name in names):
        raise ModelError(
            f"{path} holds files beside the model package {prefix}.", advice="Choose the zip file of a single model."
        )
    return prefix


def _results_folders(names: list[str]) -> list[str]:
    """Return the folders, with a slash, of which nnU-Net keeps one for each data set.

    Each holds a folder for every configuration that was trained, named after trainer, plans and configuration, with
    ``plans.json`` and ``dataset.json``. Where an archive begins with such a folder or inside it, its top is returned.
    """
    known = set(names)
    inner = [name.removesuffix("plans.json") for name in names if PurePosixPath(name).name == "plans.json"]
    inner = [folder for folder in inner if f"{folder}dataset.json" in known]
    return sorted(
        {folder.rstrip("/").rpartition("/")[0] + "/" if "/" in folder.rstrip("/") else "" for folder in inner}
    )
