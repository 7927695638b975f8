"""What the test in the module's file does: a click in an editor of its own, its undo, and a reopened scene."""

# ruff: noqa: PT009 - the assertions of unittest, as in the module file that calls this

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

SECONDS = 180.0
"""The first answer waits for torch, and for the worker to start."""

_SIZE, _BALL = 40, 9


class EditorOnABall:
    """An editor without a window on a bright ball; segment "Ball" is empty, segment "Neighbour" touches the ball."""

    def __init__(self, tool: str) -> None:
        from medseg.mrml import volume_to_node
        from medseg.volumes import Geometry, Volume

        geometry = Geometry.from_spacing((_SIZE,) * 3, (1.0, 1.0, 1.5))
        k, j, i = np.indices(geometry.shape) - _SIZE // 2
        self.ball = k**2 + j**2 + i**2 <= _BALL**2
        noise = np.random.default_rng(0).normal(0.0, 5.0, geometry.shape)
        self.geometry = geometry
        self.volumeNode = volume_to_node(
            Volume((100.0 * self.ball + noise).astype(np.float32), geometry), slicer.mrmlScene, "ball"
        )
        self.segmentationNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "ball segments")
        self.segmentationNode.CreateDefaultDisplayNodes()
        self.segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(self.volumeNode)
        segmentation = self.segmentationNode.GetSegmentation()
        self.ballID, self.neighbourID = (segmentation.AddEmptySegment("", name) for name in ("Ball", "Neighbour"))
        self.editorNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.widget = slicer.qMRMLSegmentEditorWidget()
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.widget.setMRMLSegmentEditorNode(self.editorNode)
        self.widget.setMaximumNumberOfUndoStates(10)
        self.widget.setSegmentationNode(self.segmentationNode)
        self.widget.setSourceVolumeNode(self.volumeNode)
        self._drawNeighbour()
        self.widget.setCurrentSegmentID(self.ballID)
        self.widget.setActiveEffectByName("MedSeg")
        self.effect = self.widget.activeEffect().self()
        self.effect.scriptedEffect.setParameter("Tool", tool)

    def add(self, place: tuple[int, int, int], positive: bool = True) -> None:
        """Point at a voxel (k, j, i) and wait for the answer."""
        world = self.geometry.ijk_to_ras_points(np.array([place[::-1]], np.float64))
        self.effect.addPrompt("point", world, positive)
        self.wait()

    def wait(self) -> None:
        """Wait until nothing is awaited any more."""
        from MedSegLib.background import waitUntil

        if not waitUntil(lambda: not self.effect.correction.isRunning, SECONDS):
            raise AssertionError(self.effect.options.ui.statusLabel.text or "no answer")
        # What follows a change is done when the events are handled.
        waitUntil(lambda: False, 0.1)

    def mask(self, identifier: str) -> np.ndarray:
        """Return a segment, (k, j, i) bool."""
        from medseg.mrml.masks import segment_mask

        return np.asarray(segment_mask(self.segmentationNode, identifier).mask.array > 0)

    def close(self) -> None:
        """Leave the editor."""
        self.widget.setActiveEffect(None)
        self.widget.setSegmentationNode(None)
        self.widget.setMRMLSegmentEditorNode(None)
        slicer.mrmlScene.RemoveNode(self.editorNode)
        self.widget.deleteLater()

    def _drawNeighbour(self) -> None:
        from medseg.mrml.corrections import change_images

        self.widget.setCurrentSegmentID(self.neighbourID)
        self.widget.setActiveEffectByName("MedSeg")
        effect = self.widget.activeEffect()
        wanted = np.zeros(self.geometry.shape, bool)
        wanted[:, :, : _SIZE // 2 - _BALL + 3] = True
        added, _removed = change_images(np.zeros_like(wanted), wanted, (0, 0, 0), effect.referenceGeometryImage())
        effect.modifySelectedSegmentByLabelmap(added, effect.ModificationModeAdd)


def clickAndUndo(case: Any, tool: str = "") -> None:
    """Click at the ball and beside it, take that back, and look after each step; ``case`` has unittest's assertions."""
    editor = EditorOnABall(tool or bestTool())
    try:
        middle, beside = (_SIZE // 2,) * 3, (_SIZE // 2, _SIZE // 2, _SIZE - 4)
        neighbour = editor.mask(editor.neighbourID)
        editor.add(middle)
        first = editor.mask(editor.ballID)
        case.assertTrue(first[middle], editor.effect.options.ui.statusLabel.text)
        editor.add(beside, positive=False)
        second = editor.mask(editor.ballID)
        case.assertTrue(second[middle])
        case.assertFalse(second[beside])
        case.assertTrue(np.array_equal(editor.mask(editor.neighbourID), neighbour), "the neighbour was changed")
        case.assertEqual(len(editor.effect.correction.prompts), 2)
        editor.widget.undo()
        editor.wait()
        case.assertTrue(np.array_equal(editor.mask(editor.ballID), first), "one step back")
        case.assertEqual(len(editor.effect.correction.prompts), 1)
        editor.widget.undo()
        editor.wait()
        case.assertFalse(editor.mask(editor.ballID).any(), "back at the start")
        editor.widget.redo()
        editor.wait()
        case.assertTrue(np.array_equal(editor.mask(editor.ballID), first), "and forward")
        case.assertEqual(len(editor.effect.correction.prompts), 1)
    finally:
        editor.close()


def bestTool() -> str:
    """Return the model when there is one, else the helper that draws a ball to its border."""
    from medseg.models import ModelLibrary
    from medseg.models.correction import CORRECT, is_flat

    has_model = any(not is_flat(package.window) for package in ModelLibrary().packages(CORRECT))
    return "network" if has_model else "threshold"
