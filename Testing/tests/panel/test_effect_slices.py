"""The effect MedSeg with the model for single slices: the slice is that of the view in which a prompt was drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.correction import write_clicks_package

if TYPE_CHECKING:
    from slicer_app import SlicerApplication
    from support.radiologist import Radiologist

MIDDLE = (20, 20, 20)
AXES = {"Red": 0, "Green": 1, "Yellow": 2}


@pytest.fixture(scope="module")
def clicks_resources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundled resources with both models that follow clicks, though nobody has trained them."""
    folder = tmp_path_factory.mktemp("resources")
    for name, flat in (("any-structure", False), ("any-slice", True)):
        write_clicks_package(folder / "Models" / name, flat=flat)
    return folder


def click_in(radiologist: Radiologist, application: SlicerApplication, view: str, voxel: Any = MIDDLE) -> None:
    radiologist.red = application.sliceView(view)
    radiologist.click(voxel)


def slices_of(mask: np.ndarray, axis: int) -> list[int]:
    return np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis))).tolist()


@pytest.mark.parametrize("view", AXES)
def test_a_click_changes_the_slice_of_the_view(
    a_radiologist: Radiologist, application: SlicerApplication, view: str
) -> None:
    a_radiologist.begin(Tool="slice")
    click_in(a_radiologist, application, view)
    assert a_radiologist.status == ""
    assert a_radiologist.mask()[MIDDLE]
    assert slices_of(a_radiologist.mask(), AXES[view]) == [MIDDLE[AXES[view]]]
    from support.mrml import tag_of

    assert tag_of(a_radiologist.node.GetSegmentation().GetSegment("Ball"), "MedSeg.Model") == "any-slice"


def test_a_click_in_another_view_leaves_what_was_drawn_in_the_first(
    a_radiologist: Radiologist, application: SlicerApplication
) -> None:
    a_radiologist.begin(Tool="slice")
    click_in(a_radiologist, application, "Red")
    first = a_radiologist.mask()
    click_in(a_radiologist, application, "Yellow", (20, 20, 26))
    assert [prompt.plane for prompt in a_radiologist.prompts] == ["axial", "sagittal"], a_radiologist.status
    changed = a_radiologist.mask() != first
    assert slices_of(changed, 2) == [26]
    a_radiologist.editor.undo()
    a_radiologist.settle()
    assert np.array_equal(a_radiologist.mask(), first)
    assert len(a_radiologist.prompts) == 1


def test_it_goes_on_to_the_slices_beside_it_as_far_as_the_box_says(
    a_radiologist: Radiologist, application: SlicerApplication
) -> None:
    a_radiologist.begin(Tool="slice")
    a_radiologist.ui.reachSpinBox.value = 6
    assert a_radiologist.effect.options.settings().reachMm == 6
    click_in(a_radiologist, application, "Red")
    assert a_radiologist.status == ""
    found = slices_of(a_radiologist.mask(), 0)
    assert 20 in found
    assert min(found) >= 16
    assert max(found) <= 24
    region = a_radiologist.effect.correction.lastRegion
    assert 1 <= region.shape[0] <= 9
    assert a_radiologist.effect.correction.promptsInWorld()[0][0].plane == "axial"


def test_the_reach_is_shown_for_this_tool_alone(a_radiologist: Radiologist) -> None:
    combo = a_radiologist.ui.toolComboBox
    names = [combo.itemText(place) for place in range(combo.count)]
    assert "A model for single slices" in names
    for tool, shown in (("slice", True), ("network", False), ("threshold", False)):
        a_radiologist.begin(Tool=tool)
        a_radiologist.settle()
        assert a_radiologist.ui.reachSpinBox.isVisibleTo(a_radiologist.effect.options.widget) == shown
        assert a_radiologist.ui.reachLabel.isVisibleTo(a_radiologist.effect.options.widget) == shown
    assert "reach_mm" not in a_radiologist.effect.options.settings().options()


def test_slices_are_those_of_the_segmentation_when_it_is_turned(a_radiologist: Radiologist) -> None:
    transform = a_radiologist.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    a_radiologist.slicer.util.updateTransformMatrixFromArray(transform, matrix)
    a_radiologist.node.SetAndObserveTransformNodeID(transform.GetID())
    across = a_radiologist.effect.correction.planeAcross(np.zeros(3), np.array([0.0, 0, 1]))
    assert across == "coronal"
    a_radiologist.node.SetAndObserveTransformNodeID(None)
    assert a_radiologist.effect.correction.planeAcross(np.zeros(3), np.array([0.0, 0, 1])) == "axial"
