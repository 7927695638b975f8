"""Effects change segments through the real logic: modes, masks, overwriting, and undo."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

NODE = slicer.vtkMRMLSegmentEditorNode
SEGMENTATION = slicer.vtkMRMLSegmentationNode
SHAPE = (4, 5, 6)


def array_of(image) -> np.ndarray:
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def modifier(effect, *voxels) -> object:
    """The modifier with these voxels (k, j, i) or slices of them."""
    image = effect.defaultModifierLabelmap()
    for voxel in voxels:
        array_of(image)[voxel] = 1
    image.Modified()
    return image


def voxels_of(segmentation, identifier: str) -> set[tuple[int, ...]]:
    volume = segmentation.GetNodeReference(SEGMENTATION.GetReferenceImageGeometryReferenceRole())
    found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier, volume)
    return {tuple(map(int, voxel)) for voxel in np.argwhere(found)}


P, Q, R = (1, 1, 1), (2, 3, 4), (3, 0, 5)


def test_the_modes_are_numbers_of_the_class_and_of_the_effect(the_active_effect):
    abstract = slicer.qSlicerSegmentEditorAbstractEffect
    for number, name in enumerate(("Set", "Add", "Remove", "RemoveAll")):
        assert getattr(abstract, f"ModificationMode{name}") == number
        assert getattr(the_active_effect, f"ModificationMode{name}") == number
        assert isinstance(getattr(the_active_effect, f"ModificationMode{name}"), int)


def test_the_four_modes_change_the_segments_as_they_say(an_editor, a_segmentation, the_active_effect):
    effect = the_active_effect
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P, Q), effect.ModificationModeAdd)
    assert voxels_of(a_segmentation, "A") == {P, Q}
    effect.modifySelectedSegmentByLabelmap(modifier(effect, Q), effect.ModificationModeRemove)
    assert voxels_of(a_segmentation, "A") == {P}
    effect.modifySelectedSegmentByLabelmap(modifier(effect, R), 0)
    assert voxels_of(a_segmentation, "A") == {R}
    an_editor.setCurrentSegmentID("B")
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P), effect.ModificationModeAdd)
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P, R), effect.ModificationModeRemoveAll)
    assert voxels_of(a_segmentation, "A") == voxels_of(a_segmentation, "B") == set()


def test_the_mode_of_the_node_says_whether_other_segments_lose_voxels(an_editor, a_segmentation, the_active_effect):
    effect, node = the_active_effect, an_editor.mrmlSegmentEditorNode()
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P, Q, R), effect.ModificationModeAdd)
    an_editor.setCurrentSegmentID("B")
    node.SetOverwriteMode(NODE.OverwriteNone)
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P), effect.ModificationModeAdd)
    assert voxels_of(a_segmentation, "A") == {P, Q, R}
    node.SetOverwriteMode(NODE.OverwriteVisibleSegments)
    effect.modifySelectedSegmentByLabelmap(modifier(effect, Q), effect.ModificationModeAdd)
    assert voxels_of(a_segmentation, "A") == {P, R}
    node.SetOverwriteMode(NODE.OverwriteAllSegments)
    effect.modifySelectedSegmentByLabelmap(modifier(effect, R), effect.ModificationModeAdd)
    assert voxels_of(a_segmentation, "A") == {P}
    assert voxels_of(a_segmentation, "B") == {P, Q, R}


def test_masks_protect_voxels_unless_they_are_bypassed(an_editor, a_segmentation, the_active_effect):
    effect, node = the_active_effect, an_editor.mrmlSegmentEditorNode()
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P), effect.ModificationModeAdd)
    an_editor.setCurrentSegmentID("B")
    node.SetMaskMode(SEGMENTATION.EditAllowedOutsideAllSegments)
    assert array_of(effect.maskLabelmap())[P] == 1  # 1 is not editable
    assert array_of(effect.maskLabelmap()).sum() == 1
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P, Q), effect.ModificationModeAdd)
    assert voxels_of(a_segmentation, "B") == {Q}
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P), effect.ModificationModeAdd, True)
    assert voxels_of(a_segmentation, "B") == {P, Q}
    assert voxels_of(a_segmentation, "A") == {P}


def test_a_mask_by_intensity_starts_with_the_middle_half_of_the_range(an_editor, a_segmentation, the_active_effect):
    effect, node = the_active_effect, an_editor.mrmlSegmentEditorNode()
    node.SetSourceVolumeIntensityMask(True)
    assert node.GetSourceVolumeIntensityMaskRange() == (29.75, 89.25)
    effect.modifySelectedSegmentByLabelmap(modifier(effect, np.s_[:]), effect.ModificationModeAdd)
    intensities = {int(np.ravel_multi_index(voxel, SHAPE)) for voxel in voxels_of(a_segmentation, "A")}
    assert intensities == set(range(29, 90))  # the limits are truncated to whole numbers


def test_removing_the_mask_segment_makes_everything_editable(an_editor, a_segmentation, the_active_effect):
    slicer.util.findChild(an_editor, "MaskModeComboBox").setCurrentText("Inside B")
    node = an_editor.mrmlSegmentEditorNode()
    assert node.GetMaskMode() == SEGMENTATION.EditAllowedInsideSingleSegment
    assert node.GetMaskSegmentID() == "B"
    a_segmentation.GetSegmentation().RemoveSegment("B")
    assert node.GetMaskMode() == SEGMENTATION.EditAllowedEverywhere


def test_an_extent_limits_what_is_added(a_segmentation, the_active_effect):
    effect = the_active_effect
    image = modifier(effect, np.s_[:])
    effect.modifySelectedSegmentByLabelmap(image, effect.ModificationModeAdd, [1, 1, 1, 1, 1, 2])
    assert voxels_of(a_segmentation, "A") == {(1, 1, 1), (2, 1, 1)}
    effect.modifySelectedSegmentByLabelmap(image, effect.ModificationModeAdd, (0, 0, 1, 1, 1, 1), False)
    assert len(voxels_of(a_segmentation, "A")) == 3


def test_an_extent_of_five_numbers_changes_nothing_and_is_an_error(the_application, a_segmentation, the_active_effect):
    effect = the_active_effect
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P), effect.ModificationModeAdd, [0, 1, 0, 1, 0])
    assert voxels_of(a_segmentation, "A") == set()
    assert "6 int values" in str(the_application.takeSlotErrors())


def test_a_segment_that_is_not_selected_is_changed_by_its_id(a_segmentation, the_active_effect):
    effect = the_active_effect
    effect.modifySegmentByLabelmap(a_segmentation, "C", modifier(effect, Q), effect.ModificationModeAdd)
    assert voxels_of(a_segmentation, "C") == {Q}
    with pytest.raises(TypeError):
        effect.modifySegmentByLabelmap(a_segmentation, "C", modifier(effect, Q), 1, [0, 1, 0, 1, 0, 1])


def test_arguments_that_pythonqt_may_misread_are_refused(the_active_effect):
    effect = the_active_effect
    image = modifier(effect, P)
    for arguments in (
        (image, True),
        (image, 4),
        (image, np.int64(1)),
        (vtk.vtkImageData(), 1),
        (None, 1),
        (image, 1, 1),
        (image, 1, [0.0, 1, 0, 1, 0, 1]),
        (image, 1, True, [0, 1, 0, 1, 0, 1]),
    ):
        with pytest.raises(TypeError):
            effect.modifySelectedSegmentByLabelmap(*arguments)


def test_a_change_that_the_logic_refuses_is_kept_as_an_error(the_application, a_segmentation, the_active_effect):
    effect = the_active_effect
    effect.modifySegmentByLabelmap(a_segmentation, "nobody", modifier(effect, P), effect.ModificationModeAdd)
    assert "ERROR" in str(the_application.takeSlotErrors())


def test_an_effect_of_no_editor_changes_nothing(the_application, a_registered_effect, a_segmentation):
    assert a_registered_effect.defaultModifierLabelmap() is None
    a_registered_effect.modifySegmentByLabelmap(a_segmentation, "A", slicer.vtkOrientedImageData(), 1)
    assert "belongs to no editor" in str(the_application.takeSlotErrors())


def test_every_image_is_one_object_that_is_made_anew(an_editor, a_segmentation, the_active_effect):
    effect = the_active_effect
    image = modifier(effect, P)
    assert effect.modifierLabelmap() is image
    assert array_of(image).sum() == 1
    assert effect.defaultModifierLabelmap() is image
    assert array_of(image).sum() == 0
    assert effect.selectedSegmentLabelmap().GetExtent() == (0, -1, 0, -1, 0, -1)  # an empty segment
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P), effect.ModificationModeAdd)
    selected = effect.selectedSegmentLabelmap()
    assert array_of(selected).shape == SHAPE
    assert np.argwhere(array_of(selected)).tolist() == [list(P)]
    source = effect.sourceVolumeImageData()
    assert array_of(source).ravel().tolist() == list(range(120))
    assert source is not an_editor.sourceVolumeNode().GetImageData()
    assert effect.referenceGeometryImage().GetDimensions() == SHAPE[::-1]


def test_changes_are_undone_and_redone(an_editor, a_segmentation, the_active_effect):
    effect = the_active_effect
    for voxel in (P, Q):
        effect.saveStateForUndo()
        effect.modifySelectedSegmentByLabelmap(modifier(effect, voxel), effect.ModificationModeAdd)
    slicer.util.findChild(an_editor, "UndoButton").click()
    assert voxels_of(a_segmentation, "A") == {P}
    an_editor.undo()
    assert voxels_of(a_segmentation, "A") == set()
    assert not slicer.util.findChild(an_editor, "UndoButton").enabled
    an_editor.redo()
    an_editor.redo()
    assert voxels_of(a_segmentation, "A") == {P, Q}
    assert not slicer.util.findChild(an_editor, "RedoButton").enabled


def test_nine_changes_can_be_undone(an_editor, a_segmentation, the_active_effect):
    assert an_editor.maximumNumberOfUndoStates == 10
    effect = the_active_effect
    for k in range(4):
        for j in range(3):
            effect.saveStateForUndo()
            effect.modifySelectedSegmentByLabelmap(modifier(effect, (k, j, 0)), effect.ModificationModeAdd)
    for _ in range(12):
        an_editor.undo()
    assert len(voxels_of(a_segmentation, "A")) == 3  # 12 changes, 9 undone


def test_the_step_in_a_tag_goes_back_with_undo(an_editor, a_segmentation, the_active_effect):
    effect, segment = the_active_effect, lambda: a_segmentation.GetSegmentation().GetSegment("A")
    segment().SetTag("step", "1")
    effect.saveStateForUndo()
    effect.modifySelectedSegmentByLabelmap(modifier(effect, P), effect.ModificationModeAdd)
    segment().SetTag("step", "2")
    an_editor.undo()
    tag = vtk.reference("")
    assert segment().GetTag("step", tag)
    assert str(tag) == "1"


def test_a_segmentation_of_surfaces_is_edited_only_if_the_user_agrees(
    the_application, an_editor, a_segmentation, the_active_effect
):
    effect = the_active_effect
    effect.modifySelectedSegmentByLabelmap(modifier(effect, np.s_[1:3, 1:4, 1:4]), effect.ModificationModeAdd)
    an_editor.setActiveEffect(None)
    a_segmentation.CreateClosedSurfaceRepresentation()
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    a_segmentation.GetSegmentation().SetSourceRepresentationName(surface)
    the_application.answer(False)
    an_editor.setActiveEffectByName("Test")
    assert an_editor.activeEffect() is None
    an_editor.setActiveEffect(None)
    the_application.answer(True)
    an_editor.setActiveEffectByName("Test")
    assert an_editor.activeEffect() is not None
    assert a_segmentation.GetSegmentation().GetSourceRepresentationName() == "Binary labelmap"
