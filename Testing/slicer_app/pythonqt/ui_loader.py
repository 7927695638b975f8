"""Building a panel from its ``.ui`` file, stricter than Qt: what the real widgets lack is an error here."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from PySide6.QtCore import QBuffer, QByteArray, QDir, QMetaObject, QObject
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import QWidget

from .backings import backing_of, has_property, not_offered
from .qobject import connect
from .table import ClassFacts, classes
from .wrapper import PythonQtObject, record_of, wrap

logger = logging.getLogger(__name__)

# Widgets of Qt that .ui files use and that the list of the real application does not describe, with what they inherit.
PLAIN = {"Line": "QFrame", "QCommandLinkButton": "QPushButton", "QToolBox": "QFrame"}


class UiError(RuntimeError):
    """A .ui file asks for something that 3D Slicer does not have."""


class _Loader(QUiLoader):
    """Makes the widgets of the Common Toolkit and of Slicer, which Qt does not know."""

    def createWidget(self, class_name: str, parent: QWidget | None = None, name: str = "") -> QWidget:
        backing = backing_of(class_name)
        if backing is not None and not backing.__module__.startswith("PySide6"):
            widget = backing(parent)
            widget.setObjectName(name)
            record_of(widget).keep = widget
            return widget
        return super().createWidget(class_name, parent, name)


def _facts(class_name: str, path: Path) -> ClassFacts:
    facts = classes().get(PLAIN.get(class_name, class_name))
    if facts is None:
        message = f"{path.name}: 3D Slicer's list has no widget class '{class_name}'"
        raise UiError(message)
    return facts


def _take_sets(document: ET.Element, path: Path) -> list[tuple[str, str, int]]:
    """Take the sets of flags of widgets that are written in Python out of the form: (widget, property, value).

    QUiLoader looks for the names of the flags in Qt's own description of a class, which has none for these widgets.
    Raises UiError for a flag that the real widget lacks.
    """
    taken = []
    for element in document.iter("widget"):
        backing = backing_of(element.get("class", ""))
        if backing is None or backing.__module__.startswith("PySide6"):
            continue
        for prop in element.findall("property"):
            flags = prop.findtext("set")
            if flags is not None:
                value = 0
                for flag in flags.split("|"):
                    owner, _, name = flag.strip().rpartition("::")
                    if owner != element.get("class") or name not in getattr(backing, "FLAGS", {}):
                        message = f"{path.name}: {element.get('class')} '{element.get('name')}' has no flag '{flag}'"
                        raise UiError(message)
                    value |= backing.FLAGS[name]
                taken.append((element.get("name", ""), prop.get("name", ""), value))
                element.remove(prop)
    return taken


def _check_properties(element: ET.Element, path: Path) -> None:
    class_name = element.get("class", "")
    facts = _facts(class_name, path)
    backing = backing_of(facts.name)
    if backing is None:
        raise not_offered(facts.name, "__init__")
    for prop in element.findall("property"):
        name = prop.get("name", "")
        if prop.get("stdset") == "0":
            continue
        if facts.kind(name) != "property":
            message = f"{path.name}: {class_name} '{element.get('name')}' has no property '{name}'"
            raise UiError(message)
        if not has_property(backing, name):
            raise not_offered(facts.name, name)


def _connect(root: QWidget, entry: ET.Element, path: Path) -> None:
    sender, receiver = (_object(root, entry.findtext(part, ""), path) for part in ("sender", "receiver"))
    signal, slot = entry.findtext("signal", ""), entry.findtext("slot", "")
    slots = receiver._facts.all_slots() | receiver._facts.all_signals()
    for owner, known, wanted in ((sender, sender._facts.all_signals(), signal), (receiver, slots, slot)):
        if bytes(QMetaObject.normalizedSignature(wanted)).decode() not in known:
            message = f"{path.name}: {owner._facts.name} '{owner.objectName}' has no '{wanted}'"
            raise UiError(message)
    connect(sender, signal, receiver, slot)


def _object(root: QWidget, name: str, path: Path) -> PythonQtObject:
    found: QObject | None = root if root.objectName() == name else root.findChild(QObject, name)
    if found is None:
        message = f"{path.name}: a connection names '{name}', which does not exist"
        raise UiError(message)
    return wrap(found)


def load_ui(path: str | Path) -> Any:
    """The top widget of a ``.ui`` file, wrapped.

    Raises RuntimeError, as slicer.util.loadUI does, when there is no such file, and UiError (a RuntimeError) for a
    class, property, signal or slot that the real widgets lack. Dynamic properties must say ``stdset="0"``.
    """
    path = Path(path)
    if not path.is_file():
        message = f"Could not load UI file: file not found {path}\n\n"
        raise RuntimeError(message)
    tree = ET.parse(path)
    document = tree.getroot()
    for element in document.iter("widget"):
        _check_properties(element, path)
    connections = document.find("connections")
    entries = [] if connections is None else list(connections.findall("connection"))
    if connections is not None:
        # QUiLoader connects by the C++ signatures of the widgets, which the ones written in Python do not have.
        document.remove(connections)
    sets = _take_sets(document, path)
    data = QByteArray(ET.tostring(document))
    buffer = QBuffer(data)
    buffer.open(QBuffer.OpenModeFlag.ReadOnly)
    loader = _Loader()
    loader.setWorkingDirectory(QDir(str(path.parent)))
    widget = loader.load(buffer)
    if widget is None:
        message = f"Could not load UI file: {path}\n\n{loader.errorString()}"
        raise RuntimeError(message)
    for entry in entries:
        _connect(widget, entry, path)
    for name, prop, value in sets:
        _object(widget, name, path)._cpp.setProperty(prop, value)
    return wrap(widget)
