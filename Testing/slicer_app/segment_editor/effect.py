"""The effects of the Segment Editor: stand-ins for qSlicerSegmentEditorAbstractEffect and its scripted descendant."""

from __future__ import annotations

import enum
import importlib.util
import sys
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import shiboken6
import slicer
from PySide6.QtCore import Property, QObject, Qt
from PySide6.QtGui import QCursor, QIcon
from PySide6.QtWidgets import QFormLayout, QFrame, QHBoxLayout, QLabel, QLayout, QMessageBox, QSizePolicy, QWidget

from .. import dialogs
from ..pythonqt import signals
from ..pythonqt.wrapper import PythonQtObject, wrap
from .complaints import complain
from .images import Images
from .in_views import InViews
from .parameters import Parameters

NOT_CALLED = object()

# The methods that the real class looks up once, when the object is made.
METHODS = (
    "icon",
    "helpText",
    "clone",
    "activate",
    "deactivate",
    "setupOptionsFrame",
    "createCursor",
    "processInteractionEvents",
    "processViewNodeEvents",
    "setMRMLDefaults",
    "referenceGeometryChanged",
    "sourceVolumeNodeChanged",
    "masterVolumeNodeChanged",
    "layoutChanged",
    "interactionNodeModified",
    "updateGUIFromMRML",
    "updateMRMLFromGUI",
    "cleanup",
)

# What setPythonSource left in ``sys.modules`` and in ``slicer``: forgotten at reset.
sources: set[str] = set()


class ConfirmationResult(enum.IntEnum):
    """What the user said to working on a hidden segment."""

    NotConfirmed = 0
    ConfirmedWithoutDialog = 1
    ConfirmedWithDialog = 2


def checked(kind: type, attribute: str, default: Any) -> Property:
    """A property that takes values of its own type only."""

    def read(self: Any) -> Any:
        return getattr(self, attribute, default)

    def write(self: Any, value: Any) -> None:
        if type(value) is not kind:
            message = f"the property is a {kind.__name__}, not {value!r} of type {type(value).__name__}"
            raise AttributeError(message)
        setattr(self, attribute, value)

    return Property(kind, read, write)


class qSlicerSegmentEditorAbstractEffect(Parameters, Images, InViews, QObject):
    """What all effects have: options, parameters, images, and a place in the views."""

    ConfirmationResult = ConfirmationResult
    NotConfirmed = ConfirmationResult.NotConfirmed
    ConfirmedWithoutDialog = ConfirmationResult.ConfirmedWithoutDialog
    ConfirmedWithDialog = ConfirmationResult.ConfirmedWithDialog

    def __init__(self, parent: QObject | None = None) -> None:
        if type(self) is qSlicerSegmentEditorAbstractEffect:
            raise TypeError("an abstract effect cannot be constructed")
        super().__init__(parent)
        self._active = False
        self._select: Callable[[str], None] = lambda _name: None
        self._confirmed_segment: Any = None
        self._frame = QFrame()
        self._frame.setFrameShape(QFrame.Shape.NoFrame)
        self._frame.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.MinimumExpanding)
        layout = QFormLayout(self._frame)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)

    name = checked(str, "_name", "UnnamedScriptedEffect")
    perSegment = checked(bool, "_per_segment", True)
    requireSegments = checked(bool, "_require_segments", True)
    showEffectCursorInSliceView = checked(bool, "_slice_cursor", True)
    showEffectCursorInThreeDView = checked(bool, "_three_d_cursor", False)

    def _set_title(self, title: str) -> None:
        if type(title) is not str:
            message = f"the property is a str, not {title!r}"
            raise AttributeError(message)
        self._title = title

    title = Property(str, lambda self: getattr(self, "_title", "") or self.name, _set_title)

    def active(self) -> bool:
        return self._active

    def selectEffect(self, name: str) -> None:
        self._select(name)

    def activate(self) -> None:
        self._frame.setVisible(True)
        self._active = True
        self.updateGUIFromMRML()

    def deactivate(self) -> None:
        self._frame.setVisible(False)
        self._active = False

    def updateGUIFromMRML(self) -> None:
        """Nothing by default."""

    # ---- options ---------------------------------------------------------------------------------------------------
    def optionsFrame(self) -> QFrame:
        return self._frame

    def optionsLayout(self) -> QFormLayout:
        return self._frame.layout()

    def _adopt(self, option: Any) -> Any:
        if isinstance(option, QWidget):
            option.setParent(self._frame)
            option.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.MinimumExpanding)
        elif not isinstance(option, QLayout):
            message = f"an option is a widget or a layout, not {type(option).__name__}"
            raise TypeError(message)
        return option

    def addOptionsWidget(self, option: Any) -> None:
        self.optionsLayout().addRow(self._adopt(option))

    def addLabeledOptionsWidget(self, text: str, option: Any) -> QLabel:
        label = QLabel(text)
        if isinstance(option, QLayout) and not isinstance(option, QHBoxLayout):
            label.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.optionsLayout().addRow(label, self._adopt(option))
        return label

    # ---- questions -------------------------------------------------------------------------------------------------
    def confirmCurrentSegmentVisible(self) -> int:
        """1 without asking where the segment is shown or none is selected; else the user is asked."""
        node = self.parameterSetNode()
        segmentation = None if node is None else node.GetSegmentationNode()
        identifier = None if segmentation is None else node.GetSelectedSegmentID()
        if not identifier:
            return self.ConfirmedWithoutDialog
        segment = segmentation.GetSegmentation().GetSegment(identifier)
        if self._confirmed_segment is segment:
            return self.ConfirmedWithoutDialog
        every = (segmentation.GetNthDisplayNode(i) for i in range(segmentation.GetNumberOfDisplayNodes()))
        if any(d is not None and d.GetVisibility() and d.GetSegmentVisibility(identifier) for d in every):
            return self.ConfirmedWithoutDialog
        question = "The currently selected segment is hidden. Would you like to make it visible?"
        answer = dialogs.dialogs.answer("question", question, "Operate on invisible segment?")
        button = QMessageBox.StandardButton
        if answer not in (True, False, button.Yes.value, button.No.value):
            return self.NotConfirmed
        if answer in (True, button.Yes.value):
            segmentation.GetDisplayNode().SetVisibility(True)
            segmentation.GetDisplayNode().SetSegmentVisibility(identifier, True)
        else:
            self._confirmed_segment = segment
        return self.ConfirmedWithDialog

    # ---- what the editor does with an effect -----------------------------------------------------------------------
    def _join(self, select: Callable[[str], None], logic: Any) -> None:
        self._select, self._logic = select, logic

    def _destroy(self) -> None:
        self.cleanup()
        for thing in (self._frame, self):
            if shiboken6.isValid(thing):
                shiboken6.delete(thing)


class qSlicerSegmentEditorScriptedEffect(qSlicerSegmentEditorAbstractEffect):
    """An effect whose class is written in Python. What its methods raise does not leave them, and is kept."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._python: Any = None
        self._methods: dict[str, Any] = {}
        self._source = ""

    # ---- from the file to the object -------------------------------------------------------------------------------
    def pythonSource(self) -> str:
        return self._source

    def self(self) -> Any:
        return self._python

    def setPythonSource(self, source: str) -> bool:
        """Make the object of the Python class.

        The module is named like the folder of the file. A class of the file's name that such a module has already is
        taken; else the file itself is run as the module of that name, even where the folder is a package.
        """
        path = PurePosixPath(source)
        if path.suffix not in (".py", ".pyc"):
            return False
        module_name, class_name = path.parent.name, path.name.partition(".")[0]
        class_name += "" if class_name.endswith("Effect") else "Effect"
        sources.add(module_name)
        try:
            python = _class_of(module_name, class_name, source)(wrap(self))
        except BaseException as error:  # noqa: BLE001 - the real one prints whatever it is and returns False
            signals.report(error)
            return False
        self._methods = {name: getattr(python, name) for name in METHODS if hasattr(python, name)}
        self._python, self._source = python, source
        setattr(slicer, module_name, python)
        return True

    def _call(self, name: str, *arguments: Any) -> Any:
        if name not in self._methods:
            return NOT_CALLED
        try:
            return self._methods[name](*arguments)
        except BaseException as error:  # noqa: BLE001 - what a method raises does not reach the editor
            signals.report(error)
            return NOT_CALLED

    # ---- what the class may define ---------------------------------------------------------------------------------
    def _icon(self) -> QIcon:
        icon = self._call("icon")
        if icon in (NOT_CALLED, None):
            return QIcon()
        if isinstance(icon, PythonQtObject) and isinstance(icon._cpp, QIcon):
            return icon._cpp
        complain(f"'icon' is expected to return a qt.QIcon, not {icon!r}")
        return QIcon()

    def helpText(self) -> str:
        text = self._call("helpText")
        if text is NOT_CALLED:
            return ""
        if not isinstance(text, str):
            complain("'helpText' is expected to return a string")
            return ""
        return text

    def _clone(self) -> qSlicerSegmentEditorScriptedEffect | None:
        clone = self._call("clone")
        cpp = clone._cpp if isinstance(clone, PythonQtObject) else None
        if not isinstance(cpp, qSlicerSegmentEditorAbstractEffect) or cpp is self:
            complain(f"'clone' of {self.name} must return a new effect, not {clone!r}")
            return None
        return cpp

    def activate(self) -> None:
        super().activate()
        self._call("activate")

    def deactivate(self) -> None:
        super().deactivate()
        self._call("deactivate")

    def _setup_options_frame(self) -> None:
        self._call("setupOptionsFrame")

    def createCursor(self, widget: Any) -> QCursor:
        cursor = self._call("createCursor", wrap(widget))
        if isinstance(cursor, PythonQtObject) and isinstance(cursor._cpp, QCursor):
            return cursor._cpp
        if cursor is not NOT_CALLED:
            complain(f"'createCursor' is expected to return a qt.QCursor, not {cursor!r}")
        icon = self._icon()
        return QCursor() if icon.isNull() else QCursor(icon.pixmap(icon.availableSizes()[0]), 0, 0)

    def _process_interaction_events(self, interactor: Any, event: int, widget: Any) -> bool:
        result = self._call("processInteractionEvents", interactor, event, wrap(widget))
        if result is NOT_CALLED:
            return False
        if not isinstance(result, bool):
            complain(f"'processInteractionEvents' is expected to return a boolean, not {result!r}")
            return False
        return result

    def _process_view_node_events(self, node: Any, event: int, widget: Any) -> None:
        self._call("processViewNodeEvents", node, event, wrap(widget))

    def _set_mrml_defaults(self) -> None:
        self._call("setMRMLDefaults")

    def _source_volume_node_changed(self) -> None:
        self._call("sourceVolumeNodeChanged")
        self._call("masterVolumeNodeChanged")

    def _layout_changed(self) -> None:
        self._call("layoutChanged")

    def _interaction_node_modified(self, node: Any) -> None:
        changed_mode = node is not None and node.GetCurrentInteractionMode() != node.ViewTransform
        if self._call("interactionNodeModified", node) is NOT_CALLED and changed_mode:
            self.selectEffect("")

    def _parameters_modified(self, _node: Any) -> None:
        self.updateGUIFromMRML()

    def updateGUIFromMRML(self) -> None:
        if self._active:
            self._call("updateGUIFromMRML")

    def updateMRMLFromGUI(self) -> None:
        self._call("updateMRMLFromGUI")

    def cleanup(self) -> None:
        self._call("cleanup")


def _class_of(module_name: str, class_name: str, file: str) -> Any:
    found = getattr(sys.modules.get(module_name), class_name, None)
    if found is None:
        spec = importlib.util.spec_from_file_location(module_name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
        found = getattr(module, class_name, None)
    if found is None:
        message = f"class {class_name} was not found in {file}"
        raise RuntimeError(message)
    return found


def forget_sources() -> None:
    """Nothing is left of the effects that were loaded."""
    for name in sources:
        vars(slicer).pop(name, None)
        for module in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
            del sys.modules[module]
    sources.clear()
