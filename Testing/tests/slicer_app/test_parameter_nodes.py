"""Typed parameters are kept in a real parameter node, as Slicer keeps them, and follow their widgets."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated

import pytest
import slicer
import vtk


@pytest.fixture
def small_parameters(a_loaded_module):
    """The parameters of the small module, and the node that keeps them."""
    logic = a_loaded_module.source.SmallLogic()
    return logic.getParameterNode()


def test_defaults_are_written_at_once(small_parameters):
    node = small_parameters.parameterNode
    assert node.GetParameter("threshold") == "100"
    assert node.GetParameter("invert") == "False"
    assert node.GetParameter("mode") == "QUICK"
    assert node.GetParameter("place") == "here"
    assert node.GetParameter("words.len") == "0"
    assert node.GetParameter("corner.x") == "1"
    assert node.GetParameter("maybe.1") == "True", "None is the second alternative"
    assert small_parameters.maybe is None
    assert node.HasParameter("inputVolume")
    assert small_parameters.inputVolume is None


def test_values_are_kept_in_the_texts_that_slicer_uses(small_parameters, a_volume, a_loaded_module):
    node, volume = small_parameters.parameterNode, a_volume()
    small_parameters.threshold = 12.5
    small_parameters.invert = True
    small_parameters.mode = a_loaded_module.source.Mode.SLOW
    small_parameters.place = pathlib.Path("there")
    small_parameters.words = ["one", "two"]
    small_parameters.corner.y = 7
    small_parameters.maybe = 3
    small_parameters.inputVolume = volume
    texts = {"threshold": "12.5", "invert": "True", "mode": "SLOW", "place": "there", "words.1": "two", "corner.y": "7"}
    assert {name: node.GetParameter(name) for name in texts} == texts
    assert node.GetParameter("maybe.0") == "3"
    assert not node.HasParameter("maybe.1")
    assert node.GetNodeReferenceID("inputVolume") == volume.GetID()


def test_another_wrapper_of_the_same_node_sees_the_values(small_parameters, a_loaded_module):
    small_parameters.threshold = 3
    small_parameters.words.append("new")
    other = a_loaded_module.source.SmallParameterNode(small_parameters.parameterNode)
    assert other.threshold == 3
    assert other.words == ["new"]
    other.threshold = 4
    assert small_parameters.threshold == 4


@pytest.mark.parametrize(
    ("name", "value"), [("threshold", 201), ("threshold", "high"), ("invert", None), ("mode", "SLOW")]
)
def test_a_value_that_does_not_fit_is_refused_and_the_old_one_stays(small_parameters, name, value):
    before = getattr(small_parameters, name)
    with pytest.raises((TypeError, ValueError)):
        setattr(small_parameters, name, value)
    assert getattr(small_parameters, name) == before


def test_a_node_of_another_class_is_refused(small_parameters):
    with pytest.raises(TypeError):
        small_parameters.inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")


def test_a_removed_node_reads_as_none(small_parameters, a_volume):
    volume = a_volume()
    small_parameters.inputVolume = volume
    slicer.mrmlScene.RemoveNode(volume)
    assert small_parameters.inputVolume is None


def test_members_of_packs_are_reached_by_dotted_names(small_parameters):
    small_parameters.setValue("corner.x", 5)
    assert small_parameters.getValue("corner.x") == 5
    assert small_parameters.corner.x == 5
    with pytest.raises(ValueError, match="within range"):
        small_parameters.corner.x = 11
    with pytest.raises(ValueError, match="no member"):
        small_parameters.getValue("corner.z")


def test_cached_parameters_follow_the_node(small_parameters):
    assert small_parameters.isCached("threshold")
    small_parameters.parameterNode.SetParameter("threshold", "7.5")
    assert small_parameters.threshold == 7.5


def test_one_change_is_one_event(small_parameters):
    calls = []
    small_parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: calls.append(1))
    small_parameters.threshold = 5
    assert len(calls) == 1
    with slicer.util.NodeModify(small_parameters):
        small_parameters.threshold = 6
        small_parameters.invert = True
    assert len(calls) == 2


def test_reserved_names_and_unknown_types_are_refused(the_application):
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    with pytest.raises(ValueError, match="reserved"):

        @parameterNodeWrapper
        class Reserved:
            connectGui: int

    with pytest.raises(TypeError, match="Unable to create serializer"):

        @parameterNodeWrapper
        class Unknown:
            thing: object


def test_a_default_that_its_own_check_refuses_is_an_error(the_application):
    from slicer.parameterNodeWrapper import Minimum, parameterPack

    positive = type("Positive", (), {"__annotations__": {"size": Annotated[int, Minimum(1)]}})
    with pytest.raises(ValueError, match="fails the validation"):
        parameterPack(positive)


def test_the_widgets_show_the_parameters_and_change_them(a_loaded_module, a_volume):
    panel = a_loaded_module.widget
    parameters, ui, mode = panel._parameterNode, panel.ui, a_loaded_module.source.Mode
    parameters.threshold, parameters.mode, parameters.place = 50, mode.SLOW, pathlib.Path("x/y")
    parameters.setValue("corner.x", 9)
    assert (ui.thresholdSlider.value, ui.modeBox.currentText, ui.placeEdit.currentPath) == (50, "SLOW", "x/y")
    assert ui.cornerBox.value == 9
    volume = a_volume()
    ui.inputSelector.setCurrentNode(volume)
    ui.thresholdSlider.value = 60
    ui.invertBox.click()
    ui.modeBox.currentIndex = 0
    ui.placeEdit.currentPath = "z"
    ui.cornerBox.value = 4
    assert parameters.inputVolume is volume
    assert (parameters.threshold, parameters.invert, parameters.mode) == (60, True, mode.QUICK)
    assert (parameters.place, parameters.corner.x) == (pathlib.Path("z"), 4)


def test_bounds_and_choices_reach_the_widgets(a_loaded_module):
    ui = a_loaded_module.widget.ui
    assert (ui.thresholdSlider.minimum, ui.thresholdSlider.maximum) == (-100, 200)
    assert (ui.cornerBox.minimum, ui.cornerBox.maximum) == (0, 10)
    assert [ui.modeBox.itemText(i) for i in range(ui.modeBox.count)] == ["QUICK", "SLOW"]
    assert ui.inputSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_after_disconnecting_nothing_follows(a_loaded_module):
    panel = a_loaded_module.widget
    parameters = panel._parameterNode
    panel.setParameterNode(None)
    parameters.threshold = 33
    assert panel.ui.thresholdSlider.value == 100
    panel.ui.thresholdSlider.value = 44
    assert parameters.threshold == 33


def test_connecting_a_whole_panel_gives_no_tag_as_in_slicer_before_5_10(a_loaded_module):
    panel = a_loaded_module.widget
    tag = panel._tag
    assert tag is not None, "a map of parameters and widgets gives one in every version"
    assert panel._parameterNode.connectGui(panel.ui) is None
    panel._parameterNode.disconnectGui(tag)
    panel.ui.thresholdSlider.value = 44
    assert panel._parameterNode.threshold == 44, "what was connected without a tag stays connected"


def test_an_older_connector_hears_how_a_newer_one_fills_the_box(a_loaded_module):
    panel, mode = a_loaded_module.widget, a_loaded_module.source.Mode
    node = panel._parameterNode.parameterNode
    panel._parameterNode.mode = mode.SLOW
    written = []
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: written.append(node.GetParameter("mode")))
    a_loaded_module.source.SmallLogic().getParameterNode().connectGui(panel.ui)
    assert written == ["QUICK", "SLOW"], "the first item when the box is filled, then what was chosen"


def test_after_disconnecting_the_node_is_still_observed_as_in_slicer_before_5_12(a_loaded_module):
    panel = a_loaded_module.widget
    parameters = panel._parameterNode
    panel.setParameterNode(None)
    updates = []
    parameters._update_gui = lambda: updates.append(1)
    parameters.threshold = 5
    assert len(updates) == 1


def test_a_widget_that_cannot_show_a_type_is_an_error(the_application):
    import qt
    from slicer.parameterNodeWrapper import createGuiConnector

    class Color(enum.Enum):
        RED = 1

    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        createGuiConnector(qt.QCheckBox(), Color)
    with pytest.raises(RuntimeError, match="Choice"):
        createGuiConnector(qt.QComboBox(), str)
    with pytest.raises(RuntimeError, match="unbounded"):
        createGuiConnector(slicer.qMRMLSliderWidget(), float)


def test_the_values_come_back_with_a_saved_scene(a_loaded_module, a_volume, tmp_path):
    panel = a_loaded_module.widget
    panel._parameterNode.threshold = 77
    panel._parameterNode.words = ["kept"]
    panel._parameterNode.inputVolume = a_volume("Kept")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    panel._parameterNode.threshold = 1
    slicer.mrmlScene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "scene.mrml"))
    parameters = a_loaded_module.source.SmallLogic().getParameterNode()
    assert parameters.threshold == 77
    assert parameters.words == ["kept"]
    assert parameters.inputVolume.GetName() == "Kept"
