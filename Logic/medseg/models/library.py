"""The models that are there: bundled with MedSeg, and in the user's folder."""

from __future__ import annotations

import difflib
import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import medseg
from medseg.errors import MedSegError, ModelError
from medseg.files import user_folder
from medseg.models.package import ModelPackage
from medseg.models.reading import read_package

if TYPE_CHECKING:
    from collections.abc import Sequence


def bundled_folder() -> Path | None:
    """Return the folder of the models that come with MedSeg, or ``None`` when there is none.

    In this order: ``$MEDSEG_RESOURCES/Models``; ``Resources/Models`` of a source tree (``Logic/medseg`` lies two levels
    below its top) or beside the package, where the Slicer extension puts it; ``share/medseg/Models`` of the Python
    environment.
    """
    package = Path(medseg.__file__).resolve().parent
    override = os.environ.get("MEDSEG_RESOURCES", "").strip()
    if override:
        return Path(override).expanduser() / "Models"
    candidates = [package.parent / "Resources" / "Models"]
    if package.parent.name == "Logic":
        candidates.insert(0, package.parent.parent / "Resources" / "Models")
    candidates += [
        Path(root) / "share" / "medseg" / "Models" for root in (sys.prefix, sysconfig.get_path("data"), *_user_base())
    ]
    return next((folder for folder in candidates if folder.is_dir()), None)


def user_models_folder() -> Path:
    """Return the folder of the user's own models, ``models`` in :func:`medseg.files.user_folder`. Not created."""
    return user_folder() / "models"


class ModelLibrary:
    """The model packages below some folders, one folder a package.

    Where two packages have the same name, the one in the earlier folder is offered; the user's folder comes before the
    bundled models, so that a user may replace one (our choice). The folders are read anew at every call.
    """

    def __init__(self, paths: Sequence[str | Path] | None = None) -> None:
        if paths is not None:
            self.paths = [Path(path) for path in paths]
        else:
            bundled = bundled_folder()
            self.paths = [user_models_folder(), *([bundled] if bundled else [])]

    def packages(self, verb: str | None = None) -> list[ModelPackage]:
        """Return the readable packages, sorted by title; with ``verb`` ("segment", "register") those that do that."""
        return [package for package in self._scan()[0] if verb in (None, package.verb)]

    def broken(self) -> list[tuple[Path, MedSegError]]:
        """Return the folders that cannot be read as packages, with the reason."""
        return self._scan()[1]

    def find(self, name_or_folder: str | Path, verb: str | None = None) -> ModelPackage:
        """Return the package of that name, or the one in that folder.

        Parameters
        ----------
        verb
            What the package must do: "segment" or "register"; ``None``: whatever it does.

        Raises
        ------
        ModelError
            When there is none, and the sentence lists near names; or when it does something else.
        UntrustedModelError
            When that package would run code of its own.
        """
        wanted = str(name_or_folder).strip()
        packages, broken = self._scan()
        fitting = [package for package in packages if verb in (None, package.verb)]
        for package in packages:
            if package.name == wanted:
                return _with_verb(package, verb, fitting)
        for folder, error in broken:
            if folder.name == wanted:
                raise error
        if wanted and _is_package_folder(Path(wanted).expanduser()):
            return _with_verb(read_package(Path(wanted).expanduser()), verb, fitting)
        packages, names = fitting, [package.name for package in fitting]
        near = difflib.get_close_matches(wanted.lower(), names, n=3, cutoff=0.4) or [
            package.name for package in packages if wanted and package.matches(wanted)
        ]
        advice = (
            f"Did you mean {' or '.join(near[:3])}?"
            if near
            else f"The models here are: {', '.join(names)}."
            if names
            else "No model is installed; put a model package into the folder of models, or give its folder."
        )
        raise ModelError(f"There is no model '{wanted[:200]}'.", advice=advice)

    def search(self, words: str) -> list[ModelPackage]:
        """Return the packages that every typed word matches (name, title, anatomy, modality, description, labels)."""
        return [package for package in self.packages() if package.matches(words)]

    def _scan(self) -> tuple[list[ModelPackage], list[tuple[Path, MedSegError]]]:
        found: dict[str, ModelPackage] = {}
        broken: list[tuple[Path, MedSegError]] = []
        for root in self.paths:
            for folder in _folders(root):
                outcome = _try(folder)
                if isinstance(outcome, ModelPackage):
                    found.setdefault(outcome.name, outcome)
                else:
                    broken.append((folder, outcome))
        return sorted(found.values(), key=lambda package: package.title.casefold()), broken


def _with_verb(package: ModelPackage, verb: str | None, others: Sequence[ModelPackage]) -> ModelPackage:
    if verb in (None, package.verb):
        return package
    names = ", ".join(other.name for other in others)
    raise ModelError(
        f"The model '{package.name}' is there to {package.verb} and cannot {verb}.",
        advice=f"The models that can: {names}." if names else f"No model that can {verb} is installed.",
    )


def _try(folder: Path) -> ModelPackage | MedSegError:
    try:
        return read_package(folder)
    except MedSegError as error:
        return error


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith((".", "_")))
    except OSError:
        # A library folder that does not exist yet, or may not be read, offers no models.
        return []


def _is_package_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _user_base() -> list[str]:
    import site

    return [site.USER_BASE] if site.USER_BASE else []
