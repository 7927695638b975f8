"""The Segment Editor for effects that are written in Python. A stand-in over the real vtkSlicerSegmentEditorLogic.

Written after the behaviour of Slicer's own classes (Modules/Loadable/Segmentations, EditorEffects and Widgets).
"""

from __future__ import annotations

import sys
import types
from typing import Any

import shiboken6

from ..pythonqt.backings import register_backing
from ..pythonqt.wrapper import generated_class
from . import base_effect
from .editor import editors, qMRMLSegmentEditorWidget
from .effect import forget_sources, qSlicerSegmentEditorAbstractEffect, qSlicerSegmentEditorScriptedEffect
from .factory import qSlicerSegmentEditorEffectFactory

__all__ = ["install", "reset"]

CLASSES = (
    qMRMLSegmentEditorWidget,
    qSlicerSegmentEditorAbstractEffect,
    qSlicerSegmentEditorEffectFactory,
    qSlicerSegmentEditorScriptedEffect,
)
register_backing(*CLASSES)


class _Classes(types.ModuleType):
    """One of the modules in which PythonQt shows the classes of a library; ``slicer`` has them, too."""

    offered: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name in self.offered:
            return generated_class(name)
        message = f"module '{self.__name__}' has no attribute '{name}'"
        raise AttributeError(message)


def install() -> None:
    """Put what effects import where ``import`` finds it."""
    effects = _Classes("qSlicerSegmentationsEditorEffectsPythonQt")
    effects.offered = tuple(cls.__name__ for cls in CLASSES if cls.__name__.startswith("qSlicer"))
    widgets = _Classes("qSlicerSegmentationsModuleWidgetsPythonQt")
    widgets.offered = ("qMRMLSegmentEditorWidget", "qMRMLSegmentsTableView", "qMRMLSegmentationShow3DButton")
    for module in (effects, widgets):
        sys.modules[module.__name__] = module
    sys.modules["SegmentEditorEffects"] = base_effect


def reset() -> None:
    """Destroy every editor, as the end of the application does, and forget the effects."""
    for editor in list(editors):
        if shiboken6.isValid(editor):
            editor.uninstallKeyboardShortcuts()
            shiboken6.delete(editor)
    qSlicerSegmentEditorEffectFactory.instance()._forget()
    forget_sources()
