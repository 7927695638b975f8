"""How the Segment Editor's widget follows its node: selections, the active effect, and the views that are observed."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtGui import QCursor
from PySide6.QtWidgets import QMessageBox

from .form import EditorForm
from .observations import ViewObservations, Watches
from .parameters import weakly

SEGMENTATION = slicer.vtkSegmentation
SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
QUESTION = (
    "Editing requires binary labelmap source representation, but currently the source representation is {}. "
    "Changing the source representation requires conversion. Some details may be lost during conversion process.\n\n"
    "Change source representation to binary labelmap?"
)


class Following:
    """A part of the editor's widget."""

    _form: EditorForm
    _watches: Watches
    _views: ViewObservations
    _logic: Any
    _scene: Any
    _segmentation: Any
    _volume: Any
    _interaction: Any
    _effects: list[Any]
    _buttons: dict[Any, Any]
    _active: Any
    _last: Any
    _locked: bool
    _observed_views: dict[str, tuple[str, ...]]

    def updateWidgetFromMRML(self: Any) -> None:
        if self._scene is None or self._scene.IsClosing() or self._scene.IsBatchProcessing():
            return
        node, form = self.mrmlSegmentEditorNode(), self._form
        parts = (form.effects, form.masking, form.effect_options, form.volume)
        if node is None:
            for part in (form.segmentation, *parts):
                part.setEnabled(False)
            form.show_3d.setLocked(True)
            return
        form.segmentation.setEnabled(True)
        with slicer.util.NodeModify(node):
            self._follow_segmentation()
            self._follow_volume(node)
            for part in parts:
                part.setEnabled(self._segmentation.Get() is not None)
            self._follow_segment(node)
            self._follow_effect(node)
            self._show_history()
            self._show_masking()
            self._segments_changed()

    # ---- segmentation, volume, segment -----------------------------------------------------------------------------
    def _follow_segmentation(self: Any) -> None:
        segmentation, form = self._logic.GetSegmentationNode(), self._form
        if segmentation is not form.segmentation.currentNode():
            blocked = form.segmentation.blockSignals(True)
            form.segmentation.setCurrentNode(segmentation)
            form.segmentation.blockSignals(blocked)
        if segmentation is not self._segmentation.Get():
            self._watch_segmentation(segmentation)
            self._segmentation = weakly(segmentation)
            blocked = form.segments.blockSignals(True)
            form.segments.setSegmentationNode(segmentation)
            form.segments.blockSignals(blocked)
            form.show_3d.setSegmentationNode(segmentation)
            if segmentation is not None:
                self._take_over(segmentation)
            self.segmentationNodeChanged.emit(segmentation)
        self._segments_changed()

    def _watch_segmentation(self: Any, segmentation: Any) -> None:
        wanted = {
            "modified": (vtk.vtkCommand.ModifiedEvent, "_node_modified"),
            "representations": (SEGMENTATION.ContainedRepresentationNamesModified, "_segments_changed"),
            "segment added": (SEGMENTATION.SegmentAdded, "_segments_changed"),
            "segment removed": (SEGMENTATION.SegmentRemoved, "_segments_changed"),
            "segment modified": (SEGMENTATION.SegmentModified, "_show_masking"),
            "display": (slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, "_display_modified"),
        }
        for name, (event, method) in wanted.items():
            self._watches.set(f"segmentation {name}", segmentation, event, self, method)

    def _take_over(self: Any, segmentation: Any) -> None:
        """What selecting a segmentation brings along: its reference volume and its first segment are selected."""
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        self._form.volume.setCurrentNode(segmentation.GetNodeReference(role))
        segmentation.CreateDefaultDisplayNodes()
        display, contents = segmentation.GetDisplayNode(), segmentation.GetSegmentation()
        if display is not None and contents.ContainsRepresentation(SURFACE):
            display.SetPreferredDisplayRepresentationName3D(SURFACE)
        if display is not None and contents.ContainsRepresentation(LABELMAP):
            display.SetPreferredDisplayRepresentationName2D(LABELMAP)
        if contents.GetNumberOfSegments() > 0:
            self._form.segments.setSelectedSegmentIDs([contents.GetNthSegmentID(0)])
        self.hideLabelLayer()

    def _follow_volume(self: Any, node: Any) -> None:
        if node.GetSegmentationNode() is None:
            return
        volume = self._logic.GetSourceVolumeNode()
        if volume is self._volume.Get():
            return
        event = slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent
        self._watches.set("volume", volume, event, self, "_show_volume_range")
        self._volume = weakly(volume)
        blocked = self._form.volume.blockSignals(True)
        self._form.volume.setCurrentNode(volume)
        self._form.volume.blockSignals(blocked)
        if volume is not None and self.autoShowSourceVolumeNode:
            self.showSourceVolumeInSliceViewers()
        self._show_volume_range()
        self.sourceVolumeNodeChanged.emit(volume)
        self.masterVolumeNodeChanged.emit(volume)
        for effect in list(self._effects):
            effect._source_volume_node_changed()

    def _follow_segment(self: Any, node: Any) -> None:
        segmentation, identifier = self._segmentation.Get(), node.GetSelectedSegmentID() or ""
        if segmentation is None or segmentation.GetSegmentation().GetSegmentIndex(identifier) < 0:
            identifier = ""
        self._form.add.setEnabled(self._logic.CanAddSegments())
        self._form.remove.setEnabled(bool(identifier) and not self._locked)
        self._form.show_3d.setLocked(self._locked)
        if identifier:
            self._form.segments.setSelectedSegmentIDs([identifier])
        else:
            self._form.segments.clearSelection()
        self._form.segments.readOnly = self._locked

    # ---- the active effect -----------------------------------------------------------------------------------------
    def _follow_effect(self: Any, node: Any) -> None:
        self._enable_effects(node)
        effect = self._effect_by_name(node.GetActiveEffectName())
        if effect is self._active:
            return
        if self._active is not None:
            self._active.deactivate()
        if effect is not None and not self._make_labelmap_the_source():
            effect = None
        self._form.options.setTitle("" if effect is None else effect.title)
        if effect is None:
            self._form.help.setText("")
            self.removeViewObservations()
        else:
            self.setupViewObservations()
            interaction = self._interaction.Get()
            if interaction is not None and interaction.GetCurrentInteractionMode() != interaction.ViewTransform:
                interaction.SetCurrentInteractionMode(interaction.ViewTransform)
            effect.activate()
            self._form.help.setText(effect.helpText())
        self._form.options.setVisible(effect is not None)
        self._form.masking.setVisible(effect is not None and self.maskingSectionVisible)
        for other, button in self._buttons.items():
            button.setChecked(other is effect)
        self._set_cursors(effect)
        self._last, self._active = self._active, effect

    def _enable_effects(self: Any, node: Any) -> None:
        enabled = node.GetSourceVolumeNode() is not None and not self._locked
        self._form.effects.setEnabled(enabled)
        self._form.options.setEnabled(enabled)
        segmentation = node.GetSegmentationNode()
        available = segmentation is not None and segmentation.GetSegmentation().GetNumberOfSegments() > 0
        for effect, button in self._buttons.items():
            if effect is not None and enabled:
                usable = available and (bool(node.GetSelectedSegmentID()) or not effect.perSegment)
                button.setEnabled(usable or not effect.requireSegments)

    def _make_labelmap_the_source(self: Any) -> bool:
        """Whether the segmentation can be edited; the user is asked before another representation is given up."""
        if self._logic.CanTriviallyConvertSourceRepresentationToBinaryLabelMap():
            return self._logic.TrivialSetSourceRepresentationToBinaryLabelmap()
        segmentation = self._segmentation.Get()
        if segmentation is None:
            return False
        source = segmentation.GetSegmentation().GetSourceRepresentationName()
        title = "Change source representation to binary labelmap?"
        if QMessageBox.question(None, title, QUESTION.format(source)) != QMessageBox.StandardButton.Yes:
            return False
        if self._logic.SetSourceRepresentationToBinaryLabelMap():
            return True
        failed = (
            f"Failed to create binary labelmap representation in segmentation {segmentation.GetName()} for editing!"
        )
        QMessageBox.critical(None, "Failed to create binary labelmap for editing", failed)
        return False

    # ---- views -----------------------------------------------------------------------------------------------------
    def _layout_manager(self: Any) -> Any:
        """None without a main window."""
        return slicer.app._cpp.layoutManager()

    def _displayable(self: Any, node: Any) -> bool:
        return self._logic.IsSegmentationDisplayableInView(node)

    def setupViewObservations(self: Any) -> None:
        self.removeViewObservations()
        self._observed_views = {}
        if self._layout_manager() is None:
            return
        self._views.set_up(self._layout_manager(), self._displayable)
        self._observed_views = self._views_of_displays()

    def removeViewObservations(self: Any) -> None:
        self._views.remove()

    def _views_of_displays(self: Any) -> dict[str, tuple[str, ...]]:
        node = self._segmentation.Get()
        displays = [] if node is None else [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())]
        return {d.GetID(): tuple(d.GetViewNodeIDs()) for d in displays if d is not None}

    def _display_modified(self: Any, _node: Any) -> None:
        if self._views.active and self._views_of_displays() != self._observed_views:
            self._layout_changed()

    def _layout_changed(self: Any, _layout: int = -1) -> None:
        if not self._views.active:
            return
        self.setupViewObservations()
        if self.autoShowSourceVolumeNode:
            self.showSourceVolumeInSliceViewers()
        for effect in list(self._effects):
            effect._layout_changed()

    def _set_cursors(self: Any, effect: Any) -> None:
        manager, interaction = self._layout_manager(), self._interaction.Get()
        if manager is None:
            return
        if interaction is not None and interaction.GetCurrentInteractionMode() != interaction.ViewTransform:
            return
        for widget in map(manager.sliceWidget, manager.sliceViewNames()):
            if self._displayable(widget.mrmlSliceNode()):
                wanted = effect is not None and effect.showEffectCursorInSliceView
                self._set_cursor(widget, widget.sliceView(), effect if wanted else None)
        for widget in map(manager.threeDWidget, range(manager.threeDViewCount)):
            if self._displayable(widget.mrmlViewNode()):
                wanted = effect is not None and effect.showEffectCursorInThreeDView
                self._set_cursor(widget, widget.threeDView(), effect if wanted else None)

    def _set_cursor(self: Any, widget: Any, view: Any, effect: Any) -> None:
        view.setViewCursor(QCursor() if effect is None else effect.createCursor(widget))
        view.setDefaultViewCursor(QCursor() if effect is None else effect.createCursor(widget))

    def _composites(self: Any) -> list[tuple[Any, Any]]:
        """The slice logics of the views that can show the segmentation, with their composite nodes."""
        if self._layout_manager() is None:
            return []
        every = self._layout_manager().mrmlSliceLogics()
        logics = [every.GetItemAsObject(i) for i in range(every.GetNumberOfItems())]
        return [(g, g.GetSliceCompositeNode()) for g in logics if self._displayable(g.GetSliceNode())]

    def hideLabelLayer(self: Any) -> None:
        for _logic, composite in self._composites():
            composite.SetLabelVolumeID(None)

    def showSourceVolumeInSliceViewers(self: Any, force: bool = False, fit: bool = False) -> None:
        volume = self._logic.GetSourceVolumeNode()
        for logic, composite in self._composites() if volume is not None else ():
            shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
            if volume.GetID() not in shown or force:
                composite.SetBackgroundVolumeID(volume.GetID())
                composite.SetForegroundVolumeID(None)
                composite.SetLabelVolumeID(None)
            if fit:
                logic.FitSliceToBackground()
