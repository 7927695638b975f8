"""What may stand in ``Annotated[...]`` beside the type of a parameter, and how a type is taken apart."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import slicer


class Validator:
    """Base of the checks that run before a value is written. ``validate`` raises when the value is not acceptable."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError("validate is not implemented")


class IsNone(Validator):
    def validate(self, value: Any) -> None:
        if value is not None:
            raise ValueError("Value must be None")


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    def __init__(self, classtype: Any) -> None:
        self.classtype = classtype

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            message = f"Value must be of type '{self.classtype}', is type '{type(value)}' value '{value}'"
            raise TypeError(message)


class WithinRange(Validator):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            message = f"Value must be within range [{self.minimum}, {self.maximum}], is {value}"
            raise ValueError(message)


class Minimum(Validator):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            message = f"Value must be greater than {self.minimum}, is {value}"
            raise ValueError(message)


class Maximum(Validator):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            message = f"Value must be less than {self.maximum}, is {value}"
            raise ValueError(message)


class Choice(Validator):
    def __init__(self, choices: Any) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            message = f"Value is {value}, but must be in one of the following: {self.choices}"
            raise ValueError(message)


class Exclude(Validator):
    def __init__(self, excludedValues: Any) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            message = f"Value is {value}, but must not be an excluded value: {self.excludedValues}"
            raise ValueError(message)


class RangeBounds(Validator):
    """The ends of a range lie within these."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value.minimum or not value.maximum <= self.maximum:
            bounds = f"[{self.minimum}, {self.maximum}]"
            message = f"Range must be within the bound of {bounds}, is [{value.minimum}, {value.maximum}]"
            raise ValueError(message)


class Default:
    """The value of a parameter that was never set; ``generator`` makes a new one each time."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Default) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self._generator)


@dataclasses.dataclass
class Decimals:
    """Decimals of a spin box or slider."""

    value: int


@dataclasses.dataclass
class SingleStep:
    """Step of a spin box or slider."""

    value: float


@dataclasses.dataclass
class Label:
    """Label of a parameter in a generated panel."""

    label: str


def splitAnnotations(possiblyAnnotatedType: Any) -> tuple[Any, tuple]:
    """The type and what annotates it."""
    kind, *annotations = typing.get_args(Annotated[possiblyAnnotatedType, None])
    return kind, tuple(annotations[:-1])


def unannotatedType(possiblyAnnotatedType: Any) -> Any:
    return splitAnnotations(possiblyAnnotatedType)[0]


def findFirstAnnotation(annotationsList: Any, annotationType: type) -> Any:
    return next((a for a in annotationsList if isinstance(a, annotationType)), None)


def without_pipe(kind: Any) -> Any:
    """``A | B`` as ``Union[A, B]``."""
    return typing.Union[typing.get_args(kind)] if isinstance(kind, types.UnionType) else kind  # noqa: UP007


def is_class(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _alternatives(datatype: Any) -> list[Any]:
    kind = without_pipe(unannotatedType(datatype))
    return [unannotatedType(a) for a in typing.get_args(kind)] if typing.get_origin(kind) is typing.Union else [kind]


def isNodeOrUnionOfNodes(datatype: Any) -> bool:
    return all(is_class(a, slicer.vtkMRMLNode) or a is type(None) for a in _alternatives(datatype))


def getNodeTypes(datatype: Any) -> tuple[str, ...]:
    if not isNodeOrUnionOfNodes(datatype):
        message = f"Cannot handle type {datatype}"
        raise TypeError(message)
    return tuple(a().GetClassName() for a in _alternatives(datatype) if a is not type(None))


def split_dotted(name: str) -> tuple[str, str | None]:
    """ "box.corner.x" as ("box", "corner.x")."""
    top, dot, rest = name.partition(".")
    return (top, rest) if dot else (name, None)
