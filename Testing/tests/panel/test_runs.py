"""From volume node to segmentation node: the panel's button, the real worker process, a small real model."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import slicer
import vtk

from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path


def dice(first: Any, second: Any) -> float:
    return 2.0 * (first & second).sum() / (first.sum() + second.sum())


def test_a_volume_node_becomes_a_complete_segmentation_node(a_user: Any, a_blob_image: Any) -> None:
    from medseg.mrml import labelmap_from_segmentation

    image, truth = a_blob_image
    volume = a_user.load(image)
    a_user.ui.show3DCheckBox.checked = True
    a_user.press()
    outcome = a_user.finish()
    assert outcome.state == "done", outcome.sentence

    (node,) = a_user.nodes()
    assert node is outcome.segmentationNode
    labelmap = labelmap_from_segmentation(node, volume)
    assert labelmap.geometry.is_close(image.geometry)
    assert dice(labelmap.array == 1, truth.array > 0) > 0.9
    segment = node.GetSegmentation().GetNthSegment(0)
    text = vtk.reference("")
    assert segment.GetName() == "bright blob"
    assert segment.GetTag(segment.GetTerminologyEntryTagName(), text)
    assert "SCT^4147007^Mass" in str(text)
    assert segment.GetTag("DICOM.SegmentAlgorithmType", text)
    assert str(text) == "AUTOMATIC"
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    assert node.GetSegmentation().ContainsRepresentation(surface)

    table = a_user.parameters.resultTable
    assert table is outcome.tableNode
    assert table.GetNumberOfRows() == 1
    assert a_user.ui.resultsTableView.mrmlTableNode() is table
    assert "Finished" in a_user.status
    assert not a_user.ui.progressBar.visible
    assert a_user.ui.segmentButton.text == "Segment"


def test_each_run_makes_a_new_segmentation_and_only_a_chosen_one_is_overwritten(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    a_user.parameters.makeTable = False
    for expected in (1, 2):
        a_user.press()
        assert a_user.finish().state == "done"
        assert len(a_user.nodes()) == expected
    assert a_user.nodes("vtkMRMLTableNode") == []

    first = a_user.nodes()[0]
    a_user.ui.outputSelector.setCurrentNode(first)
    a_user.parameters.makeTable = True
    for _ in range(2):
        a_user.press()
        outcome = a_user.finish()
        assert outcome.segmentationNode is first
    assert len(a_user.nodes()) == 2
    assert len(a_user.nodes("vtkMRMLTableNode")) == 1


def test_progress_is_shown_while_the_event_loop_goes_on(a_user: Any, a_large_image: Any) -> None:
    a_user.load(a_large_image)
    a_user.start_and_wait_for_progress()
    values, texts = set(), set()

    def enough() -> bool:
        values.add(a_user.ui.progressBar.value)
        texts.add(a_user.status)
        return len(values) > 5 or not a_user.panel.controller.isRunning

    a_user.until(enough)
    assert len(values) > 5
    assert all(texts)
    assert a_user.ui.progressBar.visible
    assert a_user.ui.segmentButton.text == "Cancel"
    a_user.press("Cancel")
    a_user.finish(10.0)


def test_a_cancelled_run_writes_nothing_and_the_next_one_works(
    a_user: Any, a_large_image: Any, a_blob_image: Any
) -> None:
    a_user.load(a_large_image)
    a_user.start_and_wait_for_progress()
    a_user.press("Cancel")
    assert not a_user.ui.segmentButton.enabled
    outcome = a_user.finish(10.0)
    assert (outcome.state, a_user.status) == ("cancelled", "Cancelled.")
    assert a_user.nodes() == []
    a_user.load(a_blob_image[0])
    a_user.press()
    assert a_user.finish().state == "done"


def test_pressing_twice_starts_one_run_and_keeps_it(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    started: list[Any] = []
    client = a_user.panel.controller._readyClient()
    submit = client.submit
    client.submit = lambda *arguments: started.append(arguments) or submit(*arguments)
    try:
        a_user.press()
        a_user.ui.segmentButton.click()
        a_user.panel.onSegmentButton()
        assert a_user.finish().state == "done"
    finally:
        del client.submit
    assert len(started) == 1
    assert len(a_user.nodes()) == 1


def test_closing_the_scene_during_a_run_stops_it_and_the_panel_works_on(
    a_user: Any, a_large_image: Any, a_blob_image: Any
) -> None:
    a_user.load(a_large_image)
    a_user.start_and_wait_for_progress()
    job = a_user.panel.controller._run.job
    a_user.application.closeScene()
    outcome = a_user.finish(10.0)
    assert outcome.state == "cancelled"
    assert "scene was closed" in a_user.status
    assert a_user.nodes() == []
    assert not a_user.ui.segmentButton.enabled
    a_user.until(lambda: job.state == "cancelled", 10.0)
    a_user.until(lambda: a_user.panel._poller._functions == [], 10.0)
    a_user.parameters.modelName = "bright-blob"
    a_user.load(a_blob_image[0])
    a_user.press()
    assert a_user.finish().state == "done"
    assert len(a_user.nodes()) == 1


def test_deleting_the_input_during_a_run_stops_it(a_user: Any, a_large_image: Any) -> None:
    node = a_user.load(a_large_image)
    a_user.start_and_wait_for_progress()
    a_user.application.scene.RemoveNode(node)
    outcome = a_user.finish(10.0)
    assert outcome.state == "cancelled"
    assert "input volume was deleted" in a_user.status
    assert a_user.nodes() == []


def test_deleting_the_output_during_a_run_stops_it(a_user: Any, a_large_image: Any) -> None:
    a_user.load(a_large_image)
    output = a_user.application.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    a_user.ui.outputSelector.setCurrentNode(output)
    a_user.start_and_wait_for_progress()
    a_user.application.scene.RemoveNode(output)
    outcome = a_user.finish(10.0)
    assert outcome.state == "cancelled"
    assert "output segmentation was deleted" in a_user.status
    assert a_user.nodes() == []


def test_importing_a_scene_during_a_run_does_not_disturb_it(a_user: Any, a_blob_image: Any, tmp_path: Path) -> None:
    scene = a_user.application.scene
    other = slicer.vtkMRMLScene()
    other.AddNewNodeByClass("vtkMRMLModelNode", "from the other scene")
    other.SetURL(str(tmp_path / "other.mrml"))
    assert other.Commit()
    volume = a_user.load(a_blob_image[0])
    a_user.press()
    scene.SetURL(str(tmp_path / "other.mrml"))
    assert scene.Import()
    outcome = a_user.finish()
    assert outcome.state == "done", outcome.sentence
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert outcome.segmentationNode.GetNodeReference(role) is volume
    assert len(a_user.nodes("vtkMRMLModelNode")) >= 1


def test_a_result_waits_until_an_import_is_over(a_user: Any, a_blob_image: Any) -> None:
    scene = a_user.application.scene
    a_user.load(a_blob_image[0])
    a_user.press()
    run = a_user.panel.controller._run
    scene.StartState(scene.ImportState)
    try:
        a_user.until(lambda: run.job.state == "done")
        a_user.application.processEvents()
        assert run.poll() is None
        assert a_user.nodes() == []
    finally:
        scene.EndState(scene.ImportState)
    assert a_user.finish().state == "done"
    assert len(a_user.nodes()) == 1


def test_going_to_another_module_lets_the_run_go_on(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    a_user.press()
    a_user.loaded.exit()
    assert a_user.finish().state == "done"
    a_user.loaded.enter()
    assert a_user.parameters.resultTable is not None


@pytest.mark.parametrize("name", ["empty", "constant", "not a number"])
def test_a_volume_that_cannot_be_segmented_is_told_in_one_sentence(a_user: Any, a_blob_image: Any, name: str) -> None:
    image = a_blob_image[0]
    if name == "empty":
        node = a_user.application.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        a_user.ui.inputSelector.setCurrentNode(node)
    else:
        value = 7.0 if name == "constant" else float("nan")
        a_user.load(image.with_array(image.array * 0 + value))
    a_user.press()
    outcome = a_user.finish()
    assert outcome is None or outcome.state == "failed"
    assert "color:#c0392b" in a_user.status
    assert "defect" not in a_user.status
    assert "Traceback" not in a_user.status
    assert a_user.nodes() == []
    assert [message for message in a_user.application.messages if message.shown] == []


def test_nothing_found_is_said_instead_of_an_empty_success(a_user: Any) -> None:
    import numpy as np

    noise = np.random.default_rng(1).normal(60, 12, (40, 40, 40)).astype(np.float32)
    a_user.load(Volume(noise, Geometry.from_spacing(noise.shape), modality="MR"))
    a_user.press()
    outcome = a_user.finish()
    assert outcome.state == "done"
    assert "Nothing was found" in a_user.status


def test_an_interpreter_that_is_not_there_is_told_and_clearing_it_helps(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    a_user.ui.pythonPathLineEdit.currentPath = "/nowhere/python"
    a_user.press()
    assert "There is no Python at /nowhere/python" in a_user.status
    assert not a_user.panel.controller.isRunning
    a_user.ui.pythonPathLineEdit.currentPath = ""
    a_user.press()
    assert a_user.finish().state == "done"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script")
def test_an_interpreter_that_is_no_python_is_told(a_user: Any, a_blob_image: Any, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho nonsense\nexit 3\n", encoding="utf-8")
    fake.chmod(0o755)
    a_user.load(a_blob_image[0])
    a_user.ui.pythonPathLineEdit.currentPath = str(fake)
    a_user.press()
    outcome = a_user.finish()
    assert outcome.state == "failed"
    assert "color:#c0392b" in a_user.status
    assert "Traceback" not in a_user.status


def test_an_environment_of_the_users_own_segments_without_any_installation(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    a_user.ui.pythonPathLineEdit.currentPath = sys.executable
    a_user.press()
    assert a_user.finish().state == "done"
    assert a_user.application.installations == []


def test_the_report_tells_versions_and_log_and_no_names(a_user: Any, a_blob_image: Any) -> None:
    node = a_user.load(a_blob_image[0])
    node.SetName("Doe^Jane")
    a_user.press()
    a_user.finish()
    a_user.ui.copyReportButton.click()
    text = slicer.app.clipboard().text()
    for expected in ("MedSeg", slicer.app.applicationVersion, "bright-blob 0.1.0", "torch", "voxels"):
        assert expected in text, text
    assert "Doe" not in text
    assert "clipboard" in a_user.status


def test_scripts_segment_without_the_panel(a_user: Any, a_blob_image: Any) -> None:
    from medseg.errors import MedSegError
    from medseg.mrml import volume_to_node

    node = volume_to_node(a_blob_image[0], a_user.application.scene)
    logic = a_user.loaded.source.MedSegLogic()
    outcome = logic.segment(node, "bright-blob", device="cpu")
    assert outcome.segmentationNode.GetSegmentation().GetNumberOfSegments() == 1
    with pytest.raises(MedSegError, match="no model"):
        logic.segment(node, "no-such-model")


def test_a_closed_scene_leaves_no_result_in_the_panels_hands(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    a_user.press()
    assert a_user.finish().segmentationNode is not None
    a_user.application.closeScene()
    assert a_user.panel.lastOutcome is None
