"""Read untrusted JSON, field by field: every wrong one becomes a sentence that names it."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

from medseg.errors import ModelError

_LARGEST_JSON = 4 << 20
_REINSTALL = "The package is incomplete or damaged; install the model again."


def inside(folder: Path, relative: str) -> Path:
    """Return ``folder / relative`` after making sure that it cannot leave ``folder``.

    Raises
    ------
    ModelError
        When ``relative`` is absolute, climbs with ``..``, names a drive or leads outside through a symbolic link.
    """
    pure = PurePosixPath(relative)
    unsafe = (
        not relative.strip()
        or pure.is_absolute()
        or ".." in pure.parts
        or any(mark in relative for mark in ("\\", ":", "\0"))
    )
    try:
        path = folder.joinpath(*pure.parts) if not unsafe else folder
        if not unsafe and path.resolve().is_relative_to(folder.resolve()):
            return path
    except (OSError, RuntimeError, ValueError):
        # A name that the file system cannot hold or a loop of links: refused below like any other.
        pass
    raise ModelError(
        f"The model package {folder} points to a file outside itself: {relative!r}.",
        advice="It is refused; get the model from a source that you trust.",
    )


def read_json(folder: Path, relative: str) -> Fields:
    """Read a JSON object of a package.

    Raises
    ------
    ModelError
        When the file is missing, too large, not UTF-8, not JSON or not an object.
    """
    path = inside(folder, relative)
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ModelError(f"{relative} of the model package {folder} is too large.", advice=_REINSTALL)
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"The model package {folder} has no {relative}.", advice=_REINSTALL) from error
    except OSError as error:
        raise ModelError(
            f"{relative} of the model package {folder} cannot be read: {error.strerror or error}.", advice=_REINSTALL
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{relative} of the model package {folder} is not valid JSON: {error}.", advice=_REINSTALL
        ) from error
    if not isinstance(data, dict):
        raise ModelError(f"{relative} of the model package {folder} is not a JSON object.", advice=_REINSTALL)
    return Fields(data, f"{relative} of the model package {folder}")


class Fields:
    """A JSON object whose fields are read with their type; a wrong field raises :class:`ModelError`.

    ``where`` says in words which object of which file this is.
    """

    def __init__(self, data: dict[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    def fail(self, name: str, expected: str) -> ModelError:
        """Return the error that says that the field ``name`` is not ``expected``."""
        found = repr(self.data[name]) if name in self.data else "nothing"
        found = found if len(found) <= 80 else found[:77] + "..."
        return ModelError(f"'{name}' in {self.where} must be {expected}, and is {found}.", advice=_REINSTALL)

    def has(self, name: str) -> bool:
        """Say whether the field is there and not null."""
        return self.data.get(name) is not None

    def text(self, name: str, default: str | None = None, *, limit: int = 20_000) -> str:
        """Return a string of at most ``limit`` characters; without ``default`` it must be there and not be blank."""
        value = self.data.get(name, default)
        if not isinstance(value, str) or len(value) > limit or (default is None and not value.strip()):
            raise self.fail(name, "a text" if default is not None else "a text that is not empty")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; a missing one is empty, a single string is a list of one."""
        value = self.data.get(name) or []
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail(name, "a list of texts")
        return tuple(value)

    def number(self, name: str, default: float | None = None, *, low: float = -1e30, high: float = 1e30) -> float:
        """Return a finite number between ``low`` and ``high``."""
        value: Any = self.data.get(name, default)
        if not is_number(value) or not low <= value <= high:
            raise self.fail(name, f"a number from {low:g} to {high:g}" if abs(low) < 1e30 else "a finite number")
        return float(value)

    def optional_number(self, name: str, *, low: float = -1e30, high: float = 1e30) -> float | None:
        """Return a finite number, or ``None`` when the field is missing or null."""
        return self.number(name, low=low, high=high) if self.has(name) else None

    def whole(self, name: str, default: int | None = None, *, low: int = 0, high: int = 1 << 40) -> int:
        """Return a whole number between ``low`` and ``high``."""
        value = self.data.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(name, f"a whole number from {low} to {high}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise self.fail(name, "true or false")
        return value

    def triple(self, name: str, *, low: float, high: float) -> tuple[float, float, float] | None:
        """Return three numbers between ``low`` and ``high``, or ``None`` when missing or null."""
        if not self.has(name):
            return None
        value = self.data[name]
        if not isinstance(value, list) or len(value) != 3:
            raise self.fail(name, "a list of three numbers")
        if not all(is_number(item) and low <= item <= high for item in value):
            raise self.fail(name, f"a list of three numbers from {low:g} to {high:g}")
        return float(value[0]), float(value[1]), float(value[2])

    def object(self, name: str, *, required: bool = True) -> Fields:
        """Return an object inside this one; a missing one is empty unless ``required``."""
        value = self.data.get(name)
        if value is None and not required:
            value = {}
        if not isinstance(value, dict):
            raise self.fail(name, "an object")
        return Fields(value, f"'{name}' in {self.where}")

    def objects(self, name: str) -> list[Fields]:
        """Return a list of objects, which must be there."""
        value = self.data.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fail(name, "a list of objects")
        return [Fields(item, f"'{name}[{index}]' in {self.where}") for index, item in enumerate(value)]


def is_number(value: object) -> bool:
    """Say whether ``value`` is a finite number that fits a float (``True`` is not)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
