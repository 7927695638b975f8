"""The views in the main window: real nodes, logics, interactors and renderers; no picture is drawn.

Stand-ins for qMRMLSliceWidget and qMRMLThreeDWidget and for the views inside them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtGui import QCursor
from PySide6.QtWidgets import QVBoxLayout, QWidget
from vtkmodules.vtkRenderingOpenGL2 import vtkGenericOpenGLRenderWindow

from .pythonqt.backings import register_backing
from .widgets.mrml import SCENE_CHANGED, _TellsScene

# Width and height of a view in pixels; they differ so that mixing them up is noticed.
VIEW_SIZE = (260, 220)


class _View(QWidget):
    """A view that is never rendered; its renderer holds what is put into it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setFixedSize(*VIEW_SIZE)
        self._window = vtkGenericOpenGLRenderWindow()
        self._window.SetSize(*VIEW_SIZE)
        self._window.AddRenderer(vtk.vtkRenderer())
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetInteractorStyle(None)
        self._interactor.SetSize(*VIEW_SIZE)
        self._default_cursor = QCursor()
        self._renders = 0

    def renderWindow(self) -> Any:
        return self._window

    def interactor(self) -> Any:
        return self._interactor

    def scheduleRender(self) -> None:
        self._renders += 1

    forceRender = scheduleRender

    def setViewCursor(self, cursor: QCursor) -> None:
        self.setCursor(cursor)

    def unsetViewCursor(self) -> None:
        self.setCursor(self._default_cursor)

    def setDefaultViewCursor(self, cursor: QCursor) -> None:
        self._default_cursor = QCursor(cursor)


class qMRMLSliceView(_View):
    """The view of one slice."""

    def __init__(self, parent: qMRMLSliceWidget) -> None:
        super().__init__(parent)
        self._slice_widget = parent

    def mrmlSliceNode(self) -> Any:
        return self._slice_widget.mrmlSliceNode()

    def convertXYZToRAS(self, xyz: list[float]) -> list[float]:
        return list(self.mrmlSliceNode().GetXYToRAS().MultiplyPoint((*xyz, 1.0))[:3])

    def convertRASToXYZ(self, ras: list[float]) -> list[float]:
        to_xyz = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.mrmlSliceNode().GetXYToRAS(), to_xyz)
        return list(to_xyz.MultiplyPoint((*ras, 1.0))[:3])


class qMRMLThreeDView(_View):
    """A view of the scene in space."""

    def __init__(self, parent: qMRMLThreeDWidget) -> None:
        super().__init__(parent)
        self._three_d_widget = parent

    def mrmlViewNode(self) -> Any:
        return self._three_d_widget.mrmlViewNode()


class qMRMLSliceWidget(_TellsScene, QWidget):
    """One slice view with its logic and nodes."""

    mrmlSceneChanged = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic = logic
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._view = qMRMLSliceView(self)
        layout.addWidget(self._view)
        logic.GetSliceNode().SetDimensions(*VIEW_SIZE, 1)
        logic.GetSliceNode().SetFieldOfView(250.0, 250.0 * VIEW_SIZE[1] / VIEW_SIZE[0], 1.0)

    def sliceLogic(self) -> Any:
        return self._logic

    logic = sliceLogic

    def sliceView(self) -> qMRMLSliceView:
        return self._view

    viewWidget = sliceView

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    mrmlAbstractViewNode = mrmlSliceNode

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    sliceViewName = Property(str, lambda self: self._logic.GetSliceNode().GetLayoutName())


class qMRMLThreeDWidget(_TellsScene, QWidget):
    """One 3D view with its node."""

    mrmlSceneChanged = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._node = node
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._view = qMRMLThreeDView(self)
        layout.addWidget(self._view)

    def mrmlViewNode(self) -> Any:
        return self._node

    mrmlAbstractViewNode = mrmlViewNode

    def threeDView(self) -> qMRMLThreeDView:
        return self._view

    viewWidget = threeDView


register_backing(qMRMLSliceView, qMRMLThreeDView, qMRMLSliceWidget, qMRMLThreeDWidget)
