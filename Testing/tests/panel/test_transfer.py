"""The section "Thin slices from thick labels": a thick copy, a drawing on it, a segmentation of the thin slices."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import slicer
import vtk

from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (24, 26, 28)
THICKNESS = 4.0  # four slices of 1 mm


def a_ball() -> np.ndarray:
    k, j, i = np.ogrid[:24, :26, :28]
    return (k - 11.5) ** 2 + (j - 13) ** 2 + (i - 14) ** 2 < 8.0**2


@pytest.fixture
def a_drawer(a_user: Any) -> Iterator[Any]:
    """Somebody who has a thin volume of a bright ball and wants its thin segmentation from few drawn slices."""
    noise = np.random.default_rng(5).normal(60, 8, SHAPE).astype(np.float32)
    image = Volume(noise + 90 * a_ball(), Geometry.from_spacing(SHAPE, (1.0, 1.0, 1.0)), name="ball", modality="MR")
    a_user.volume = a_user.load(image)
    a_user.parameters.thickness = THICKNESS
    a_user.ui.transferMethodComboBox.currentIndex = 1
    yield a_user
    a_user.panel.transfer.controller.abandon("The test is over.")


def make(user: Any) -> None:
    """Press "Make thick copy" and wait for it."""
    user.ui.makeThickCopyButton.click()
    user.until(lambda: not user.panel.transfer.isMaking, 30.0)


def draw(user: Any) -> Any:
    """Press "Make thick copy" and draw the ball on it, as the Segment Editor would."""
    make(user)
    segmentation = user.parameters.thickSegmentation
    thick = user.panel.transfer._thickNode()
    assert thick.GetImageData().GetDimensions()[2] == 6
    identifier = segmentation.GetSegmentation().AddEmptySegment("ball", "Round thing")
    segment = segmentation.GetSegmentation().GetSegment(identifier)
    segment.SetColor(0.2, 0.4, 0.6)
    tag = "Segmentation category and type - MedSeg~SCT^85756007^Tissue~SCT^4147007^Mass~^^~Anatomy~^^~^^"
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
    drawn = a_ball().reshape(6, 4, 26, 28).mean(1) > 0.5
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    image = logic.CreateOrientedImageDataFromVolumeNode(thick)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    from vtk.util.numpy_support import vtk_to_numpy

    vtk_to_numpy(image.GetPointData().GetScalars())[:] = drawn.ravel()
    logic.SetBinaryLabelmapToSegment(image, segmentation, identifier, logic.MODE_REPLACE)
    user.loaded.exit()
    user.loaded.enter()
    return segmentation


def transfer(user: Any) -> Any:
    button = user.ui.transferButton
    user.until(lambda: button.enabled, 5.0)
    button.click()
    user.until(lambda: not user.panel.transfer.controller.isRunning, 120.0)
    return user.panel.transfer.lastOutcome


def test_the_button_leads_through_the_steps(a_drawer: Any) -> None:
    ui = a_drawer.ui
    assert ui.transferButton.toolTip == "Make a thick copy and draw on it."
    assert not ui.drawButton.enabled
    make(a_drawer)
    assert ui.drawButton.enabled
    assert "Press Draw" in ui.transferStatusLabel.text
    assert "draw on the axial slices of 4 mm" in ui.transferStatusLabel.text
    assert ui.transferButton.toolTip == "Draw at least one segment on the thick copy."
    assert a_drawer.parameters.inputVolume is a_drawer.volume


def test_what_was_drawn_appears_on_the_thin_slices_with_name_color_and_codes(a_drawer: Any) -> None:
    from medseg.mrml import labelmap_from_segmentation

    drawing = draw(a_drawer)
    outcome = transfer(a_drawer)
    assert outcome.state == "done", outcome.sentence
    node = outcome.segmentationNode
    segment = node.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "Round thing"
    assert segment.GetColor() == pytest.approx((0.2, 0.4, 0.6))
    text = vtk.reference("")
    assert segment.GetTag(segment.GetTerminologyEntryTagName(), text)
    assert "SCT^4147007^Mass" in str(text)
    assert segment.GetTag("DICOM.SegmentAlgorithmType", text)
    assert str(text) == "SEMIAUTOMATIC"
    found = labelmap_from_segmentation(node, a_drawer.volume).array > 0
    truth = a_ball()
    assert 2.0 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.93
    assert not drawing.GetDisplayNode().GetVisibility()

    table = outcome.tableNode
    assert a_drawer.ui.transferTableView.mrmlTableNode() is table
    assert table.GetNumberOfRows() >= 4
    assert table.GetCellText(0, 1) == "Round thing"
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is a_drawer.volume


def test_the_volume_of_the_copy_counts_whatever_is_chosen_by_now(a_drawer: Any) -> None:
    draw(a_drawer)
    thick = a_drawer.panel.transfer._thickNode()
    a_drawer.ui.inputSelector.setCurrentNode(thick)
    assert transfer(a_drawer).state == "done"


def test_the_copy_is_computed_away_from_the_main_thread(a_drawer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import medseg.training.thin_thick as package

    threads: list[Any] = []
    compute = package.thick_copy

    def thick_copy(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return compute(*arguments, **options)

    monkeypatch.setattr(package, "thick_copy", thick_copy)
    button = a_drawer.ui.makeThickCopyButton
    button.click()
    assert not button.enabled
    assert "Making the thick copy" in a_drawer.ui.transferStatusLabel.text
    button.click()
    a_drawer.until(lambda: button.enabled, 30.0)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    assert len(a_drawer.nodes("vtkMRMLScalarVolumeNode")) == 2


def test_the_copy_lies_where_the_volume_lies_and_looks_like_it(a_drawer: Any) -> None:
    from medseg.mrml import make_thick_copy, volume_from_node

    display = a_drawer.volume.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(123.0, 45.0)
    transform = a_drawer.application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    a_drawer.volume.SetAndObserveTransformNodeID(transform.GetID())
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_drawer.application.scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "a patient")
    hierarchy.CreateItem(folder, a_drawer.volume)
    make(a_drawer)
    node = a_drawer.panel.transfer._thickNode()
    expected = make_thick_copy(a_drawer.application.scene, a_drawer.volume, THICKNESS)
    made, wanted = volume_from_node(node), volume_from_node(expected)
    assert made.geometry.is_close(wanted.geometry)
    assert np.array_equal(made.array, wanted.array)
    assert expected.GetName().startswith(node.GetName())
    assert node.GetParentTransformNode() is transform
    assert a_drawer.parameters.thickSegmentation.GetParentTransformNode() is transform
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (123.0, 45.0)
    assert node.GetDisplayNode().GetColorNodeID() == expected.GetDisplayNode().GetColorNodeID()
    made_of = [hierarchy.GetItemByDataNode(one) for one in (node, a_drawer.parameters.thickSegmentation)]
    assert {hierarchy.GetItemParent(item) for item in made_of} == {folder}


def test_a_volume_that_is_deleted_meanwhile_has_no_copy(a_drawer: Any) -> None:
    a_drawer.ui.makeThickCopyButton.click()
    a_drawer.application.scene.RemoveNode(a_drawer.volume)
    a_drawer.until(lambda: not a_drawer.panel.transfer.isMaking, 30.0)
    assert "The volume was deleted" in a_drawer.ui.transferStatusLabel.text
    assert a_drawer.nodes("vtkMRMLScalarVolumeNode") == []


def test_closing_the_scene_while_a_copy_is_computed_writes_nothing(a_drawer: Any) -> None:
    a_drawer.ui.makeThickCopyButton.click()
    a_drawer.application.closeScene()
    a_drawer.until(lambda: a_drawer.panel._poller._functions == [], 30.0)
    assert a_drawer.nodes("vtkMRMLScalarVolumeNode") == []
    assert not a_drawer.panel.transfer.isMaking


def test_a_sagittal_series_is_drawn_on_and_transferred_in_its_own_plane(a_drawer: Any) -> None:
    from medseg.mrml import labelmap_from_segmentation, volume_from_node, volume_to_node

    ball = a_ball()
    geometry = Geometry.from_spacing(SHAPE, (0.8, 1.0, 1.0))
    noise = np.random.default_rng(6).normal(0, 5, SHAPE)
    image = Volume((100.0 * ball + noise).astype(np.float32), geometry, name="sagittal")
    node = volume_to_node(image, a_drawer.application.scene)
    a_drawer.ui.inputSelector.setCurrentNode(node)
    assert "sagittal slices of 4 mm" in a_drawer.ui.makeThickCopyButton.toolTip
    a_drawer.ui.slicePlaneComboBox.currentIndex = 3
    assert "coronal slices of 4 mm" in a_drawer.ui.makeThickCopyButton.toolTip
    a_drawer.ui.slicePlaneComboBox.currentIndex = 0
    make(a_drawer)
    assert "draw on the sagittal slices of 4 mm" in a_drawer.ui.transferStatusLabel.text
    thick = a_drawer.panel.transfer._thickNode()
    assert thick.GetImageData().GetDimensions() == (5, 26, 24)
    labels = volume_from_node(thick)
    labelmap = a_drawer.application.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    volume_to_node(labels.with_array((labels.array > 50).astype(np.uint8)), a_drawer.application.scene, node=labelmap)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(
        labelmap, a_drawer.parameters.thickSegmentation
    )
    a_drawer.panel.update()
    outcome = transfer(a_drawer)
    assert outcome.state == "done", outcome.sentence
    found = labelmap_from_segmentation(outcome.segmentationNode, node).array > 0
    assert 2.0 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.85
    assert outcome.tableNode.GetNumberOfRows() > 0


def test_the_paper_s_joint_loss_can_be_chosen(a_drawer: Any) -> None:
    combo = a_drawer.ui.transferMethodComboBox
    combo.currentIndex = 2
    assert combo.currentText == "Joint loss of the paper (slowest)"
    assert "three parts of the paper's loss" in combo.toolTip
    assert a_drawer.parameters.transferMethod.name == "JOINT", "saved scenes hold the name"
    draw(a_drawer)
    request = a_drawer.panel.transfer._request()
    assert request.options["method"] == "joint"
    short = dataclasses.replace(request, options={**request.options, "steps": 3})
    run = a_drawer.panel.transfer.controller.start(short)
    a_drawer.until(lambda: not a_drawer.panel.transfer.controller.isRunning, 120.0)
    assert run.job.state == "done", run.job.error


def test_too_thin_slices_are_told_in_one_sentence_and_make_nothing(a_drawer: Any) -> None:
    a_drawer.ui.thicknessSpinBox.value = 1.0
    make(a_drawer)
    assert "do not become thicker" in a_drawer.ui.transferStatusLabel.text
    assert a_drawer.parameters.thickSegmentation is None
    assert len(a_drawer.nodes("vtkMRMLScalarVolumeNode")) == 1


def test_an_empty_drawing_is_told_in_one_sentence(a_drawer: Any) -> None:
    make(a_drawer)
    a_drawer.parameters.thickSegmentation.GetSegmentation().AddEmptySegment("nothing", "Nothing")
    a_drawer.panel.update()
    outcome = transfer(a_drawer)
    assert outcome.state == "failed"
    assert "color:#c0392b" in a_drawer.ui.transferStatusLabel.text


def test_a_copy_that_is_gone_is_told(a_drawer: Any) -> None:
    draw(a_drawer)
    a_drawer.application.scene.RemoveNode(a_drawer.panel.transfer._thickNode())
    a_drawer.panel.update()
    assert not a_drawer.ui.drawButton.enabled
    assert "is not in the scene" in a_drawer.ui.transferButton.toolTip


def test_draw_opens_the_segment_editor_with_both(a_drawer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)
    make(a_drawer)
    a_drawer.ui.drawButton.click()
    assert opened == ["SegmentEditor"]
    node = a_drawer.application.scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert node.GetSegmentationNode() is a_drawer.parameters.thickSegmentation
    assert node.GetSourceVolumeNode() is a_drawer.panel.transfer._thickNode()


def test_a_transfer_is_cancelled(a_drawer: Any) -> None:
    a_drawer.ui.transferMethodComboBox.currentIndex = 0
    draw(a_drawer)
    ui = a_drawer.ui
    ui.transferButton.click()
    a_drawer.until(lambda: ui.transferButton.text == "Cancel" and ui.transferButton.enabled, 30.0)
    ui.transferButton.click()
    a_drawer.until(lambda: not a_drawer.panel.transfer.controller.isRunning, 20.0)
    assert a_drawer.panel.transfer.lastOutcome.state == "cancelled"
    assert len(a_drawer.nodes()) == 1
