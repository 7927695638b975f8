"""Where effects are registered, and the copies that each editor makes of them."""

from __future__ import annotations

from typing import Any, ClassVar

import shiboken6
from PySide6.QtCore import QObject, Signal

from .complaints import complain
from .effect import qSlicerSegmentEditorAbstractEffect


class qSlicerSegmentEditorEffectFactory(QObject):
    """One per process. What is registered is never active itself: every editor has a clone."""

    effectRegistered = Signal(str)
    SIGNALS: ClassVar[dict[str, str]] = {"effectRegistered(QString)": "effectRegistered"}
    _one: ClassVar[Any] = None

    def __init__(self) -> None:
        super().__init__()
        self._registered: list[qSlicerSegmentEditorAbstractEffect] = []

    @staticmethod
    def instance() -> qSlicerSegmentEditorEffectFactory:
        if qSlicerSegmentEditorEffectFactory._one is None:
            qSlicerSegmentEditorEffectFactory._one = qSlicerSegmentEditorEffectFactory()
        return qSlicerSegmentEditorEffectFactory._one

    def registerEffect(self, effect: Any) -> bool:
        """False for an effect whose name is registered already."""
        if not isinstance(effect, qSlicerSegmentEditorAbstractEffect):
            complain(f"invalid effect to register: {effect!r}")
            return False
        if not effect.name:
            complain("a segment editor effect cannot be registered with empty name")
            return False
        if effect.name in [e.name for e in self._registered]:
            return False
        self._registered.append(effect)
        self.effectRegistered.emit(effect.name)
        return True

    def registeredEffects(self) -> list[qSlicerSegmentEditorAbstractEffect]:
        return list(self._registered)

    def _copy_new(self, known: list[qSlicerSegmentEditorAbstractEffect]) -> list[Any]:
        """Clones of the effects whose names are not ``known``; they are appended there."""
        names = [effect.name for effect in known]
        copies = [effect._clone() for effect in self._registered if effect.name not in names]
        copies = [effect for effect in copies if effect is not None]
        known.extend(copies)
        return copies

    def _forget(self) -> None:
        for effect in self._registered:
            if shiboken6.isValid(effect):
                shiboken6.delete(effect)
        self._registered.clear()
