"""The core module SegmentEditor. Written anew after the behaviour of Slicer's own (Modules/Scripted/SegmentEditor)."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

UNDO_STATES = 10


class SegmentEditor(ScriptedLoadableModule):
    """The module that the panel below belongs to."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Segment Editor"
        parent.categories = ["", "Segmentation"]
        parent.dependencies = ["Segmentations", "SubjectHierarchy"]


class SegmentEditorWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: one editor on the singleton node "SegmentEditor"."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameterSetNode: Any = None
        self.editor: Any = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMaximumNumberOfUndoStates(UNDO_STATES)
        self.selectParameterNode()
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.layout.addWidget(self.editor)
        self.effectFactorySingleton = slicer.qSlicerSegmentEditorEffectFactory.instance()
        self.effectFactorySingleton.connect("effectRegistered(QString)", self.editorEffectRegistered)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)

    def editorEffectRegistered(self) -> None:
        self.editor.updateEffectList()

    def selectParameterNode(self) -> None:
        tag, kind = "SegmentEditor", "vtkMRMLSegmentEditorNode"
        node = slicer.mrmlScene.GetSingletonNode(tag, kind)
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass(kind)
            node.UnRegister(None)
            node.SetSingletonTag(tag)
            node = slicer.mrmlScene.AddNode(node)
        if node is not self.parameterSetNode:
            self.parameterSetNode = node
            self.editor.setMRMLSegmentEditorNode(node)

    def getDefaultSourceVolumeNodeID(self) -> str | None:
        """The volume that a slice view shows. As in the real one there must be a layout."""
        manager = slicer.app.layoutManager()
        nodes = [manager.sliceWidget(name).mrmlSliceCompositeNode() for name in manager.sliceViewNames()]
        shown = [node.GetBackgroundVolumeID() for node in nodes] + [node.GetForegroundVolumeID() for node in nodes]
        return next(filter(None, shown), None)

    def enter(self) -> None:
        self.editor.installKeyboardShortcuts()
        self.selectParameterNode()
        self.editor.updateWidgetFromMRML()
        if self.editor.segmentationNodeID():
            return
        segmentation = slicer.mrmlScene.GetFirstNode(None, "vtkMRMLSegmentationNode")
        if segmentation is None:
            segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        self.editor.setSegmentationNode(segmentation)
        if not self.editor.sourceVolumeNodeID():
            self.editor.setSourceVolumeNodeID(self.getDefaultSourceVolumeNodeID())

    def exit(self) -> None:
        self.editor.setActiveEffect(None)
        self.editor.uninstallKeyboardShortcuts()
        self.editor.removeViewObservations()

    def onSceneStartClose(self, _caller: Any, _event: str) -> None:
        self.parameterSetNode = None
        self.editor.setSegmentationNode(None)
        self.editor.removeViewObservations()

    def onSceneEndClose(self, _caller: Any, _event: str) -> None:
        self.selectParameterNode()
        self.editor.updateWidgetFromMRML()

    def cleanup(self) -> None:
        self.removeObservers()
        self.effectFactorySingleton.disconnect("effectRegistered(QString)", self.editorEffectRegistered)


class SegmentEditorTest(ScriptedLoadableModuleTest):
    """The module has no tests."""
