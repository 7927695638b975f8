"""Connecting signals the way PythonQt does: by C++ signature or by name, to any callable."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QMetaMethod, QObject

logger = logging.getLogger(__name__)

# Signals of Qt 5 that Qt 6 renamed or merged: what to connect instead.
RENAMED = {
    "activated(QString)": "textActivated(QString)",
    "buttonClicked(int)": "idClicked(int)",
    "currentIndexChanged(QString)": "currentTextChanged(QString)",
    "error(QProcess::ProcessError)": "errorOccurred(QProcess::ProcessError)",
    "finished(int)": "finished(int,QProcess::ExitStatus)",
    "highlighted(QString)": "textHighlighted(QString)",
    "highlighted(QUrl)": "highlighted(QUrl)",
    "valueChanged(QString)": "textChanged(QString)",
    "bytesWritten(qlonglong)": "bytesWritten(qint64)",
}

# Where PythonQt's first overload is not Qt 6's first: Qt 5.15 declares the short one before the long one.
FIRST_OVERLOAD = {"finished(int,QProcess::ExitStatus)": "finished(int)"}

slot_errors: list[BaseException] = []


def report(error: BaseException) -> None:
    """An exception left a slot: PythonQt prints it and goes on; the stand-in also keeps it for the test."""
    slot_errors.append(error)
    logger.error("An exception left a slot", exc_info=error)


def accepted_arguments(function: Callable) -> int | None:
    """How many arguments PythonQt passes at most: those of a plain function or method; None means all.

    PythonQt reads the code object of functions and methods only; every other callable gets all that the signal has.
    """
    code_owner, bound = function, 0
    if inspect.ismethod(function):
        code_owner, bound = function.__func__, 1
    if not inspect.isfunction(code_owner):
        return None
    if code_owner.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return code_owner.__code__.co_argcount - bound


def make_slot(function: Callable, arity: int | None, to_python: Callable[[Any], Any]) -> Callable[..., None]:
    """A slot for PySide6 that calls ``function`` as PythonQt would."""
    accepted = accepted_arguments(function)
    limits = [n for n in (arity, accepted) if n is not None]

    def slot(*arguments: Any) -> None:
        try:
            converted = [to_python(a) for a in arguments]
            function(*(converted[: min(limits)] if limits else converted))
        except BaseException as error:  # noqa: BLE001 - whatever a slot raises must not reach Qt's event loop
            report(error)

    return slot


@dataclass
class Connection:
    """One connection of a C++ object, so that it can be undone."""

    signature: str
    function: Any
    undo: Callable[[], Any]


def arity_of(signature: str) -> int:
    inside = signature.partition("(")[2].rstrip(")")
    return inside.count(",") + 1 if inside else 0


def meta_signals(cpp: QObject) -> list[str]:
    """The signatures of the signals of a Qt object, in the order in which its classes declare them, derived last."""
    meta = cpp.metaObject()
    methods = (meta.method(i) for i in range(meta.methodCount()))
    return [bytes(m.methodSignature()).decode() for m in methods if m.methodType() == QMetaMethod.MethodType.Signal]


def python_signals(cpp: QObject) -> dict[str, str]:
    """C++ signature -> attribute, for the signals that a widget of the stand-in defines itself in Python."""
    found: dict[str, str] = {}
    for cls in type(cpp).__mro__:
        for signature, attribute in vars(cls).get("SIGNALS", {}).items():
            found.setdefault(signature, attribute)
    return found


def known_signals(cpp: QObject, facts: Any) -> set[str]:
    """The signatures that one may connect to.

    A class that the application could not construct is listed without telling its signals from its other names: what
    Qt has as a signal and the list as a name is one.
    """
    known = facts.all_signals() | python_signals(cpp).keys()
    names = {n for f in facts.chain() if not (f.properties or f.signals or f.slots) for n in f.names}
    return known | {signature for signature in meta_signals(cpp) if signature.partition("(")[0] in names}


def plug(cpp: QObject, signature: str, slot: Callable) -> Callable[[], Any]:
    """Connect ``slot`` to a signal that the real application has, and return what undoes it."""
    own = python_signals(cpp)
    if signature in own:
        signal = getattr(cpp, own[signature])
        signal.connect(slot)
        return lambda: signal.disconnect(slot)
    available = meta_signals(cpp)
    for candidate in (signature, RENAMED.get(signature)):
        if candidate in available:
            name = "2" + candidate
            if not QObject.connect(cpp, name, slot):
                break
            return lambda: QObject.disconnect(cpp, name, slot)
    message = f"{signature} of {type(cpp).__name__} exists in 3D Slicer, but the stand-in does not offer it"
    raise NotImplementedError(message)


def first_overload(cpp: QObject, name: str, known: set[str]) -> str:
    """The signature that ``obj.name.connect(f)`` means: the one that is declared first."""
    candidates = [*python_signals(cpp), *meta_signals(cpp)]
    renamed = {new: old for old, new in RENAMED.items()}
    for candidate in candidates:
        for signature in (FIRST_OVERLOAD.get(candidate), candidate, renamed.get(candidate)):
            if signature in known and signature.partition("(")[0] == name:
                return signature
    message = f"the signal {name} of {type(cpp).__name__} exists in 3D Slicer, but the stand-in does not offer it"
    raise NotImplementedError(message)
