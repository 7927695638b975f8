"""Who listens to what for the Segment Editor: nodes for the editor, views for the active effect."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
import vtk

from .parameters import weakly

BUTTONS = [f"{button}Button{action}Event" for button in ("Left", "Right", "Middle") for action in ("Press", "Release")]
DOUBLE_CLICKS = [f"{button}ButtonDoubleClickEvent" for button in ("Left", "Right", "Middle")]
WHEEL = [f"MouseWheel{direction}Event" for direction in ("Forward", "Backward", "Left", "Right")]
OTHERS = ["MouseMoveEvent", "KeyPressEvent", "KeyReleaseEvent", "EnterEvent", "LeaveEvent"]
THREE_D_EVENTS = [getattr(vtk.vtkCommand, name) for name in (*BUTTONS, *WHEEL, *OTHERS)]
SLICE_EVENTS = [*THREE_D_EVENTS, *(getattr(vtk.vtkCommand, name) for name in DOUBLE_CLICKS)]


def watch(subject: Any, event: int, owner: Any, method: str) -> Callable[[], None]:
    """Call ``owner.method(subject)`` on ``event`` and keep neither of them alive; returns what ends it."""
    to_owner, to_subject = weakref.ref(owner), weakly(subject)

    def call(caller: Any, _event: str) -> None:
        target = to_owner()
        if target is not None and shiboken6.isValid(target):
            getattr(target, method)(caller)

    tag = subject.AddObserver(event, call)

    def end() -> None:
        if to_subject.Get() is not None:
            to_subject.Get().RemoveObserver(tag)

    return end


class Watches:
    """The observations of one widget by name; a new one of a name ends the one before."""

    def __init__(self) -> None:
        self._ends: dict[str, Callable[[], None]] = {}

    def set(self, name: str, subject: Any, event: int, owner: Any, method: str) -> None:
        self.end(name)
        if subject is not None:
            self._ends[name] = watch(subject, event, owner, method)

    def end(self, name: str) -> None:
        self._ends.pop(name, lambda: None)()

    def end_all(self) -> None:
        for name in list(self._ends):
            self.end(name)


class ViewObservations:
    """What happens in the views, handed to the active effect of an editor before others hear of it."""

    def __init__(self, editor: Any) -> None:
        self._editor = weakref.ref(editor)
        self._tags: list[tuple[Any, int]] = []
        self.active = False

    def set_up(self, layout_manager: Any, shown: Callable[[Any], bool]) -> None:
        """Observe the views in which ``shown(node)`` says that the segmentation can be displayed."""
        self.remove()
        for name in layout_manager.sliceViewNames():
            widget = layout_manager.sliceWidget(name)
            if shown(widget.mrmlSliceNode()):
                self._observe(widget, widget.sliceView().interactor(), SLICE_EVENTS)
                self._observe_node(widget, widget.mrmlSliceNode())
        for index in range(layout_manager.threeDViewCount):
            widget = layout_manager.threeDWidget(index)
            if shown(widget.mrmlViewNode()):
                self._observe(widget, widget.threeDView().interactor(), THREE_D_EVENTS)
                self._observe_node(widget, widget.mrmlViewNode())
        self.active = True

    def _observe(self, widget: Any, interactor: Any, events: list[int]) -> None:
        to_widget = weakref.ref(widget)

        def observe_one(event: int) -> None:
            def call(caller: Any, _name: str) -> None:
                if self._handle(lambda effect: effect._process_interaction_events(caller, event, to_widget())):
                    caller.GetCommand(tag).SetAbortFlag(1)

            tag = interactor.AddObserver(event, call, 1.0)
            self._tags.append((weakly(interactor), tag))

        for event in events:
            observe_one(event)

    def _observe_node(self, widget: Any, node: Any) -> None:
        to_widget, event = weakref.ref(widget), vtk.vtkCommand.ModifiedEvent

        def call(caller: Any, _name: str) -> None:
            self._handle(lambda effect: effect._process_view_node_events(caller, event, to_widget()))

        self._tags.append((weakly(node), node.AddObserver(event, call, 1.0)))

    def _handle(self, what: Callable[[Any], Any]) -> Any:
        editor = self._editor()
        if editor is None or not shiboken6.isValid(editor):
            return None
        scene, effect = editor.mrmlScene(), editor.activeEffect()
        if scene is None or scene.IsClosing() or editor.mrmlSegmentEditorNode() is None or effect is None:
            return None
        return what(effect)

    def remove(self) -> None:
        for subject, tag in self._tags:
            if subject.Get() is not None:
                subject.Get().RemoveObserver(tag)
        self._tags.clear()
        self.active = False
