"""The Segment Editor's widget: a stand-in for qMRMLSegmentEditorWidget that follows its source.

Segments are changed by the real vtkSlicerSegmentEditorLogic; here is what the widget does around it: which effect is
active, in what order effects hear of what, and when one is left.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any, ClassVar

import shiboken6
import slicer
import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QToolButton, QWidget

from ..pythonqt.backings import not_offered
from ..widgets.mrml import SCENE_CHANGED, _TellsScene
from ..widgets.properties import stored
from .complaints import complain, watch_errors
from .effect import qSlicerSegmentEditorAbstractEffect
from .factory import qSlicerSegmentEditorEffectFactory
from .following import Following
from .form import EditorForm
from .masking import Masking
from .observations import ViewObservations, Watches
from .parameters import weakly
from .shortcuts import Shortcuts

# The effects that 3D Slicer brings along, in the order of their buttons. The stand-in has none of them.
CORE_EFFECTS = (
    "Threshold",
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Grow from seeds",
    "Fill between slices",
    "Margin",
    "Hollow",
    "Smoothing",
    "Scissors",
    "Islands",
    "Logical operators",
    "Mask volume",
)
LOGIC = slicer.vtkSlicerSegmentEditorLogic

editors: weakref.WeakSet[qMRMLSegmentEditorWidget] = weakref.WeakSet()


def _end(effects: list[Any], watches: Watches, views: ViewObservations) -> None:
    """The widget is being destroyed: its effects clean up while their options still exist."""
    views.remove()
    watches.end_all()
    for effect in effects:
        effect._destroy()
    effects.clear()


def _shown_flag(name: str, *children: str) -> Property:
    """Whether some children of the form are shown."""

    def write(self: Any, value: bool) -> None:
        for child in children:
            getattr(self._form, child).setVisible(value)

    return Property(bool, lambda self: getattr(self._form, name).isVisibleTo(self), write)


class qMRMLSegmentEditorWidget(Following, Masking, Shortcuts, _TellsScene, QWidget):
    """Edits one segmentation by effects. See the module's text for what is real in it."""

    mrmlSceneChanged = Signal(object)
    segmentationNodeChanged = Signal(object)
    sourceVolumeNodeChanged = Signal(object)
    masterVolumeNodeChanged = Signal(object)
    currentSegmentIDChanged = Signal(str)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED | {
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged",
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
        "masterVolumeNodeChanged(vtkMRMLVolumeNode*)": "masterVolumeNodeChanged",
        "currentSegmentIDChanged(QString)": "currentSegmentIDChanged",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node = self._segmentation = self._volume = self._interaction = weakly(None)
        self._effects: list[Any] = []
        self._active: Any = None
        self._last: Any = None
        self._locked = False
        self._order = list(CORE_EFFECTS)
        self._shortcuts = []
        self._buttons: dict[Any, QToolButton] = {}
        self._observed_views: dict[str, tuple[str, ...]] = {}
        self._logic = LOGIC()
        self._watches = Watches()
        self._views = ViewObservations(self)
        watch_errors(self._logic)
        self._form = EditorForm(self)
        self._watches.set("history", self._logic, LOGIC.SegmentationHistoryChangedEvent, self, "_show_history")
        self._watches.set("pause", self._logic, LOGIC.PauseRenderEvent, self, "_pause_render")
        self._watches.set("resume", self._logic, LOGIC.ResumeRenderEvent, self, "_resume_render")
        self._connect()
        self.updateEffectList()
        self.destroyed.connect(functools.partial(_end, self._effects, self._watches, self._views))
        editors.add(self)

    def _connect(self) -> None:
        form = self._form
        form.segmentation.currentNodeChanged.connect(self._segmentation_chosen)
        form.volume.currentNodeChanged.connect(self._volume_chosen)
        form.segments.selectionChanged.connect(self._segment_chosen)
        form.segments.segmentAboutToBeModified.connect(self.saveStateForUndo)
        form.add.clicked.connect(self._add_segment)
        form.remove.clicked.connect(self._remove_segment)
        form.undo.clicked.connect(self.undo)
        form.redo.clicked.connect(self.redo)
        self._connect_masking()

    def _pause_render(self, _caller: Any) -> None:
        slicer.app.pauseRender()

    def _resume_render(self, _caller: Any) -> None:
        slicer.app.resumeRender()

    # ---- effects ---------------------------------------------------------------------------------------------------
    def updateEffectList(self) -> None:
        if None not in self._buttons:
            self._buttons[None] = self._make_button("NULL", "None")
        for effect in qSlicerSegmentEditorEffectFactory.instance()._copy_new(self._effects):
            effect._join(self._select_effect(), self._logic)
            if self.mrmlSegmentEditorNode() is not None:
                self._give_node(effect)
            self._buttons[effect] = self._make_button(effect.name, effect.title)
            self._buttons[effect].setIcon(effect._icon())
            effect._setup_options_frame()
            effect.optionsFrame().setVisible(False)
            self._form.effect_options.layout().addWidget(effect.optionsFrame())
        layout = self._form.effects.layout()
        while layout.takeAt(0) is not None:
            pass
        for index, effect in enumerate(self._displayed_effects()):
            self._buttons[effect].show()
            layout.addWidget(self._buttons[effect], index // 2, index % 2)

    def _select_effect(self) -> Any:
        to_self = weakref.ref(self)

        def select(name: str) -> None:
            editor = to_self()
            if editor is not None and shiboken6.isValid(editor):
                editor.setActiveEffectByName(name)

        return select

    def _make_button(self, name: str, title: str) -> QToolButton:
        button = QToolButton(self._form.effects)
        button.setObjectName(name)
        button.setCheckable(True)
        button.setText(title)
        button.setToolTip(title if name != "NULL" else "No editing")
        button.clicked.connect(self._button_clicked)
        return button

    def _button_clicked(self) -> None:
        clicked = self.sender()
        effect = next(e for e, button in self._buttons.items() if button is clicked)
        self.setActiveEffect(effect)
        for other, button in self._buttons.items():
            button.setChecked(other is effect)

    def _displayed_effects(self) -> list[Any]:
        ordered = [e for e in map(self._effect_by_name, self._order) if e is not None]
        others = [e for e in self._effects if e not in ordered] if self.unorderedEffectsVisible else []
        return [None, *ordered, *others]

    def _effect_by_name(self, name: str | None) -> Any:
        return next((effect for effect in self._effects if name and effect.name == name), None)

    def effectByName(self, name: str) -> Any:
        found = self._effect_by_name(name)
        if found is None and name in CORE_EFFECTS:
            raise not_offered("qMRMLSegmentEditorWidget", f"effectByName({name!r})")
        return found

    def effectByIndex(self, index: int) -> Any:
        displayed = self._displayed_effects()
        return displayed[index] if 0 <= index < len(displayed) else None

    def effectCount(self) -> int:
        return len(self._displayed_effects())

    def availableEffectNames(self) -> list[str]:
        return [effect.name for effect in self._effects]

    def effectNameOrder(self) -> list[str]:
        return list(self._order)

    def setEffectNameOrder(self, names: list[str]) -> None:
        if list(names) != self._order:
            self._order = list(names)
            self.updateEffectList()

    unorderedEffectsVisible = stored(bool, "unordered_visible", True, lambda self: self.updateEffectList())

    def activeEffect(self) -> Any:
        return self._active

    def setActiveEffect(self, effect: Any) -> None:
        if not isinstance(effect, qSlicerSegmentEditorAbstractEffect | None):
            message = f"an effect or None is needed, not {effect!r}"
            raise TypeError(message)
        node = self.mrmlSegmentEditorNode()
        if node is not None:
            node.SetActiveEffectName("" if effect is None else effect.name)
        elif effect is not None:
            complain("invalid segment editor parameter set node")

    def setActiveEffectByName(self, name: str) -> None:
        self.setActiveEffect(self.effectByName(name))

    # ---- the editor's node -----------------------------------------------------------------------------------------
    def mrmlSegmentEditorNode(self) -> Any:
        return self._node.Get()

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if node is self.mrmlSegmentEditorNode():
            return
        self._watches.set("node", node, vtk.vtkCommand.ModifiedEvent, self, "_node_modified")
        self._node = weakly(node)
        self._logic.SetSegmentEditorNode(node)
        if node is None:
            return
        self._initialize_node()
        self.updateWidgetFromMRML()

    def _initialize_node(self) -> None:
        node = self.mrmlSegmentEditorNode()
        if node is None:
            return
        with slicer.util.NodeModify(node):
            for effect in self._effects:
                self._give_node(effect)

    def _give_node(self, effect: Any) -> None:
        node = self.mrmlSegmentEditorNode()
        effect.setParameterSetNode(node)
        effect._set_mrml_defaults()
        name = f"parameters of {effect.name}"
        self._watches.set(name, node, node.EffectParameterModified, effect, "_parameters_modified")

    def _node_modified(self, _node: Any) -> None:
        self.updateWidgetFromMRML()

    # ---- the scene -------------------------------------------------------------------------------------------------
    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        selectors = (self._form.segmentation, self._form.volume)
        blocked = [selector.blockSignals(True) for selector in selectors]
        _TellsScene.setMRMLScene(self, scene)
        for selector, before in zip(selectors, blocked, strict=True):
            selector.setMRMLScene(scene)
            selector.blockSignals(before)
        self._form.segments.setMRMLScene(scene)
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetMRMLScene(scene)
        self._logic.SetVerbose(True)
        if self._layout_manager() is not None:
            self._layout_manager().layoutChanged.connect(self._layout_changed)
        found = None if scene is None else scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        self.setInteractionNode(found)
        self.updateWidgetFromMRML()
        for name, event in (("closed", "EndCloseEvent"), ("batch", "EndBatchProcessEvent")):
            method = {"closed": "_scene_closed", "batch": "_batch_ended"}[name]
            self._watches.set(name, scene, getattr(slicer.vtkMRMLScene, event), self, method)

    def _scene_closed(self, _scene: Any) -> None:
        self._initialize_node()
        self.updateWidgetFromMRML()

    def _batch_ended(self, _scene: Any) -> None:
        node = self.mrmlSegmentEditorNode()
        if node is not None:
            if node.GetSegmentationNode() is not self._form.segmentation.currentNode():
                self.setSegmentationNode(self._form.segmentation.currentNode())
            if node.GetSourceVolumeNode() is not self._form.volume.currentNode():
                self.setSourceVolumeNode(self._form.volume.currentNode())
        self.updateWidgetFromMRML()

    def _busy_scene(self) -> bool:
        return self._scene is None or self._scene.IsBatchProcessing()

    def interactionNode(self) -> Any:
        return self._interaction.Get()

    def setInteractionNode(self, node: Any) -> None:
        self._watches.set("interaction", node, vtk.vtkCommand.ModifiedEvent, self, "_interaction_modified")
        self._interaction = weakly(node)

    def _interaction_modified(self, node: Any) -> None:
        if self._active is not None:
            self._active._interaction_node_modified(node)

    # ---- segmentation, segment and volume ----------------------------------------------------------------------------
    def segmentationNode(self) -> Any:
        return self._form.segmentation.currentNode()

    def segmentationNodeID(self) -> str:
        return self._form.segmentation.currentNodeID

    def setSegmentationNode(self, node: Any) -> None:
        if node is self._logic.GetSegmentationNode():
            return
        self._logic.SetSegmentationNode(node)
        self.setActiveEffect(None)

    def setSegmentationNodeID(self, identifier: str) -> None:
        self.setSegmentationNode(self._scene.GetNodeByID(identifier or ""))

    def _segmentation_chosen(self, node: Any) -> None:
        if not self._busy_scene():
            self.setSegmentationNode(node)

    def sourceVolumeNode(self) -> Any:
        return self._logic.GetSourceVolumeNode()

    def sourceVolumeNodeID(self) -> str:
        return "" if self._volume.Get() is None else self._volume.Get().GetID()

    def setSourceVolumeNode(self, node: Any) -> None:
        self._logic.SetSourceVolumeNode(node)

    def setSourceVolumeNodeID(self, identifier: str | None) -> None:
        self.setSourceVolumeNode(self._scene.GetNodeByID(identifier or ""))

    def _volume_chosen(self, node: Any) -> None:
        if not self._busy_scene():
            self.setSourceVolumeNode(node)

    def currentSegmentID(self) -> str:
        return self._logic.GetCurrentSegmentID()

    def setCurrentSegmentID(self, identifier: str) -> None:
        if self.mrmlSegmentEditorNode() is not None:
            self.mrmlSegmentEditorNode().SetSelectedSegmentID(identifier)

    def _segment_chosen(self, *_selections: Any) -> None:
        node, chosen = self.mrmlSegmentEditorNode(), self._form.segments.selectedSegmentIDs()
        identifier = chosen[0] if chosen else ""
        if node is None or (node.GetSelectedSegmentID() or "") == identifier:
            return
        node.SetSelectedSegmentID(identifier or None)
        if not identifier and self._active is not None and self._active.perSegment:
            self.setActiveEffect(None)
        self.updateWidgetFromMRML()
        self.currentSegmentIDChanged.emit(identifier)

    def _add_segment(self) -> None:
        self._logic.AddEmptySegment("", 0)

    def _remove_segment(self) -> None:
        left = self._logic.RemoveSelectedSegment()
        if left:
            self._form.segments.setSelectedSegmentIDs([left])

    # ---- undo ------------------------------------------------------------------------------------------------------
    def saveStateForUndo(self, *_about: Any) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def _show_history(self, _caller: Any = None) -> None:
        self._form.undo.setEnabled(not self._locked and self._logic.CanUndo())
        self._form.redo.setEnabled(not self._locked and self._logic.CanRedo())

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self._logic.SetMaximumNumberOfUndoStates(count)

    maximumNumberOfUndoStates = Property(
        int, lambda self: self._logic.GetMaximumNumberOfUndoStates(), setMaximumNumberOfUndoStates
    )
    undoEnabled = _shown_flag("undo_redo", "undo_redo")

    def setReadOnly(self, value: bool) -> None:
        self._locked = value
        if value:
            self.setActiveEffect(None)
        self.updateWidgetFromMRML()

    readOnly = Property(bool, lambda self: self._locked, setReadOnly)

    # ---- what is shown ---------------------------------------------------------------------------------------------
    autoShowSourceVolumeNode = autoShowMasterVolumeNode = stored(bool, "auto_show", True)
    maskingSectionVisible = stored(bool, "masking_visible", True, lambda self: self._show_masking_section())
    segmentationNodeSelectorVisible = _shown_flag("segmentation", "segmentation", "segmentation_label")
    sourceVolumeNodeSelectorVisible = _shown_flag("volume", "volume", "volume_label")
    switchToSegmentationsButtonVisible = _shown_flag("switch", "switch")
    addRemoveSegmentButtonsVisible = _shown_flag("add", "add", "remove")
    show3DButtonVisible = _shown_flag("show_3d", "show_3d")

    def _show_masking_section(self) -> None:
        self._form.masking.setVisible(self._active is not None and self.maskingSectionVisible)

    def setAutoShowSourceVolumeNode(self, value: bool) -> None:
        self.autoShowSourceVolumeNode = value

    def setMaskingSectionVisible(self, value: bool) -> None:
        self.maskingSectionVisible = value

    def setSegmentationNodeSelectorVisible(self, value: bool) -> None:
        self.segmentationNodeSelectorVisible = value

    def setSourceVolumeNodeSelectorVisible(self, value: bool) -> None:
        self.sourceVolumeNodeSelectorVisible = value

    def setSwitchToSegmentationsButtonVisible(self, value: bool) -> None:
        self.switchToSegmentationsButtonVisible = value

    def setAddRemoveSegmentButtonsVisible(self, value: bool) -> None:
        self.addRemoveSegmentButtonsVisible = value

    def setShow3DButtonVisible(self, value: bool) -> None:
        self.show3DButtonVisible = value

    def setUndoEnabled(self, value: bool) -> None:
        if value:
            self._logic.ClearUndoState()
        self.undoEnabled = value
