"""Put a model package into the library, such as that of a finished training run, and remove one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ModelError, WriteError
from medseg.models.library import user_models_folder
from medseg.models.nnunet.folder import copy_nnunet
from medseg.models.package import NNUNET
from medseg.models.placing import folder_beside, replace_folder
from medseg.models.reading import read_package
from medseg.models.records import Origin, file_hashes, read_record, write_record
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.models.library import ModelLibrary
    from medseg.models.package import ModelPackage


def install_folder(
    folder: str | Path,
    library: ModelLibrary | None = None,
    *,
    overwrite: bool = False,
    origin: Origin | None = None,
    check: Callable[[ModelPackage, Origin], None] | None = None,
    progress: Progress = NO_PROGRESS,
) -> ModelPackage:
    """Copy the model package in ``folder`` into the user's models, whole or not at all, under its own name.

    Parameters
    ----------
    library
        Where it goes: the first folder of this library; ``None``: the user's folder of models.
    overwrite
        Replace a package of the same name.
    origin
        What to note about where it came from; ``None``: the name of the folder.
    check
        Called with the copy before it takes its place; what it raises keeps the model out.

    Raises
    ------
    ModelError
        When the folder is no usable package, or its weights are damaged.
    UntrustedModelError
        When the package would run code of its own.
    WriteError
        When there is a package of this name already, or the folder cannot be written.
    Cancelled
        When the user asked to stop; nothing is left behind.
    """
    root = library_root(library)
    source = read_package(Path(folder))
    refuse_existing(root / source.name, overwrite=overwrite)

    def copy(file: str, target: str) -> str:
        progress.update(0.0, "Copying the model")
        return str(shutil.copy2(file, target))

    with folder_beside(root) as temporary:
        draft = temporary / "draft" / source.folder.name
        if source.kind == NNUNET:
            progress.update(0.0, "Copying the model")
            draft.mkdir(parents=True)
            copy_nnunet(source.folder, draft)
        else:
            shutil.copytree(source.folder, draft, copy_function=copy)
        return settle(
            draft, temporary, root, overwrite=overwrite, origin=origin or Origin(source.folder.name), check=check
        )


def settle(
    draft: Path,
    temporary: Path,
    root: Path,
    *,
    overwrite: bool,
    origin: Origin,
    check: Callable[[ModelPackage, Origin], None] | None = None,
) -> ModelPackage:
    """Move a complete package from ``draft`` to its place in ``root`` after checking it.

    The draft is checked, not what it was copied from: what is installed is what was verified. ``temporary`` is a folder
    on the same disk that is removed afterwards. See :func:`install_folder` for the rest.
    """
    package = read_package(draft)
    for file in package.weights_files:
        file.verify()
    earlier = read_record(draft)
    if earlier is not None:
        # The model was exported from a library, so the checksums of all its files come with it.
        actual = file_hashes(draft)
        damaged = [name for name, digest in earlier.files.items() if actual.get(name) != digest]
        if damaged:
            raise ModelError(
                f"The model '{package.name}' is damaged: {damaged[0]} is not the file that was exported.",
                advice="Export or download the model again.",
            )
        known = earlier.origin
        origin = dataclasses.replace(
            origin,
            entry=origin.entry or known.entry,
            title=origin.title or known.title,
            license=origin.license or known.license,
        )
    if check is not None:
        check(package, origin)
    final = root / package.name
    refuse_existing(final, overwrite=overwrite)
    write_record(draft, origin)
    replace_folder(draft, final, temporary)
    return read_package(final)


def remove_model(name: str, library: ModelLibrary | None = None) -> None:
    """Remove the user's model whose folder is called ``name``; also one that cannot be read. Bundled models stay.

    A run that goes on with this model has its weights in memory and is not disturbed; where the system does not remove
    files that are open (Windows), nothing is removed.

    Raises
    ------
    ModelError
        When the user has no such model.
    WriteError
        When it cannot be removed.
    """
    root = library_root(library)
    folder = root / name
    if Path(name).name != name or name in ("", "..") or not folder.is_dir():
        raise ModelError(
            f"There is no model '{name[:200]}' in {root}.", advice="Models that come with MedSeg cannot be removed."
        )
    # Renamed first, so that a half-removed model is never offered.
    with folder_beside(root) as temporary:
        try:
            folder.rename(temporary / "removed")
        except PermissionError as error:
            raise WriteError(
                f"The model '{name}' cannot be removed: a file of it is open, or the folder may not be changed.",
                advice="Wait until no run uses the model, then try again.",
            ) from error


def library_root(library: ModelLibrary | None) -> Path:
    """Return the folder into which models are installed."""
    return library.paths[0] if library is not None else user_models_folder()


def refuse_existing(final: Path, *, overwrite: bool) -> None:
    """Raise :class:`~medseg.errors.WriteError` when there is a model already that may not be replaced."""
    if final.exists() and not overwrite:
        raise WriteError(
            f"There is a model '{final.name}' already in {final.parent}.", advice="Remove it first, or replace it."
        )
