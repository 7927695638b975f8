"""What a user may choose about a model before it runs: a configuration, members of an ensemble, mirroring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medseg.models.package import ModelPackage

YES, NO = "yes", "no"


@dataclass(frozen=True)
class Choice:
    """One thing that can be chosen.

    Attributes
    ----------
    name
        One word, lower case ("folds").
    description
        What it means and what its default is, for a person.
    values
        What can be chosen.
    chosen
        What is chosen now: one of the values, or, of ``several``, values joined by commas.
    default
        What is chosen when nobody chooses.
    several
        Whether several values can be chosen at once.
    """

    name: str
    description: str
    values: tuple[str, ...]
    chosen: str
    default: str
    several: bool = False


class ChoiceError(InputError):
    """Something was chosen that there is not."""


def choose(package: ModelPackage, wanted: Mapping[str, str]) -> ModelPackage:
    """Return ``package`` as it is with ``wanted`` chosen (names and values of its :attr:`ModelPackage.choices`).

    What is not named stays as it was chosen. The package is read anew, because a choice may change its grid, its
    windows, its weights and its other choices.

    Raises
    ------
    ChoiceError
        When the model has no such choice, or not that value; the sentence lists what there is.
    ModelError
        When the package cannot be read with that choice.
    """
    from medseg.models.reading import read_package

    if not wanted:
        return package
    names = {choice.name for choice in package.choices}
    # Values are checked where the package is read: those of one choice may depend on another.
    check_choices(package.title, package.choices, {name: "" for name in wanted if name not in names})
    made = {choice.name: choice.chosen for choice in package.choices if choice.chosen != choice.default}
    return read_package(package.folder, {**made, **wanted})


def check_choices(title: str, choices: Iterable[Choice], wanted: Mapping[str, str]) -> None:
    """Raise :class:`ChoiceError` when ``wanted`` is not among ``choices`` of the model called ``title``."""
    known = {choice.name: choice for choice in choices}
    for name, value in wanted.items():
        if name not in known:
            there = f"Its options are: {', '.join(known)}." if known else "It has none."
            raise ChoiceError(f"The model '{title}' has no option '{name[:60]}'.", advice=there)
        choice = known[name]
        parts = [part.strip() for part in value.split(",")] if choice.several else [value]
        if not parts or not set(parts) <= set(choice.values):
            raise ChoiceError(
                f"The option '{name}' of the model '{title}' cannot be '{value[:60]}'.",
                advice=f"Choose {'some' if choice.several else 'one'} of: {', '.join(choice.values)}.",
            )
