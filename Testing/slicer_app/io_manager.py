"""Reading and writing nodes by file type: what slicer.util's load and save functions ask for.

A stand-in for qSlicerCoreIOManager over the real storage nodes and logics of slicer-core; it knows the types below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import slicer
import vtk
from PySide6.QtCore import QObject, Signal

from .pythonqt.backings import register_backing

# File type -> file name endings, the first that fits wins.
TYPES: dict[str, tuple[str, ...]] = {
    "SceneFile": (".mrml", ".mrb"),
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd"),
    "TransformFile": (".tfm", ".h5"),
    "TableFile": (".csv", ".tsv"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".ply", ".obj"),
    "MarkupsFile": (".mrk.json",),
}
NODE_CLASSES = {
    "SegmentationFile": "vtkMRMLSegmentationNode",
    "TransformFile": "vtkMRMLTransformNode",
    "TableFile": "vtkMRMLTableNode",
    "ModelFile": "vtkMRMLModelNode",
    "MarkupsFile": "vtkMRMLMarkupsFiducialNode",
    "VolumeFile": "vtkMRMLVolumeNode",
}


class qSlicerCoreIOManager(QObject):
    """Loads and saves nodes of the common types."""

    fileSaved = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = {"fileSaved(qSlicerIO::IOProperties)": "fileSaved"}

    def fileType(self, path: str) -> str:
        name = Path(path).name.lower()
        for kind, endings in TYPES.items():
            if name.endswith(endings):
                return kind
        return "NoFile"

    def fileWriterFileType(self, node: Any, _path: str = "") -> str:
        for kind, class_name in NODE_CLASSES.items():
            if node.IsA(class_name):
                return kind
        message = f"the stand-in does not write {node.GetClassName()}"
        raise NotImplementedError(message)

    def loadNodes(self, kind: str, properties: dict, loaded: Any = None, messages: Any = None) -> bool:
        path = Path(properties["fileName"])
        if kind == "SceneFile":
            return self.loadScene(str(path), bool(properties.get("clear", False)))
        node = self._load_volume(path, properties) if kind == "VolumeFile" else self._load_other(kind, path, properties)
        if node is None:
            if messages is not None:
                messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"cannot read {path}")
            return False
        if loaded is not None:
            loaded.AddItem(node)
        return True

    def _load_volume(self, path: Path, properties: dict) -> Any:
        options = 1 if properties.get("labelmap") else 0
        name = properties.get("name") or path.name.split(".")[0]
        return slicer.modules.volumes.logic().AddArchetypeVolume(str(path), name, options)

    def _load_other(self, kind: str, path: Path, properties: dict) -> Any:
        if kind not in NODE_CLASSES:
            message = f"the stand-in does not read files of the type {kind}"
            raise NotImplementedError(message)
        name = properties.get("name") or path.name.split(".")[0]
        node = slicer.mrmlScene.AddNewNodeByClass(NODE_CLASSES[kind], name)
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        storage.SetFileName(str(path))
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(node)
            return None
        slicer.mrmlScene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        return node

    def saveNodes(self, kind: str, properties: dict, messages: Any = None, scene: Any = None) -> bool:
        saved = self._save(kind, properties, messages, scene)
        if saved:
            self.fileSaved.emit(dict(properties))
        return saved

    def _save(self, kind: str, properties: dict, messages: Any, scene: Any) -> bool:
        scene = scene or slicer.mrmlScene
        path = str(properties["fileName"])
        if kind == "SceneFile":
            if path.endswith(".mrb"):
                return bool(scene.WriteToMRB(path))
            scene.SetURL(path)
            return bool(scene.Commit())
        node = scene.GetNodeByID(properties["nodeID"])
        storage = node.GetStorageNode() or scene.AddNode(node.CreateDefaultStorageNode())
        node.SetAndObserveStorageNodeID(storage.GetID())
        storage.SetFileName(path)
        storage.SetUseCompression(int(properties.get("useCompression", storage.GetUseCompression())))
        saved = bool(storage.WriteData(node))
        if not saved and messages is not None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"cannot write {path}")
        return saved

    def loadScene(self, path: str, clear: bool = True, _messages: Any = None) -> bool:
        scene = slicer.mrmlScene
        if path.endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def saveScene(self, path: str, _screenshot: Any = None, _messages: Any = None) -> bool:
        return self.saveNodes("SceneFile", {"fileName": path})


class qSlicerIOManager(qSlicerCoreIOManager):
    """The same, as the application with a graphical interface has it."""


register_backing(qSlicerCoreIOManager, qSlicerIOManager)
