"""Widgets of the Common Toolkit that hold numbers. Stand-ins over Qt 6."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSlider, QWidget

STEPS = 10_000  # positions of the integer slider behind a continuous one


class _Spin(QWidget):
    """A QWidget around a spin box, which is what ctkDoubleSpinBox is."""

    def _make(self, horizontal: QHBoxLayout) -> QDoubleSpinBox:
        spin = QDoubleSpinBox(self)
        horizontal.setContentsMargins(0, 0, 0, 0)
        horizontal.addWidget(spin)
        return spin


def _spin_property(kind: type, read: str, write: str) -> Property:
    return Property(
        kind, lambda self: getattr(self._spin, read)(), lambda self, value: getattr(self._spin, write)(value)
    )


class ctkDoubleSpinBox(_Spin):
    """A spin box for real numbers."""

    valueChanged = Signal(float)
    valueTextChanged = Signal(str)
    editingFinished = Signal()
    decimalsChanged = Signal(int)
    SIGNALS: ClassVar[dict[str, str]] = {
        "valueChanged(double)": "valueChanged",
        "valueChanged(QString)": "valueTextChanged",
        "editingFinished()": "editingFinished",
        "decimalsChanged(int)": "decimalsChanged",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._spin = self._make(QHBoxLayout(self))
        self._spin.valueChanged.connect(self.valueChanged)
        self._spin.textChanged.connect(self.valueTextChanged)
        self._spin.editingFinished.connect(self.editingFinished)

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        if decimals != self._spin.decimals():
            self._spin.setDecimals(decimals)
            self.decimalsChanged.emit(decimals)

    def stepUp(self) -> None:
        self._spin.stepUp()

    def stepDown(self) -> None:
        self._spin.stepDown()

    value = Property(float, lambda self: self._spin.value(), setValue)
    decimals = Property(int, lambda self: self._spin.decimals(), setDecimals)
    minimum = _spin_property(float, "minimum", "setMinimum")
    maximum = _spin_property(float, "maximum", "setMaximum")
    singleStep = _spin_property(float, "singleStep", "setSingleStep")
    prefix = _spin_property(str, "prefix", "setPrefix")
    suffix = _spin_property(str, "suffix", "setSuffix")
    readOnly = _spin_property(bool, "isReadOnly", "setReadOnly")


class ctkSliderWidget(_Spin):
    """A slider for real numbers with a spin box beside it."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    SIGNALS: ClassVar[dict[str, str]] = {
        "valueChanged(double)": "valueChanged",
        "valueIsChanging(double)": "valueIsChanging",
        "decimalsChanged(int)": "decimalsChanged",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        self._slider = QSlider(Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, STEPS)
        layout.addWidget(self._slider, 1)
        self._spin = self._make(layout)
        self._spin.setMaximum(100.0)
        self._slider.valueChanged.connect(self._slid)
        self._spin.valueChanged.connect(self._changed)

    def _slid(self, position: int) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        value = round(low + (high - low) * position / STEPS, self._spin.decimals())
        if self._position(self._spin.value()) != position:
            self._spin.setValue(value)

    def _position(self, value: float) -> int:
        low, high = self._spin.minimum(), self._spin.maximum()
        return round((value - low) / (high - low) * STEPS) if high > low else 0

    def _changed(self, value: float) -> None:
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(self._position(value))
        self._slider.blockSignals(blocked)
        self.valueChanged.emit(value)

    def _bound(self, write: str, value: float) -> None:
        getattr(self._spin, write)(value)
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(self._position(self._spin.value()))
        self._slider.blockSignals(blocked)

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._spin.setDecimals(decimals)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin.setVisible(visible)

    value = Property(float, lambda self: self._spin.value(), setValue)
    decimals = Property(int, lambda self: self._spin.decimals(), setDecimals)
    minimum = Property(float, lambda self: self._spin.minimum(), lambda self, v: self._bound("setMinimum", v))
    maximum = Property(float, lambda self: self._spin.maximum(), lambda self, v: self._bound("setMaximum", v))
    singleStep = _spin_property(float, "singleStep", "setSingleStep")
    prefix = _spin_property(str, "prefix", "setPrefix")
    suffix = _spin_property(str, "suffix", "setSuffix")
    spinBoxVisible = Property(bool, lambda self: self._spin.isVisibleTo(self), setSpinBoxVisible)
    tracking = Property(
        bool, lambda self: self._slider.hasTracking(), lambda self, value: self._slider.setTracking(value)
    )


class ctkRangeWidget(_Spin):
    """Two spin boxes for the ends of a range."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    rangeChanged = Signal(float, float)
    SIGNALS: ClassVar[dict[str, str]] = {
        "valuesChanged(double,double)": "valuesChanged",
        "minimumValueChanged(double)": "minimumValueChanged",
        "maximumValueChanged(double)": "maximumValueChanged",
        "rangeChanged(double,double)": "rangeChanged",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        self._low, self._high = self._make(layout), self._make(layout)
        self.setRange(0.0, 99.0)
        self.setValues(0.0, 99.0)
        self._low.valueChanged.connect(self._low_changed)
        self._high.valueChanged.connect(self._high_changed)

    def _low_changed(self, value: float) -> None:
        if value > self._high.value():
            self._high.setValue(value)
        self.minimumValueChanged.emit(value)
        self.valuesChanged.emit(value, self._high.value())

    def _high_changed(self, value: float) -> None:
        if value < self._low.value():
            self._low.setValue(value)
        self.maximumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value(), value)

    def setRange(self, low: float, high: float) -> None:
        self._low.setRange(low, high)
        self._high.setRange(low, high)
        self.rangeChanged.emit(low, high)

    def setValues(self, low: float, high: float) -> None:
        self._low.setValue(low)
        self._high.setValue(high)

    def setMinimumValue(self, value: float) -> None:
        self._low.setValue(value)

    def setMaximumValue(self, value: float) -> None:
        self._high.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._low.setDecimals(decimals)
        self._high.setDecimals(decimals)

    minimum = Property(float, lambda self: self._low.minimum(), lambda self, v: self.setRange(v, self._low.maximum()))
    maximum = Property(float, lambda self: self._low.maximum(), lambda self, v: self.setRange(self._low.minimum(), v))
    minimumValue = Property(float, lambda self: self._low.value(), setMinimumValue)
    maximumValue = Property(float, lambda self: self._high.value(), setMaximumValue)
    decimals = Property(int, lambda self: self._low.decimals(), setDecimals)


WIDGETS: tuple[type[Any], ...] = (ctkDoubleSpinBox, ctkSliderWidget, ctkRangeWidget)
