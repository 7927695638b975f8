"""What the real application offers, by class: the names of ``api_table.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

TABLE_FILE = Path(__file__).resolve().parents[1] / "api_table.json"

Kind = Literal["property", "signal", "method"]

# PythonQt answers to these although no list has them: ``name`` is the old spelling of ``objectName`` (slicer.util
# relies on it), and words that Python reserves or reserved are reached with an underscore.
PROPERTY_ALIASES = {"name": "objectName"}
UNDERSCORED = {"exec_": "exec", "raise_": "raise", "print_": "print"}


@dataclass(frozen=True)
class ClassFacts:
    """The public names of one class of the real application.

    ``base`` is the class whose names are not repeated ("" for none). Signals and slots are C++ signatures.
    """

    name: str
    namespace: str
    base: str
    properties: frozenset[str]
    signals: tuple[str, ...]
    slots: frozenset[str]
    names: frozenset[str]
    signal_names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signal_names", frozenset(s.partition("(")[0] for s in self.signals))

    def chain(self) -> tuple[ClassFacts, ...]:
        """This class and the classes whose names it inherits."""
        if not self.base:
            return (self,)
        return (self, *classes()[self.base].chain())

    def kind(self, attribute: str) -> Kind | None:
        """What ``attribute`` is on an object of this class; None when the real application has no such name."""
        for facts in self.chain():
            if attribute in facts.properties:
                return "property"
            if attribute in facts.signal_names:
                return "signal"
            if attribute in facts.names:
                return "method"
        return None

    def all_signals(self) -> set[str]:
        return {signature for facts in self.chain() for signature in facts.signals}

    def all_slots(self) -> set[str]:
        return {signature for facts in self.chain() for signature in facts.slots}

    def all_names(self) -> set[str]:
        names: set[str] = set()
        for facts in self.chain():
            names |= facts.properties | facts.signal_names | facts.names
        return names


@cache
def _document() -> dict:
    return json.loads(TABLE_FILE.read_text(encoding="utf-8"))


@cache
def classes() -> dict[str, ClassFacts]:
    """Every class of the table by name."""
    return {
        name: ClassFacts(
            name,
            entry["namespace"],
            entry["base"],
            frozenset(entry["properties"]),
            tuple(entry["signals"]),
            frozenset(entry["slots"]),
            frozenset(entry["names"]),
        )
        for name, entry in _document()["classes"].items()
    }


def module_names() -> list[str]:
    """The names in ``slicer.modules`` of the real application."""
    return list(_document()["modules"])


def versions() -> dict[str, str]:
    """The versions of the application that wrote the list: keys "slicer", "python", "qt"."""
    return dict(_document()["versions"])
