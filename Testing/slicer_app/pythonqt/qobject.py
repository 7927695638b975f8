"""What PythonQt gives every QObject beside its own functions: connecting, finding children, deleting."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6.QtCore import QMetaObject, QObject

from . import signals
from .backings import not_offered
from .wrapper import SPECIAL, PythonQtObject, record_of, to_python, wrap

logger = logging.getLogger(__name__)


def connect(self: PythonQtObject, signature: str, *target: Any) -> bool:
    """``connect('clicked(bool)', f)`` or ``connect('clicked(bool)', receiver, 'setEnabled(bool)')``."""
    normalized = bytes(QMetaObject.normalizedSignature(signature)).decode()
    if normalized not in signals.known_signals(self._cpp, self._facts):
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
    record_of(self._cpp).connections.append(signals.Connection(normalized, function, undo))
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
    record = record_of(self._cpp)
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


SPECIAL.update(
    {
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
)
