"""The main window with its layout: what exists in the application unless it was started with --no-main-window.

A stand-in: there is a status bar, a module selector, and views with real logics and nodes (views.py); nothing is drawn.
"""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
import vtk
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtWidgets import QGridLayout, QMainWindow, QToolBar, QWidget

from .pythonqt.backings import register_backing
from .views import qMRMLSliceWidget, qMRMLThreeDWidget

SLICE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
LAYOUTS = slicer.vtkMRMLLayoutNode
# The layouts that show one view only; every other one shows all of them.
ONE_VIEW = {
    LAYOUTS.SlicerLayoutOneUpRedSliceView: "Red",
    LAYOUTS.SlicerLayoutOneUpGreenSliceView: "Green",
    LAYOUTS.SlicerLayoutOneUpYellowSliceView: "Yellow",
    LAYOUTS.SlicerLayoutOneUp3DView: "View1",
}


class qSlicerLayoutManager(QObject):
    """Three slice views and one 3D view node."""

    layoutChanged = Signal(int)
    SIGNALS: ClassVar[dict[str, str]] = {"layoutChanged(int)": "layoutChanged"}

    def __init__(self, scene: Any) -> None:
        super().__init__()
        self._scene = scene
        self._arrangement = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
        self._logics = vtk.vtkCollection()
        self._widgets: dict[str, qMRMLSliceWidget] = {}
        self._viewport = QWidget()
        grid = QGridLayout(self._viewport)
        view = scene.AddNewNodeByClass("vtkMRMLViewNode", "View1")
        view.SetLayoutName("1")
        self._three_d = qMRMLThreeDWidget(view)
        grid.addWidget(self._three_d, 0, 1)
        for name, orientation in SLICE_VIEWS.items():
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLScene(scene)
            logic.AddSliceNode(name)
            logic.GetSliceNode().SetOrientation(orientation)
            self._logics.AddItem(logic)
            self._widgets[name] = qMRMLSliceWidget(logic)
            grid.addWidget(
                self._widgets[name], len(self._widgets) // 2, len(self._widgets) // 2 * (len(self._widgets) % 2)
            )

    def mrmlScene(self) -> Any:
        return self._scene

    def mrmlSliceLogics(self) -> Any:
        return self._logics

    def sliceViewNames(self) -> list[str]:
        return list(self._widgets)

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        return self._widgets.get(name)

    def threeDWidget(self, index: int) -> qMRMLThreeDWidget | None:
        return self._three_d if index == 0 else None

    def viewport(self) -> QWidget:
        return self._viewport

    def resetSliceViews(self) -> None:
        for widget in self._widgets.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Nothing is drawn, so there is no camera to move."""

    def setLayout(self, layout: int) -> None:
        if layout != self._arrangement:
            self._arrangement = layout
            only = ONE_VIEW.get(layout)
            for name, widget in {**self._widgets, "View1": self._three_d}.items():
                widget.setVisible(only in (None, name))
            self.layoutChanged.emit(layout)

    layout = Property(int, lambda self: self._arrangement, setLayout)
    threeDViewCount = Property(int, lambda _self: 1)
    tableViewCount = Property(int, lambda _self: 0)
    plotViewCount = Property(int, lambda _self: 0)


class qSlicerModuleSelectorToolBar(QToolBar):
    """Where the user goes to another module."""

    moduleSelected = Signal(str)
    SIGNALS: ClassVar[dict[str, str]] = {"moduleSelected(QString)": "moduleSelected"}

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._selected = ""

    def selectModule(self, name: str) -> None:
        manager = slicer.app.moduleManager()
        if manager.module(name) is None or name == self._selected:
            return
        self._leave()
        self._selected = name
        module = manager.module(name)._cpp
        representation = module.widgetRepresentation()
        if representation is not None:
            representation.show()
            representation.enter()
        self.moduleSelected.emit(name)

    def _leave(self) -> None:
        module = slicer.app.moduleManager().module(self._selected)
        representation = module._cpp._widget if module is not None else None
        if representation is not None and representation.isEntered():
            representation.exit()
            representation.hide()

    selectedModule = Property(str, lambda self: self._selected)


class qSlicerMainWindow(QMainWindow):
    """The window that slicer.util.mainWindow finds."""

    def __init__(self, layout_manager: qSlicerLayoutManager) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setCentralWidget(layout_manager.viewport())
        self._selector = qSlicerModuleSelectorToolBar(self)
        self.addToolBar(self._selector)
        self.statusBar()

    def moduleSelector(self) -> qSlicerModuleSelectorToolBar:
        return self._selector


register_backing(qSlicerLayoutManager, qSlicerModuleSelectorToolBar, qSlicerMainWindow)
