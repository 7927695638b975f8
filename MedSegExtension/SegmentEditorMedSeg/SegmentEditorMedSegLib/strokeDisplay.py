"""The line of a stroke while it is drawn, in the slice view in which it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import vtk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from SegmentEditorMedSegLib.gestures import Pixel

POSITIVE_COLOR, NEGATIVE_COLOR = (0.2, 0.9, 0.3), (1.0, 0.3, 0.2)
_LINE_WIDTH = 2.0


class StrokeDisplay:
    """Draws one line in one view; ``effect`` is the scripted effect, which knows the renderers of the views."""

    def __init__(self, effect: Any) -> None:
        self._effect = effect
        self._viewWidget: Any = None
        self._polyData = vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._polyData)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(mapper)
        self._actor.GetProperty().SetLineWidth(_LINE_WIDTH)

    def show(self, viewWidget: Any, places: Sequence[Pixel], *, positive: bool) -> None:
        """Draw a line through places, in pixels."""
        if self._viewWidget is None or self._viewWidget != viewWidget:
            self.hide()
            self._viewWidget = viewWidget
            self._effect.addActor2D(viewWidget, self._actor)
        points, lines = vtk.vtkPoints(), vtk.vtkCellArray()
        lines.InsertNextCell(len(places))
        for number, (x, y) in enumerate(places):
            points.InsertNextPoint(x, y, 0.0)
            lines.InsertCellPoint(number)
        self._polyData.SetPoints(points)
        self._polyData.SetLines(lines)
        self._actor.GetProperty().SetColor(*(POSITIVE_COLOR if positive else NEGATIVE_COLOR))
        self._effect.scheduleRender(viewWidget)

    def hide(self) -> None:
        """Take the line away."""
        if self._viewWidget is not None:
            self._effect.removeActor2D(self._viewWidget, self._actor)
            self._effect.scheduleRender(self._viewWidget)
            self._viewWidget = None
