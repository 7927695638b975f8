"""A scripted module is loaded, shown, used and unloaded as in the application."""

from __future__ import annotations

import slicer


def test_a_module_is_registered_under_its_names(a_loaded_module):
    assert slicer.modules.small.name == "Small"
    assert slicer.modules.small.title == "Small"
    assert slicer.modules.small.categories == ("Examples",)
    assert slicer.modules.SmallInstance is a_loaded_module.instance
    assert slicer.moduleNames.Small == "Small"
    assert "Small" in slicer.util.moduleNames()
    assert slicer.util.modulePath("Small").endswith("Small.py")


def test_start_up_is_completed_after_the_module_was_made(a_loaded_module):
    assert a_loaded_module.instance.started


def test_no_panel_exists_before_it_is_opened(a_loaded_module):
    assert not hasattr(slicer.modules, "SmallWidget")
    panel = a_loaded_module.widget
    assert slicer.modules.SmallWidget is panel
    assert panel.calls == ["setup", "enter"]
    assert slicer.util.getModuleWidget("Small") is panel


def test_the_scene_of_the_panel_reaches_the_selector_through_the_ui_connection(a_loaded_module):
    panel = a_loaded_module.widget
    assert panel.ui.inputSelector.mrmlScene() is slicer.mrmlScene
    assert panel.ui.inputSelector.enabled


def test_a_click_makes_a_node(a_loaded_module, a_volume):
    panel = a_loaded_module.widget
    panel.ui.inputSelector.setCurrentNode(a_volume())
    panel.ui.applyButton.click()
    result = slicer.util.getNode("Result")
    assert result.GetNodeReference("source").GetName() == "Heart"


def test_an_exception_in_a_slot_is_displayed_logged_and_kept(a_loaded_module, the_application):
    a_loaded_module.widget.ui.applyButton.click()
    (message,) = the_application.messages
    assert message.kind == "error"
    assert message.text == "It did not work.\n\nthere is no volume"
    assert not message.shown, "without a main window Slicer only logs"
    (error,) = the_application.takeSlotErrors()
    assert isinstance(error, ValueError)


def test_leaving_and_unloading_call_exit_and_cleanup(a_loaded_module):
    panel = a_loaded_module.widget
    a_loaded_module.exit()
    a_loaded_module.enter()
    a_loaded_module.unload()
    assert panel.calls == ["setup", "enter", "exit", "enter", "exit", "cleanup"]
    assert not hasattr(slicer.modules, "small")


def test_reloading_runs_the_file_again(a_loaded_module, a_module_file):
    panel = a_loaded_module.widget
    text = a_module_file.read_text(encoding="utf-8")
    a_module_file.write_text(text.replace('self.calls.append("setup")', 'self.calls.append("new")'), encoding="utf-8")
    panel.onReload()
    assert panel.calls[-1] == "cleanup"
    assert slicer.modules.SmallWidget is not panel
    assert slicer.modules.SmallWidget.calls == ["new"]


def test_the_modules_own_test_case_runs(a_loaded_module):
    a_loaded_module.source.SmallTest.ran.clear()
    slicer.selfTests["Small"]()
    assert a_loaded_module.source.SmallTest.ran == ["one", "two"]


def test_closing_the_scene_leaves_a_working_panel(a_loaded_module, a_volume, the_application):
    panel = a_loaded_module.widget
    panel._parameterNode.inputVolume = a_volume()
    the_application.closeScene()
    assert panel._parameterNode.inputVolume is None
    panel._parameterNode.inputVolume = a_volume("Liver")
    assert panel.ui.inputSelector.currentNode().GetName() == "Liver"
