"""The masking section of the Segment Editor, which shows and changes what the editor's node says about masks."""

from __future__ import annotations

from typing import Any

import slicer

from .form import EditorForm

INSIDE_ONE = slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment


class Masking:
    """A part of the editor's widget: what the user chooses goes to the node, and the node's choice is shown."""

    _form: EditorForm
    mrmlSegmentEditorNode: Any
    mrmlScene: Any

    def _connect_masking(self) -> None:
        self._form.area.currentIndexChanged.connect(self._area_chosen)
        self._form.overwrite.currentIndexChanged.connect(self._overwrite_chosen)
        self._form.intensity.toggled.connect(self._intensity_toggled)
        self._form.intensities.valuesChanged.connect(self._intensities_chosen)

    def _area_chosen(self, index: int) -> None:
        node = self.mrmlSegmentEditorNode()
        if node is None:
            return
        if index >= self._form.fixed_areas:
            node.SetMaskSegmentID(self._form.area.itemData(index))
            node.SetMaskMode(INSIDE_ONE)
        elif index >= 0:
            node.SetMaskMode(self._form.area.itemData(index))

    def _overwrite_chosen(self, index: int) -> None:
        if self.mrmlSegmentEditorNode() is not None:
            self.mrmlSegmentEditorNode().SetOverwriteMode(self._form.overwrite.itemData(index))

    def _intensity_toggled(self, checked: bool) -> None:
        if self.mrmlSegmentEditorNode() is not None:
            self.mrmlSegmentEditorNode().SetSourceVolumeIntensityMask(checked)

    def _intensities_chosen(self, low: float, high: float) -> None:
        if self.mrmlSegmentEditorNode() is not None:
            self.mrmlSegmentEditorNode().SetSourceVolumeIntensityMaskRange(low, high)

    def _segments_changed(self, _caller: Any = None) -> None:
        """List the segments as editable areas; when the chosen one is gone, everywhere is editable again."""
        area, node = self._form.area, self.mrmlSegmentEditorNode()
        segmentation = None if node is None else node.GetSegmentationNode()
        blocked = area.blockSignals(True)
        chosen = area.currentData() if area.currentIndex() >= self._form.fixed_areas else None
        while area.count() > self._form.fixed_areas:
            area.removeItem(area.count() - 1)
        if segmentation is not None:
            for identifier in segmentation.GetSegmentation().GetSegmentIDs():
                name = segmentation.GetSegmentation().GetSegment(identifier).GetName()
                area.addItem(f"Inside {name}", identifier)
            if chosen is not None:
                area.setCurrentIndex(area.findData(chosen))
        area.blockSignals(blocked)
        self._form.switch.setEnabled(segmentation is not None)
        if segmentation is not None and area.currentIndex() < 0:
            area.setCurrentIndex(0)

    def _show_masking(self, _caller: Any = None) -> None:
        node, form = self.mrmlSegmentEditorNode(), self._form
        if node is None or self.mrmlScene() is None or self.mrmlScene().IsClosing():
            return
        self._set_default_intensities(node)
        single = node.GetMaskMode() == INSIDE_ONE
        shown = {
            form.area: lambda: form.area.setCurrentIndex(
                form.area.findData((node.GetMaskSegmentID() or "") if single else node.GetMaskMode())
            ),
            form.intensity: lambda: form.intensity.setChecked(bool(node.GetSourceVolumeIntensityMask())),
            form.intensities: lambda: self._show_intensities(node),
            form.overwrite: lambda: form.overwrite.setCurrentIndex(form.overwrite.findData(node.GetOverwriteMode())),
        }
        for widget, show in shown.items():
            blocked = widget.blockSignals(True)
            show()
            widget.blockSignals(blocked)

    def _show_intensities(self, node: Any) -> None:
        self._form.intensities.setVisible(bool(node.GetSourceVolumeIntensityMask()))
        low, high = node.GetSourceVolumeIntensityMaskRange()
        self._form.intensities.minimumValue = low
        self._form.intensities.maximumValue = high

    def _set_default_intensities(self, node: Any) -> None:
        """A mask by intensity that was never given a range starts with the middle half of the volume's."""
        low, high = node.GetSourceVolumeIntensityMaskRange()
        if not node.GetSourceVolumeIntensityMask() or low != high:
            return
        volume = node.GetSourceVolumeNode()
        image = None if volume is None else volume.GetImageData()
        low, high = (0.0, 0.0) if image is None else image.GetScalarRange()
        node.SetSourceVolumeIntensityMaskRange(low + 0.25 * (high - low), low + 0.75 * (high - low))

    def _show_volume_range(self, _caller: Any = None) -> None:
        node = self.mrmlSegmentEditorNode()
        volume = None if node is None else node.GetSourceVolumeNode()
        image = None if volume is None else volume.GetImageData()
        self._form.intensities.setEnabled(image is not None)
        if image is not None:
            blocked = self._form.intensities.blockSignals(True)
            self._form.intensities.setRange(*image.GetScalarRange())
            self._form.intensities.blockSignals(blocked)
