"""The prompts of a segment as points that can be moved and deleted, and the box in which voxels may have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from SegmentEditorMedSegLib.strokeDisplay import NEGATIVE_COLOR, POSITIVE_COLOR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.correction.prompts import Prompt
    from medseg.correction.region import Region
    from medseg.volumes import Geometry

NEAR_PIXELS = 5
"""A press that is no farther from a point than this is meant for the point."""
_STILL_MM = 1e-3
_GLYPH_PERCENT, _TEXT_PERCENT = 1.5, 0.0
_REGION_COLOR = (1.0, 0.85, 0.2)


class PromptDisplay:
    """Shows points of prompts by two lists of points, positive and negative ones, which are not saved.

    Parameters
    ----------
    onMoved, onRemoved
        Called with the number of the prompt whose point the user has moved (and where it is now, world RAS mm) or
        deleted.
    """

    def __init__(self, onMoved: Callable[[int, np.ndarray], None], onRemoved: Callable[[int], None]) -> None:
        self._onMoved, self._onRemoved = onMoved, onRemoved
        self._lists: dict[bool, Any] = {}
        self._shown: dict[bool, list[tuple[int, np.ndarray]]] = {True: [], False: []}
        self._region: Any = None
        self._observations: list[tuple[Any, int]] = []
        self._isUpdating = False

    def show(self, prompts: Sequence[tuple[Prompt, np.ndarray]]) -> None:
        """Show prompts, each with its places (N, 3) in the world, RAS mm; only points can be moved."""
        self._isUpdating = True
        try:
            for positive in (True, False):
                self._fill(positive, prompts)
        finally:
            self._isUpdating = False

    def showRegion(self, region: Region | None, geometry: Geometry, transformID: str | None) -> None:
        """Show in which box of a grid voxels may have changed."""
        if region is None:
            if self._region is not None:
                self._region.SetDisplayVisibility(False)
            return
        node = self._regionNode()
        part = geometry.cropped(region.start, region.stop)
        matrix = np.eye(4)
        matrix[:3, :3] = part.direction
        centre = (np.array(part.size, np.float64) - 1) / 2
        matrix[:3, 3] = part.ijk_to_ras_points(centre[None])[0]
        toNode = vtk.vtkMatrix4x4()
        toNode.DeepCopy(matrix.ravel().tolist())
        node.SetAndObserveTransformNodeID(transformID)
        node.SetSize(*(float(n * step) for n, step in zip(part.size, part.spacing, strict=True)))
        node.SetAndObserveObjectToNodeMatrix(toNode)
        node.SetDisplayVisibility(True)

    def isNear(self, ras: np.ndarray, pixelsPerMm: float) -> bool:
        """Return whether a place, world RAS mm, is so close to a point that a press there means the point."""
        for node in self._lists.values():
            for index in range(node.GetNumberOfControlPoints()):
                place = [0.0, 0.0, 0.0]
                node.GetNthControlPointPositionWorld(index, place)
                if np.linalg.norm(np.subtract(place, ras)) * pixelsPerMm <= NEAR_PIXELS:
                    return True
        return False

    def remove(self) -> None:
        """Take everything out of the scene."""
        for node, tag in self._observations:
            node.RemoveObserver(tag)
        self._observations = []
        for node in (*self._lists.values(), self._region):
            if node is not None and node.GetScene() is not None:
                display = node.GetDisplayNode()
                node.GetScene().RemoveNode(node)
                if display is not None and display.GetScene() is not None:
                    display.GetScene().RemoveNode(display)
        self._lists, self._region = {}, None

    def _fill(self, positive: bool, prompts: Sequence[tuple[Prompt, np.ndarray]]) -> None:
        wanted = [
            (number, places[0])
            for number, (prompt, places) in enumerate(prompts)
            if prompt.kind == "point" and prompt.positive == positive
        ]
        if not wanted and positive not in self._lists:
            return
        node = self._listNode(positive)
        self._shown[positive] = wanted
        while node.GetNumberOfControlPoints() > len(wanted):
            node.RemoveNthControlPoint(node.GetNumberOfControlPoints() - 1)
        for index, (number, place) in enumerate(wanted):
            r, a, s = (float(x) for x in place)
            if index >= node.GetNumberOfControlPoints():
                node.AddControlPointWorld(vtk.vtkVector3d(r, a, s))
            else:
                node.SetNthControlPointPositionWorld(index, r, a, s)
            node.SetNthControlPointLabel(index, str(number + 1))

    def _listNode(self, positive: bool) -> Any:
        node = self._lists.get(positive)
        if node is not None and node.GetScene() is not None:
            return node
        name = _("MedSeg positive points") if positive else _("MedSeg negative points")
        node = self._newNode("vtkMRMLMarkupsFiducialNode", name)
        display = node.GetDisplayNode()
        color = POSITIVE_COLOR if positive else NEGATIVE_COLOR
        display.SetColor(*color)
        display.SetSelectedColor(*color)
        display.SetGlyphScale(_GLYPH_PERCENT)
        display.SetTextScale(_TEXT_PERCENT)
        self._lists[positive] = node
        self._observe(node, node.PointEndInteractionEvent, self._onPointMoved)
        self._observe(node, node.PointRemovedEvent, self._onPointRemoved)
        return node

    def _regionNode(self) -> Any:
        if self._region is None or self._region.GetScene() is None:
            self._region = node = self._newNode("vtkMRMLMarkupsROINode", _("MedSeg region"))
            node.SetLocked(True)
            display = node.GetDisplayNode()
            display.SetFillVisibility(False)
            display.SetHandlesInteractive(False)
            display.SetPropertiesLabelVisibility(False)
            display.SetPointLabelsVisibility(False)
            display.SetColor(*_REGION_COLOR)
            display.SetSelectedColor(*_REGION_COLOR)
        return self._region

    def _newNode(self, className: str, name: str) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass(className, name)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetSaveWithScene(False)
        return node

    def _observe(self, node: Any, event: int, function: Callable[[Any, Any], None]) -> None:
        self._observations.append((node, node.AddObserver(event, function)))

    def _onPointMoved(self, caller: Any, _event: Any) -> None:
        for positive, node in self._lists.items():
            if node is not caller or self._isUpdating:
                continue
            if node.GetNumberOfControlPoints() != len(self._shown[positive]):
                return  # a deletion is being followed
            for index, (number, before) in enumerate(self._shown[positive]):
                place = [0.0, 0.0, 0.0]
                node.GetNthControlPointPositionWorld(index, place)
                if np.abs(before - place).max() > _STILL_MM:
                    self._shown[positive][index] = (number, np.array(place))
                    self._onMoved(number, np.array(place))
                    return

    def _onPointRemoved(self, caller: Any, _event: Any) -> None:
        for positive, node in self._lists.items():
            if node is caller and not self._isUpdating:
                left = {node.GetNthControlPointLabel(index) for index in range(node.GetNumberOfControlPoints())}
                gone = [number for number, _place in self._shown[positive] if str(number + 1) not in left]
                self._renumber(gone)
                for number in reversed(gone):
                    self._onRemoved(number)

    def _renumber(self, gone: Sequence[int]) -> None:
        """Call the points after some that are gone as they are called without those."""
        for positive, shown in self._shown.items():
            left = [(number, place) for number, place in shown if number not in gone]
            self._shown[positive] = [(number - sum(one < number for one in gone), place) for number, place in left]
            for index, (number, _place) in enumerate(self._shown[positive]):
                self._lists[positive].SetNthControlPointLabel(index, str(number + 1))
