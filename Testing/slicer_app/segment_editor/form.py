"""The children of the Segment Editor's widget, under the names that they have in the real one."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..widgets.ctk import ctkCheckBox, ctkCollapsibleGroupBox, ctkFittedTextBrowser
from ..widgets.ctk_numbers import ctkRangeWidget
from ..widgets.node_combo_box import qMRMLNodeComboBox
from ..widgets.segments import qMRMLSegmentationShow3DButton, qMRMLSegmentsTableView

NODE = slicer.vtkMRMLSegmentEditorNode
SEGMENTATION = slicer.vtkMRMLSegmentationNode
EDITABLE_AREAS = {
    "Everywhere": SEGMENTATION.EditAllowedEverywhere,
    "Inside all segments": SEGMENTATION.EditAllowedInsideAllSegments,
    "Inside all visible segments": SEGMENTATION.EditAllowedInsideVisibleSegments,
    "Outside all segments": SEGMENTATION.EditAllowedOutsideAllSegments,
    "Outside all visible segments": SEGMENTATION.EditAllowedOutsideVisibleSegments,
}
OVERWRITE_MODES = {
    "Overwrite all": NODE.OverwriteAllSegments,
    "Overwrite visible": NODE.OverwriteVisibleSegments,
    "Allow overlap": NODE.OverwriteNone,
}


def _named(widget: Any, name: str) -> Any:
    widget.setObjectName(name)
    return widget


class EditorForm:
    """Selectors, segments, effects, their options, masks, undo and redo."""

    def __init__(self, editor: QWidget) -> None:
        self._make_selectors(editor)
        self._make_buttons(editor)
        self.segments = _named(qMRMLSegmentsTableView(editor), "SegmentsTableView")
        self.segments.opacityColumnVisible = False
        self.segments.setMaximumHeight(160)
        self._make_options(editor)
        self._make_masking(editor)
        self._lay_out(editor)

    def _make_selectors(self, editor: QWidget) -> None:
        self.segmentation = _named(qMRMLNodeComboBox(editor), "SegmentationNodeComboBox")
        self.segmentation.nodeTypes = ["vtkMRMLSegmentationNode"]
        self.segmentation.renameEnabled = True
        self.segmentation_label = QLabel("Segmentation:", editor)
        self.volume = _named(qMRMLNodeComboBox(editor), "SourceVolumeNodeComboBox")
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.hideChildNodeTypes = ["vtkMRMLSegmentationNode"]
        self.volume.noneEnabled = True
        self.volume.addEnabled = False
        self.volume.renameEnabled = True
        self.volume.noneDisplay = "Select source volume to enable editing"
        self.volume_label = QLabel("Source volume:", editor)

    def _make_buttons(self, editor: QWidget) -> None:
        self.add = _named(QPushButton("Add", editor), "AddSegmentButton")
        self.remove = _named(QPushButton("Remove", editor), "RemoveSegmentButton")
        self.show_3d = _named(qMRMLSegmentationShow3DButton(editor), "Show3DButton")
        self.switch = _named(QToolButton(editor), "SwitchToSegmentationsButton")
        self.switch.setText("Segmentations")
        self.effects = _named(QFrame(editor), "EffectsGroupBox")
        self.effects.setFrameShape(QFrame.Shape.StyledPanel)
        QGridLayout(self.effects)
        self.undo_redo = _named(QFrame(editor), "UndoRedoGroupBox")
        self.undo_redo.setFrameShape(QFrame.Shape.StyledPanel)
        row = QHBoxLayout(self.undo_redo)
        self.undo = _named(QToolButton(self.undo_redo), "UndoButton")
        self.redo = _named(QToolButton(self.undo_redo), "RedoButton")
        for button, text in ((self.undo, "Undo"), (self.redo, "Redo")):
            button.setText(text)
            row.addWidget(button)
        for button in (self.add, self.remove, self.switch, self.effects):
            button.setEnabled(False)

    def _make_options(self, editor: QWidget) -> None:
        self.options = _named(QGroupBox(editor), "OptionsGroupBox")
        column = QVBoxLayout(self.options)
        column.setContentsMargins(4, 4, 4, 4)
        self.help = _named(ctkFittedTextBrowser(self.options), "EffectHelpBrowser")
        self.help.setFrameShape(QFrame.Shape.NoFrame)
        self.help.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.effect_options = _named(QFrame(self.options), "EffectsOptionsFrame")
        column.addWidget(self.help)
        column.addWidget(self.effect_options)
        inner = QVBoxLayout(self.effect_options)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(0)
        self.options.setEnabled(False)
        self.options.hide()

    def _make_masking(self, editor: QWidget) -> None:
        self.masking = _named(ctkCollapsibleGroupBox("Masking", editor), "MaskingGroupBox")
        form = QFormLayout(self.masking)
        self.area = _named(QComboBox(self.masking), "MaskModeComboBox")
        for text, mode in EDITABLE_AREAS.items():
            self.area.addItem(text, mode)
        self.area.insertSeparator(self.area.count())
        self.fixed_areas = self.area.count()
        self.intensity = _named(ctkCheckBox(self.masking), "SourceVolumeIntensityMaskCheckBox")
        self.intensities = _named(ctkRangeWidget(self.masking), "SourceVolumeIntensityMaskRangeWidget")
        self.intensities.singleStep = 0.01
        self.overwrite = _named(QComboBox(self.masking), "OverwriteModeComboBox")
        for text, mode in OVERWRITE_MODES.items():
            self.overwrite.addItem(text, mode)
        form.addRow("Editable area:", self.area)
        form.addRow("Editable intensity range:", self.intensity)
        form.addRow(self.intensities)
        form.addRow("Modify other segments:", self.overwrite)
        self.intensities.hide()
        self.masking.hide()

    def _lay_out(self, editor: QWidget) -> None:
        whole = QVBoxLayout(editor)
        selectors = QGridLayout()
        for row, (label, selector) in enumerate(
            ((self.segmentation_label, self.segmentation), (self.volume_label, self.volume))
        ):
            selectors.addWidget(label, row, 0)
            selectors.addWidget(selector, row, 1)
        whole.addLayout(selectors)
        actions = QHBoxLayout()
        for button in (self.add, self.remove, self.show_3d, self.switch):
            actions.addWidget(button)
        whole.addLayout(actions)
        lower, left, right = QHBoxLayout(), QVBoxLayout(), QVBoxLayout()
        for widget in (self.effects, self.undo_redo):
            left.addWidget(widget)
        left.addStretch(1)
        for widget in (self.segments, self.options, self.masking):
            right.addWidget(widget)
        right.addStretch(1)
        lower.addLayout(left)
        lower.addLayout(right, 1)
        whole.addLayout(lower)
