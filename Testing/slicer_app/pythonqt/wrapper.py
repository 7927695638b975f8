"""The objects that a scripted module holds: each wraps one PySide6 object and offers what the real class offers.

Reading or writing a name that the real application lacks raises AttributeError, in PythonQt's words. A name that the
real application has and the stand-in does not raises NotImplementedError, so that nothing is accepted silently.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore
from PySide6.QtCore import QObject, SignalInstance

from . import signals
from .backings import VIRTUAL, backing_of, facts_of, not_offered, qt_properties
from .table import PROPERTY_ALIASES, UNDERSCORED, ClassFacts, Kind
from .values import EnumValue, with_enums

_generated: dict[str, type] = {}

# Functions that PythonQt gives every QObject, by name: see qobject.py.
SPECIAL: dict[str, Callable] = {}


class PythonQtClass(type):
    """The type of the wrapper classes: static functions, enumerators and plain functions of the C++ class."""

    _facts: ClassFacts
    _backing: type

    def __new__(mcs, name: str, bases: tuple, namespace: dict) -> PythonQtClass:
        if "_facts" not in namespace and bases:
            overridden = sorted(VIRTUAL & namespace.keys())
            if overridden:
                message = f"{name} overrides {', '.join(overridden)}: the stand-in does not call virtual functions"
                raise NotImplementedError(message)
        return super().__new__(mcs, name, bases, namespace)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        wanted = UNDERSCORED.get(name, name)
        if cls._facts.kind(wanted) is None:
            message = f"type object '{cls.__name__}' has no attribute '{name}'"
            raise AttributeError(message)
        try:
            found = getattr(cls._backing, wanted)
        except AttributeError:
            raise not_offered(cls.__name__, name) from None
        if isinstance(found, enum.Enum):
            return EnumValue(found)
        if isinstance(found, type) or not callable(found):
            raise not_offered(cls.__name__, name)
        return BoundCall(found, f"{cls.__name__}.{name}")


class BoundCall:
    """A C++ function as PythonQt shows it; two are equal when they mean the same function of the same object."""

    def __init__(self, function: Callable, name: str, key: Any = None) -> None:
        self.function = function
        self.__name__ = name
        self._key = (key, name)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if keywords:
            message = f"{self.__name__}() takes no keyword arguments"
            raise TypeError(message)
        return invoke(self.function, arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundCall) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<built-in function {self.__name__}>"


def invoke(function: Callable, arguments: tuple) -> Any:
    converted = [to_qt(a) for a in arguments]
    try:
        return to_python(function(*converted))
    except TypeError:
        for variant in with_enums(function, converted):
            with contextlib.suppress(TypeError):
                return to_python(function(*variant))
        raise


class BoundSignal:
    """``button.clicked``: connect, disconnect, emit."""

    def __init__(self, owner: PythonQtObject, name: str) -> None:
        self._owner = owner
        self._name = name

    def _signature(self) -> str:
        known = signals.known_signals(self._owner._cpp, self._owner._facts)
        return signals.first_overload(self._owner._cpp, self._name, known)

    def connect(self, function: Any) -> bool:
        return self._owner.connect(self._signature(), function)

    def disconnect(self, *function: Any) -> bool:
        return self._owner.disconnect(self._signature(), *function)

    def emit(self, *arguments: Any) -> None:
        cpp = self._owner._cpp
        own = signals.python_signals(cpp)
        getattr(cpp, own.get(self._signature(), self._name)).emit(*[to_qt(a) for a in arguments])

    __call__ = emit

    def __repr__(self) -> str:
        return f"<signal {self._name} of {type(self._owner).__name__}>"


class _Record:
    """What the stand-in knows about one C++ object for as long as it lives."""

    def __init__(self) -> None:
        self.wrapper: Callable[[], PythonQtObject | None] = lambda: None
        self.connections: list[signals.Connection] = []
        self.keep: QObject | None = None


_records: dict[int, _Record] = {}


def _pointer(cpp: Any) -> int:
    return shiboken6.getCppPointer(cpp)[0]


def record_of(cpp: QObject) -> _Record:
    pointer = _pointer(cpp)
    if pointer not in _records:
        _records[pointer] = _Record()
        cpp.destroyed.connect(functools.partial(_records.pop, pointer, None))
    return _records[pointer]


class PythonQtObject(metaclass=PythonQtClass):
    """Base of all wrappers. The C++ object is in ``_cpp``; nothing else is kept here."""

    _facts = ClassFacts("", "", "", frozenset(), (), frozenset(), frozenset())
    _backing = object
    _cpp: Any

    def __init__(self, *arguments: Any) -> None:
        if self._facts.name == "":
            raise TypeError("this class cannot be constructed")
        object.__setattr__(self, "_cpp", invoke_constructor(self._backing, arguments))
        _remember(self)

    # ---- attributes ------------------------------------------------------------------------------------------------
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_cpp":
            raise AttributeError(name)
        wanted = self._real_name(name)
        kind = self._facts.kind(wanted)
        if kind is None:
            message = f"{self._facts.name} has no attribute named '{name}'"
            raise AttributeError(message)
        self._check_alive(name)
        if self._is_property(wanted, kind):
            return to_python(self._read(wanted))
        if kind == "signal" or wanted in {s.partition("(")[0] for s in signals.python_signals(self._cpp)}:
            return BoundSignal(self, wanted)
        own = SPECIAL.get(wanted)
        if own is not None and isinstance(self._cpp, QObject):
            return functools.partial(own, self)
        found = _existing(self._cpp, wanted, self._facts.name)
        if isinstance(found, enum.Enum):
            return EnumValue(found)
        if isinstance(found, SignalInstance):
            return BoundSignal(self, wanted)
        if not callable(found) or isinstance(found, type):
            raise not_offered(self._facts.name, name)
        return BoundCall(found, name, self)

    def __setattr__(self, name: str, value: Any) -> None:
        wanted = self._real_name(name) if "_cpp" in self.__dict__ else name
        if "_cpp" in self.__dict__ and self._is_property(wanted, self._facts.kind(wanted)):
            self._check_alive(name)
            self._write(wanted, value)
        elif "_facts" not in vars(type(self)):
            object.__setattr__(self, name, value)
        else:
            where = f"{self._facts.name} and creating new attributes on C++ objects is not allowed"
            message = f"'{name}' does not exist on {where}"
            raise AttributeError(message)

    def _real_name(self, name: str) -> str:
        if name in PROPERTY_ALIASES and isinstance(self._cpp, QObject) and self._facts.kind(name) is None:
            return PROPERTY_ALIASES[name]
        return UNDERSCORED.get(name, name)

    def _is_property(self, name: str, kind: Kind | None) -> bool:
        """Classes that cannot be constructed are listed without telling properties from methods."""
        return kind == "property" or (kind == "method" and _is_python_property(self._cpp, name))

    def _check_alive(self, name: str) -> None:
        if not shiboken6.isValid(self._cpp):
            message = f"Trying to use '{name}' of a destroyed {self._facts.name} object"
            raise ValueError(message)

    def _read(self, name: str) -> Any:
        if _is_python_property(self._cpp, name):
            return getattr(self._cpp, name)
        if name not in qt_properties(type(self._cpp), self._cpp):
            raise not_offered(self._facts.name, name)
        return self._cpp.property(name)

    def _write(self, name: str, value: Any) -> None:
        converted = to_qt(value)
        if _is_python_property(self._cpp, name):
            setattr(self._cpp, name, converted)
            return
        known = qt_properties(type(self._cpp), self._cpp)
        if name not in known:
            raise not_offered(self._facts.name, name)
        if not known[name]:
            message = f"Property '{name}' of {self._facts.name} object is not writable"
            raise AttributeError(message)
        setter = getattr(self._cpp, f"set{name[0].upper()}{name[1:]}", None)
        if setter is not None and isinstance(value, EnumValue):
            setter(converted)
        elif not self._cpp.setProperty(name, converted):
            kind = type(value).__name__
            message = f"Property '{name}' of {self._facts.name} does not accept an object of type {kind} ({value!r})"
            raise AttributeError(message)

    # ---- identity --------------------------------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PythonQtObject):
            return NotImplemented
        if isinstance(self._cpp, QObject):
            return isinstance(other._cpp, QObject) and _pointer(self._cpp) == _pointer(other._cpp)
        return self._cpp == other._cpp

    def __hash__(self) -> int:
        return hash(_pointer(self._cpp))

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._cpp)

    def __dir__(self) -> list[str]:
        return sorted(self._facts.all_names())

    def __repr__(self) -> str:
        name = self._facts.name
        if isinstance(self._cpp, QObject):
            return f"{name} ({name} at: {_pointer(self._cpp):#x})"
        text = repr(self._cpp)
        inside = text.partition("(")[2].rpartition(")")[0]
        if type(self._cpp).__name__ == "QSize":
            return f"{name} ({inside}, at: {_pointer(self._cpp):#x})"
        return f"{name} (C++ object at: {_pointer(self._cpp):#x})"


def invoke_constructor(backing: type, arguments: tuple) -> Any:
    converted = [to_qt(a) for a in arguments]
    try:
        return backing(*converted)
    except TypeError:
        for variant in with_enums(backing, converted):
            with contextlib.suppress(TypeError):
                return backing(*variant)
        raise


def _is_python_property(cpp: Any, name: str) -> bool:
    """Whether a widget of the stand-in's own defines ``name`` as a property in Python."""
    found = inspect.getattr_static(type(cpp), name, None)
    return isinstance(found, property | QtCore.Property)


def _existing(cpp: Any, name: str, class_name: str) -> Any:
    try:
        return getattr(cpp, name)
    except AttributeError:
        raise not_offered(class_name, name) from None


# ---- conversion ----------------------------------------------------------------------------------------------------
def to_qt(value: Any) -> Any:  # noqa: PLR0911 - one return for each kind of value
    """What PySide6 takes for a value of the scripted module."""
    if isinstance(value, PythonQtObject):
        return value._cpp
    if isinstance(value, EnumValue):
        return value.member
    if isinstance(value, BoundCall):
        return value.function
    if isinstance(value, list | tuple):
        return [to_qt(v) for v in value]
    if isinstance(value, dict):
        return {k: to_qt(v) for k, v in value.items()}
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return signals.make_slot(value, None, to_python)
    return value


def to_python(value: Any) -> Any:
    """What the scripted module gets for a value of PySide6: numbers for enumerators, tuples for lists, wrappers."""
    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, list | tuple):
        return tuple(to_python(v) for v in value)
    if isinstance(value, dict):
        return {k: to_python(v) for k, v in value.items()}
    if type(value).__name__ == "QOverrideCursorGuard":  # an addition of PySide6: in C++ the function returns nothing
        return None
    if isinstance(value, shiboken6.Object):
        return wrap(value)
    return value


def wrap(cpp: Any) -> PythonQtObject:
    """The wrapper of a PySide6 object: the same one as long as somebody holds it."""
    if isinstance(cpp, QObject):
        known = record_of(cpp).wrapper()
        if known is not None and shiboken6.isValid(known._cpp):
            return known
    for cls in type(cpp).__mro__:
        if facts_of(cls.__name__) is not None:
            wrapper_class = generated_class(cls.__name__)
            break
    else:
        message = f"the stand-in has no wrapper for {type(cpp).__name__}"
        raise NotImplementedError(message)
    wrapper = wrapper_class.__new__(wrapper_class)
    object.__setattr__(wrapper, "_cpp", cpp)
    _remember(wrapper)
    return wrapper


def _remember(wrapper: PythonQtObject) -> None:
    cpp = wrapper._cpp
    if not isinstance(cpp, QObject):
        return
    record = record_of(cpp)
    if "_facts" not in vars(type(wrapper)):
        # A class written in Python has attributes of its own, which must live as long as the C++ object.
        record.wrapper = lambda: wrapper
        return
    record.wrapper = weakref.ref(wrapper)
    if not type(cpp).__module__.startswith("PySide6"):
        weakref.finalize(wrapper, keep_while_parented, cpp).atexit = False


def keep_while_parented(cpp: QObject) -> None:
    """Hold a widget written in Python while Qt owns it: without its Python half it would forget its attributes."""
    if shiboken6.isValid(cpp) and cpp.parent() is not None:
        record_of(cpp).keep = cpp


def generated_class(name: str) -> type:
    """The wrapper class of the real class ``name``."""
    if name not in _generated:
        facts, backing = facts_of(name), backing_of(name)
        if facts is None:
            message = f"3D Slicer's list has no class '{name}'"
            raise AttributeError(message)
        if backing is None:
            message = f"{name} exists in 3D Slicer, but the stand-in does not offer it"
            raise NotImplementedError(message)
        base: type = PythonQtObject
        for ancestor in backing.__mro__[1:]:
            if facts_of(ancestor.__name__) is not None:
                base = generated_class(ancestor.__name__)
                break
        _generated[name] = PythonQtClass(
            name, (base,), {"_facts": facts, "_backing": backing, "__module__": "PythonQt"}
        )
    return _generated[name]
