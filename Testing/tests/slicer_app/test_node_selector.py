"""The node selector lists what the real one lists and chooses what the real one chooses."""

from __future__ import annotations

import pytest
import slicer


@pytest.fixture
def a_selector(the_application):
    def make(**properties):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        for name, value in properties.items():
            setattr(selector, name, value)
        return selector

    return make


def test_without_a_scene_it_is_empty_and_disabled_and_remembers_the_wish(a_selector, a_volume):
    selector, first, second = a_selector(), a_volume("one"), a_volume("two")
    assert not selector.enabled
    assert selector.nodeCount() == 0
    selector.setCurrentNode(second)
    assert selector.currentNode() is None
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.enabled
    assert selector.currentNode() is second
    assert first is not second


def test_the_first_node_is_chosen_unless_none_may_be(a_selector, a_volume):
    volume = a_volume()
    without, with_none = a_selector(), a_selector(noneEnabled=True)
    without.setMRMLScene(slicer.mrmlScene)
    with_none.setMRMLScene(slicer.mrmlScene)
    assert without.currentNode() is volume
    assert with_none.currentNode() is None
    assert with_none.currentNodeID == ""


def test_child_types_hidden_nodes_and_attributes_decide_what_is_listed(a_selector, a_volume):
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "label")
    hidden, plain = a_volume("hidden"), a_volume("plain")
    hidden.SetHideFromEditors(True)
    selector = a_selector()
    selector.setMRMLScene(slicer.mrmlScene)

    def listed():
        return [selector.nodeFromIndex(i).GetName() for i in range(selector.nodeCount())]

    assert listed() == ["label", "plain"]
    selector.showChildNodeTypes = False
    assert listed() == ["plain"]
    selector.showChildNodeTypes = True
    selector.showHidden = True
    assert listed() == ["label", "hidden", "plain"]
    selector.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "CT")
    assert listed() == []
    plain.SetAttribute("Kind", "CT")
    assert listed() == ["plain"]
    selector.removeAttribute("vtkMRMLScalarVolumeNode", "Kind")
    assert len(listed()) == 3
    assert label.GetName() == "label"


def test_signals_come_once_for_each_change(a_selector, a_volume):
    selector, got = a_selector(noneEnabled=True), []
    selector.setMRMLScene(slicer.mrmlScene)
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: got.append(node and node.GetName()))
    selector.connect("currentNodeChanged(bool)", got.append)
    selector.connect("currentNodeIDChanged(QString)", got.append)
    volume = a_volume("Heart")
    assert got == []
    selector.setCurrentNode(volume)
    selector.setCurrentNode(volume)
    assert got == ["Heart", True, volume.GetID()]
    got.clear()
    slicer.mrmlScene.RemoveNode(volume)
    assert got == [None, False, ""]


def test_removing_the_current_node_leaves_another_or_none(a_selector, a_volume):
    first, second = a_volume("one"), a_volume("two")
    selector = a_selector()
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert selector.currentNode() is None


def test_closing_the_scene_empties_it(a_selector, a_volume, the_application):
    selector = a_selector(noneEnabled=True)
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setCurrentNode(a_volume())
    the_application.closeScene()
    assert selector.nodeCount() == 0
    assert selector.currentNode() is None


def test_a_new_name_is_shown(a_selector, a_volume):
    selector, volume = a_selector(), a_volume("old")
    selector.setMRMLScene(slicer.mrmlScene)
    volume.SetName("new")
    assert selector._cpp._combo.currentText() == "new"


def test_the_user_creates_renames_and_deletes_nodes(a_selector, the_application):
    selector = a_selector(renameEnabled=True, baseName="Scan")
    selector.setMRMLScene(slicer.mrmlScene)
    combo, added = selector._cpp._combo, []
    selector.connect("nodeAddedByUserAction(vtkMRMLNode*)", added.append)

    def choose(text):
        row = combo.findText(text)
        assert row >= 0, [combo.itemText(i) for i in range(combo.count())]
        combo.activated.emit(row)

    choose("Create new Volume")
    node = selector.currentNode()
    assert node.GetName() == "Scan"
    assert added == [node]
    the_application.answer("Renamed")
    choose("Rename current Volume")
    assert node.GetName() == "Renamed"
    choose("Delete current Volume")
    assert selector.currentNode() is None
    assert slicer.mrmlScene.GetNodesByClass("vtkMRMLScalarVolumeNode").GetNumberOfItems() == 0


def test_a_destroyed_selector_no_longer_listens(a_selector, a_volume, the_application):
    selector = a_selector()
    selector.setMRMLScene(slicer.mrmlScene)
    selector.delete()
    slicer.mrmlScene.RemoveNode(a_volume())
    assert the_application.takeSlotErrors() == []
