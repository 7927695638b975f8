"""The keys that the Segment Editor's widget takes while its module is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QWidget

DIGITS = "1234567890"
SEGMENT_KEYS = {-1: "Q/,>", 1: "W*.<"}


class Shortcuts:
    """A part of the editor's widget. Without a main window there is nothing that the keys could belong to."""

    _shortcuts: list[QShortcut]

    def installKeyboardShortcuts(self: Any, parent: QWidget | None = None) -> None:
        self.uninstallKeyboardShortcuts()
        parent = parent or slicer.app._cpp._main_window
        if parent is None:
            return
        for index, digit in enumerate(DIGITS, start=1):
            self._bind(parent, QKeySequence(digit), lambda i=index: self._toggle_effect(i))
            self._bind(parent, QKeySequence(f"Shift+{digit}"), lambda i=index + 10: self._toggle_effect(i))
        self._bind(parent, QKeySequence(Qt.Key.Key_Escape), lambda: self._toggle_effect(0))
        self._bind(parent, QKeySequence(Qt.Key.Key_Space), self._activate_last)
        for keys, function in (
            ((Qt.Key.Key_Z, QKeySequence.StandardKey.Undo), self.undo),
            ((Qt.Key.Key_Y, QKeySequence.StandardKey.Redo), self.redo),
            ((Qt.Key.Key_I,), self.toggleSourceVolumeIntensityMaskEnabled),
        ):
            for key in keys:
                self._bind(parent, QKeySequence(key), function)
        for offset, keys in SEGMENT_KEYS.items():
            for key in keys:
                self._bind(parent, QKeySequence(key), lambda o=offset: self.selectSegmentAtOffset(o))

    def _bind(self: Any, parent: QWidget, keys: QKeySequence, function: Callable[[], Any]) -> None:
        shortcut = QShortcut(keys, parent)
        shortcut.activated.connect(function)
        self._shortcuts.append(shortcut)

    def uninstallKeyboardShortcuts(self: Any) -> None:
        for shortcut in self._shortcuts:
            shortcut.activated.disconnect()
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    def _toggle_effect(self: Any, index: int) -> None:
        if not self._locked:
            effect = self.effectByIndex(index)
            self.setActiveEffect(None if effect is self.activeEffect() else effect)

    def _activate_last(self: Any) -> None:
        if not self._locked:
            self.setActiveEffect(self._last)

    def toggleSourceVolumeIntensityMaskEnabled(self: Any) -> None:
        self._logic.ToggleSourceVolumeIntensityMask()

    def selectSegmentAtOffset(self: Any, offset: int) -> None:
        self._logic.SelectSegmentAtOffset(offset, True)

    def selectNextSegment(self: Any) -> None:
        self.selectSegmentAtOffset(1)

    def selectPreviousSegment(self: Any) -> None:
        self.selectSegmentAtOffset(-1)
