"""The module SegmentEditor in the main window, and what effects hear from the views."""

from __future__ import annotations

import sys

import pytest
import slicer
import vtk


@pytest.fixture
def a_window(the_application):
    """The main window, opened before the editor is made, as in the application."""
    the_application.openMainWindow()
    return the_application


@pytest.fixture
def a_red_view(a_window, an_editor):
    """The red view, with the effect active and the slice through the middle of the volume."""
    an_editor.setActiveEffectByName("Test")
    view = a_window.sliceView("Red")
    view.show((3.0, 2.0, 2.0))
    heard(an_editor)
    return view


def heard(editor) -> list:
    effect = editor.effectByName("Test").self()
    found = list(effect.calls)
    effect.calls.clear()
    return found


def answer(**answers) -> None:
    sys.modules["SegmentEditorTestLib"].SegmentEditorEffect.answers.update(answers)


def test_there_are_no_views_without_a_main_window(the_application, an_editor):
    with pytest.raises(RuntimeError, match="without a main window"):
        the_application.sliceView("Red")
    with pytest.raises(RuntimeError):
        slicer.util.selectModule("SegmentEditor")
    an_editor.setActiveEffectByName("Test")
    assert an_editor.activeEffect() is not None


def test_mouse_and_keys_in_a_slice_view_reach_the_active_effect(a_red_view, an_editor):
    a_red_view.press((10, 20), shift=True)
    assert a_red_view.interactor.GetShiftKey() == 1
    a_red_view.move((11, 20))
    a_red_view.release((11, 20))
    a_red_view.wheel()
    a_red_view.leave()
    a_red_view.key("a")
    events = vtk.vtkCommand
    assert heard(an_editor) == [
        ("event", events.LeftButtonPressEvent, (10, 20), None, "qMRMLSliceWidget"),
        ("event", events.MouseMoveEvent, (11, 20), None, "qMRMLSliceWidget"),
        ("event", events.LeftButtonReleaseEvent, (11, 20), None, "qMRMLSliceWidget"),
        ("event", events.MouseWheelForwardEvent, (11, 20), None, "qMRMLSliceWidget"),
        ("event", events.LeaveEvent, (11, 20), None, "qMRMLSliceWidget"),
        ("event", events.KeyPressEvent, (11, 20), "a", "qMRMLSliceWidget"),
        ("event", events.KeyReleaseEvent, (11, 20), "a", "qMRMLSliceWidget"),
    ]


def test_the_second_press_of_a_double_click_is_the_double_click(a_red_view, an_editor):
    a_red_view.doubleClick((5, 5))
    events = vtk.vtkCommand
    press, release = events.LeftButtonPressEvent, events.LeftButtonReleaseEvent
    assert [call[1] for call in heard(an_editor)] == [press, release, events.LeftButtonDoubleClickEvent, release]


def test_an_effect_that_is_not_active_hears_nothing(a_red_view, an_editor):
    an_editor.setActiveEffect(None)
    heard(an_editor)
    a_red_view.click((10, 20))
    assert heard(an_editor) == []


def test_an_event_that_the_effect_takes_is_not_given_to_others(a_red_view, an_editor):
    got = []
    a_red_view.interactor.AddObserver("LeftButtonPressEvent", lambda *_: got.append("others"))
    a_red_view.press((1, 1))
    assert got == ["others"]
    answer(abort=True)
    a_red_view.press((1, 1))
    assert got == ["others"]


def test_an_answer_that_is_no_bool_is_an_error_and_takes_nothing(a_red_view, an_editor):
    from slicer_app import SlicerApplication

    got = []
    a_red_view.interactor.AddObserver("LeftButtonPressEvent", lambda *_: got.append("others"))
    answer(abort=1)
    a_red_view.press((1, 1))
    assert got == ["others"]
    assert "expected to return a boolean" in str(SlicerApplication.instance().takeSlotErrors())


def test_events_in_a_3d_view_reach_the_effect_but_no_double_click(a_red_view, an_editor):
    interactor = slicer.app.layoutManager().threeDWidget(0).threeDView().interactor()
    interactor.SetEventInformation(7, 8, 0, 0, "\0", 0, None)
    interactor.InvokeEvent("LeftButtonPressEvent")
    interactor.InvokeEvent("LeftButtonDoubleClickEvent")
    assert heard(an_editor) == [("event", 12, (7, 8), None, "qMRMLThreeDWidget")]


def test_a_change_of_a_slice_is_told_to_the_active_effect(a_red_view, an_editor):
    a_red_view.node.SetSliceOffset(1.0)
    assert ("view", "vtkMRMLSliceNode", vtk.vtkCommand.ModifiedEvent) in heard(an_editor)
    an_editor.setActiveEffect(None)
    heard(an_editor)
    a_red_view.node.SetSliceOffset(2.0)
    assert heard(an_editor) == []


def test_a_change_of_the_layout_is_told_only_while_an_effect_is_active(a_red_view, an_editor):
    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert heard(an_editor).count("layoutChanged") == 1
    assert manager.sliceWidget("Red").isVisible()
    assert not manager.sliceWidget("Green").isVisible()
    an_editor.setActiveEffect(None)
    heard(an_editor)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    assert heard(an_editor) == []


def test_positions_in_a_view_are_positions_in_the_patient(a_red_view, an_editor):
    effect, widget = an_editor.activeEffect(), slicer.app.layoutManager().sliceWidget("Red")
    xy = a_red_view.xyOf((3.0, 2.0, 2.0))
    assert a_red_view.rasOf(xy) == pytest.approx((3.0, 2.0, 2.0), abs=1.0)
    assert effect.self().xyToRas(xy, widget) == pytest.approx(list(a_red_view.rasOf(xy)), abs=1e-4)
    image = effect.referenceGeometryImage()
    to_ras = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_ras)
    a_red_view.show(to_ras.MultiplyPoint((4.0, 3.0, 2.0, 1.0))[:3])
    xy = a_red_view.xyOf(to_ras.MultiplyPoint((4.0, 3.0, 2.0, 1.0))[:3])
    assert effect.self().xyToIjk(xy, widget, image) == [4, 3, 2]
    assert effect.self().rasToXy(a_red_view.rasOf(xy), widget) == pytest.approx(list(xy), abs=1)
    with pytest.raises(TypeError):
        effect.xyToRas([1, 2], widget)


def test_a_position_that_the_slice_does_not_show_is_refused(a_red_view):
    with pytest.raises(ValueError, match="away from the slice"):
        a_red_view.xyOf((3.0, 2.0, 40.0))
    with pytest.raises(ValueError, match="outside of the view"):
        a_red_view.xyOf((3000.0, 2.0, 2.0))


def test_actors_are_put_into_the_view_and_taken_out(a_red_view, an_editor):
    effect, widget = an_editor.activeEffect(), slicer.app.layoutManager().sliceWidget("Red")
    actor, before = vtk.vtkActor2D(), a_red_view.renders
    effect.addActor2D(widget, actor)
    assert a_red_view.actors == [actor]
    assert effect.renderer(widget).HasViewProp(actor)
    effect.removeActor2D(widget, actor)
    assert a_red_view.actors == []
    assert a_red_view.renders == before + 2
    assert effect.viewNode(widget) is a_red_view.node
    assert effect.segmentationDisplayableInView(a_red_view.node)
    with pytest.raises(TypeError):
        effect.addActor2D(widget, vtk.vtkActor())


def test_the_volume_is_shown_in_the_slice_views(a_window, an_editor):
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == an_editor.sourceVolumeNode().GetID()


def test_the_module_opens_with_a_segmentation_and_is_left_without_an_effect(a_window, a_registered_effect, a_volume):
    volume = a_volume()
    slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    assert editor.mrmlSegmentEditorNode() is slicer.mrmlScene.GetNodeByID("vtkMRMLSegmentEditorNodeSegmentEditor")
    assert editor.segmentationNode() is not None
    assert editor.sourceVolumeNode() is volume
    editor.setActiveEffectByName("Test")
    assert editor.activeEffect() is not None
    slicer.modules.segmenteditor.widgetRepresentation().exit()
    assert editor.activeEffect() is None


def test_the_editors_keys_work_while_its_module_is_open(a_window, an_editor):
    from PySide6.QtGui import QShortcut

    slicer.util.selectModule("SegmentEditor")
    keys = {shortcut.key().toString(): shortcut for shortcut in a_window._app._main_window.findChildren(QShortcut)}
    assert {"1", "Shift+1", "Esc", "Space", "Z", "Ctrl+Z", "Y", "Q", "W", "I"} <= set(keys)
    keys["1"].activated.emit()
    assert an_editor.activeEffect() == an_editor.effectByName("Test")
    keys["Esc"].activated.emit()
    assert an_editor.activeEffect() is None
    keys["W"].activated.emit()
    assert an_editor.currentSegmentID() == "B"
    slicer.modules.segmenteditor.widgetRepresentation().exit()
    a_window.processEvents()
    assert not a_window._app._main_window.findChildren(QShortcut)
