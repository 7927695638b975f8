"""The objects that a scripted module holds: each wraps one PySide6 object and offers what the real class offers.

Reading or writing a name that the real application lacks raises AttributeError, in PythonQt's words. A name that the real
application has and the stand-in does not raises NotImplementedError, so that nothing is accepted silently.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import QMetaObject, QObject

from . import signals
from .table import PROPERTY_ALIASES, UNDERSCORED, ClassFacts, Kind, classes
from .values import EnumValue, with_enums

logger = logging.getLogger(__name__)

# Classes that calls return and that the list of the real application does not describe. They exist there; their names
# are taken from Qt itself.
UNLISTED = (
    "QByteArray",
    "QHeaderView",
    "QLayoutItem",
    "QModelIndex",
    "QProcessEnvironment",
    "QProgressDialog",
    "QScreen",
    "QScrollBar",
    "QSpacerItem",
    "QTextCursor",
    "QTextDocument",
    "QWidgetItem",
)

# Virtual functions are called from C++: a Python class that overrides one would be called in Slicer and not here.
VIRTUAL = frozenset(
    name
    for name in classes()["QWidget"].names | classes()["QObject"].names
    if name.endswith("Event") or name in {"event", "eventFilter"}
)

_generated: dict[str, type] = {}
_backings: dict[str, type] = {}


def register_backing(*backings: type) -> None:
    """Offer widgets of the stand-in's own, written in Python, under their class names."""
    for backing in backings:
        _backings[backing.__name__] = backing


def backing_of(name: str) -> type | None:
    """The PySide6 class that does the work for the real class ``name``."""
    if name in _backings:
        return _backings[name]
    for module in (QtWidgets, QtGui, QtCore):
        found = getattr(module, name, None)
        if isinstance(found, type):
            return found
    return None


@functools.cache
def facts_of(name: str) -> ClassFacts | None:
    """What the real class ``name`` offers; for an unlisted class what Qt itself says."""
    if name in classes():
        return classes()[name]
    if name not in UNLISTED:
        return None
    backing = backing_of(name)
    assert backing is not None
    names = {n for n in dir(backing) if not n.startswith("_")}
    enums = [found for n in names if isinstance(found := getattr(backing, n), enum.EnumType)]
    names |= {member for kind in enums for member in kind.__members__}
    properties: set[str] = set()
    signatures: list[str] = []
    base = ""
    if issubclass(backing, QObject):
        meta = backing.staticMetaObject
        properties = {meta.property(i).name() for i in range(meta.propertyCount())}
        methods = (meta.method(i) for i in range(meta.methodCount()))
        signal_type = QtCore.QMetaMethod.MethodType.Signal
        signatures = [bytes(m.methodSignature()).decode() for m in methods if m.methodType() == signal_type]
        base = "QWidget" if issubclass(backing, QtWidgets.QWidget) else "QObject"
    return ClassFacts(
        name, "qt", base, frozenset(properties), tuple(signatures), frozenset(), frozenset(names - properties)
    )


def not_offered(class_name: str, attribute: str) -> NotImplementedError:
    return NotImplementedError(f"{class_name}.{attribute} exists in 3D Slicer, but the stand-in does not offer it")


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
        return signals.first_overload(self._owner._cpp, self._name, self._owner._facts.all_signals())

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


_records: dict[int, _Record] = {}


def _pointer(cpp: Any) -> int:
    return shiboken6.getCppPointer(cpp)[0]


def _record_of(cpp: QObject) -> _Record:
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
            message = f"'{name}' does not exist on {self._facts.name} and creating new attributes on C++ objects is not allowed"
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


_properties: dict[type, dict[str, bool]] = {}


def qt_properties(cls: type, instance: QObject | None = None) -> dict[str, bool]:
    """The Qt properties of a class by name, and whether each can be written.

    Asked once for each class: PySide6 may hand out a static meta-object that it has deleted already.
    """
    if cls not in _properties:
        owner = instance if instance is not None else cls()
        meta = owner.metaObject()
        found = (meta.property(i) for i in range(meta.propertyCount()))
        _properties[cls] = {p.name(): p.isWritable() for p in found}
    return _properties[cls]


def has_property(backing: type, name: str) -> bool:
    """Whether the widgets of a class have a Qt property ``name``."""
    own = inspect.getattr_static(backing, name, None)
    return isinstance(own, QtCore.Property) or name in qt_properties(backing)


def _existing(cpp: Any, name: str, class_name: str) -> Any:
    try:
        return getattr(cpp, name)
    except AttributeError:
        raise not_offered(class_name, name) from None


# ---- conversion --------------------------------------------------------------------------------------------------------
def to_qt(value: Any) -> Any:
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
    """What the scripted module gets for a value of PySide6: enumerators as numbers, lists as tuples, objects wrapped."""
    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, list | tuple):
        return tuple(to_python(v) for v in value)
    if isinstance(value, dict):
        return {k: to_python(v) for k, v in value.items()}
    if isinstance(value, shiboken6.Object):
        return wrap(value)
    return value


def wrap(cpp: Any) -> PythonQtObject:
    """The wrapper of a PySide6 object: the same one as long as somebody holds it."""
    if isinstance(cpp, QObject):
        known = _record_of(cpp).wrapper()
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
    if not isinstance(wrapper._cpp, QObject):
        return
    record = _record_of(wrapper._cpp)
    if "_facts" in vars(type(wrapper)):
        record.wrapper = weakref.ref(wrapper)
    else:
        # A class written in Python has attributes of its own, which must live as long as the C++ object.
        record.wrapper = lambda: wrapper


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


# ---- functions that PythonQt gives every QObject ---------------------------------------------------------------------------
def connect(self: PythonQtObject, signature: str, *target: Any) -> bool:
    """``connect('clicked(bool)', f)`` or ``connect('clicked(bool)', receiver, 'setEnabled(bool)')``."""
    normalized = bytes(QMetaObject.normalizedSignature(signature)).decode()
    if normalized not in self._facts.all_signals() and normalized not in signals.python_signals(self._cpp):
        logger.warning("QObject::connect: No such signal %s::%s", self._facts.name, signature)
        return False
    function = target[0]
    if len(target) == 2:
        function = _slot_of(target[0], target[1])
        if function is None:
            return False
    if not callable(function):
        message = f"connect() needs a callable, not {type(function).__name__}"
        raise TypeError(message)
    slot = signals.make_slot(function, signals.arity_of(normalized), to_python)
    undo = signals.plug(self._cpp, normalized, slot)
    _record_of(self._cpp).connections.append(signals.Connection(normalized, function, undo))
    return True


def _slot_of(receiver: PythonQtObject, signature: str) -> Callable | None:
    normalized = bytes(QMetaObject.normalizedSignature(signature)).decode()
    if normalized not in receiver._facts.all_slots() | receiver._facts.all_signals():
        logger.warning("QObject::connect: No such slot %s::%s", receiver._facts.name, signature)
        return None
    name, arity = normalized.partition("(")[0], signals.arity_of(normalized)
    call = getattr(receiver, name)

    def slot(*arguments: Any) -> None:
        call(*arguments[:arity])

    return slot


def disconnect(self: PythonQtObject, signature: str, *target: Any) -> bool:
    normalized = bytes(QMetaObject.normalizedSignature(signature)).decode()
    record = _record_of(self._cpp)
    matching = [c for c in record.connections if c.signature == normalized and (not target or c.function == target[0])]
    for connection in matching:
        record.connections.remove(connection)
        connection.undo()
    return bool(matching)


def _wanted_classes(kinds: Any) -> tuple[str, ...]:
    kinds = kinds if isinstance(kinds, list | tuple) else [kinds]
    return tuple(kind if isinstance(kind, str) else kind._facts.name for kind in kinds)


def find_children(self: PythonQtObject, kinds: Any, name: str = "") -> tuple[PythonQtObject, ...]:
    wanted = _wanted_classes(kinds)
    found = []
    for child in self._cpp.findChildren(QObject):
        if name and child.objectName() != name:
            continue
        if any(child.inherits(kind) for kind in wanted):
            found.append(wrap(child))
    return tuple(found)


def find_child(self: PythonQtObject, kind: Any, name: str = "") -> PythonQtObject | None:
    return next(iter(find_children(self, kind, name)), None)


def class_name(self: PythonQtObject) -> str:
    return self._cpp.metaObject().className()


def delete(self: PythonQtObject) -> None:
    shiboken6.delete(self._cpp)


def _unsupported(name: str) -> Callable:
    def refuse(self: PythonQtObject, *_arguments: Any) -> None:
        raise not_offered(self._facts.name, name)

    return refuse


SPECIAL: dict[str, Callable] = {
    "connect": connect,
    "disconnect": disconnect,
    "findChild": find_child,
    "findChildren": find_children,
    "className": class_name,
    "delete": delete,
    "installEventFilter": _unsupported("installEventFilter"),
    "removeEventFilter": _unsupported("removeEventFilter"),
    "sender": _unsupported("sender"),
    "metaObject": _unsupported("metaObject"),
}
