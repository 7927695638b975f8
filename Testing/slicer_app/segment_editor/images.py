"""The images of an effect and its changes of segments, made by the real vtkSlicerSegmentEditorLogic."""

from __future__ import annotations

import enum
from typing import Any

import slicer

from .complaints import complain

LOGIC = slicer.vtkSlicerSegmentEditorLogic


class ModificationMode(enum.IntEnum):
    """What a change does with the voxels of the modifier; to Python they are numbers."""

    ModificationModeSet = 0
    ModificationModeAdd = 1
    ModificationModeRemove = 2
    ModificationModeRemoveAll = 3


REAL_MODES = {mode: getattr(LOGIC, mode.name) for mode in ModificationMode}


def as_mode(mode: Any) -> Any:
    """The logic's enumerator for a mode, given as PythonQt takes it: as an enumerator or as a number."""
    if type(mode) not in (int, ModificationMode) or int(mode) not in range(len(ModificationMode)):
        message = f"{mode!r} is no ModificationMode"
        raise TypeError(message)
    return REAL_MODES[ModificationMode(mode)]


def as_image(image: Any) -> Any:
    if not (hasattr(image, "IsA") and image.IsA("vtkOrientedImageData")):
        message = f"the modifier is a vtkOrientedImageData, not {type(image).__name__}"
        raise TypeError(message)
    return image


class Images:
    """The part of an effect that has images. Each is one object of the editor, used again and again."""

    ModificationMode = ModificationMode
    ModificationModeSet = ModificationMode.ModificationModeSet
    ModificationModeAdd = ModificationMode.ModificationModeAdd
    ModificationModeRemove = ModificationMode.ModificationModeRemove
    ModificationModeRemoveAll = ModificationMode.ModificationModeRemoveAll

    _logic: Any = None
    perSegment: Any
    parameterSetNode: Any

    def _updated(self, update: str, get: str) -> Any:
        """None where the editor cannot make it, and for the registered instance, which no editor has."""
        if self._logic is None or not getattr(self._logic, update)():
            return None
        return getattr(self._logic, get)()

    def defaultModifierLabelmap(self) -> Any:
        return self._updated("ResetModifierLabelmapToDefault", "GetModifierLabelmap")

    def modifierLabelmap(self) -> Any:
        return None if self._logic is None else self._logic.GetModifierLabelmap()

    def maskLabelmap(self) -> Any:
        return self._updated("UpdateMaskLabelmap", "GetMaskLabelmap")

    def sourceVolumeImageData(self) -> Any:
        return self._updated("UpdateAlignedSourceVolume", "GetAlignedSourceVolume")

    def selectedSegmentLabelmap(self) -> Any:
        return self._updated("UpdateSelectedSegmentLabelmap", "GetSelectedSegmentLabelmap")

    def referenceGeometryImage(self) -> Any:
        return self._updated("UpdateReferenceGeometryImage", "GetReferenceGeometryImage")

    def saveStateForUndo(self) -> None:
        if self._logic is not None:
            self._logic.SaveStateForUndo()

    def modifySelectedSegmentByLabelmap(self, image: Any, mode: int, *more: Any) -> None:
        """``(image, mode)``, then a bool, or a list of six ints, or both: the extent and whether masks are bypassed."""
        extent = list(more[0]) if more and isinstance(more[0], list | tuple) else None
        bypass = more[extent is not None :]
        if len(bypass) > 1 or any(type(b) is not bool for b in bypass):
            message = f"bypassMasking is a bool and the extent a list of 6 ints; got {more!r}"
            raise TypeError(message)
        if extent is not None and any(type(value) is not int for value in extent):
            message = f"the values of an extent are ints, not {extent!r}"
            raise TypeError(message)
        if extent is not None and len(extent) != 6:
            complain("extent must have 6 int values")
            return
        node = self.parameterSetNode()
        if node is None:
            raise RuntimeError("3D Slicer would crash: the effect has no parameter set node")
        self._modify(
            node.GetSegmentationNode(), node.GetSelectedSegmentID() or "", image, mode, extent, bypass=any(bypass)
        )

    def modifySegmentByLabelmap(
        self, segmentation: Any, segment: str, image: Any, mode: int, bypassMasking: bool = False
    ) -> None:
        if type(segment) is not str or type(bypassMasking) is not bool:
            message = f"the segment's id is a str and bypassMasking a bool; got {segment!r} and {bypassMasking!r}"
            raise TypeError(message)
        self._modify(segmentation, segment, image, mode, None, bypass=bypassMasking)

    def _modify(
        self, segmentation: Any, segment: str, image: Any, mode: int, extent: list[int] | None, *, bypass: bool
    ) -> None:
        if self._logic is None:
            complain("nothing was changed: the effect belongs to no editor")
            return
        wanted = [0, -1, 0, -1, 0, -1] if extent is None else extent
        self._logic.ModifySegmentByLabelmap(
            segmentation, segment, as_image(image), as_mode(mode), wanted, self.perSegment, bypass
        )
