"""How values of simple types are kept in the parameters and node references of a vtkMRMLScriptedModuleNode.

Keys and texts are those of Slicer's own serializers, so that scenes can be exchanged.
"""

from __future__ import annotations

import enum
import pathlib
from typing import Any

import slicer

from .annotations import IsInstance, IsNone, NotNone, Validator, is_class, splitAnnotations

PATHS = (
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)


class Serializer:
    """Reads and writes values of one type. ``supportsCaching``: the value cannot change behind the parameter's back."""

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        raise NotImplementedError("canSerialize is not implemented")

    @staticmethod
    def create(type_: Any) -> Any:
        raise NotImplementedError("create is not implemented")

    def default(self) -> Any:
        raise NotImplementedError("default is not implemented")

    def isIn(self, parameterNode: Any, name: str) -> bool:
        return parameterNode.HasParameter(name)

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        raise NotImplementedError("write is not implemented")

    def read(self, parameterNode: Any, name: str) -> Any:
        raise NotImplementedError("read is not implemented")

    def remove(self, parameterNode: Any, name: str) -> None:
        parameterNode.UnsetParameter(name)

    def supportsCaching(self) -> bool:
        return False


class _Immutable(Serializer):
    """Values that cannot change behind the parameter's back may be cached."""

    def supportsCaching(self) -> bool:
        return True


class ValidatedSerializer(Serializer):
    """A serializer that checks a value before it is written; the checks of the inner one come first."""

    def __init__(self, serializer: Serializer, validators: Any) -> None:
        inner = serializer.validators if isinstance(serializer, ValidatedSerializer) else []
        self.serializer: Serializer = (
            serializer.serializer if isinstance(serializer, ValidatedSerializer) else serializer
        )
        self.validators: list[Validator] = [*inner, *(validators or [])]

    @staticmethod
    def canSerialize(type_: Any) -> bool:  # noqa: ARG004
        return False

    def validate(self, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)

    def default(self) -> Any:
        return self.serializer.default()

    def isIn(self, parameterNode: Any, name: str) -> bool:
        return self.serializer.isIn(parameterNode, name)

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        self.validate(value)
        self.serializer.write(parameterNode, name, value)

    def read(self, parameterNode: Any, name: str) -> Any:
        return self.serializer.read(parameterNode, name)

    def remove(self, parameterNode: Any, name: str) -> None:
        self.serializer.remove(parameterNode, name)

    def supportsCaching(self) -> bool:
        return self.serializer.supportsCaching()


_registered: list[type[Serializer]] = []


def parameterNodeSerializer(classtype: Any = None) -> Any:
    """Class decorator: values of a new type may be parameters."""

    def register(cls: type[Serializer]) -> type[Serializer]:
        if not issubclass(cls, Serializer):
            raise TypeError("Must be a serializer type.")
        _registered.append(cls)
        return cls

    return register if classtype is None else register(classtype)


def create_serializer(kind: Any, annotations: Any = ()) -> tuple[ValidatedSerializer, list[Any]]:
    """The serializer of a type with its validators, and the annotations that are left."""

    def among(annotation: Any, base: type) -> bool:
        return isinstance(annotation, base) or is_class(annotation, base)

    validators = [a for a in annotations if among(a, Validator)]
    own = [a for a in annotations if among(a, Serializer)]
    rest = [a for a in annotations if not among(a, Validator) and not among(a, Serializer)]
    if own:
        return ValidatedSerializer(own[0], validators), rest
    for cls in _registered:
        if cls.canSerialize(kind):
            return ValidatedSerializer(cls.create(kind), validators), rest
    message = f"Unable to create serializer for type: {kind}"
    raise TypeError(message)


def serializer_of(annotated: Any) -> ValidatedSerializer:
    return create_serializer(*splitAnnotations(annotated))[0]


@parameterNodeSerializer
class NumberSerializer(_Immutable):
    def __init__(self, type: Any) -> None:  # noqa: A002 - the real one calls it so
        self.type = type

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return type_ in (int, float)

    @staticmethod
    def create(type_: Any) -> Serializer:
        return ValidatedSerializer(
            NumberSerializer(type_), [NotNone(), IsInstance((int, float) if type_ is float else int)]
        )

    def default(self) -> Any:
        return 0

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        parameterNode.SetParameter(name, str(value))

    def read(self, parameterNode: Any, name: str) -> Any:
        return self.type(parameterNode.GetParameter(name))


@parameterNodeSerializer
class StringSerializer(_Immutable):
    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return type_ is str

    @staticmethod
    def create(type_: Any) -> Serializer:
        return ValidatedSerializer(StringSerializer(), [NotNone(), IsInstance(type_)])

    def default(self) -> Any:
        return ""

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        parameterNode.SetParameter(name, str(value))

    def read(self, parameterNode: Any, name: str) -> Any:
        return parameterNode.GetParameter(name)


@parameterNodeSerializer
class PathSerializer(_Immutable):
    def __init__(self, pathtype: Any) -> None:
        self.type = pathtype

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return type_ in PATHS

    @staticmethod
    def create(type_: Any) -> Serializer:
        return ValidatedSerializer(PathSerializer(type_), [NotNone(), IsInstance(type_)])

    def default(self) -> Any:
        return self.type()

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        parameterNode.SetParameter(name, str(value))

    def read(self, parameterNode: Any, name: str) -> Any:
        return self.type(parameterNode.GetParameter(name))


@parameterNodeSerializer
class BoolSerializer(_Immutable):
    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return type_ is bool

    @staticmethod
    def create(type_: Any) -> Serializer:
        return ValidatedSerializer(BoolSerializer(), [NotNone(), IsInstance(type_)])

    def default(self) -> Any:
        return False

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        parameterNode.SetParameter(name, "True" if value else "False")

    def read(self, parameterNode: Any, name: str) -> Any:
        return parameterNode.GetParameter(name) == "True"


@parameterNodeSerializer
class NodeSerializer(_Immutable):
    """A node is a node reference; an empty parameter of the same name tells "None" from "never set"."""

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return is_class(type_, slicer.vtkMRMLNode)

    @staticmethod
    def create(type_: Any) -> Serializer:
        return ValidatedSerializer(NodeSerializer(), [IsInstance(type_)])

    def default(self) -> Any:
        return None

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        parameterNode.SetParameter(name, "")
        parameterNode.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, parameterNode: Any, name: str) -> Any:
        return parameterNode.GetNodeReference(name)

    def remove(self, parameterNode: Any, name: str) -> None:
        parameterNode.UnsetParameter(name)
        parameterNode.RemoveNodeReferenceIDs(name)


@parameterNodeSerializer
class EnumSerializer(_Immutable):
    """An enumerator is kept by its name; the default is the first one."""

    def __init__(self, enum_: type[enum.Enum]) -> None:
        if len(enum_) == 0:
            raise ValueError("Cannot serialize empty Enum.")
        self.enum = enum_

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return is_class(type_, enum.Enum)

    @staticmethod
    def create(type_: Any) -> Serializer:
        return ValidatedSerializer(EnumSerializer(type_), [IsInstance(type_)])

    def default(self) -> Any:
        return next(iter(self.enum))

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        parameterNode.SetParameter(name, value.name)

    def read(self, parameterNode: Any, name: str) -> Any:
        key = parameterNode.GetParameter(name)
        if key not in self.enum.__members__:
            message = f"Found {key!r} in parameter node but it is not a name in {self.enum!r}"
            raise ValueError(message)
        return self.enum[key]


@parameterNodeSerializer
class NoneSerializer(_Immutable):
    """The value None, for unions."""

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return type_ is type(None)

    @staticmethod
    def create(type_: Any) -> Serializer:  # noqa: ARG004
        return ValidatedSerializer(NoneSerializer(), [IsNone()])

    def default(self) -> Any:
        return None

    def write(self, parameterNode: Any, name: str, value: Any) -> None:  # noqa: ARG002 - it is None
        parameterNode.SetParameter(name, "True")

    def read(self, parameterNode: Any, name: str) -> Any:  # noqa: ARG002 - there is one value only
        return None
