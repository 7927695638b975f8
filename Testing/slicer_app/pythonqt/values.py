"""Values on their way between a scripted module and Qt: enumerations, lists, wrapped objects."""

from __future__ import annotations

import contextlib
import enum
import inspect
from typing import Any

from PySide6.support.signature import get_signature


class EnumValue(int):
    """An enumerator of Qt as PythonQt shows it: a number.

    It remembers Qt 6's typed enumerator, because PySide6 takes nothing else as an argument.
    """

    member: enum.Enum

    def __new__(cls, member: enum.Enum) -> EnumValue:
        value = super().__new__(cls, int(member.value))
        value.member = member
        return value

    def _combine(self, other: Any, operation: str) -> int:
        if (
            isinstance(other, EnumValue)
            and isinstance(self.member, enum.Flag)
            and type(other.member) is type(self.member)
        ):
            return EnumValue(getattr(self.member, operation)(other.member))
        return getattr(int(self), operation)(int(other))

    def __or__(self, other: Any) -> int:
        return self._combine(other, "__or__")

    def __and__(self, other: Any) -> int:
        return self._combine(other, "__and__")

    def __reduce__(self) -> tuple:
        return int, (int(self),)


def parameter_enums(function: Any, count: int) -> list[dict[int, type[enum.Enum]]]:
    """For each overload that takes ``count`` arguments: position -> enumeration, from Shiboken's signatures."""
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type):
        function = getattr(type(owner), function.__name__, None)
    signatures = get_signature(function)
    if signatures is None:
        return []
    if not isinstance(signatures, list):
        signatures = [signatures]
    found = []
    for signature in signatures:
        parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        if parameters and parameters[0].name == "self":
            parameters = parameters[1:]
        enums = {
            position: parameter.annotation
            for position, parameter in enumerate(parameters[:count])
            if isinstance(parameter.annotation, type) and issubclass(parameter.annotation, enum.Enum)
        }
        if enums and count <= len(parameters):
            found.append(enums)
    return found


def with_enums(function: Any, arguments: list[Any]) -> list[list[Any]]:
    """The argument lists in which plain numbers became the enumerators that an overload of ``function`` asks for."""
    variants = []
    for enums in parameter_enums(function, len(arguments)):
        with contextlib.suppress(ValueError):
            variants.append([_typed(a, enums.get(i)) for i, a in enumerate(arguments)])
    return variants


def _typed(argument: Any, kind: type[enum.Enum] | None) -> Any:
    number = isinstance(argument, int) and not isinstance(argument, enum.Enum)
    return kind(argument) if number and kind is not None else argument
