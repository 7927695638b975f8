"""Widgets about segmentations: the table of segments and the 3D button. Stand-ins over real segmentation nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import slicer
import vtk
from PySide6.QtCore import Property, QItemSelection, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QAbstractItemView, QPushButton, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from .mrml import SCENE_CHANGED, _TellsScene
from .node_combo_box import observe
from .properties import stored

SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
SEGMENT_ID = Qt.ItemDataRole.UserRole + 1


class qMRMLSegmentsTableView(_TellsScene, QWidget):
    """The segments of one segmentation: visibility, colour, opacity and name.

    The stand-in lists and selects; changing a segment in the table is not offered.
    """

    mrmlSceneChanged = Signal(object)
    selectionChanged = Signal(object, object)
    segmentAboutToBeModified = Signal(str)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED | {
        "selectionChanged(QItemSelection,QItemSelection)": "selectionChanged",
        "segmentAboutToBeModified(QString)": "segmentAboutToBeModified",
    }
    COLUMNS = ("Visible", "Color", "Opacity", "Name")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._observers: list[Callable[[], None]] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._table = QTableWidget(0, len(self.COLUMNS), self)
        self._table.setHorizontalHeaderLabels(self.COLUMNS)
        self._table.verticalHeader().hide()
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        layout.addWidget(self._table)
        self._told: list[str] = []
        self._filling = False
        self._table.itemSelectionChanged.connect(self._selection_changed)

    def _selection_changed(self) -> None:
        if self._filling or self.selectedSegmentIDs() == self._told:
            return
        self._told = self.selectedSegmentIDs()
        # The rows that are no longer selected are not told: the second selection is always empty.
        self.selectionChanged.emit(self._table.selectionModel().selection(), QItemSelection())

    def tableWidget(self) -> QTableWidget:
        return self._table

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        for end in self._observers:
            end()
        self._observers, self._node = [], node
        if node is not None:
            segmentation = slicer.vtkSegmentation
            events = (segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified)
            self._observers = [observe(node, event, self, "_fill") for event in events]
            self._observers.append(observe(node, vtk.vtkCommand.ModifiedEvent, self, "_fill"))
        self._fill()

    def displayedSegmentIDs(self) -> list[str]:
        return list(self._node.GetSegmentation().GetSegmentIDs()) if self._node is not None else []

    def _fill(self, _caller: Any = None) -> None:
        selected, self._filling = self.selectedSegmentIDs(), True
        identifiers = self.displayedSegmentIDs()
        display = self._node.GetDisplayNode() if self._node is not None else None
        self._table.setRowCount(len(identifiers))
        for row, identifier in enumerate(identifiers):
            segment = self._node.GetSegmentation().GetSegment(identifier)
            visible = display is None or bool(display.GetSegmentVisibility(identifier))
            opacity = display.GetSegmentOpacity3D(identifier) if display is not None else 1.0
            for column, text in enumerate(("yes" if visible else "no", "", f"{opacity:.2f}", segment.GetName())):
                item = QTableWidgetItem(text)
                item.setData(SEGMENT_ID, identifier)
                if column == 1:
                    item.setBackground(QColor.fromRgbF(*segment.GetColor()))
                self._table.setItem(row, column, item)
        self._select([i for i in selected if i in identifiers])

    def segmentIDForRow(self, row: int) -> str:
        item = self._table.item(row, 0)
        return item.data(SEGMENT_ID) if item is not None else ""

    def rowForSegmentID(self, identifier: str) -> int:
        identifiers = self.displayedSegmentIDs()
        return identifiers.index(identifier) if identifier in identifiers else -1

    def selectedSegmentIDs(self) -> list[str]:
        rows = sorted({index.row() for index in self._table.selectionModel().selectedIndexes()})
        return [self.segmentIDForRow(row) for row in rows]

    def setSelectedSegmentIDs(self, identifiers: list[str]) -> None:
        if list(identifiers) != self.selectedSegmentIDs():
            self._select(identifiers)

    def _select(self, identifiers: list[str]) -> None:
        """Select anew; who listens hears only of the result, and only if it is another selection."""
        self._filling = True
        self._table.clearSelection()
        for identifier in identifiers:
            self._table.selectRow(self.rowForSegmentID(identifier))
        self._filling = False
        self._selection_changed()

    def clearSelection(self) -> None:
        self._table.clearSelection()

    segmentCount = Property(int, lambda self: len(self.displayedSegmentIDs()))
    selectionMode = Property(
        int, lambda self: self._table.selectionMode(), lambda self, mode: self.setSelectionMode(mode)
    )
    readOnly = stored(bool, "read_only", False)
    headerVisible = stored(
        bool, "header_visible", True, lambda self: self._table.horizontalHeader().setVisible(self.headerVisible)
    )
    visibilityColumnVisible = stored(
        bool, "visibility_column", True, lambda self: self._table.setColumnHidden(0, not self.visibilityColumnVisible)
    )
    colorColumnVisible = stored(
        bool, "color_column", True, lambda self: self._table.setColumnHidden(1, not self.colorColumnVisible)
    )
    opacityColumnVisible = stored(
        bool, "opacity_column", True, lambda self: self._table.setColumnHidden(2, not self.opacityColumnVisible)
    )
    statusColumnVisible = stored(bool, "status_column", False)
    layerColumnVisible = stored(bool, "layer_column", False)
    filterBarVisible = stored(bool, "filter_bar", False)

    def setSelectionMode(self, mode: Any) -> None:
        self._table.setSelectionMode(QAbstractItemView.SelectionMode(int(getattr(mode, "value", mode))))


class qMRMLSegmentationShow3DButton(QPushButton):
    """Makes the closed surface of a segmentation when pressed and removes it when released.

    Checked means that the surface exists. Enabled when there is a segment and the surface is not the source. The
    stand-in has no menu of smoothing choices.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Show 3D", parent)
        self._node: Any = None
        self._observers: list[Callable[[], None]] = []
        self.setCheckable(True)
        self.toggled.connect(self._toggled)
        self._follow()

    locked = stored(bool, "locked", False, lambda self: self._follow())

    def setLocked(self, value: bool) -> None:
        self.locked = value

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        if node is self._node:
            return
        for end in self._observers:
            end()
        self._observers, self._node = [], node
        if node is not None:
            kinds = slicer.vtkSegmentation
            events = (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.ContainedRepresentationNamesModified)
            self._observers = [observe(node, event, self, "_follow") for event in events]
            self._observers.append(observe(node, vtk.vtkCommand.ModifiedEvent, self, "_follow"))
        self._follow()

    def _follow(self, _caller: Any = None) -> None:
        if self._node is None:
            self.setEnabled(False)
            return
        segmentation = self._node.GetSegmentation()
        made_of_surfaces = segmentation.GetSourceRepresentationName() == SURFACE
        self.setEnabled(not self.locked and segmentation.GetNumberOfSegments() > 0 and not made_of_surfaces)
        blocked = self.blockSignals(True)
        self.setChecked(segmentation.ContainsRepresentation(SURFACE))
        self.blockSignals(blocked)

    def _toggled(self, checked: bool) -> None:
        if self._node is None:
            return
        with slicer.util.NodeModify(self._node):
            if not checked:
                self._node.GetSegmentation().RemoveRepresentation(SURFACE)
            elif self._node.GetSegmentation().CreateRepresentation(SURFACE) and self._node.GetDisplayNode():
                display = self._node.GetDisplayNode()
                display.SetPreferredDisplayRepresentationName3D(SURFACE)
                if self._node.GetSegmentation().ContainsRepresentation(LABELMAP):
                    display.SetPreferredDisplayRepresentationName2D(LABELMAP)


WIDGETS: tuple[type[Any], ...] = (qMRMLSegmentsTableView, qMRMLSegmentationShow3DButton)
