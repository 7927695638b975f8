"""What the effect MedSeg makes of changes that nobody tells it: other segments, settings, undo, a moved volume."""

from __future__ import annotations

import numpy as np
import vtk

from support.radiologist import MIDDLE, Radiologist

FAR = (20, 30, 20)


def test_a_click_at_another_segment_is_not_taken_while_an_answer_is_awaited(a_radiologist: Radiologist) -> None:
    neighbour = a_radiologist.mask("Neighbour")
    a_radiologist.click(wait=False)
    a_radiologist.editor.setCurrentSegmentID("Neighbour")
    a_radiologist.click(FAR, wait=False)
    assert "is awaited" in a_radiologist.status
    a_radiologist.editor.setCurrentSegmentID("Ball")
    a_radiologist.wait()
    assert a_radiologist.mask()[MIDDLE], a_radiologist.status
    assert len(a_radiologist.prompts) == 1
    assert np.array_equal(a_radiologist.mask("Neighbour"), neighbour)


def test_an_answer_for_a_segment_that_is_not_selected_any_more_is_not_written(a_radiologist: Radiologist) -> None:
    neighbour = a_radiologist.mask("Neighbour")
    a_radiologist.click(wait=False)
    a_radiologist.editor.setCurrentSegmentID("Neighbour")
    a_radiologist.wait()
    assert "changed meanwhile" in a_radiologist.status
    assert not a_radiologist.mask().any()
    assert np.array_equal(a_radiologist.mask("Neighbour"), neighbour)


def test_points_deleted_one_after_the_other_are_those_that_were_meant(a_radiologist: Radiologist) -> None:
    a_radiologist.begin(Tool="network", RegionMm=20)
    places = [(20, 8, 22), (20, 16, 22), (20, 24, 22), (20, 32, 22)]
    for place in places:
        a_radiologist.click(place)
    node = a_radiologist.slicer.mrmlScene.GetFirstNodeByName("MedSeg positive points")
    node.RemoveNthControlPoint(0)
    node.RemoveNthControlPoint(1)
    a_radiologist.wait()
    left = [a_radiologist.ras(places[1]), a_radiologist.ras(places[3])]
    np.testing.assert_allclose([prompt.ras[0] for prompt in a_radiologist.prompts], left, atol=1.0)
    np.testing.assert_allclose(a_radiologist.points(), left, atol=1.0)


def test_the_editors_undo_brings_a_deleted_point_back(a_radiologist: Radiologist) -> None:
    a_radiologist.begin(Tool="network", RegionMm=20)
    for place in ((20, 10, 22), (20, 30, 22)):
        a_radiologist.click(place)
    both = a_radiologist.mask()
    a_radiologist.slicer.mrmlScene.GetFirstNodeByName("MedSeg positive points").RemoveNthControlPoint(0)
    a_radiologist.wait()
    assert len(a_radiologist.prompts) == 1
    a_radiologist.editor.undo()
    a_radiologist.settle()
    assert np.array_equal(a_radiologist.mask(), both)
    assert len(a_radiologist.prompts) == len(a_radiologist.points()) == 2


def test_prompts_are_still_there_after_the_effect_was_left_with_others_not_protected(
    a_radiologist: Radiologist,
) -> None:
    a_radiologist.begin(KeepOthers=0)
    a_radiologist.click()
    a_radiologist.editor.setActiveEffect(None)
    a_radiologist.begin(KeepOthers=0)
    a_radiologist.settle()
    assert len(a_radiologist.prompts) == 1
    a_radiologist.ui.takeBackButton.click()
    a_radiologist.wait()
    assert not a_radiologist.mask().any()
    assert "does not come back" in a_radiologist.status, "what the neighbour lost, if it lost something"


def test_an_area_that_changes_with_the_segment_is_looked_at_again(a_radiologist: Radiologist) -> None:
    a_radiologist.click()
    before = a_radiologist.mask()
    node = a_radiologist.editor.mrmlSegmentEditorNode()
    node.SetMaskMode(a_radiologist.slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments)
    a_radiologist.begin(Tool="network", RegionMm=20, KeepOthers=0, Positive=0)
    away = (20, 24, 24)
    a_radiologist.click(away)
    smaller = a_radiologist.mask()
    assert not smaller[away], a_radiologist.status
    assert not (smaller & ~before).any(), "nothing outside of all segments may be changed"
    correction = a_radiologist.effect.correction
    assert np.array_equal(correction._state.mask, smaller), "what is thought of the segment is what it is"


def test_a_volume_that_was_moved_meanwhile_is_read_again(a_radiologist: Radiologist) -> None:
    a_radiologist.click()
    first = a_radiologist.effect.correction._state.volume
    transform = a_radiologist.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 6.0)
    transform.SetMatrixTransformToParent(matrix)
    a_radiologist.volume.SetAndObserveTransformNodeID(transform.GetID())
    a_radiologist.effect.addPrompt("point", np.array([a_radiologist.ras(FAR)]))
    a_radiologist.wait()
    assert a_radiologist.effect.correction._state.volume is not first
    assert len(a_radiologist.prompts) == 1, "what was seen elsewhere cannot be seen again"


def test_leaving_the_effect_leaves_no_display_node_behind(a_radiologist: Radiologist) -> None:
    scene = a_radiologist.slicer.mrmlScene

    def count() -> int:
        return sum(scene.GetNumberOfNodesByClass(f"vtkMRMLMarkups{kind}DisplayNode") for kind in ("", "ROI"))

    before = count()
    a_radiologist.click()
    assert count() > before
    a_radiologist.editor.setActiveEffect(None)
    assert count() == before
