"""The hand of the user in a slice view: mouse and keys, as the interactor of the view gets them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .views import VIEW_SIZE, qMRMLSliceWidget

# Qt's names of the keys that are no letters or digits, as VTK calls them.
CHARACTERS = {"space": " ", "Return": "\r", "plus": "+", "minus": "-", "Escape": "\x1b", "Delete": "\x7f"}


class SliceView:
    """Positions are (x, y) in pixels from the lower left corner, as in ``GetEventPosition``."""

    def __init__(self, widget: qMRMLSliceWidget) -> None:
        self.widget = widget
        self.node = widget.mrmlSliceNode()
        self.interactor = widget.sliceView().interactor()
        self._at = (0, 0)

    # ---- where -----------------------------------------------------------------------------------------------------
    def show(self, ras: Sequence[float]) -> None:
        """Move the slice through a position and the position into the middle of the view."""
        self.node.JumpSliceByCentering(*ras)

    def xyOf(self, ras: Sequence[float]) -> tuple[int, int]:
        """The pixel of a position. ValueError where the slice does not show it."""
        x, y, depth = self.widget.sliceView().convertRASToXYZ(list(ras))
        thickness = np.linalg.norm([self.node.GetXYToRAS().GetElement(i, 2) for i in range(3)])
        if abs(depth) * thickness > 1.0:
            message = f"{tuple(ras)} is {abs(depth) * thickness:.1f} mm away from the slice: call show() first"
            raise ValueError(message)
        xy = round(x), round(y)
        if not (0 <= xy[0] < VIEW_SIZE[0] and 0 <= xy[1] < VIEW_SIZE[1]):
            message = f"{tuple(ras)} is outside of the view"
            raise ValueError(message)
        return xy

    def rasOf(self, xy: Sequence[int]) -> tuple[float, float, float]:
        return tuple(self.widget.sliceView().convertXYZToRAS([*xy, 0.0]))

    # ---- what ------------------------------------------------------------------------------------------------------
    def event(
        self, name: str, xy: Sequence[int] | None = None, *, key: str = "", shift: bool = False, control: bool = False
    ) -> None:
        """One event by VTK's name, "LeftButtonPressEvent" for example."""
        self._at = self._at if xy is None else (int(xy[0]), int(xy[1]))
        character = key if len(key) == 1 else CHARACTERS.get(key, "\0")
        self.interactor.SetEventInformation(*self._at, int(control), int(shift), character, 0, key or None)
        self.interactor.InvokeEvent(name)

    def press(self, xy: Sequence[int], button: str = "Left", **modifiers: bool) -> None:
        self.event(f"{button}ButtonPressEvent", xy, **modifiers)

    def move(self, xy: Sequence[int], **modifiers: bool) -> None:
        self.event("MouseMoveEvent", xy, **modifiers)

    def release(self, xy: Sequence[int], button: str = "Left", **modifiers: bool) -> None:
        self.event(f"{button}ButtonReleaseEvent", xy, **modifiers)

    def click(self, xy: Sequence[int], button: str = "Left", **modifiers: bool) -> None:
        self.press(xy, button, **modifiers)
        self.release(xy, button, **modifiers)

    def doubleClick(self, xy: Sequence[int], button: str = "Left", **modifiers: bool) -> None:
        """As Qt reports it: the second press is the double click."""
        self.click(xy, button, **modifiers)
        self.event(f"{button}ButtonDoubleClickEvent", xy, **modifiers)
        self.release(xy, button, **modifiers)

    def drag(self, *path: Sequence[int], button: str = "Left", **modifiers: bool) -> None:
        """Press at the first position, move through the others, release at the last."""
        self.press(path[0], button, **modifiers)
        for xy in path[1:]:
            self.move(xy, **modifiers)
        self.release(path[-1], button, **modifiers)

    def wheel(self, direction: str = "Forward", **modifiers: bool) -> None:
        self.event(f"MouseWheel{direction}Event", **modifiers)

    def key(self, symbol: str, **modifiers: bool) -> None:
        """Press and release a key in the view, by VTK's name: "a", "Return", "Delete", "space"."""
        self.event("KeyPressEvent", key=symbol, **modifiers)
        self.event("KeyReleaseEvent", key=symbol, **modifiers)

    def enter(self, xy: Sequence[int] = (0, 0)) -> None:
        self.event("EnterEvent", xy)

    def leave(self) -> None:
        self.event("LeaveEvent")

    @property
    def actors(self) -> list[Any]:
        """What effects have put into the view."""
        renderer = self.widget.sliceView().renderWindow().GetRenderers().GetItemAsObject(0)
        props = renderer.GetViewProps()
        return [props.GetItemAsObject(i) for i in range(props.GetNumberOfItems())]

    @property
    def renders(self) -> int:
        """How often a rendering was asked for."""
        return self.widget.sliceView()._renders
