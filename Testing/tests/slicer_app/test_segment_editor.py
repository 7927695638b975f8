"""Effects are registered, cloned, activated, asked and left as in 3D Slicer."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer


def another_editor(node_first: bool = False):
    """A hidden editor on a node of its own."""
    editor = slicer.qMRMLSegmentEditorWidget()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    if node_first:
        editor.setMRMLSegmentEditorNode(node)
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMRMLSegmentEditorNode(node)
    return editor


def calls(effect) -> list:
    """What the effect heard since the last time."""
    heard = list(effect.self().calls)
    effect.self().calls.clear()
    return heard


def answer(**answers) -> None:
    """Let methods of the effect answer this, or raise it."""
    sys.modules["SegmentEditorTestLib"].SegmentEditorEffect.answers.update(answers)


HIDDEN_MODULE = """
import os

import slicer
from slicer.ScriptedLoadableModule import *


class SegmentEditorTest(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.hidden = True
        self.parent.dependencies = ["Segmentations"]
        slicer.app.connect("startupCompleted()", self.registerEditorEffect)

    def registerEditorEffect(self):
        import qSlicerSegmentationsEditorEffectsPythonQt as effects
        import SegmentEditorTestLib

        instance = effects.qSlicerSegmentEditorScriptedEffect(None)
        instance.setPythonSource(os.path.join(SegmentEditorTestLib.__path__[0], "SegmentEditorEffect.py"))
        instance.self().register()
"""


def test_a_module_registers_its_effect_when_the_application_has_started(the_application, an_effect_file: Path):
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    file = an_effect_file.parents[1] / "SegmentEditorTest.py"
    file.write_text(HIDDEN_MODULE, encoding="utf-8")
    module = the_application.loadModule(file)
    assert editor.availableEffectNames() == ("Test",)
    assert slicer.modules.segmenteditortest.hidden
    assert module.instance.moduleName == "SegmentEditorTest"


def test_after_a_reset_nothing_is_left_of_an_effect(the_application, an_editor):
    the_application.reset()
    assert slicer.qSlicerSegmentEditorEffectFactory.instance().registeredEffects() == ()
    assert "SegmentEditorTestLib" not in sys.modules
    assert not hasattr(slicer, "SegmentEditorTestLib")
    assert not an_editor
    assert slicer.util.getModuleWidget("SegmentEditor").editor.availableEffectNames() == ()


def test_every_editor_has_a_clone_and_the_registered_instance_does_nothing(a_registered_effect):
    first, second = another_editor(), another_editor()
    assert first.availableEffectNames() == ("Test",)
    assert first.effectByName("Test") != second.effectByName("Test")
    assert first.effectByName("Test") != a_registered_effect
    assert calls(a_registered_effect) == ["clone", "clone"]
    assert first.effectCount() == 2  # the arrow is counted
    assert first.effectByIndex(0) is None
    assert first.effectByName("Nobody") is None


def test_a_second_effect_of_the_same_name_is_not_registered(a_registered_effect, an_effect_file: Path):
    again = slicer.qSlicerSegmentEditorScriptedEffect(None)
    again.setPythonSource(str(an_effect_file))
    factory = slicer.qSlicerSegmentEditorEffectFactory.instance()
    assert not factory.registerEffect(again)
    assert factory.registeredEffects() == (a_registered_effect,)


def test_an_effect_without_a_name_is_not_registered(the_application, a_registered_effect):
    a_registered_effect.name = ""
    assert not slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(a_registered_effect)
    assert "empty name" in str(the_application.takeSlotErrors())


def test_defaults_come_after_the_options_when_the_widget_is_made_first(a_registered_effect):
    assert calls(another_editor().effectByName("Test")) == ["setupOptionsFrame", "setMRMLDefaults"]


def test_defaults_come_before_the_options_when_the_effect_is_registered_last(an_effect_file: Path):
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    importlib.import_module("SegmentEditorTestLib")
    effect = slicer.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(str(an_effect_file))
    effect.self().register()
    assert calls(editor.effectByName("Test")) == ["setMRMLDefaults", "setupOptionsFrame"]


def test_the_class_of_the_imported_package_is_taken(a_registered_effect):
    package = sys.modules["SegmentEditorTestLib"]
    assert type(a_registered_effect.self()) is package.SegmentEditorEffect
    assert hasattr(package, "__path__")
    assert slicer.SegmentEditorTestLib is a_registered_effect.self()


def test_a_file_whose_package_was_not_imported_takes_the_place_of_the_package(an_effect_file: Path):
    effect = slicer.qSlicerSegmentEditorScriptedEffect(None)
    assert effect.setPythonSource(str(an_effect_file))
    assert sys.modules["SegmentEditorTestLib"].__file__ == str(an_effect_file)
    with pytest.raises(ModuleNotFoundError, match="not a package"):
        importlib.import_module("SegmentEditorTestLib.other")


def test_a_relative_import_fails_in_such_a_file(the_application, an_effect_file: Path):
    an_effect_file.write_text("from . import other\n", encoding="utf-8")
    effect = slicer.qSlicerSegmentEditorScriptedEffect(None)
    assert not effect.setPythonSource(str(an_effect_file))
    assert effect.self() is None
    assert "no known parent package" in str(the_application.takeSlotErrors())


def test_a_constructor_that_raises_is_reported(the_application, an_effect_file: Path):
    text = "class SegmentEditorEffect:\n    def __init__(self, effect):\n        effect.nosuch = 1\n"
    an_effect_file.write_text(text, encoding="utf-8")
    assert not slicer.qSlicerSegmentEditorScriptedEffect(None).setPythonSource(str(an_effect_file))
    assert "'nosuch' does not exist" in str(the_application.takeSlotErrors())


def test_an_effect_that_is_not_cloned_is_missing(the_application, a_registered_effect):
    answer(clone=True)
    assert another_editor().effectByName("Test") is None
    assert "must return a new effect" in str(the_application.takeSlotErrors())


def test_an_effect_learns_of_its_activation_in_the_order_of_the_real_one(an_editor):
    effect = an_editor.effectByName("Test")
    seen = []
    effect.self().calls.clear()
    node = effect.parameterSetNode()
    effect.self().note = lambda *what: (effect.self().calls.append(what), seen.append(an_editor.activeEffect()))
    an_editor.setActiveEffectByName("Test")
    assert node.GetActiveEffectName() == "Test"
    assert calls(effect) == [("updateGUIFromMRML",), ("activate", True)]
    assert seen == [None, None]  # it becomes the active effect when it has been activated
    assert an_editor.activeEffect() == effect
    assert effect.active()
    an_editor.setActiveEffect(None)
    assert calls(effect) == [("deactivate", False)]
    assert an_editor.activeEffect() is None
    del effect.self().note


def test_methods_are_looked_up_once(an_editor):
    effect, got = an_editor.effectByName("Test"), []
    effect.self().activate = lambda: got.append(1)
    an_editor.setActiveEffectByName("Test")
    assert got == []
    assert ("activate", True) in calls(effect)


def test_what_a_method_raises_does_not_reach_the_editor_and_is_kept(the_application, an_editor):
    answer(activate=ValueError("no"))
    an_editor.setActiveEffectByName("Test")
    assert an_editor.activeEffect() is not None
    assert repr(the_application.takeSlotErrors()) == "[ValueError('no')]"


def test_the_options_are_shown_while_the_effect_is_active(the_application, an_editor, tmp_path: Path):
    effect = an_editor.effectByName("Test")
    assert not effect.optionsFrame().isVisibleTo(an_editor)
    an_editor.setActiveEffectByName("Test")
    assert effect.optionsFrame().isVisibleTo(an_editor)
    assert effect.self().label.text == "How much:"
    assert effect.optionsLayout().rowCount() == 2
    assert slicer.util.findChild(an_editor, "OptionsGroupBox").title == "A test"
    assert the_application.screenshot(tmp_path / "editor.png", an_editor).stat().st_size > 0
    an_editor.setActiveEffect(None)
    assert not effect.optionsFrame().isVisibleTo(an_editor)


def test_a_button_activates_its_effect_and_the_arrow_leaves_it(an_editor):
    slicer.util.findChild(an_editor, "Test").click()
    assert an_editor.activeEffect() == an_editor.effectByName("Test")
    slicer.util.findChild(an_editor, "NULL").click()
    assert an_editor.activeEffect() is None


def test_selecting_a_segmentation_selects_its_volume_and_first_segment(an_editor, a_segmentation):
    assert an_editor.segmentationNode() is a_segmentation
    assert an_editor.sourceVolumeNode().GetClassName() == "vtkMRMLScalarVolumeNode"
    assert an_editor.currentSegmentID() == "A"
    an_editor.setCurrentSegmentID("B")
    assert an_editor.mrmlSegmentEditorNode().GetSelectedSegmentID() == "B"
    assert calls(an_editor.effectByName("Test"))[-1] == "sourceVolumeNodeChanged"


def test_a_change_of_the_volume_is_told_to_effects_that_are_not_active(an_editor, a_volume):
    effect = an_editor.effectByName("Test")
    calls(effect)
    heard = []
    an_editor.connect("sourceVolumeNodeChanged(vtkMRMLVolumeNode*)", heard.append)
    other = a_volume()
    an_editor.setSourceVolumeNode(other)
    assert calls(effect) == ["sourceVolumeNodeChanged"]
    assert heard == [other]


def test_selecting_another_segmentation_leaves_the_effect(an_editor, the_active_effect):
    other, heard = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode"), []
    an_editor.connect("segmentationNodeChanged(vtkMRMLSegmentationNode*)", heard.append)
    an_editor.setSegmentationNode(other)
    assert an_editor.activeEffect() is None
    assert not the_active_effect.active()
    assert heard == [other]


def test_removing_the_segmentation_leaves_the_effect(an_editor, a_segmentation, the_active_effect):
    slicer.mrmlScene.RemoveNode(a_segmentation)
    assert an_editor.activeEffect() is None
    assert an_editor.segmentationNode() is None


def test_removing_the_last_segment_leaves_an_effect_that_works_on_segments(
    an_editor, a_segmentation, the_active_effect
):
    for identifier in "ABC":
        a_segmentation.GetSegmentation().RemoveSegment(identifier)
    assert an_editor.activeEffect() is None


def test_selecting_another_segment_does_not_leave_the_effect(an_editor, the_active_effect):
    calls(the_active_effect)
    an_editor.setCurrentSegmentID("C")
    assert an_editor.activeEffect() == the_active_effect
    assert calls(the_active_effect) == []


def test_closing_the_scene_leaves_the_effect_and_sets_the_defaults_anew(the_application, an_editor, the_active_effect):
    the_active_effect.setParameter("Amount", 7)
    calls(the_active_effect)
    the_application.closeScene()
    assert an_editor.activeEffect() is None
    assert "setMRMLDefaults" in calls(the_active_effect)
    assert the_active_effect.parameter("Amount") == "2.5"


def test_reading_only_leaves_the_effect(an_editor, the_active_effect):
    an_editor.readOnly = True
    assert an_editor.activeEffect() is None


def test_an_editor_without_a_node_activates_nothing(the_application, a_registered_effect):
    editor = another_editor()
    editor.setMRMLSegmentEditorNode(None)
    editor.setActiveEffectByName("Test")
    assert editor.activeEffect() is None
    assert "invalid segment editor parameter set node" in str(the_application.takeSlotErrors())


def test_an_editor_without_a_scene_activates_nothing(a_registered_effect, a_segmentation):
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setSegmentationNode(a_segmentation)
    editor.setActiveEffectByName("Test")
    assert editor.activeEffect() is None


def test_an_effect_cleans_up_when_its_editor_is_destroyed_and_is_gone_then(the_application, a_registered_effect):
    editor = another_editor()
    effect = editor.effectByName("Test")
    python = effect.self()
    editor.deleteLater()
    the_application.processEvents()
    assert python.calls[-1] == "cleanup"
    with pytest.raises(ValueError, match="destroyed"):
        effect.parameter("Amount")


def test_an_effect_may_choose_another_one(an_editor, the_active_effect):
    the_active_effect.selectEffect("")
    assert an_editor.activeEffect() is None
    with pytest.raises(NotImplementedError, match="exists in 3D Slicer"):
        the_active_effect.selectEffect("Paint")


def test_placing_markups_leaves_an_effect_that_does_not_mind_the_mode(an_editor, the_active_effect):
    interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    interaction.SetCurrentInteractionMode(interaction.Place)
    assert an_editor.activeEffect() is None
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)


def test_a_hidden_segment_is_asked_for(the_application, a_segmentation, the_active_effect):
    assert the_active_effect.confirmCurrentSegmentVisible() == the_active_effect.ConfirmedWithoutDialog
    a_segmentation.GetDisplayNode().SetSegmentVisibility("A", False)
    the_application.answer("cancel", True)
    assert the_active_effect.confirmCurrentSegmentVisible() == the_active_effect.NotConfirmed
    assert the_active_effect.confirmCurrentSegmentVisible() == the_active_effect.ConfirmedWithDialog
    assert a_segmentation.GetDisplayNode().GetSegmentVisibility("A")


def test_only_names_of_the_real_effect_exist(an_editor, the_active_effect):
    for name in ("icon", "clone", "logic", "commonParameter", "processInteractionEvents", "setupOptionsFrame"):
        with pytest.raises(AttributeError, match="no attribute"):
            getattr(the_active_effect, name)
    with pytest.raises(AttributeError, match="no attribute"):
        an_editor.logic  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError, match="creating new attributes"):
        the_active_effect.calls = 1
    with pytest.raises(TypeError):
        the_active_effect.name()
    with pytest.raises(AttributeError, match="bool"):
        the_active_effect.perSegment = 0
    with pytest.raises(NotImplementedError):
        slicer.qSlicerSegmentEditorScriptedPaintEffect(None)
    with pytest.raises(TypeError):
        slicer.qSlicerSegmentEditorAbstractEffect()


# ---- parameters ----------------------------------------------------------------------------------------------------
def test_parameters_are_attributes_of_the_node(the_active_effect):
    node = the_active_effect.parameterSetNode()
    assert node.GetAttribute("Test.Amount") == "2.5"
    the_active_effect.setParameter("Amount", 123456.789)
    assert node.GetAttribute("Test.Amount") == "123457"  # six digits
    the_active_effect.setParameter("Count", 3)
    the_active_effect.setCommonParameter("Brush", "round")
    assert the_active_effect.integerParameter("Count") == 3
    assert the_active_effect.doubleParameter("Amount") == 123457.0
    assert the_active_effect.parameter("Brush") == "round"
    assert not the_active_effect.parameterDefined("Brush")
    assert the_active_effect.commonParameterDefined("Brush")
    the_active_effect.setParameterDefault("Count", 4)
    assert the_active_effect.integerParameter("Count") == 3


def test_a_parameter_that_is_not_there_is_an_error(the_application, the_active_effect):
    assert the_active_effect.parameter("Nothing") == ""
    the_active_effect.setParameter("Word", "two")
    assert the_active_effect.integerParameter("Word") == 0
    errors = [str(error) for error in the_application.takeSlotErrors()]
    assert len(errors) == 2
    assert "cannot be found" in errors[0]
    assert "cannot be converted to integer" in errors[1]


@pytest.mark.parametrize("value", [True, np.float64(1.5), np.int64(3), None, 2**40])
def test_a_value_that_pythonqt_may_misread_is_refused(the_active_effect, value):
    for method in ("setParameter", "setParameterDefault", "setCommonParameter", "setCommonParameterDefault"):
        with pytest.raises(TypeError):
            getattr(the_active_effect, method)("Amount", value)


def test_a_change_of_a_parameter_updates_the_active_effect_and_is_no_change_of_the_node(an_editor, the_active_effect):
    node, heard = the_active_effect.parameterSetNode(), []
    tag = node.AddObserver("ModifiedEvent", lambda *_: heard.append(1))
    calls(the_active_effect)
    the_active_effect.setParameter("Amount", 3)
    the_active_effect.setParameter("Amount", "3")
    assert calls(the_active_effect) == ["updateGUIFromMRML"]
    assert heard == []
    node.RemoveObserver(tag)
    an_editor.setActiveEffect(None)
    calls(the_active_effect)
    the_active_effect.setParameter("Amount", 4)
    assert calls(the_active_effect) == []


def test_node_references_are_kept_by_the_node(the_active_effect, a_volume):
    volume = a_volume()
    the_active_effect.setNodeReference("Atlas", volume)
    assert the_active_effect.nodeReference("Atlas") is volume
    assert the_active_effect.parameterSetNode().GetNodeReference("Test.Atlas") is volume
    the_active_effect.setNodeReference("Atlas", None)
    assert the_active_effect.nodeReference("Atlas") is None
