"""The effect MedSeg in the stand-in for the Segment Editor, with the real worker: clicks, undo, what may go wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support.mrml import tag_of
from support.radiologist import MIDDLE, SIZE, Radiologist

if TYPE_CHECKING:
    from pathlib import Path

    from slicer_app import SlicerApplication


def test_a_click_draws_what_is_pointed_at_and_leaves_the_neighbour(a_radiologist: Radiologist) -> None:
    neighbour = a_radiologist.mask("Neighbour")
    a_radiologist.click()
    found = a_radiologist.mask()
    wanted = a_radiologist.ball & ~neighbour
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.9, a_radiologist.status
    assert np.array_equal(a_radiologist.mask("Neighbour"), neighbour)
    assert a_radiologist.status == ""
    assert a_radiologist.ui.promptsLabel.text.startswith("1 prompt; the last one could change")
    np.testing.assert_allclose(a_radiologist.points(), [a_radiologist.ras(MIDDLE)], atol=1.0)


def test_a_model_follows_clicks_inside_and_outside(a_radiologist: Radiologist) -> None:
    a_radiologist.begin(Tool="network", RegionMm=40)
    a_radiologist.click()
    assert a_radiologist.mask()[MIDDLE], a_radiologist.status
    a_radiologist.scripted.setParameter("Positive", 0)
    beside = (20, 24, 24)
    a_radiologist.click(beside)
    assert not a_radiologist.mask()[beside], a_radiologist.status
    assert a_radiologist.mask()[MIDDLE]
    assert len(a_radiologist.points(positive=False)) == 1
    segment = a_radiologist.node.GetSegmentation().GetSegment("Ball")
    assert tag_of(segment, "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
    assert tag_of(segment, "MedSeg.Model") == "any-structure"


def test_without_a_model_the_effect_begins_with_a_helper_and_says_so(
    a_radiologist: Radiologist, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a_radiologist.begin(Tool="")
    assert a_radiologist.ui.toolComboBox.currentText == "A model that follows prompts"
    a_radiologist.editor.setActiveEffect(None)
    monkeypatch.setenv("MEDSEG_RESOURCES", str(tmp_path))
    a_radiologist.begin(Tool="")
    assert a_radiologist.ui.toolComboBox.currentText == "Growing (fast marching)"
    assert "No model" in a_radiologist.status
    a_radiologist.click()
    assert a_radiologist.mask()[MIDDLE], a_radiologist.status
    assert a_radiologist.status == ""


def test_undo_and_redo_are_those_of_the_editor_and_the_prompts_follow(a_radiologist: Radiologist) -> None:
    a_radiologist.begin(Tool="network", RegionMm=30)
    states = [a_radiologist.mask()]
    for place in (MIDDLE, (20, 28, 20), (14, 20, 20)):
        a_radiologist.click(place)
        states.append(a_radiologist.mask())
    for count in (2, 1, 0):
        a_radiologist.editor.undo()
        a_radiologist.settle()
        assert np.array_equal(a_radiologist.mask(), states[count])
        assert len(a_radiologist.prompts) == len(a_radiologist.points()) == count
    for count in (1, 2):
        a_radiologist.editor.redo()
        a_radiologist.settle()
        assert np.array_equal(a_radiologist.mask(), states[count])
        assert len(a_radiologist.prompts) == count
    a_radiologist.click((14, 20, 20))
    assert np.array_equal(a_radiologist.mask(), states[3])
    assert len(a_radiologist.prompts) == 3


def test_a_point_that_is_deleted_or_moved_is_as_if_it_had_been_elsewhere(a_radiologist: Radiologist) -> None:
    a_radiologist.begin(Tool="network", RegionMm=30)
    places = [(12, 20, 20), MIDDLE, (26, 24, 24)]
    for place in (places[0], places[2]):
        a_radiologist.click(place)
    without = a_radiologist.mask()
    a_radiologist.editor.undo()
    a_radiologist.editor.undo()
    a_radiologist.settle()
    for place in places:
        a_radiologist.click(place)
    node = a_radiologist.slicer.mrmlScene.GetFirstNodeByName("MedSeg positive points")
    node.RemoveNthControlPoint(1)
    a_radiologist.wait()
    assert np.array_equal(a_radiologist.mask(), without)
    assert len(a_radiologist.prompts) == 2
    node.SetNthControlPointPositionWorld(0, *a_radiologist.ras((12, 22, 24)))
    node.InvokeEvent(node.PointEndInteractionEvent)
    a_radiologist.wait()
    assert a_radiologist.mask()[12, 22, 24]
    assert len(a_radiologist.prompts) == 2


def test_scribbles_boxes_and_lassos_are_drawn_by_dragging(a_radiologist: Radiologist) -> None:
    start, stop = a_radiologist.at((20, 14, 17), (20, 14, 26))
    a_radiologist.red.press(start)
    a_radiologist.red.move(stop)
    assert len(a_radiologist.red.actors) == 1, "the line is shown while it is drawn"
    a_radiologist.red.release(stop)
    assert len(a_radiologist.red.actors) == 0
    a_radiologist.wait()
    assert [prompt.kind for prompt in a_radiologist.prompts] == ["scribble"], a_radiologist.status
    assert a_radiologist.mask()[20, 14, 17:27].all()
    a_radiologist.red.key("o")
    assert a_radiologist.ui.boxButton.checked
    a_radiologist.red.drag(*a_radiologist.at((20, 12, 16), (20, 26, 28)))
    a_radiologist.wait()
    assert a_radiologist.prompts[-1].kind == "box", a_radiologist.status
    a_radiologist.red.key("l")
    a_radiologist.red.key("n")
    assert a_radiologist.ui.negativeButton.checked
    corners = a_radiologist.at(*((20, j, i) for j, i in ((18, 18), (18, 22), (22, 22), (22, 18))))
    a_radiologist.red.press(corners[0])
    for corner in corners[1:]:
        a_radiologist.red.move(corner)
    a_radiologist.red.release(corners[-1])
    a_radiologist.wait()
    assert a_radiologist.prompts[-1].kind == "lasso", a_radiologist.status
    assert not a_radiologist.mask()[20, 19:22, 19:22].any()


def test_what_is_too_small_for_a_box_is_not_followed(a_radiologist: Radiologist) -> None:
    a_radiologist.scripted.setParameter("Shape", "box")
    a_radiologist.click(wait=False)
    assert "Drag to draw" in a_radiologist.status
    assert not a_radiologist.effect.correction.isRunning


def test_control_turns_the_sign_around_for_one_press(a_radiologist: Radiologist) -> None:
    a_radiologist.click()
    a_radiologist.red.click(*a_radiologist.at((20, 24, 20)), control=True)
    a_radiologist.wait()
    assert [prompt.positive for prompt in a_radiologist.prompts] == [True, False]
    assert a_radiologist.ui.positiveButton.checked


def test_the_cursor_tells_what_a_press_does(a_radiologist: Radiologist) -> None:
    places = a_radiologist.at(MIDDLE, (20, 24, 20))
    view = a_radiologist.red.widget.sliceView()

    def shown() -> bytes:
        return bytes(view.cursor().pixmap().toImage().constBits())

    a_radiologist.red.move(places[0])
    adding = shown()
    a_radiologist.red.move(places[1], control=True)
    removing = shown()
    assert removing != adding
    a_radiologist.red.key("n")
    a_radiologist.red.move(places[0])
    assert shown() == removing


def test_clicks_during_an_answer_are_followed_after_it(a_radiologist: Radiologist) -> None:
    places = [MIDDLE, (20, 26, 20), (20, 20, 26)]
    for place in places:
        a_radiologist.click(place, wait=False)
    assert a_radiologist.effect.correction.isRunning
    a_radiologist.wait()
    assert len(a_radiologist.prompts) == 3, a_radiologist.status
    assert all(a_radiologist.mask()[place] for place in places)


def test_a_segment_painted_meanwhile_is_not_overwritten(a_radiologist: Radiologist) -> None:
    a_radiologist.click(wait=False)
    painted = np.zeros(a_radiologist.geometry.shape, bool)
    painted[2:5, 30:34, 30:34] = True
    a_radiologist.draw(painted)
    a_radiologist.wait()
    assert np.array_equal(a_radiologist.mask(), painted)
    assert "changed meanwhile" in a_radiologist.status
    a_radiologist.click()
    assert a_radiologist.mask()[MIDDLE], a_radiologist.status
    assert a_radiologist.mask()[2:5, 30:34, 30:34].all(), "what was painted is the start now"
    assert len(a_radiologist.prompts) == 1


def test_other_segments_may_be_overwritten_when_the_user_wants_it(a_radiologist: Radiologist) -> None:
    neighbour = a_radiologist.mask("Neighbour")
    inside = tuple(int(n) for n in np.argwhere(a_radiologist.ball & neighbour)[0])
    a_radiologist.click(inside)
    assert "nothing may be changed" in a_radiologist.status
    assert np.array_equal(a_radiologist.mask("Neighbour"), neighbour)
    a_radiologist.ui.keepOthersCheckBox.click()
    a_radiologist.click(inside)
    assert a_radiologist.mask()[inside], a_radiologist.status
    assert not a_radiologist.mask("Neighbour")[inside], "the editor is set to overwrite all"
    a_radiologist.editor.undo()
    a_radiologist.settle()
    assert np.array_equal(a_radiologist.mask("Neighbour"), neighbour)


def test_overlap_is_allowed_when_the_editor_says_so(a_radiologist: Radiologist) -> None:
    neighbour = a_radiologist.mask("Neighbour")
    inside = tuple(int(n) for n in np.argwhere(a_radiologist.ball & neighbour)[0])
    node = a_radiologist.editor.mrmlSegmentEditorNode()
    node.SetOverwriteMode(node.OverwriteNone)
    a_radiologist.begin(KeepOthers=0)
    a_radiologist.click(inside)
    assert a_radiologist.mask()[inside], a_radiologist.status
    assert np.array_equal(a_radiologist.mask("Neighbour"), neighbour)


def test_the_editable_area_is_kept(a_radiologist: Radiologist) -> None:
    node = a_radiologist.editor.mrmlSegmentEditorNode()
    node.SourceVolumeIntensityMaskOn()
    node.SetSourceVolumeIntensityMaskRange(80.0, 200.0)
    a_radiologist.begin(Tool="network", RegionMm=40)
    a_radiologist.click()
    image = a_radiologist.slicer.util.arrayFromVolume(a_radiologist.volume)
    assert a_radiologist.mask().any(), a_radiologist.status
    assert image[a_radiologist.mask()].min() >= 80


def test_a_click_outside_of_the_volume_says_so(a_radiologist: Radiologist) -> None:
    world = np.array([[900.0, 0, 0]])
    a_radiologist.effect.addPrompt("point", world)
    a_radiologist.wait()
    assert "outside of the volume" in a_radiologist.status
    a_radiologist.click()
    assert a_radiologist.status == ""
    assert len(a_radiologist.prompts) == 1


def test_another_volume_begins_anew_from_the_segment_as_it_is(a_radiologist: Radiologist) -> None:
    a_radiologist.click()
    before = a_radiologist.mask()
    other = a_radiologist.slicer.util.addVolumeFromArray(np.zeros(a_radiologist.geometry.shape, np.int16))
    other.CopyOrientation(a_radiologist.volume)
    a_radiologist.editor.setSourceVolumeNode(other)
    a_radiologist.settle()
    assert np.array_equal(a_radiologist.mask(), before)
    a_radiologist.click((20, 36, 36))
    assert a_radiologist.mask()[20, 36, 36], a_radiologist.status
    assert len(a_radiologist.prompts) == 1


def test_a_worker_that_ended_between_two_clicks_is_not_noticed(a_radiologist: Radiologist) -> None:
    from MedSegLib.workerAccess import sharedWorker

    a_radiologist.click()
    sharedWorker().readyClient().stop()
    a_radiologist.click((20, 28, 20))
    assert len(a_radiologist.prompts) == 2, a_radiologist.status
    assert a_radiologist.mask()[20, 28, 20]


def test_a_reopened_scene_goes_on_where_it_was(a_radiologist: Radiologist) -> None:
    from medseg.mrml.corrections import save_log, saved_log

    places = [MIDDLE, (20, 28, 20)]
    states = [a_radiologist.mask()]
    for place in places:
        a_radiologist.click(place)
        states.append(a_radiologist.mask())
    text = saved_log(a_radiologist.node, "Ball")
    a_radiologist.application.closeScene()
    a_radiologist.reopen()
    a_radiologist.draw(states[2])
    save_log(a_radiologist.node, "Ball", text)
    a_radiologist.editor.setActiveEffect(None)
    a_radiologist.begin()
    a_radiologist.settle()
    assert len(a_radiologist.prompts) == len(a_radiologist.points()) == 2
    node = a_radiologist.slicer.mrmlScene.GetFirstNodeByName("MedSeg positive points")
    node.RemoveNthControlPoint(1)
    a_radiologist.wait()
    assert np.array_equal(a_radiologist.mask(), states[1])


def test_prompts_are_taken_back_to_the_first_however_many_there_are(a_radiologist: Radiologist) -> None:
    a_radiologist.begin(Tool="network", RegionMm=20)
    for number in range(14):
        a_radiologist.click((20, 8 + 5 * (number % 5), 20 + 5 * (number // 5)))
    for left in range(13, -1, -1):
        a_radiologist.ui.takeBackButton.click()
        a_radiologist.wait()
        assert len(a_radiologist.prompts) == left, "the editor itself goes back nine steps"
    assert not a_radiologist.mask().any()
    assert not a_radiologist.ui.takeBackButton.enabled


def test_forgetting_the_prompts_keeps_the_segment(a_radiologist: Radiologist) -> None:
    a_radiologist.click()
    before = a_radiologist.mask()
    a_radiologist.ui.startAnewButton.click()
    assert a_radiologist.prompts == a_radiologist.points() == []
    assert np.array_equal(a_radiologist.mask(), before)


def test_without_a_volume_a_click_says_what_to_do(a_radiologist: Radiologist) -> None:
    a_radiologist.editor.setSourceVolumeNode(None)
    a_radiologist.effect.addPrompt("point", np.array([[0.0, 0, 0]]))
    assert "no volume" in a_radiologist.status


def test_leaving_the_effect_takes_points_and_box_out_of_the_scene(a_radiologist: Radiologist) -> None:
    a_radiologist.click()
    scene = a_radiologist.slicer.mrmlScene
    assert scene.GetFirstNodeByName("MedSeg region") is not None
    assert scene.GetFirstNodeByName("MedSeg region").GetSaveWithScene() == 0
    a_radiologist.editor.setActiveEffect(None)
    for name in ("MedSeg region", "MedSeg positive points"):
        assert scene.GetFirstNodeByName(name) is None


def test_the_modules_own_test_passes(a_radiologist: Radiologist, application: SlicerApplication) -> None:
    module = sys.modules["SegmentEditorMedSeg"]
    module.SegmentEditorMedSegTest().runTest()


@pytest.mark.parametrize("count", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_many_random_prompts_leave_memory_flat_and_the_neighbour_as_it_was(
    a_radiologist: Radiologist, count: int
) -> None:
    from medseg.correction.prompts import KINDS

    a_radiologist.begin(Tool="network", RegionMm=30)
    rng, neighbour = np.random.default_rng(count), a_radiologist.mask("Neighbour")
    places = {"point": 1, "scribble": 4, "box": 2, "lasso": 5}
    memory, followed = [], 0
    for number in range(count):
        kind, k = KINDS[rng.integers(len(KINDS))], int(rng.integers(2, SIZE - 2))
        voxels = np.stack([rng.integers(2, SIZE - 2, places[kind]), rng.integers(2, SIZE - 2, places[kind])], 1)
        world = a_radiologist.geometry.ijk_to_ras_points(
            np.column_stack([voxels, np.full(len(voxels), k)]).astype(float)
        )
        a_radiologist.effect.addPrompt(kind, world, bool(rng.integers(2)))
        a_radiologist.wait()
        assert a_radiologist.status == "" or "nothing may be changed" in a_radiologist.status, (kind, world)
        followed += a_radiologist.status == ""
        if number in (count // 3, count - 1):
            memory.append(a_radiologist.memory_mb())
    assert followed > count / 2
    assert len(a_radiologist.prompts) == followed
    assert np.array_equal(a_radiologist.mask("Neighbour"), neighbour)
    for before, after in zip(*memory, strict=True):
        assert after < before + 60, f"from {before:.0f} to {after:.0f} MB"
