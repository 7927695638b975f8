"""The tabs of the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Tabs:
    """Gives the tab widget the height of the page that is shown.

    A tab widget is as tall as its tallest page, which would leave a short page with a gap below it and push what
    follows out of sight. So the contents of the other pages are hidden.
    """

    def __init__(self, tabWidget: Any, contents: Sequence[Any]) -> None:
        self._contents = list(contents)
        tabWidget.connect("currentChanged(int)", self._onCurrentChanged)
        self._onCurrentChanged(tabWidget.currentIndex)

    def _onCurrentChanged(self, current: int) -> None:
        for index, contents in enumerate(self._contents):
            contents.setVisible(index == current)
