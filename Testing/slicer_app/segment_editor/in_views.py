"""What an effect does in the views: actors, renderers, cursors and coordinates."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QCursor, QVector3D

from ..views import qMRMLSliceWidget, qMRMLThreeDWidget
from .complaints import complain

LOGIC = slicer.vtkSlicerSegmentEditorLogic


def _view(widget: Any) -> Any:
    if isinstance(widget, qMRMLSliceWidget):
        return widget.sliceView()
    if isinstance(widget, qMRMLThreeDWidget):
        return widget.threeDView()
    return None


def _slice_node(widget: Any) -> Any:
    if not isinstance(widget, qMRMLSliceWidget):
        message = f"the view is a qMRMLSliceWidget, not {type(widget).__name__}"
        raise TypeError(message)
    return widget.sliceLogic().GetSliceNode()


def _point(point: Any, kind: type) -> Any:
    if not isinstance(point, kind):
        message = f"a position is a qt.{kind.__name__} here, not {type(point).__name__}"
        raise TypeError(message)
    return point


class InViews:
    """The part of an effect that deals with views."""

    _logic: Any = None

    def renderWindow(self, widget: Any) -> Any:
        view = _view(widget)
        if view is None:
            if widget is not None:
                complain("unsupported view widget type")
            return None
        return view.renderWindow()

    def renderer(self, widget: Any) -> Any:
        window = self.renderWindow(widget)
        return None if window is None else window.GetRenderers().GetItemAsObject(0)

    def viewNode(self, widget: Any) -> Any:
        if isinstance(widget, qMRMLSliceWidget):
            return _slice_node(widget)
        if isinstance(widget, qMRMLThreeDWidget):
            return widget.mrmlViewNode()
        if widget is not None:
            complain("unsupported view widget type")
        return None

    def scheduleRender(self, widget: Any) -> None:
        if _view(widget) is not None:
            _view(widget).scheduleRender()

    def forceRender(self, widget: Any) -> None:
        if _view(widget) is not None:
            _view(widget).forceRender()

    def _change_props(self, widget: Any, action: str, actor: Any, kind: str) -> None:
        if not (hasattr(actor, "IsA") and actor.IsA(kind)):
            message = f"the actor is a {kind}, not {type(actor).__name__}"
            raise TypeError(message)
        renderer = self.renderer(widget)
        if renderer is None:
            complain("failed to get renderer for view widget")
            return
        getattr(renderer, action)(actor)
        self.scheduleRender(widget)

    def addActor2D(self, widget: Any, actor: Any) -> None:
        self._change_props(widget, "AddViewProp", actor, "vtkActor2D")

    def removeActor2D(self, widget: Any, actor: Any) -> None:
        self._change_props(widget, "RemoveViewProp", actor, "vtkActor2D")

    def addActor3D(self, widget: Any, actor: Any) -> None:
        self._change_props(widget, "AddViewProp", actor, "vtkProp3D")

    def removeActor3D(self, widget: Any, actor: Any) -> None:
        self._change_props(widget, "RemoveViewProp", actor, "vtkProp3D")

    def segmentationDisplayableInView(self, node: Any) -> bool:
        return self._logic is not None and self._logic.IsSegmentationDisplayableInView(node)

    def sliceSpacing(self, widget: Any) -> float:
        return LOGIC.GetSliceSpacing(_slice_node(widget), widget.sliceLogic())

    # ---- cursors ---------------------------------------------------------------------------------------------------
    _saved_cursor = None

    def cursorOff(self, widget: Any) -> None:
        self._saved_cursor = QCursor(widget.cursor())
        _view(widget).setDefaultViewCursor(QCursor(Qt.CursorShape.BlankCursor))

    def cursorOn(self, widget: Any) -> None:
        _view(widget).setDefaultViewCursor(self._saved_cursor or QCursor(Qt.CursorShape.ArrowCursor))

    # ---- coordinates -----------------------------------------------------------------------------------------------
    def xyzToRas(self, xyz: Any, widget: Any) -> QVector3D:
        ras, xyz = [0.0, 0.0, 0.0], _point(xyz, QVector3D)
        LOGIC.XyzToRas([xyz.x(), xyz.y(), xyz.z()], ras, _slice_node(widget))
        return QVector3D(*ras)

    def xyToRas(self, xy: Any, widget: Any) -> QVector3D:
        return self.xyzToRas(QVector3D(_point(xy, QPoint).x(), xy.y(), 0.0), widget)

    def xyzToIjk(self, xyz: Any, widget: Any, image: Any, parent: Any = None) -> QVector3D:
        ijk, xyz = [0, 0, 0], _point(xyz, QVector3D)
        LOGIC.XyzToIjk([xyz.x(), xyz.y(), xyz.z()], ijk, _slice_node(widget), image, parent)
        return QVector3D(*ijk)

    def xyToIjk(self, xy: Any, widget: Any, image: Any, parent: Any = None) -> QVector3D:
        return self.xyzToIjk(QVector3D(_point(xy, QPoint).x(), xy.y(), 0.0), widget, image, parent)

    def rasToXy(self, ras: Any, widget: Any) -> QPoint:
        to_xy = vtk.vtkMatrix4x4()
        to_xy.DeepCopy(_slice_node(widget).GetXYToRAS())
        to_xy.Invert()
        x, y = to_xy.MultiplyPoint((_point(ras, QVector3D).x(), ras.y(), ras.z(), 1.0))[:2]
        return QPoint(int(x), int(y))
