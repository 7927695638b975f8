"""Parameter packs: several parameters under one name."""

from __future__ import annotations

import typing
from typing import Any

import slicer

from . import annotations as notes
from .serializers import Serializer, ValidatedSerializer, create_serializer, parameterNodeSerializer


class _Field:
    """What is known about one parameter: its type as written, its serializer and its default."""

    def __init__(self, name: str, serializer: Any, default: Any, unalteredType: Any) -> None:
        self.basename, self.serializer, self.default, self.unalteredType = name, serializer, default, unalteredType


def fields_of(cls: type) -> dict[str, _Field]:
    """The parameters that a class declares, with their defaults wrapped in Default."""
    found: dict[str, _Field] = {}
    for name, written in typing.get_type_hints(cls, include_extras=True).items():
        kind, annotations = notes.splitAnnotations(written)
        try:
            serializer, rest = create_serializer(notes.without_pipe(kind), annotations)
        except Exception as error:
            message = f"Unable to create serializer for {cls} member {name}"
            raise TypeError(message) from error
        annotated = [a for a in rest if isinstance(a, notes.Default)]
        if len(annotated) > 1:
            raise ValueError("Multiple defaults found")
        if hasattr(cls, name):
            default = notes.Default(getattr(cls, name))
        else:
            default = annotated[0] if annotated else notes.Default(generator=serializer.default)
        found[name] = _Field(name, serializer, default, written)
    return found


def isParameterPack(obj: Any) -> bool:
    return getattr(obj, "_is_parameterPack", False)


def nestedParameterNames(parameterPackClassOrInstance: Any) -> list[str]:
    names: list[str] = []
    for name, info in parameterPackClassOrInstance.allParameters.items():
        kind = notes.unannotatedType(info.unalteredType)
        names += [f"{name}.{inner}" for inner in nestedParameterNames(kind)] if isParameterPack(kind) else [name]
    return names


def check_member(pack: Any, name: str) -> None:
    top, rest = notes.split_dotted(name)
    if not hasattr(pack, top):
        message = f"{pack} has no member '{top}'"
        raise ValueError(message)
    if rest is not None:
        kind = notes.unannotatedType(pack.allParameters[top].unalteredType)
        if not isParameterPack(kind):
            message = f"{kind} is not a parameter pack but expects to have '{rest}'"
            raise ValueError(message)
        check_member(kind, rest)


def _property(name: str) -> property:
    def write(self: Any, value: Any) -> None:
        self.allParameters[name].serializer.validate(value)
        self.__dict__[f"_pack_{name}"] = value
        self._pack_changed()

    return property(lambda self: self.__dict__[f"_pack_{name}"], write)


class _Pack:
    """The methods that the decorator gives to a pack."""

    allParameters: dict[str, _Field]

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.allParameters, values, strict=False))
        repeated = given.keys() & named.keys()
        unknown = named.keys() - self.allParameters.keys()
        if repeated or unknown:
            message = f"__init__() got unexpected or repeated arguments: {sorted(repeated | unknown)}"
            raise TypeError(message)
        given |= named
        for name, info in self.allParameters.items():
            setattr(self, name, given.get(name, info.default.value))

    def __setattr__(self, name: str, value: Any) -> None:
        if "_save" in self.__dict__ and not hasattr(type(self), name):
            message = f"'{type(self).__name__}' of a parameter node has no attribute '{name}', and none can be added"
            raise AttributeError(message)
        object.__setattr__(self, name, value)

    def _pack_changed(self) -> None:
        if self.__dict__.get("_save") is not None:
            self.__dict__["_save"](self)

    def __eq__(self, other: object) -> bool:
        if not isParameterPack(other) or type(self).__name__ != type(other).__name__:
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self.allParameters)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.allParameters)
        return f"{type(self).__name__}({inside})"

    def getValue(self, membername: str) -> Any:
        check_member(self, membername)
        top, rest = notes.split_dotted(membername)
        value = getattr(self, top)
        return value if rest is None else value.getValue(rest)

    def setValue(self, membername: str, value: Any) -> None:
        check_member(self, membername)
        top, rest = notes.split_dotted(membername)
        if rest is None:
            setattr(self, top, value)
        else:
            getattr(self, top).setValue(rest, value)


def parameterPack(classtype: Any = None) -> Any:
    """Class decorator: the annotated members are parameters, to be used as one parameter of a node wrapper."""

    def decorate(cls: type) -> type:
        fields = fields_of(cls)
        if not fields:
            raise ValueError("Unable to find any members in parameterPack")
        reserved = {f"_parameterPack_{name}_{what}" for name in fields for what in ("impl", "serializer")}
        reserved |= {"allParameters", "_is_parameterPack", "getValue", "setValue", "dataType"}
        used = reserved & (set(fields) | vars(cls).keys())
        if used:
            message = f"Cannot use reserved names {sorted(used)} in a parameterPack"
            raise ValueError(message)
        for name, info in fields.items():
            try:
                info.serializer.validate(info.default.value)
            except (TypeError, ValueError) as error:
                message = f"The default parameter of '{info.default.value}' fails the validation checks:\n  {error}"
                raise ValueError(message) from error
            setattr(cls, name, _property(name))
        kinds = {name: info.unalteredType for name, info in fields.items()}

        def dataType(membername: str) -> Any:
            check_member(cls, membername)
            top, rest = notes.split_dotted(membername)
            return kinds[top] if rest is None else notes.unannotatedType(kinds[top]).dataType(rest)

        own_constructor = vars(cls).get("__init__")

        def construct(self: Any, *values: Any, **named: Any) -> None:
            _Pack.__init__(self)
            own_constructor(self, *values, **named)

        given = {name: value for name, value in vars(_Pack).items() if callable(value) or name == "__hash__"}
        given |= {"allParameters": fields, "dataType": staticmethod(dataType), "_is_parameterPack": True}
        for name, value in given.items():
            if name not in vars(cls) or name in ("__setattr__", "__hash__"):
                setattr(cls, name, value)
        if own_constructor is not None:
            cls.__init__ = construct  # type: ignore[misc]
        return cls

    return decorate if classtype is None else decorate(classtype)


@parameterNodeSerializer
class ParameterPackSerializer(Serializer):
    """``name.member`` for each member; what is read writes itself back when a member changes."""

    def __init__(self, type_: Any) -> None:
        self.type = type_

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return isinstance(type_, type) and isParameterPack(type_)

    @staticmethod
    def create(type_: Any) -> Serializer:
        return ValidatedSerializer(ParameterPackSerializer(type_), [notes.NotNone(), notes.IsInstance(type_)])

    def default(self) -> Any:
        return self.type()

    def isIn(self, parameterNode: Any, name: str) -> bool:
        first, info = next(iter(self.type.allParameters.items()))
        return info.serializer.isIn(parameterNode, f"{name}.{first}")

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(parameterNode):
            for member, info in self.type.allParameters.items():
                info.serializer.write(parameterNode, f"{name}.{member}", getattr(value, member))

    def read(self, parameterNode: Any, name: str) -> Any:
        value = self.type.__new__(self.type)
        for member, info in self.type.allParameters.items():
            value.__dict__[f"_pack_{member}"] = info.serializer.read(parameterNode, f"{name}.{member}")
        value.__dict__["_save"] = lambda changed: self.write(parameterNode, name, changed)
        return value

    def remove(self, parameterNode: Any, name: str) -> None:
        for member, info in self.type.allParameters.items():
            info.serializer.remove(parameterNode, f"{name}.{member}")

    def supportsCaching(self) -> bool:
        return all(info.serializer.supportsCaching() for info in self.type.allParameters.values())


@parameterPack
class FloatRange:
    """Two numbers, the first not above the second. Kept as ``name._minimum`` and ``name._maximum``."""

    _minimum: float
    _maximum: float

    def __init__(self, minimum: float = 0, maximum: float = 0) -> None:
        self.setRange(minimum, maximum)

    @staticmethod
    def checkRange(minimum: float, maximum: float) -> None:
        if not minimum <= maximum:
            message = f"FloatRange must have minimum <= maximum: {minimum} <= {maximum}"
            raise ValueError(message)

    def setRange(self, minimum: float, maximum: float) -> None:
        self.checkRange(minimum, maximum)
        self._minimum = minimum
        self._maximum = maximum

    @property
    def minimum(self) -> float:
        return self._minimum

    @minimum.setter
    def minimum(self, value: float) -> None:
        self.checkRange(value, self._maximum)
        self._minimum = value

    @property
    def maximum(self) -> float:
        return self._maximum

    @maximum.setter
    def maximum(self, value: float) -> None:
        self.checkRange(self._minimum, value)
        self._maximum = value
