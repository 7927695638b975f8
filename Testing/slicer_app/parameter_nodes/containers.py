"""Lists, tuples, dictionaries and unions of parameters."""

from __future__ import annotations

import collections.abc
import importlib
import typing
from typing import Any

import slicer

from .annotations import without_pipe
from .serializers import (
    NoneSerializer,
    NumberSerializer,
    Serializer,
    StringSerializer,
    ValidatedSerializer,
    parameterNodeSerializer,
    serializer_of,
)


class ObservedList(collections.abc.MutableSequence):
    """A list that writes itself into the parameter node whenever it changes. ``+`` and ``*`` are refused."""

    def __init__(self, parameterNode: Any, serializer: Serializer, name: str, values: list) -> None:
        self._parameterNode, self._serializer, self._name, self._list = parameterNode, serializer, name, values

    def _save(self) -> None:
        try:
            self._serializer.write(self._parameterNode, self._name, self._list)
        finally:
            self._list = self._serializer.read(self._parameterNode, self._name)._list

    def __repr__(self) -> str:
        return f"ObservedList({self._list})"

    def __eq__(self, other: object) -> bool:
        return self._list == (other._list if isinstance(other, ObservedList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, index: Any) -> Any:
        return self._list[index]

    def __setitem__(self, index: Any, item: Any) -> None:
        self._list[index] = item
        self._save()

    def __delitem__(self, index: Any) -> None:
        del self._list[index]
        self._save()

    def insert(self, index: int, item: Any) -> None:
        self._list.insert(index, item)
        self._save()

    def extend(self, other: Any) -> None:
        self._list.extend(other)
        self._save()

    def __iadd__(self, other: Any) -> ObservedList:
        self.extend(other)
        return self

    def __imul__(self, count: int) -> ObservedList:
        self._list *= count
        self._save()
        return self

    def clear(self) -> None:
        self._list.clear()
        self._save()

    def sort(self, **how: Any) -> None:
        self._list.sort(**how)
        self._save()

    def reverse(self) -> None:
        self._list.reverse()
        self._save()

    def __add__(self, other: Any) -> Any:
        raise NotImplementedError("Adding an ObservedList is not supported. However, += is supported.")

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        raise NotImplementedError("Multiplying an ObservedList is not supported. However, *= is supported.")

    __rmul__ = __mul__


@parameterNodeSerializer
class ListSerializer(Serializer):
    """``name.len`` and ``name.0``, ``name.1``, ..."""

    def __init__(self, elementTypeSerializer: Serializer) -> None:
        self._element = elementTypeSerializer
        self._length = NumberSerializer(int)

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return list in (type_, typing.get_origin(type_))

    @staticmethod
    def create(type_: Any) -> Serializer:
        return ListSerializer(serializer_of((typing.get_args(type_) or (Any,))[0]))

    def default(self) -> Any:
        return []

    def _count(self, parameterNode: Any, name: str) -> int:
        return self._length.read(parameterNode, f"{name}.len") if self.isIn(parameterNode, name) else 0

    def isIn(self, parameterNode: Any, name: str) -> bool:
        return parameterNode.HasParameter(f"{name}.len")

    def write(self, parameterNode: Any, name: str, values: Any) -> None:
        before = list(self.read(parameterNode, name)) if self.isIn(parameterNode, name) else None
        with slicer.util.NodeModify(parameterNode):
            try:
                self._write(parameterNode, name, list(values))
            except Exception:
                if before is None:
                    self.remove(parameterNode, name)
                else:
                    self._write(parameterNode, name, before)
                raise

    def _write(self, parameterNode: Any, name: str, values: list) -> None:
        old = self._count(parameterNode, name)
        for index, value in enumerate(values):
            self._element.write(parameterNode, f"{name}.{index}", value)
        self._length.write(parameterNode, f"{name}.len", len(values))
        for index in range(len(values), old):
            self._element.remove(parameterNode, f"{name}.{index}")

    def read(self, parameterNode: Any, name: str) -> Any:
        values = [self._element.read(parameterNode, f"{name}.{i}") for i in range(self._count(parameterNode, name))]
        return ObservedList(parameterNode, self, name, values)

    def remove(self, parameterNode: Any, name: str) -> None:
        with slicer.util.NodeModify(parameterNode):
            for index in range(self._count(parameterNode, name)):
                self._element.remove(parameterNode, f"{name}.{index}")
            parameterNode.UnsetParameter(f"{name}.len")

    def supportsCaching(self) -> bool:
        return self._element.supportsCaching()


@parameterNodeSerializer
class TupleSerializer(Serializer):
    """``name.0``, ``name.1``, ..., each with its own type."""

    def __init__(self, serializers: list) -> None:
        self._serializers = serializers

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return typing.get_origin(type_) is tuple

    @staticmethod
    def create(type_: Any) -> Serializer:
        return TupleSerializer([serializer_of(a) for a in typing.get_args(type_)])

    def default(self) -> Any:
        return tuple(s.default() for s in self._serializers)

    def isIn(self, parameterNode: Any, name: str) -> bool:
        return self._serializers[0].isIn(parameterNode, f"{name}.0")

    def write(self, parameterNode: Any, name: str, values: Any) -> None:
        values = tuple(values)
        if len(values) != len(self._serializers):
            raise ValueError("Unexpected number of tuple values")
        with slicer.util.NodeModify(parameterNode):
            for index, (value, serializer) in enumerate(zip(values, self._serializers, strict=True)):
                serializer.write(parameterNode, f"{name}.{index}", value)

    def read(self, parameterNode: Any, name: str) -> Any:
        return tuple(s.read(parameterNode, f"{name}.{index}") for index, s in enumerate(self._serializers))

    def remove(self, parameterNode: Any, name: str) -> None:
        with slicer.util.NodeModify(parameterNode):
            for index, serializer in enumerate(self._serializers):
                serializer.remove(parameterNode, f"{name}.{index}")

    def supportsCaching(self) -> bool:
        return all(s.supportsCaching() for s in self._serializers)


class ObservedDict(collections.abc.MutableMapping):
    """A dictionary that writes itself into the parameter node whenever it changes."""

    def __init__(self, parameterNode: Any, serializer: Serializer, name: str, values: dict) -> None:
        self._parameterNode, self._serializer, self._name, self._dict = parameterNode, serializer, name, values

    def _save(self) -> None:
        try:
            self._serializer.write(self._parameterNode, self._name, self._dict)
        finally:
            self._dict = self._serializer.read(self._parameterNode, self._name)._dict

    def __repr__(self) -> str:
        return f"ObservedDict({self._dict})"

    def __eq__(self, other: object) -> bool:
        return self._dict == (other._dict if isinstance(other, ObservedDict) else other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._dict)

    def __iter__(self) -> Any:
        return iter(self._dict)

    def __getitem__(self, key: Any) -> Any:
        return self._dict[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._dict[key] = value
        self._save()

    def __delitem__(self, key: Any) -> None:
        del self._dict[key]
        self._save()

    def popitem(self) -> Any:
        item = self._dict.popitem()
        self._save()
        return item

    def clear(self) -> None:
        self._dict.clear()
        self._save()


@parameterNodeSerializer
class DictSerializer(Serializer):
    """A list of (key, value) tuples, which keeps the order."""

    def __init__(self, keySerializer: Serializer, valueSerializer: Serializer) -> None:
        self._list = ListSerializer(TupleSerializer([keySerializer, valueSerializer]))

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return dict in (type_, typing.get_origin(type_))

    @staticmethod
    def create(type_: Any) -> Serializer:
        key, value = typing.get_args(type_) or (Any, Any)
        return DictSerializer(serializer_of(key), serializer_of(value))

    def default(self) -> Any:
        return {}

    def isIn(self, parameterNode: Any, name: str) -> bool:
        return self._list.isIn(parameterNode, name)

    def write(self, parameterNode: Any, name: str, dictionary: Any) -> None:
        self._list.write(parameterNode, name, list(dictionary.items()))

    def read(self, parameterNode: Any, name: str) -> Any:
        return ObservedDict(parameterNode, self, name, dict(self._list.read(parameterNode, name)))

    def remove(self, parameterNode: Any, name: str) -> None:
        self._list.remove(parameterNode, name)

    def supportsCaching(self) -> bool:
        return self._list.supportsCaching()


@parameterNodeSerializer
class UnionSerializer(Serializer):
    """``name.<index of the alternative>``; ``Optional[X]`` is None until it is set."""

    def __init__(self, serializers: list) -> None:
        self._serializers = [ValidatedSerializer(s, []) for s in serializers]

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return typing.get_origin(without_pipe(type_)) is typing.Union

    @staticmethod
    def create(type_: Any) -> Serializer:
        return UnionSerializer([serializer_of(a) for a in typing.get_args(without_pipe(type_))])

    def default(self) -> Any:
        if len(self._serializers) == 2 and isinstance(self._serializers[1].serializer, NoneSerializer):
            return None
        return self._serializers[0].default()

    def isIn(self, parameterNode: Any, name: str) -> bool:
        return any(s.isIn(parameterNode, f"{name}.{index}") for index, s in enumerate(self._serializers))

    def _alternative(self, value: Any) -> tuple[int, ValidatedSerializer]:
        refusal: Exception | None = None
        for index, serializer in enumerate(self._serializers):
            if serializer.serializer.canSerialize(type(value)):
                try:
                    serializer.validate(value)
                except (TypeError, ValueError) as error:
                    refusal = error
                else:
                    return index, serializer
        message = f"Unable to write value '{value}' of type '{type(value)}'"
        raise refusal or TypeError(message)

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        index, serializer = self._alternative(value)
        with slicer.util.NodeModify(parameterNode):
            self.remove(parameterNode, name)
            serializer.write(parameterNode, f"{name}.{index}", value)

    def read(self, parameterNode: Any, name: str) -> Any:
        for index, serializer in enumerate(self._serializers):
            if serializer.isIn(parameterNode, f"{name}.{index}"):
                return serializer.read(parameterNode, f"{name}.{index}")
        message = f"Unable to find value for name: {name}"
        raise KeyError(message)

    def remove(self, parameterNode: Any, name: str) -> None:
        with slicer.util.NodeModify(parameterNode):
            for index, serializer in enumerate(self._serializers):
                serializer.remove(parameterNode, f"{name}.{index}")

    def supportsCaching(self) -> bool:
        return all(s.supportsCaching() for s in self._serializers)


@parameterNodeSerializer
class AnySerializer(Serializer):
    """``name.type`` says where the class of the value is found, ``name.value`` is the value. Never cached."""

    def __init__(self) -> None:
        self._kind = TupleSerializer([StringSerializer(), StringSerializer()])

    @staticmethod
    def canSerialize(type_: Any) -> bool:
        return type_ is Any

    @staticmethod
    def create(type_: Any) -> Serializer:  # noqa: ARG004
        return AnySerializer()

    def default(self) -> Any:
        return None

    def _value(self, parameterNode: Any, name: str) -> Serializer:
        module, kind = self._kind.read(parameterNode, f"{name}.type")
        found = type(None) if kind == "NoneType" else getattr(importlib.import_module(module), kind)
        return serializer_of(found)

    def isIn(self, parameterNode: Any, name: str) -> bool:
        return self._kind.isIn(parameterNode, f"{name}.type")

    def write(self, parameterNode: Any, name: str, value: Any) -> None:
        self.remove(parameterNode, name)
        serializer_of(type(value)).write(parameterNode, f"{name}.value", value)
        self._kind.write(parameterNode, f"{name}.type", (type(value).__module__, type(value).__name__))

    def read(self, parameterNode: Any, name: str) -> Any:
        return self._value(parameterNode, name).read(parameterNode, f"{name}.value")

    def remove(self, parameterNode: Any, name: str) -> None:
        if self.isIn(parameterNode, name):
            self._value(parameterNode, name).remove(parameterNode, f"{name}.value")
            self._kind.remove(parameterNode, f"{name}.type")
