"""What the editor shows becomes arrays, what was corrected becomes small changes, and its rules are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import slicer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.mrml.corrections import (
    aligned_volume,
    change_images,
    editable_voxels,
    mark_corrected,
    mask_of,
    save_log,
    saved_log,
)
from medseg.mrml.images import allocate_image
from medseg.mrml.points import points_in_frame, points_in_world
from medseg.volumes import Geometry
from support.mrml import MrmlApplication, add_linear_transform_node, add_volume_node, tag_of

SHAPE = (5, 7, 9)
ANGLE = np.deg2rad(20)
MATRIX = np.array(
    [[np.cos(ANGLE), -np.sin(ANGLE), 0, 4], [np.sin(ANGLE), np.cos(ANGLE), 0, -8], [0, 0, 2.5, 3], [0, 0, 0, 1]]
)
LOGIC, NODE = slicer.vtkSlicerSegmentEditorLogic, slicer.vtkMRMLSegmentationNode


@dataclass
class Editor:
    """Slicer's own editor logic on a segmentation of three segments: one in the middle, neighbours at both ends."""

    logic: Any
    node: Any
    segmentation: Any
    identifiers: tuple[str, str, str]

    def read(self) -> tuple[Any, Any, np.ndarray]:
        """Return the reference geometry, the aligned source volume and the selected segment."""
        self.logic.UpdateReferenceGeometryImage()
        self.logic.UpdateAlignedSourceVolume()
        self.logic.UpdateSelectedSegmentLabelmap()
        reference = self.logic.GetReferenceGeometryImage()
        return (
            reference,
            self.logic.GetAlignedSourceVolume(),
            mask_of(self.logic.GetSelectedSegmentLabelmap(), reference),
        )

    def write(self, mask: np.ndarray) -> None:
        reference, _, before = self.read()
        added, removed = change_images(before, mask, (0, 0, 0), reference)
        for image, mode in ((removed, LOGIC.ModificationModeRemove), (added, LOGIC.ModificationModeAdd)):
            if image is not None:
                self.logic.ModifySegmentByLabelmap(
                    self.segmentation, self.node.GetSelectedSegmentID(), image, mode, True, False
                )

    def array(self, index: int) -> np.ndarray:
        self.node.SetSelectedSegmentID(self.identifiers[index])
        return self.read()[2]


@pytest.fixture
def an_editor(an_mrml_application: MrmlApplication) -> Editor:
    scene = an_mrml_application.scene
    image = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    volume_node = add_volume_node(scene, image, MATRIX)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    node.SetAndObserveSegmentationNode(segmentation)
    node.SetAndObserveSourceVolumeNode(volume_node)
    logic = LOGIC()
    logic.SetMRMLScene(scene)
    logic.SetSegmentEditorNode(node)
    logic.TrivialSetSourceRepresentationToBinaryLabelmap()
    identifiers = tuple(segmentation.GetSegmentation().AddEmptySegment() for _ in range(3))
    editor = Editor(logic, node, segmentation, identifiers)
    for index, columns in enumerate((slice(0, 3), slice(3, 6), slice(6, 9))):
        node.SetSelectedSegmentID(identifiers[index])
        mask = np.zeros(SHAPE, bool)
        mask[1:4, 2:5, columns] = True
        editor.write(mask)
    node.SetSelectedSegmentID(identifiers[1])
    return editor


def test_volume_and_segment_are_read_on_the_editors_grid(an_editor: Editor) -> None:
    _, source, mask = an_editor.read()
    volume = aligned_volume(source)
    assert volume.geometry.is_close(Geometry(SHAPE, MATRIX))
    assert np.array_equal(volume.array, np.arange(np.prod(SHAPE)).reshape(SHAPE))
    assert mask.sum() == 27
    assert mask[1:4, 2:5, 3:6].all()


def test_an_empty_segment_and_a_missing_volume(an_editor: Editor) -> None:
    an_editor.write(np.zeros(SHAPE, bool))
    reference, _, mask = an_editor.read()
    assert not mask.any()
    assert mask.shape == SHAPE
    assert not mask_of(None, reference).any()
    with pytest.raises(InputError, match="no volume"):
        aligned_volume(None)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_any_change_arrives_to_the_voxel_and_leaves_the_neighbours(
    an_editor: Editor, seed: int, density: float
) -> None:
    neighbours = [an_editor.array(index) for index in (0, 2)]
    an_editor.node.SetSelectedSegmentID(an_editor.identifiers[1])
    reference, source, _ = an_editor.read()
    allowed = editable_voxels(an_editor.node, reference, source)
    wanted = (np.random.default_rng(seed).random(SHAPE) < density) & allowed
    an_editor.write(wanted)
    assert np.array_equal(an_editor.array(1), wanted)
    for index, before in zip((0, 2), neighbours, strict=True):
        assert np.array_equal(an_editor.array(index), before)


def test_only_what_changes_is_sent(an_editor: Editor) -> None:
    reference, _, mask = an_editor.read()
    assert change_images(mask, mask, (0, 0, 0), reference) == (None, None)
    after = mask.copy()
    after[2, 2, 6] = True
    added, removed = change_images(mask, after, (0, 0, 0), reference)
    assert removed is None
    assert added.GetExtent() == (6, 6, 2, 2, 2, 2)
    part = (slice(2, 3), slice(1, 4), slice(5, 8))
    added, _ = change_images(mask[part], after[part], (2, 1, 5), reference)
    assert added.GetExtent() == (6, 6, 2, 2, 2, 2)


def test_other_segments_are_left_alone_unless_told_otherwise(an_editor: Editor) -> None:
    reference, source, mask = an_editor.read()
    allowed = editable_voxels(an_editor.node, reference, source)
    assert allowed is not None
    assert allowed[mask].all()
    assert not allowed[1:4, 2:5, 0:3].any()
    assert not allowed[1:4, 2:5, 6:9].any()
    assert allowed.sum() == np.prod(SHAPE) - 2 * 27
    assert editable_voxels(an_editor.node, reference, source, keep_others=False) is None


def test_area_and_intensity_of_the_editor_are_honoured(an_editor: Editor) -> None:
    reference, source, _ = an_editor.read()
    node = an_editor.node
    node.SetMaskMode(NODE.EditAllowedInsideAllSegments)
    inside = editable_voxels(node, reference, source, keep_others=False)
    assert inside is not None
    assert inside.sum() == 3 * 27
    node.SetMaskMode(NODE.EditAllowedInsideSingleSegment)
    node.SetMaskSegmentID(an_editor.identifiers[0])
    first = editable_voxels(node, reference, source, keep_others=False)
    assert first is not None
    assert first[1:4, 2:5, 0:3].all()
    assert first.sum() == 27
    node.SetMaskMode(NODE.EditAllowedEverywhere)
    node.SourceVolumeIntensityMaskOn()
    node.SetSourceVolumeIntensityMaskRange(100.0, 120.0)
    bright = editable_voxels(node, reference, source, keep_others=False)
    assert bright is not None
    assert np.array_equal(np.flatnonzero(bright), np.arange(100, 121))


def test_a_segment_drawn_elsewhere_is_cut_to_the_grid(an_editor: Editor) -> None:
    reference, _, _ = an_editor.read()
    image = slicer.vtkOrientedImageData()
    allocate_image(image, (-1, 5, 7), (3, 4, 4), np.uint8)[...] = 1
    mask = mask_of(image, reference)
    assert mask.sum() == 2 * 2 * 2
    assert mask[0:2, 5:7, 7:9].all()
    far = slicer.vtkOrientedImageData()
    allocate_image(far, (20, 20, 20), (2, 2, 2), np.uint8)[...] = 1
    assert not mask_of(far, reference).any()


def test_a_corrected_segment_says_so_and_keeps_where_it_came_from(an_editor: Editor) -> None:
    segment = an_editor.segmentation.GetSegmentation().GetSegment(an_editor.identifiers[1])
    segment.SetTag("DICOM.SegmentAlgorithmType", "AUTOMATIC")
    segment.SetTag("DICOM.SegmentAlgorithmName", "MedSeg left-atrium-mr 1.0.0")
    for _ in range(2):
        mark_corrected(segment, {"name": "any-structure", "version": "0.1.0"})
    assert tag_of(segment, "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
    assert tag_of(segment, "DICOM.SegmentAlgorithmName") == "MedSeg any-structure 0.1.0"
    assert tag_of(segment, "MedSeg.EditedFrom") == "MedSeg left-atrium-mr 1.0.0"


def test_the_log_is_kept_with_the_scene(an_editor: Editor) -> None:
    identifier = an_editor.identifiers[1]
    assert saved_log(an_editor.segmentation, identifier) == ""
    text = '{"prompts":[{"type":"point"}],"text":"<&\\"|;: "}'
    save_log(an_editor.segmentation, identifier, text)
    scene = an_editor.segmentation.GetScene()
    scene.SetSaveToXMLString(1)
    scene.Commit()
    other = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(other)
    other.SetLoadFromXMLString(1)
    other.SetSceneXMLString(scene.GetSceneXMLString())
    other.Import()
    read = other.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    assert saved_log(read, identifier) == text
    save_log(an_editor.segmentation, identifier, "")
    assert identifier not in "".join(an_editor.segmentation.GetAttributeNames())


def test_points_are_seen_in_the_frame_of_a_moved_segmentation(an_editor: Editor) -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = (10, -5, 2)
    scene = an_editor.segmentation.GetScene()
    an_editor.segmentation.SetAndObserveTransformNodeID(add_linear_transform_node(scene, matrix).GetID())
    world = np.array([[11.0, 2, 3], [10, -5, 2]])
    inside = points_in_frame(world, an_editor.segmentation)
    np.testing.assert_allclose(inside, world - (10, -5, 2))
    np.testing.assert_allclose(points_in_world(inside, an_editor.segmentation), world)
