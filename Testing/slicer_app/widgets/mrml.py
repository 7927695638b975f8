"""Small widgets that know the scene: stand-ins for qMRMLWidget and its relatives."""

from __future__ import annotations

from typing import Any, ClassVar

import vtk
from PySide6.QtCore import Property, QAbstractTableModel, QModelIndex, Qt, Signal
from PySide6.QtWidgets import QAbstractItemView, QTableView, QWidget

from .ctk import ctkCollapsibleButton
from .ctk_numbers import ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget
from .properties import stored

SCENE_CHANGED = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}


class _KnowsScene:
    """``setMRMLScene`` and the signal that hands the scene on to the widgets inside."""

    _scene: Any = None

    def setMRMLScene(self: Any, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        if hasattr(self, "mrmlSceneChanged"):
            self.mrmlSceneChanged.emit(scene)


class _TellsScene(_KnowsScene):
    """Some widgets also say which scene they have, others do not."""

    def mrmlScene(self: Any) -> Any:
        return self._scene


class qMRMLWidget(_TellsScene, QWidget):
    mrmlSceneChanged = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED


class qSlicerWidget(_KnowsScene, QWidget):
    mrmlSceneChanged = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED


class qMRMLCollapsibleButton(_KnowsScene, ctkCollapsibleButton):
    mrmlSceneChanged = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED


class qMRMLSliderWidget(_TellsScene, ctkSliderWidget):
    """The stand-in keeps ``quantity`` and does not follow the unit nodes of the scene."""

    quantity = stored(str, "quantity", "")


class qMRMLSpinBox(_TellsScene, ctkDoubleSpinBox):
    """The stand-in keeps ``quantity`` and does not follow the unit nodes of the scene."""

    quantity = stored(str, "quantity", "")


class qMRMLRangeWidget(_TellsScene, ctkRangeWidget):
    """The stand-in keeps ``quantity`` and does not follow the unit nodes of the scene."""

    quantity = stored(str, "quantity", "")


class _TableModel(QAbstractTableModel):
    """The cells of a vtkMRMLTableNode as text, read-only."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.node: Any = None

    def rowCount(self, _parent: Any = None) -> int:
        return self.node.GetNumberOfRows() if self.node else 0

    def columnCount(self, _parent: Any = None) -> int:
        return self.node.GetNumberOfColumns() if self.node else 0

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role != Qt.ItemDataRole.DisplayRole or not self.node:
            return None
        return self.node.GetCellText(index.row(), index.column())

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role != Qt.ItemDataRole.DisplayRole or not self.node:
            return None
        if orientation == Qt.Orientation.Horizontal:
            return self.node.GetColumnName(section)
        return str(section + 1)


class qMRMLTableView(_TellsScene, QTableView):
    """A view of one table node. The stand-in shows the cells; editing, plotting and pasting are not offered."""

    mrmlSceneChanged = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = _TableModel(self)
        self.setModel(self._model)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self._observer: tuple[Any, int] | None = None

    def mrmlTableNode(self) -> Any:
        return self._model.node

    def setMRMLTableNode(self, node: Any) -> None:
        if self._observer is not None:
            self._observer[0].RemoveObserver(self._observer[1])
            self._observer = None
        self._reset(node)
        if node is not None:
            tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._reset(node))
            self._observer = (node, tag)

    def _reset(self, node: Any) -> None:
        self._model.beginResetModel()
        self._model.node = node
        self._model.endResetModel()

    transposed = Property(bool, lambda _self: False)


WIDGETS: tuple[type[Any], ...] = (
    qMRMLWidget,
    qSlicerWidget,
    qMRMLCollapsibleButton,
    qMRMLSliderWidget,
    qMRMLSpinBox,
    qMRMLRangeWidget,
    qMRMLTableView,
)
