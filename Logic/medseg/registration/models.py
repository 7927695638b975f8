"""Which model package registers: the one that the user names, or the default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.models import ModelLibrary
from medseg.models.registration import REGISTER

if TYPE_CHECKING:
    from medseg.models import ModelPackage

DEFAULT_MODEL = "synthetic-brain-register"
"""The model that is taken when the user names none."""


def registration_package(name_or_folder: str | None = None, library: ModelLibrary | None = None) -> ModelPackage:
    """Return the package that registers: by name or folder, else :data:`DEFAULT_MODEL`, else the only one there is.

    Raises
    ------
    InputError
        When none was named and there is no default.
    ModelError
        When there is none of that name, or it does something else.
    """
    library = library or ModelLibrary()
    if name_or_folder:
        return library.find(name_or_folder, REGISTER)
    packages = library.packages(REGISTER)
    for package in packages:
        if package.name == DEFAULT_MODEL or len(packages) == 1:
            return package
    if packages:
        raise InputError(
            "There are several models that register, and none was chosen.",
            advice=f"Choose one of {', '.join(package.name for package in packages)}.",
        )
    raise InputError(
        "No model that registers is installed.",
        advice="Install one, train one with a recipe of the task registration, or use the method lapirn or field.",
    )
