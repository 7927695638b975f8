"""A combo box whose lines stand for texts that are not shown, such as IDs and names of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Choices:
    """Fills a combo box and tells which line the user chose.

    Filling it does not count as choosing: parameters that name something that is not there now are kept.
    """

    def __init__(self, comboBox: Any, onChosen: Callable[[str], None]) -> None:
        self._comboBox = comboBox
        self._onChosen = onChosen
        self._keys: list[str] = []
        self._texts: list[str] = []
        comboBox.connect("currentIndexChanged(int)", self._onIndex)

    @property
    def keys(self) -> list[str]:
        return list(self._keys)

    def show(self, lines: Mapping[str, str], chosen: str) -> None:
        """Show ``lines``, text by key, with that of ``chosen`` in front; no line when it is not among them."""
        keys, texts = list(lines), list(lines.values())
        index = keys.index(chosen) if chosen in keys else -1
        if (keys, texts) == (self._keys, self._texts) and self._comboBox.currentIndex == index:
            return
        wasBlocked = self._comboBox.blockSignals(True)
        self._comboBox.clear()
        for text in texts:
            self._comboBox.addItem(text)
        self._keys, self._texts = keys, texts
        self._comboBox.setCurrentIndex(index)
        self._comboBox.blockSignals(wasBlocked)

    def _onIndex(self, index: int) -> None:
        if 0 <= index < len(self._keys):
            self._onChosen(self._keys[index])
