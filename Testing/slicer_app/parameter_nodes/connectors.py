"""Binding a widget to a parameter: which widget may show which type, how it is read, written and watched."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any

import slicer

from . import annotations as notes
from .packs import FloatRange
from .serializers import PATHS

logger = logging.getLogger(__name__)


class GuiConnector:
    """Base of the bindings. A subclass says what it can represent, and how to read and write the widget."""

    SIGNAL = ""

    def __init__(self, widget: Any = None, datatype: Any = None) -> None:
        self._widget, self._datatype = widget, datatype
        self._callback: Callable[[], None] | None = None

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        raise NotImplementedError("Must implement canRepresent")

    @classmethod
    def create(cls, widget: Any, datatype: Any) -> Any:
        return cls(widget, datatype) if cls.canRepresent(widget, datatype) else None

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if callback is None:
            self._disconnect()
        else:
            self._connect()

    def changed(self) -> None:
        if self._callback:
            self._callback()

    def _connect(self) -> None:
        if self.SIGNAL:
            getattr(self._widget, self.SIGNAL).connect(self.changed)

    def _disconnect(self) -> None:
        if self.SIGNAL:
            getattr(self._widget, self.SIGNAL).disconnect(self.changed)

    def widget(self) -> Any:
        return self._widget

    def read(self) -> Any:
        raise NotImplementedError("Must implement read")

    def write(self, value: Any) -> None:
        raise NotImplementedError("Must implement write")


_registered: list[type[GuiConnector]] = []


def parameterNodeGuiConnector(classtype: Any = None) -> Any:
    """Class decorator: a new kind of widget may show parameters."""

    def register(cls: type[GuiConnector]) -> type[GuiConnector]:
        if not issubclass(cls, GuiConnector):
            raise TypeError("Must be a GuiConnector subclass")
        _registered.append(cls)
        return cls

    return register if classtype is None else register(classtype)


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    """The binding of a widget to a type; RuntimeError when there is none."""
    datatype = notes.without_pipe(datatype)
    for connector in _registered:
        if connector.canRepresent(widget, datatype):
            return connector.create(widget, datatype)
    message = f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget)}'."
    raise RuntimeError(message)


def _named(widget: Any, *names: str) -> bool:
    return type(widget).__name__ in names


def _bounds(datatype: Any) -> tuple[Any, Any]:
    """(minimum, maximum), None where the type is open."""
    found = notes.splitAnnotations(datatype)[1]
    both = notes.findFirstAnnotation(found, notes.WithinRange)
    if both is not None:
        return both.minimum, both.maximum
    low, high = notes.findFirstAnnotation(found, notes.Minimum), notes.findFirstAnnotation(found, notes.Maximum)
    return (low.minimum if low else None), (high.maximum if high else None)


def _apply_decimals_and_step(widget: Any, datatype: Any, *, decimals: bool = True) -> None:
    found = notes.splitAnnotations(datatype)[1]
    digits, step = (notes.findFirstAnnotation(found, kind) for kind in (notes.Decimals, notes.SingleStep))
    if digits is not None and decimals:
        widget.decimals = digits.value
    if step is not None:
        widget.singleStep = step.value


@parameterNodeGuiConnector
class CheckBoxConnector(GuiConnector):
    SIGNAL = "stateChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return notes.unannotatedType(datatype) is bool and _named(widget, "QCheckBox", "ctkCheckBox")

    def read(self) -> Any:
        return self._widget.checked

    def write(self, value: Any) -> None:
        self._widget.checked = value


@parameterNodeGuiConnector
class CheckableButtonConnector(CheckBoxConnector):
    SIGNAL = "toggled"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return notes.unannotatedType(datatype) is bool and _named(widget, "QPushButton", "ctkCheckablePushButton")

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        if not widget.checkable:
            logger.warning("Making push button checkable for conversion to bool: button %s", widget)
            widget.checkable = True


@parameterNodeGuiConnector
class IntegerConnector(GuiConnector):
    SIGNAL = "valueChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return notes.unannotatedType(datatype) is int and _named(widget, "QSlider", "QSpinBox")

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        _apply_decimals_and_step(widget, datatype)
        low, high = _bounds(datatype)
        if _named(widget, "QSlider") and (low is None or high is None):
            raise RuntimeError("Cannot have a connection to QSlider where the int type is unbounded.")
        widget.setMinimum(-(2**31) if low is None else low)
        widget.setMaximum(2**31 - 1 if high is None else high)

    def read(self) -> Any:
        return self._widget.value

    def write(self, value: Any) -> None:
        self._widget.value = value


@parameterNodeGuiConnector
class RealConnector(GuiConnector):
    SIGNAL = "valueChanged"
    WIDGETS = (
        "QDoubleSpinBox",
        "ctkSliderWidget",
        "qMRMLSliderWidget",
        "ctkDoubleSlider",
        "ctkDoubleSpinBox",
        "qMRMLSpinBox",
    )

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return notes.unannotatedType(datatype) in (float, int) and _named(widget, *RealConnector.WIDGETS)

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        self._type = notes.unannotatedType(datatype)
        if self._type is int:
            widget.decimals = 0
        _apply_decimals_and_step(widget, datatype, decimals=self._type is float)
        low, high = _bounds(datatype)
        if _named(widget, "ctkSliderWidget", "qMRMLSliderWidget") and (low is None or high is None):
            raise RuntimeError("Cannot have a connection to ctkSliderWidget where the float types is unbounded.")
        widget.minimum = float("-inf") if low is None else low
        widget.maximum = float("inf") if high is None else high

    def read(self) -> Any:
        return int(self._widget.value) if self._type is int else self._widget.value

    def write(self, value: Any) -> None:
        self._widget.value = self._type(value)


class _ListConnector(GuiConnector):
    """A combo box filled with the values that a parameter may have."""

    SIGNAL = "currentIndexChanged"
    _choices: list[Any]

    def _fill(self, labels: list[str]) -> None:
        self._widget.clear()
        for label in labels:
            self._widget.addItem(label)

    def read(self) -> Any:
        return self._choices[self._widget.currentIndex]

    def write(self, value: Any) -> None:
        if value not in self._choices:
            message = f"Unable to find value {value} in choices {self._choices}"
            raise ValueError(message)
        self._widget.currentIndex = self._choices.index(value)


@parameterNodeGuiConnector
class ChoiceConnector(_ListConnector):
    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _named(widget, "QComboBox", "ctkComboBox") and notes.unannotatedType(datatype) in (int, float, str, bool)

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        choice = notes.findFirstAnnotation(notes.splitAnnotations(datatype)[1], notes.Choice)
        if choice is None:
            raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
        self._choices = list(choice.choices)
        self._fill([str(c) for c in self._choices])


@parameterNodeGuiConnector
class EnumConnector(_ListConnector):
    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _named(widget, "QComboBox", "ctkComboBox") and notes.is_class(notes.unannotatedType(datatype), enum.Enum)

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        kind = notes.unannotatedType(datatype)
        label = getattr(kind, "label", lambda e: e.name)
        self._choices = list(kind)
        selected = self.read()
        self._fill([label(e) for e in self._choices])
        self.write(selected)


@parameterNodeGuiConnector
class LineEditConnector(GuiConnector):
    SIGNAL = "textChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _named(widget, "QLineEdit") and notes.unannotatedType(datatype) is str

    def read(self) -> Any:
        return self._widget.text

    def write(self, value: Any) -> None:
        # Writing moves the cursor, which must not happen to somebody who is typing.
        if value != self._widget.text:
            self._widget.text = value


@parameterNodeGuiConnector
class LabelConnector(GuiConnector):
    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _named(widget, "QLabel") and notes.unannotatedType(datatype) is str

    def read(self) -> Any:
        return self._widget.text

    def write(self, value: Any) -> None:
        self._widget.text = value


@parameterNodeGuiConnector
class TextEditConnector(GuiConnector):
    SIGNAL = "textChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _named(widget, "QTextEdit") and notes.unannotatedType(datatype) is str

    def read(self) -> Any:
        return self._widget.toPlainText()

    def write(self, value: Any) -> None:
        self._widget.setPlainText(value)


@parameterNodeGuiConnector
class PathLineConnector(GuiConnector):
    SIGNAL, PROPERTY, WIDGET = "currentPathChanged", "currentPath", "ctkPathLineEdit"

    @classmethod
    def canRepresent(cls, widget: Any, datatype: Any) -> bool:
        return _named(widget, cls.WIDGET) and notes.unannotatedType(datatype) in PATHS

    def read(self) -> Any:
        return notes.unannotatedType(self._datatype)(getattr(self._widget, self.PROPERTY))

    def write(self, value: Any) -> None:
        setattr(self._widget, self.PROPERTY, str(value))


@parameterNodeGuiConnector
class DirectoryConnector(PathLineConnector):
    SIGNAL, PROPERTY, WIDGET = "directoryChanged", "directory", "ctkDirectoryButton"


@parameterNodeGuiConnector
class NodeConnector(GuiConnector):
    SIGNAL = "currentNodeChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return isinstance(widget, slicer.qMRMLNodeComboBox) and notes.isNodeOrUnionOfNodes(datatype)

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        widget.nodeTypes = notes.getNodeTypes(datatype)

    def read(self) -> Any:
        return self._widget.currentNode()

    def write(self, value: Any) -> None:
        self._widget.setCurrentNode(value)


@parameterNodeGuiConnector
class RangeConnector(GuiConnector):
    SIGNAL = "valuesChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _named(widget, "ctkRangeWidget", "qMRMLRangeWidget") and notes.unannotatedType(datatype) is FloatRange

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        _apply_decimals_and_step(widget, datatype)
        bounds = notes.findFirstAnnotation(notes.splitAnnotations(datatype)[1], notes.RangeBounds)
        if bounds is None:
            raise RuntimeError("Cannot have a connection to a range widget where the float is unbounded.")
        widget.setRange(bounds.minimum, bounds.maximum)

    def read(self) -> Any:
        return FloatRange(self._widget.minimumValue, self._widget.maximumValue)

    def write(self, value: Any) -> None:
        self._widget.setValues(value.minimum, value.maximum)
