"""The tab "Analyse": one segment into its instances, and where a network looks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import slicer
import vtk

from medseg.volumes import Geometry, Volume
from support.attention import write_attending_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE = (24, 20, 22)


def an_image() -> Volume:
    noise = np.random.default_rng(3).normal(60, 12, SHAPE).astype(np.float32)
    return Volume(noise, Geometry.from_spacing(SHAPE, (1.0, 1.0, 2.0)), name="spine", modality="MR")


def two_blocks(user: Any, volume_node: Any) -> Any:
    """A segmentation with a segment of two blocks, and an empty one."""
    from medseg.mrml import segmentation_to_node, volume_from_node
    from support.results import result_on

    array = np.zeros(SHAPE, np.uint8)
    array[2:8, 4:10, 4:10] = 1
    array[12:18, 4:10, 4:10] = 1
    array[20:22, 15:17, 15:17] = 1
    array[2:4, 15:17, 15:17] = 200
    return segmentation_to_node(
        result_on(volume_from_node(volume_node), array), volume_node, user.application.scene, name="bones"
    )


@pytest.fixture
def an_analyst(a_user: Any) -> Iterator[Any]:
    """Somebody in front of the tab, with a volume and a segmentation of two large parts and a small one."""
    a_user.ui.tabWidget.currentIndex = 3
    a_user.volume = a_user.load(an_image())
    a_user.segmentation = two_blocks(a_user, a_user.volume)
    a_user.ui.splitSegmentationSelector.setCurrentNode(a_user.segmentation)
    yield a_user
    for section in a_user.panel.jobSections:
        section.controller.abandon("The test is over.")
    a_user.ui.tabWidget.currentIndex = 0


def finish(user: Any, section: Any) -> Any:
    user.until(lambda: not section.controller.isRunning, 120.0)
    return section.lastOutcome


def names_of(node: Any) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(index).GetName() for index in range(segmentation.GetNumberOfSegments())]


def test_a_segment_is_split_into_named_instances_beside_it(an_analyst: Any) -> None:
    ui, section = an_analyst.ui, an_analyst.panel.split
    first = names_of(an_analyst.segmentation)[0]
    assert ui.splitSegmentComboBox.currentText == first
    ui.splitButton.click()
    outcome = finish(an_analyst, section)
    assert outcome.state == "done", outcome.sentence
    node = outcome.segmentationNode
    assert node.GetName() == f"{first} instances"
    assert names_of(node) == [f"{first} a", f"{first} b", f"{first} c"]
    assert outcome.sentence.startswith("3 instances were found.")
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is an_analyst.volume
    text = vtk.reference("")
    before, after = an_analyst.segmentation.GetSegmentation(), node.GetSegmentation()
    tag = slicer.vtkSegment.GetTerminologyEntryTagName()
    assert before.GetNthSegment(0).GetTag(tag, text)
    codes = str(text).split("~")[1:3]
    assert after.GetNthSegment(0).GetTag(tag, text)
    assert str(text).split("~")[1:3] == codes
    display = an_analyst.segmentation.GetDisplayNode()
    visible = [display.GetSegmentVisibility(identifier) for identifier in before.GetSegmentIDs()]
    assert visible == [False, True], "the segment that was split would hide its instances"


def test_small_parts_are_left_out_when_asked(an_analyst: Any) -> None:
    ui = an_analyst.ui
    ui.minimumVolumeSpinBox.value = 100
    ui.keepEndsCheckBox.checked = False
    ui.splitButton.click()
    outcome = finish(an_analyst, an_analyst.panel.split)
    assert len(names_of(outcome.segmentationNode)) == 2
    assert "smaller than the minimum volume were removed" in ui.splitStatusLabel.text


def test_a_segmentation_without_its_volume_is_split_too(an_analyst: Any) -> None:
    an_analyst.application.scene.RemoveNode(an_analyst.volume)
    transform = an_analyst.application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    an_analyst.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    an_analyst.ui.splitButton.click()
    outcome = finish(an_analyst, an_analyst.panel.split)
    assert outcome.state == "done", outcome.sentence
    assert outcome.segmentationNode.GetParentTransformNode() is transform


def test_the_neck_counts_only_for_parts_that_touch(an_analyst: Any) -> None:
    ui = an_analyst.ui
    assert not ui.neckSpinBox.enabled
    ui.splitTouchingCheckBox.checked = True
    assert ui.neckSpinBox.enabled
    request = an_analyst.panel.split._request()
    assert (request.options["method"], request.options["neck_mm"]) == ("watershed", 3.0)
    ui.connectivityComboBox.currentIndex = 1
    assert an_analyst.panel.split._request().options["connectivity"] == 26


def test_the_segments_follow_the_segmentation(an_analyst: Any) -> None:
    ui = an_analyst.ui
    assert ui.splitSegmentComboBox.count == 2
    ui.splitSegmentComboBox.currentIndex = 1
    assert an_analyst.parameters.splitSegmentID == list(an_analyst.segmentation.GetSegmentation().GetSegmentIDs())[1]
    ui.splitSegmentationSelector.setCurrentNode(None)
    assert ui.splitSegmentComboBox.count == 0
    assert ui.splitButton.toolTip == "Choose a segmentation."


def test_an_empty_segment_is_told_in_one_sentence(an_analyst: Any) -> None:
    segmentation = an_analyst.segmentation.GetSegmentation()
    identifier = segmentation.AddEmptySegment("nothing", "nothing")
    an_analyst.panel.update()
    an_analyst.parameters.splitSegmentID = identifier
    an_analyst.ui.splitButton.click()
    outcome = finish(an_analyst, an_analyst.panel.split)
    assert outcome.state == "failed"
    assert "has no voxel" in outcome.sentence
    assert "color:#c0392b" in an_analyst.ui.splitStatusLabel.text


def test_deleting_the_segmentation_stops_the_job(an_analyst: Any) -> None:
    an_analyst.ui.splitButton.click()
    an_analyst.application.scene.RemoveNode(an_analyst.segmentation)
    outcome = finish(an_analyst, an_analyst.panel.split)
    assert outcome.state == "cancelled"
    assert "segmentation was deleted" in outcome.sentence


@pytest.fixture
def an_attending_model(an_analyst: Any, a_user_folder_of_its_own: Path) -> str:
    write_attending_package(a_user_folder_of_its_own / "models" / "looks-around")
    an_analyst.panel.onModelsChanged("")
    return "looks-around"


def test_without_a_model_with_attention_the_button_says_so(an_analyst: Any) -> None:
    an_analyst.panel.onModelsChanged("")
    assert an_analyst.ui.attentionModelComboBox.count == 0
    assert "No model with attention" in an_analyst.ui.attentionButton.toolTip


def test_a_point_becomes_a_map_over_the_volume(an_analyst: Any, an_attending_model: str) -> None:
    ui, scene = an_analyst.ui, an_analyst.application.scene
    assert ui.attentionModelComboBox.currentText == "Looks around"
    ui.attentionVolumeSelector.setCurrentNode(an_analyst.volume)
    assert ui.attentionButton.toolTip == "Place a point."
    ui.placePointButton.click()
    points = an_analyst.parameters.attentionPoint
    assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID() == points.GetID()
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place

    ui.attentionButton.click()
    assert "has no point" in ui.attentionStatusLabel.text
    points.AddControlPoint(*an_image().geometry.ijk_to_ras_points(np.array([[10.0, 9.0, 11.0]]))[0])
    ui.attentionButton.click()
    outcome = finish(an_analyst, an_analyst.panel.attention)
    assert outcome.state == "done", outcome.sentence
    overlay = outcome.volumeNode
    assert overlay.GetName() == "spine attention"
    assert overlay.GetImageData().GetPointData().GetScalars().GetNumberOfTuples() >= 1
    before = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    ui.attentionButton.click()
    assert finish(an_analyst, an_analyst.panel.attention).volumeNode is overlay
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before


def test_a_point_outside_is_told_in_one_sentence(an_analyst: Any, an_attending_model: str) -> None:
    points = an_analyst.application.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.AddControlPoint(1000.0, 0.0, 0.0)
    an_analyst.ui.attentionVolumeSelector.setCurrentNode(an_analyst.volume)
    an_analyst.ui.attentionPointSelector.setCurrentNode(points)
    an_analyst.ui.attentionButton.click()
    outcome = finish(an_analyst, an_analyst.panel.attention)
    assert outcome.state == "failed"
    assert "outside" in outcome.sentence


def test_a_segmentation_compared_with_its_copy_has_full_quality(an_analyst: Any) -> None:
    ui = an_analyst.ui
    assert ui.compareButton.toolTip == "Choose a segmentation."
    other = two_blocks(an_analyst, an_analyst.volume)
    ui.compareSegmentationSelector.setCurrentNode(an_analyst.segmentation)
    ui.referenceSegmentationSelector.setCurrentNode(an_analyst.segmentation)
    assert "two different" in ui.compareButton.toolTip
    ui.referenceSegmentationSelector.setCurrentNode(other)
    ui.compareButton.click()
    assert not ui.compareButton.enabled
    an_analyst.until(lambda: not an_analyst.panel.compare.isRunning, 30.0)
    assert "Panoptic quality 1.000: 2 found, 0 invented, 0 missed." in ui.compareStatusLabel.text
    table = ui.compareTableView.mrmlTableNode()
    last = table.GetNumberOfRows() - 1
    assert table.GetCellText(last, 0) == "all"
    assert table.GetNumberOfRows() == 3


def test_closing_the_scene_during_a_comparison_says_that_it_was_stopped(an_analyst: Any) -> None:
    ui = an_analyst.ui
    ui.referenceSegmentationSelector.setCurrentNode(two_blocks(an_analyst, an_analyst.volume))
    ui.compareSegmentationSelector.setCurrentNode(an_analyst.segmentation)
    ui.compareButton.click()
    assert an_analyst.panel.compare.isRunning
    an_analyst.application.closeScene()
    assert not an_analyst.panel.compare.isRunning
    assert "The scene was closed" in ui.compareStatusLabel.text
    an_analyst.until(lambda: not an_analyst.panel._poller._functions, 30.0)
    assert "The scene was closed" in ui.compareStatusLabel.text
    assert an_analyst.nodes("vtkMRMLTableNode") == []


def test_label_maps_are_computed_away_from_the_main_thread(an_analyst: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.mrml.label_reading import LabelReading as reading

    threads: list[Any] = []
    compute = reading.labelmap

    def labelmap(self: Any) -> Volume:
        threads.append(threading.current_thread())
        return compute(self)

    monkeypatch.setattr(reading, "labelmap", labelmap)
    ui = an_analyst.ui
    ui.referenceSegmentationSelector.setCurrentNode(two_blocks(an_analyst, an_analyst.volume))
    ui.compareSegmentationSelector.setCurrentNode(an_analyst.segmentation)
    ui.compareButton.click()
    assert not ui.compareButton.enabled
    an_analyst.until(lambda: not an_analyst.panel.compare.isRunning, 30.0)
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_segments_are_read_without_resampling_where_they_lie_on_the_grid(
    an_analyst: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.mrml import label_reading

    monkeypatch.setattr(label_reading, "resampled_labels", lambda *_: pytest.fail("resampled"))
    read = label_reading.read_labels(an_analyst.segmentation, an_analyst.volume)
    assert int((read.labelmap().array == 1).sum()) == 2 * 6**3 + 2**3


def moved(user: Any) -> None:
    transform = user.application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 2.0)
    transform.SetMatrixTransformToParent(matrix)
    user.segmentation.SetAndObserveTransformNodeID(transform.GetID())


def on_a_larger_grid(user: Any) -> None:
    """The volume has half as many slices: segments reach beyond it on both sides."""
    from medseg.mrml import volume_to_node

    image = an_image()
    part = Volume(image.array[4:16], image.geometry.cropped((4, 0, 0), (16, *SHAPE[1:])), name="part")
    user.volume = volume_to_node(part, user.application.scene)


def on_another_grid(user: Any) -> None:
    from medseg.mrml import volume_to_node

    coarse = Geometry.from_spacing((10, 18, 9), (2.5, 1.1, 4.0), origin=(1.0, -1.5, 0.7))
    user.volume = volume_to_node(Volume(np.zeros(coarse.shape, np.float32), coarse, name="x"), user.application.scene)


def overlapping(user: Any) -> None:
    """A second image of labels over the first, with a large value of its own."""
    segmentation = user.segmentation.GetSegmentation()
    identifier = segmentation.AddEmptySegment("over", "Over")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    image = logic.CreateOrientedImageDataFromVolumeNode(user.volume)
    image.SetExtent(5, 9, 5, 12, 3, 14)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    image.GetPointData().GetScalars().Fill(1)
    logic.SetBinaryLabelmapToSegment(image, user.segmentation, identifier, logic.MODE_REPLACE)
    segmentation.SeparateSegmentLabelmap(identifier)
    segmentation.GetSegment(identifier).SetTag("MedSeg.LabelValue", "300")
    segmentation.AddEmptySegment("nothing", "Nothing")


@pytest.mark.parametrize("change", [lambda _: None, moved, on_a_larger_grid, on_another_grid, overlapping])
def test_what_is_read_is_what_slicer_resamples(an_analyst: Any, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.mrml import label_reading

    change(an_analyst)
    found = label_reading.labelmap_from_segmentation(an_analyst.segmentation, an_analyst.volume)
    monkeypatch.setattr(label_reading, "_start_of", lambda *_: None)  # so that Slicer places every segment
    expected = label_reading.labelmap_from_segmentation(an_analyst.segmentation, an_analyst.volume)
    assert expected.array.any()
    assert found.array.dtype == expected.array.dtype
    assert np.array_equal(found.array, expected.array)
    assert found.geometry.is_close(expected.geometry)


def test_what_was_read_outlives_its_segmentation(an_analyst: Any) -> None:
    from medseg.mrml.label_reading import read_labels

    read = read_labels(an_analyst.segmentation, an_analyst.volume)
    an_analyst.application.scene.RemoveNode(an_analyst.segmentation)
    an_analyst.segmentation = None
    assert int((read.labelmap().array == 1).sum()) == 2 * 6**3 + 2**3


def test_what_keeps_segmentations_from_being_compared_is_one_sentence(an_analyst: Any) -> None:
    ui, scene = an_analyst.ui, an_analyst.application.scene
    other = two_blocks(an_analyst, an_analyst.volume)
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing in it")
    ui.compareSegmentationSelector.setCurrentNode(an_analyst.segmentation)
    ui.referenceSegmentationSelector.setCurrentNode(empty)
    ui.compareButton.click()
    assert "has no segment" in ui.compareStatusLabel.text
    ui.referenceSegmentationSelector.setCurrentNode(other)
    scene.RemoveNode(an_analyst.volume)
    ui.compareButton.click()
    assert "is not in the scene" in ui.compareStatusLabel.text
    assert "color:#c0392b" in ui.compareStatusLabel.text
    assert ui.compareButton.enabled


def test_instances_are_said_to_have_letters(an_analyst: Any) -> None:
    assert "called a, b, c from head to feet" in an_analyst.ui.splitButton.toolTip


def test_closing_the_scene_during_a_comparison_writes_nothing(an_analyst: Any) -> None:
    ui = an_analyst.ui
    ui.referenceSegmentationSelector.setCurrentNode(two_blocks(an_analyst, an_analyst.volume))
    ui.compareSegmentationSelector.setCurrentNode(an_analyst.segmentation)
    ui.compareButton.click()
    an_analyst.application.closeScene()
    an_analyst.until(lambda: an_analyst.panel._poller._functions == [], 30.0)
    assert an_analyst.nodes("vtkMRMLTableNode") == []
