"""A short way to write a Qt property in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Property


def stored(kind: type | str, name: str, default: Any, changed: Callable[[Any], None] | None = None) -> Property:
    """A property kept in the attribute ``_name``; ``changed(widget)`` runs after a new value was set."""
    attribute = f"_{name}"

    def read(self: Any) -> Any:
        return getattr(self, attribute, default)

    def write(self: Any, value: Any) -> None:
        setattr(self, attribute, value)
        if changed is not None:
            changed(self)

    return Property(kind, read, write)
