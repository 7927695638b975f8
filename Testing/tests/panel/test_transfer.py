"""The section "Thin slices from thick labels": a thick copy, a drawing on it, a segmentation of the thin slices."""

from __future__ import annotations

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


def draw(user: Any) -> Any:
    """Press "Make thick copy" and draw the ball on it, as the Segment Editor would."""
    user.ui.makeThickCopyButton.click()
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
    ui.makeThickCopyButton.click()
    assert ui.drawButton.enabled
    assert "Press Draw" in ui.transferStatusLabel.text
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


def test_too_thin_slices_are_told_in_one_sentence_and_make_nothing(a_drawer: Any) -> None:
    a_drawer.ui.thicknessSpinBox.value = 1.0
    a_drawer.ui.makeThickCopyButton.click()
    assert "do not become thicker" in a_drawer.ui.transferStatusLabel.text
    assert a_drawer.parameters.thickSegmentation is None
    assert len(a_drawer.nodes("vtkMRMLScalarVolumeNode")) == 1


def test_an_empty_drawing_is_told_in_one_sentence(a_drawer: Any) -> None:
    a_drawer.ui.makeThickCopyButton.click()
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
    a_drawer.ui.makeThickCopyButton.click()
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
