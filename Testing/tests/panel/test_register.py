"""The tab "Register": two volumes, a transform between them, what it is worth."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import slicer

from medseg.volumes import Volume
from support.registration import a_head, a_smooth_warp, a_turn, distance, moved
from support.results import LABELS, result_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RIGID, AFFINE, MODEL, LAPIRN, FIELD = range(5)
"""The lines of the combo box."""

TURN = a_turn(8.0, (6.0, -4.0, 5.0))


@pytest.fixture(scope="module")
def two_heads() -> tuple[Volume, Volume]:
    """A head, and the same one turned by 8 degrees and shifted."""
    head = a_head((14, 16, 15), (10.0, 10.0, 10.0))
    return head, moved(head, TURN)


@pytest.fixture
def a_registrar(a_user: Any, two_heads: tuple[Volume, Volume]) -> Iterator[Any]:
    """Somebody in front of the tab who wants a turned head on the other one."""
    from medseg.mrml import volume_to_node

    a_user.ui.tabWidget.currentIndex = 2
    a_user.fixed, a_user.moving = (
        volume_to_node(volume, a_user.application.scene, name)
        for volume, name in zip(two_heads, ("Doe before", "Doe after"), strict=True)
    )
    a_user.ui.registerFixedSelector.setCurrentNode(a_user.fixed)
    a_user.ui.registerMovingSelector.setCurrentNode(a_user.moving)
    a_user.ui.registerMethodComboBox.currentIndex = RIGID
    a_user.parameters.registerDevice = a_user.parameters.registerDevice.CPU
    yield a_user
    for section in a_user.panel.jobSections:
        section.controller.abandon("The test is over.")
    a_user.ui.tabWidget.currentIndex = 0


def register(user: Any) -> Any:
    button = user.ui.registerButton
    user.until(lambda: button.enabled, 5.0)
    button.click()
    return finished(user)


def finished(user: Any) -> Any:
    user.until(lambda: not user.panel.register.controller.isRunning, 200.0)
    return user.panel.register.lastOutcome


def start_refining(user: Any, steps: int = 3) -> None:
    """Begin with as many steps as there may be, so that there is time to do something meanwhile."""
    user.ui.registerEffortComboBox.currentIndex = 2
    user.ui.registerButton.click()
    section = user.panel.register
    user.until(lambda: len(section._losses()) >= steps or not section.controller.isRunning, 200.0)
    assert section.controller.isRunning, user.ui.registerStatusLabel.text


def names(user: Any) -> list[str]:
    """Everything in the scene that a user sees."""
    scene = user.application.scene
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return sorted(node.GetName() for node in nodes if not node.GetHideFromEditors() and node.IsA("vtkMRMLStorableNode"))


def segments_on(user: Any, node: Any, name: str) -> Any:
    from medseg.mrml import segmentation_to_node, volume_from_node

    array = volume_from_node(node).array
    labels = np.where(array > 0.6, LABELS[1].value, (array > 0.3) * LABELS[0].value).astype(np.uint8)
    return segmentation_to_node(result_on(volume_from_node(node), labels), node, user.application.scene, name=name)


def points_on(user: Any, points: np.ndarray) -> Any:
    node = user.application.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for point in points:
        node.AddControlPoint(*point)
    return node


def test_a_turned_head_is_brought_onto_the_other(a_registrar: Any, two_heads: tuple[Volume, Volume]) -> None:
    from medseg.mrml import transform_from_node

    slices = a_registrar.application.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    outcome = register(a_registrar)
    assert outcome.state == "done", outcome.sentence
    node = outcome.transformNode
    assert node.GetName() == "Doe after to Doe before"
    assert node.GetClassName() == "vtkMRMLLinearTransformNode"
    assert distance(transform_from_node(node), TURN, two_heads[0].geometry) < 3.0, "a third of a voxel"
    assert node.GetNodeReference(node.GetFixedNodeReferenceRole()) is a_registrar.fixed
    assert node.GetAttribute("MedSeg.Method") == "rigid"
    assert json.loads(node.GetAttribute("MedSeg.Figures"))["correlation_after"] > 0.9
    assert a_registrar.moving.GetParentTransformNode() is None, "only when it is asked for"
    assert outcome.volumeNode.GetName() == "Doe after warped to Doe before"
    assert slices.GetBackgroundVolumeID() == a_registrar.fixed.GetID()
    assert slices.GetForegroundVolumeID() == outcome.volumeNode.GetID()
    assert slices.GetForegroundOpacity() == 0.5

    ui, table = a_registrar.ui, outcome.tableNode
    assert ui.registerTableView.mrmlTableNode() is table
    assert [table.GetCellText(row, 0) for row in range(2)] == ["Correlation", "Mutual information"]
    assert "fit better than before" in ui.registerStatusLabel.text
    assert not ui.registerProgressBar.visible
    assert not ui.registerCurveLabel.visible, "nothing was refined"
    assert "Doe" not in a_registrar.panel.report()


def test_what_was_written_is_held_once_and_the_report_still_tells_of_it(
    a_registrar: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = sys.modules["MedSegLib.registrationRun"].RegistrationRun, []
    write = run._write
    monkeypatch.setattr(run, "_write", lambda own, result: seen.append(weakref.ref(result)) or write(own, result))
    assert register(a_registrar).state == "done"
    gc.collect()
    assert [reference() for reference in seen] == [None], "its volumes are in the scene now"
    assert "Device: cpu" in a_registrar.panel.report()


def test_nothing_is_shown_of_the_moving_volume_but_what_is_asked_for(a_registrar: Any) -> None:
    ui = a_registrar.ui
    ui.registerWarpedCheckBox.checked = False
    ui.registerShowThroughCheckBox.checked = True
    ui.registerShowGridCheckBox.checked = True
    outcome = register(a_registrar)
    assert outcome.volumeNode is None
    assert a_registrar.moving.GetParentTransformNode() is outcome.transformNode
    display = outcome.transformNode.GetDisplayNode()
    assert display.GetVisibility2D()
    assert display.GetVisualizationMode() == slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID

    # Once more: it begins where the volume lies now, and the chosen transform is written again.
    ui.registerTransformSelector.setCurrentNode(outcome.transformNode)
    again = register(a_registrar)
    assert again.state == "done", again.sentence
    assert again.transformNode is outcome.transformNode
    assert len(a_registrar.nodes("vtkMRMLLinearTransformNode")) == 1


def test_the_refinement_is_drawn_and_can_be_stopped_with_the_best(a_registrar: Any) -> None:
    ui = a_registrar.ui
    ui.registerMethodComboBox.currentIndex = LAPIRN
    assert not ui.registerFinishButton.visible
    start_refining(a_registrar)
    assert ui.registerButton.text == "Cancel"
    a_registrar.until(lambda: ui.registerFinishButton.enabled, 10.0)
    a_registrar.until(lambda: ui.registerCurveLabel.visible, 10.0)
    ui.registerFinishButton.click()
    assert not ui.registerFinishButton.enabled
    outcome = finished(a_registrar)
    assert outcome.state == "done", outcome.sentence
    assert "the best that was found until then" in ui.registerStatusLabel.text
    assert not ui.registerFinishButton.visible
    assert outcome.transformNode.IsComposite()
    assert len(a_registrar.panel.register._losses()) < 100 + 60 + 30
    assert ui.registerCurveLabel.visible
    assert "begun with fresh weights" in outcome.sentence
    assert ui.smoothTransformSelector.currentNode() is outcome.transformNode


def test_a_cancelled_registration_leaves_nothing(a_registrar: Any) -> None:
    ui = a_registrar.ui
    before = names(a_registrar)
    ui.registerMethodComboBox.currentIndex = FIELD
    start_refining(a_registrar)
    a_registrar.until(lambda: ui.registerButton.enabled, 5.0)
    ui.registerButton.click()
    assert finished(a_registrar).state == "cancelled"
    assert names(a_registrar) == before
    assert ui.registerButton.text == "Register"
    assert not ui.registerFinishButton.visible


def test_all_that_can_be_asked_for_is_made(a_registrar: Any, two_heads: tuple[Volume, Volume]) -> None:
    ui, parameters = a_registrar.ui, a_registrar.parameters
    ui.registerMethodComboBox.currentIndex = FIELD
    for box in ("Labels", "Inverse", "Jacobian", "Checkerboard", "Difference"):
        getattr(ui, f"register{box}CheckBox").checked = True
    assert not ui.registerLabelsCheckBox.enabled
    points = two_heads[0].geometry.ijk_to_ras_points(np.array([[4, 5, 6], [10, 7, 6], [6, 11, 8], [8, 8, 3.0]]))
    parameters.registerFixedSegmentation = segments_on(a_registrar, a_registrar.fixed, "before segments")
    parameters.registerMovingSegmentation = segments_on(a_registrar, a_registrar.moving, "after segments")
    parameters.registerFixedMask = parameters.registerFixedSegmentation
    parameters.registerFixedPoints = points_on(a_registrar, points)
    parameters.registerMovingPoints = points_on(a_registrar, TURN.apply(points))
    parameters.registerStart = type(parameters.registerStart).LANDMARKS
    assert ui.registerLabelsCheckBox.enabled
    start_refining(a_registrar)
    ui.registerFinishButton.click()
    outcome = finished(a_registrar)
    assert outcome.state == "done", outcome.sentence
    assert set(names(a_registrar)) >= {
        "Doe after to Doe before",
        "Doe before to Doe after",
        "Doe after warped to Doe before",
        "after segments warped to Doe before",
        "Jacobian of Doe after to Doe before",
        "Checkerboard of Doe before and Doe after",
        "Doe after minus Doe before",
        "Doe after to Doe before quality",
    }
    segment = outcome.segmentationNode.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == LABELS[0].name
    table = outcome.tableNode
    rows = {table.GetCellText(row, 0): row for row in range(table.GetNumberOfRows())}
    assert f"Dice {LABELS[0].name}" in rows
    apart = rows["Landmarks apart, mean [mm]"]
    assert float(table.GetCellText(apart, 2)) < float(table.GetCellText(apart, 1))
    assert "Inverse off by up to [mm]" in rows
    assert "landmarks are" in outcome.sentence


def test_what_cannot_be_registered_is_told_and_changes_nothing(a_registrar: Any) -> None:
    from medseg.mrml import volume_to_node

    flat = Volume(np.zeros((8, 8, 8), np.int16), a_head((8, 8, 8), (20.0, 20.0, 20.0)).geometry)
    node = volume_to_node(flat, a_registrar.application.scene, "Doe empty")
    a_registrar.ui.registerMovingSelector.setCurrentNode(node)
    a_registrar.ui.registerShowThroughCheckBox.checked = True
    before = names(a_registrar)
    outcome = register(a_registrar)
    assert outcome.state == "failed"
    assert "there is nothing to align" in outcome.sentence
    assert "color:#c0392b" in a_registrar.ui.registerStatusLabel.text
    assert names(a_registrar) == before
    assert node.GetParentTransformNode() is None


def test_what_is_wrong_with_the_inputs_is_told_at_once(a_registrar: Any) -> None:
    parameters, ui = a_registrar.parameters, a_registrar.ui
    parameters.registerFixedPoints = points_on(a_registrar, np.zeros((2, 3)))
    parameters.registerMovingPoints = points_on(a_registrar, np.zeros((1, 3)))
    ui.registerButton.click()
    assert "2 landmarks in the fixed and 1 in the moving" in ui.registerStatusLabel.text
    parameters.registerFixedPoints = parameters.registerMovingPoints = None
    parameters.registerMovingSegmentation = a_registrar.application.scene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", "Doe^Jane drawn"
    )
    ui.registerButton.click()
    assert "Doe^Jane drawn" in ui.registerStatusLabel.text
    assert "has no segment." in ui.registerStatusLabel.text
    assert "'…' has no segment." in a_registrar.panel.report()
    assert "Doe" not in a_registrar.panel.report()
    assert not a_registrar.panel.register.controller.isRunning
    assert ui.registerButton.text == "Register"


def test_the_button_tells_what_is_missing(a_registrar: Any) -> None:
    ui = a_registrar.ui
    scene = a_registrar.application.scene
    ui.registerMovingSelector.setCurrentNode(a_registrar.fixed)
    assert ui.registerButton.toolTip == "Choose two different volumes."
    ui.registerMovingSelector.setCurrentNode(None)
    assert ui.registerButton.toolTip == "Choose a moving volume."
    ui.registerMovingSelector.setCurrentNode(a_registrar.moving)
    ui.registerFixedSelector.setCurrentNode(None)
    assert ui.registerButton.toolTip == "Choose a fixed volume."
    ui.registerFixedSelector.setCurrentNode(a_registrar.fixed)
    assert ui.registerButton.enabled
    above = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "above")
    a_registrar.fixed.SetAndObserveTransformNodeID(above.GetID())
    ui.registerTransformSelector.setCurrentNode(above)
    assert "which would move it" in ui.registerButton.toolTip
    a_registrar.fixed.SetAndObserveTransformNodeID(None)
    ui.registerMethodComboBox.currentIndex = FIELD
    assert "cannot hold a deformation" in ui.registerButton.toolTip
    ui.registerEffortComboBox.currentIndex = 0
    assert ui.registerButton.enabled, "without refinement it is an affine alignment"
    assert a_registrar.panel.register._request().options["method"] == "affine"


def test_only_what_counts_can_be_changed(a_registrar: Any) -> None:
    ui = a_registrar.ui
    assert not ui.registerSmoothnessSlider.enabled
    assert not ui.registerEffortComboBox.enabled
    assert not ui.registerModelComboBox.visible
    ui.registerMethodComboBox.currentIndex = FIELD
    assert ui.registerSmoothnessSlider.enabled
    assert ui.registerEffortComboBox.enabled
    assert not ui.registerInitialSelector.enabled
    ui.registerStartComboBox.currentIndex = 5
    assert ui.registerInitialSelector.enabled
    ui.registerButton.click()
    assert "No transform to begin with is chosen." in ui.registerStatusLabel.text


def test_volumes_of_two_modalities_are_hinted_at(a_registrar: Any, two_heads: tuple[Volume, Volume]) -> None:
    from medseg.mrml import volume_to_node

    for node, volume, modality in zip((a_registrar.fixed, a_registrar.moving), two_heads, ("CT", "MR"), strict=True):
        volume_to_node(
            Volume(volume.array, volume.geometry, modality=modality), a_registrar.application.scene, node=node
        )
    ui = a_registrar.ui
    ui.registerMethodComboBox.currentIndex = FIELD
    assert not ui.registerHintLabel.visible
    ui.registerSimilarityComboBox.currentIndex = 1
    assert "does not fit two modalities" in ui.registerHintLabel.text


def test_scripts_register_without_the_panel(a_registrar: Any) -> None:
    from medseg.errors import MedSegError

    logic = a_registrar.loaded.source.MedSegLogic()
    outcome = logic.register(a_registrar.fixed, a_registrar.moving, "rigid", outputs=["warped"], device="cpu")
    assert outcome.transformNode.IsLinear()
    assert outcome.volumeNode.GetImageData().GetDimensions() == a_registrar.fixed.GetImageData().GetDimensions()
    before = names(a_registrar)
    with pytest.raises(MedSegError, match="stiffness"):
        logic.register(a_registrar.fixed, a_registrar.moving, "field", stiffness=1)
    with pytest.raises(MedSegError, match="no model"):
        logic.register(a_registrar.fixed, a_registrar.moving, "model", modelName="no-such-model")
    assert names(a_registrar) == before, "what failed leaves nothing behind"


def test_closing_the_scene_stops_a_registration(a_registrar: Any) -> None:
    a_registrar.ui.registerMethodComboBox.currentIndex = FIELD
    start_refining(a_registrar)
    a_registrar.application.closeScene()
    assert not a_registrar.panel.register.controller.isRunning
    assert not a_registrar.ui.registerCurveLabel.visible
    assert a_registrar.nodes("vtkMRMLTransformNode") == []


def test_deleting_a_volume_stops_a_registration(a_registrar: Any) -> None:
    a_registrar.ui.registerMethodComboBox.currentIndex = FIELD
    start_refining(a_registrar)
    a_registrar.application.scene.RemoveNode(a_registrar.moving)
    outcome = finished(a_registrar)
    assert outcome.state == "cancelled"
    assert "moving volume was deleted" in outcome.sentence


@pytest.fixture
def a_registration_model(a_registrar: Any, a_user_folder_of_its_own: Path) -> Iterator[str]:
    """A package with a small LapIRN that nobody trained, installed by the user."""
    from support.registration_packages import write_small_lapirn

    folder = write_small_lapirn(a_user_folder_of_its_own / "models" / "small-lapirn")
    a_registrar.panel.reloadModels()
    a_registrar.panel.update()
    yield folder.name
    shutil.rmtree(folder)
    a_registrar.panel.reloadModels()


def test_a_model_that_registers_is_offered_here_and_not_among_those_that_segment(
    a_registrar: Any, a_registration_model: str
) -> None:
    ui, parameters = a_registrar.ui, a_registrar.parameters
    assert not any("LapIRN" in line for line in a_registrar.shown_models)
    ui.registerMethodComboBox.currentIndex = MODEL
    assert ui.registerModelComboBox.visible
    assert ui.registerModelComboBox.currentText == "Small LapIRN"
    assert "heads of a test" in ui.registerHintLabel.text
    assert parameters.registerSmoothness == pytest.approx(0.7), "what the model was trained for"
    ui.registerEffortComboBox.currentIndex = 0
    outcome = register(a_registrar)
    assert outcome.state == "done", outcome.sentence
    node = outcome.transformNode
    assert (node.GetAttribute("MedSeg.Model"), node.GetAttribute("MedSeg.ModelVersion")) == (
        a_registration_model,
        "1.2.3",
    )
    assert node.GetAttribute("MedSeg.Method") == "model"
    assert node.IsComposite()
    assert "begun with trained weights of Small LapIRN version 1.2.3" in outcome.sentence
    a_registrar.panel.onModelsChanged(a_registration_model)
    assert parameters.modelName == "bright-blob"


def test_without_a_model_the_method_says_so(a_registrar: Any) -> None:
    a_registrar.ui.registerMethodComboBox.currentIndex = MODEL
    assert a_registrar.ui.registerButton.toolTip == "Choose a model, or another method."


def smooth(user: Any) -> Any:
    button = user.ui.smoothButton
    user.until(lambda: button.enabled, 5.0)
    button.click()
    user.until(lambda: not user.panel.smooth.controller.isRunning, 120.0)
    return user.panel.smooth.lastOutcome


def test_a_transform_is_smoothed_into_a_new_one(a_registrar: Any, two_heads: tuple[Volume, Volume]) -> None:
    from medseg.mrml import transform_from_node, transform_to_node

    scene, geometry = a_registrar.application.scene, two_heads[0].geometry
    rough = a_smooth_warp(geometry, 20.0).then(TURN)
    node = transform_to_node(
        rough, scene, "rough", fixed_node=a_registrar.fixed, moving_node=a_registrar.moving, method="field"
    )
    a_registrar.ui.smoothTransformSelector.setCurrentNode(node)
    a_registrar.parameters.smoothDistance = 20.0
    outcome = smooth(a_registrar)
    assert outcome.state == "done", outcome.sentence
    found = outcome.transformNode
    assert found is not node
    assert found.GetName() == "rough smoothed"
    assert found.GetAttribute("MedSeg.Method") == "smoothed by diffusion"
    assert found.GetNodeReference(found.GetMovingNodeReferenceRole()) is a_registrar.moving
    field, matrix = transform_from_node(found).stages
    assert np.abs(field.vectors).max() < np.abs(rough.stages[0].vectors).max()
    np.testing.assert_allclose(matrix, TURN.matrix, atol=1e-9)
    table = outcome.tableNode
    assert a_registrar.ui.smoothTableView.mrmlTableNode() is table
    assert float(table.GetCellText(1, 2)) < float(table.GetCellText(1, 1)), "the spread of the Jacobian"
    assert "changed by" in a_registrar.ui.smoothStatusLabel.text


def test_a_linear_transform_has_nothing_to_smooth(a_registrar: Any) -> None:
    ui = a_registrar.ui
    assert ui.smoothButton.toolTip == "Choose a transform with a displacement field."
    node = a_registrar.application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turn")
    ui.smoothTransformSelector.setCurrentNode(node)
    ui.smoothButton.click()
    assert "has no displacement field" in ui.smoothStatusLabel.text


BEFORE_AND_AFTER = {
    "correlation_before": 0.5,
    "correlation_after": 0.9,
    "information_before": 0.3,
    "information_after": 0.4,
}


FOLDLESS = {"folded_share": 0.0, "folded_share_strict": 0.0, "non_diffeomorphic_volume": 0.0}


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (BEFORE_AND_AFTER, ["fit better than before (their correlation went from 0.50 to 0.90)"]),
        ({**BEFORE_AND_AFTER, "correlation_after": 0.2}, ["their mutual information went from 0.30 to 0.40"]),
        ({**BEFORE_AND_AFTER, "correlation_after": 0.5, "information_after": 0.2}, ["do not fit better", "check"]),
        ({"correlation_before": None, "correlation_after": 0.9}, ["not known"]),
        (
            {**BEFORE_AND_AFTER, "overlap": {"mean_dice_before": 0.8, "mean_dice_after": 0.6}},
            ["do not fit better than before (the mean Dice of the segments went from 0.80 to 0.60)"],
        ),
        (
            {**BEFORE_AND_AFTER, "landmarks_before": {"mean_mm": 9.0}, "landmarks_after": {"mean_mm": 1.25}},
            ["The landmarks are 1.2 mm apart on average, after 9.0 mm before."],
        ),
        ({**BEFORE_AND_AFTER, "deformation": FOLDLESS}, ["folds nowhere"]),
        ({**BEFORE_AND_AFTER, "inverse_error_mm": 3.0}, ["The inverse is off by up to 3.0 mm."]),
    ],
)
def test_the_figures_are_put_into_plain_words(a_user: Any, figures: dict[str, Any], expected: list[str]) -> None:
    verdict = sys.modules["MedSegLib.registrationVerdict"].verdict(figures)
    assert all(words in verdict for words in expected), verdict


@pytest.mark.parametrize("measure", FOLDLESS)
def test_a_fold_between_voxels_is_one(a_user: Any, measure: str) -> None:
    figures = {**BEFORE_AND_AFTER, "deformation": {**FOLDLESS, measure: 1e-4}}
    assert "folds nowhere" not in sys.modules["MedSegLib.registrationVerdict"].verdict(figures)
