"""The modules ``qt`` and ``ctk``."""

from __future__ import annotations

import enum
import types
from typing import Any

from PySide6 import QtCore

from .backings import UNLISTED, backing_of
from .table import classes
from .values import EnumValue
from .wrapper import generated_class


class QtNamespace:
    """``qt.Qt``: the enumerators of the namespace Qt, as numbers."""

    def __getattr__(self, name: str) -> EnumValue:
        found = getattr(QtCore.Qt, name, None)
        if not isinstance(found, enum.Enum):
            message = f"type object 'Qt' has no attribute '{name}'"
            raise AttributeError(message)  # noqa: TRY004 - the name does not exist
        return EnumValue(found)


class WrapperModule(types.ModuleType):
    """A module whose classes are made when they are first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        facts = classes().get(name)
        unlisted = self.__name__ == "qt" and name in UNLISTED
        if not unlisted and (facts is None or facts.namespace != self.__name__):
            message = f"module '{self.__name__}' has no attribute '{name}'"
            raise AttributeError(message)
        return generated_class(name)

    def offered(self) -> list[str]:
        """The names of the classes that this module offers."""
        return [n for n, f in classes().items() if f.namespace == self.__name__ and backing_of(n) is not None]


def make_qt() -> types.ModuleType:
    module = WrapperModule("qt", "PythonQt's module qt, over PySide6 (a stand-in)")
    module.Qt = QtNamespace()
    return module


def make_ctk() -> types.ModuleType:
    return WrapperModule("ctk", "The Common Toolkit's widgets, over PySide6 (a stand-in)")
