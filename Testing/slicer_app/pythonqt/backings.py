"""Which PySide6 class does the work for which class of the real application, and what that class offers."""

from __future__ import annotations

import enum
import functools
import inspect

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import QObject

from .table import ClassFacts, classes

# Classes that calls return and that the list of the real application does not describe. They exist there; their names
# are taken from Qt itself.
UNLISTED = (
    "QByteArray",
    "QHeaderView",
    "QItemSelection",
    "QLayoutItem",
    "QModelIndex",
    "QProcessEnvironment",
    "QProgressDialog",
    "QScreen",
    "QScrollBar",
    "QSpacerItem",
    "QStatusBar",
    "QTextCursor",
    "QTextDocument",
    "QVector3D",
    "QWidgetItem",
)

# Virtual functions are called from C++: a Python class that overrides one would be called in Slicer and not here.
VIRTUAL = frozenset(
    name
    for name in classes()["QWidget"].names | classes()["QObject"].names
    if name.endswith("Event") or name in {"event", "eventFilter"}
)

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
