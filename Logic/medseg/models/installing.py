"""Install a model package from a folder, such as that of a finished training run, and remove one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ModelError, WriteError
from medseg.models.library import user_models_folder
from medseg.models.placing import folder_beside, replace_folder
from medseg.models.reading import read_package

if TYPE_CHECKING:
    from medseg.models.library import ModelLibrary
    from medseg.models.package import ModelPackage


def install_folder(folder: str | Path, library: ModelLibrary | None = None, *, overwrite: bool = False) -> ModelPackage:
    """Copy the model package in ``folder`` into the user's models, whole or not at all, under its own name.

    Parameters
    ----------
    library
        Where it goes: the first folder of this library; ``None``: the user's folder of models.
    overwrite
        Replace a package of the same name.

    Raises
    ------
    ModelError
        When the folder is no usable package, or its weights are damaged.
    UntrustedModelError
        When the package would run code of its own.
    WriteError
        When there is a package of this name already, or the folder cannot be written.
    """
    root = _root(library)
    source = read_package(Path(folder))
    final = root / source.name
    if final.exists() and not overwrite:
        raise WriteError(
            f"There is a model '{source.name}' already in {root}.", advice="Remove it first, or replace it."
        )
    with folder_beside(root) as temporary:
        draft = temporary / "package"
        shutil.copytree(source.folder, draft)
        # The copy is checked, not the source: what is installed is what was verified.
        read_package(draft).weights.verify()
        replace_folder(draft, final, temporary)
    return read_package(final)


def remove_model(name: str, library: ModelLibrary | None = None) -> None:
    """Remove the user's model whose folder is called ``name``; also one that cannot be read. Bundled models stay.

    Raises
    ------
    ModelError
        When the user has no such model.
    WriteError
        When it cannot be removed.
    """
    root = _root(library)
    folder = root / name
    if Path(name).name != name or name in ("", "..") or not folder.is_dir():
        raise ModelError(
            f"There is no model '{name[:200]}' in {root}.", advice="Models that come with MedSeg cannot be removed."
        )
    # Renamed first, so that a half-removed model is never offered.
    with folder_beside(root) as temporary:
        folder.rename(temporary / "removed")


def _root(library: ModelLibrary | None) -> Path:
    return library.paths[0] if library is not None else user_models_folder()
