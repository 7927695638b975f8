"""The tab "Correct": to the Segment Editor with the right segment, and corrected cases into a training folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import slicer
import vtk

from medseg.volumes import Geometry, Volume, read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slicer_app import SlicerApplication

SHAPE = (12, 10, 14)


@pytest.fixture(scope="module")
def the_module(application: SlicerApplication, repository: Path, resources: Path) -> Iterator[Any]:
    """As that of the other tests of the panel, but with a main window and the effect MedSeg."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSEG_RESOURCES", str(resources))
        patch.setenv("OMP_NUM_THREADS", "1")
        application.openMainWindow()
        module = application.loadModule(repository / "MedSegExtension" / "MedSeg" / "MedSeg.py")
        application.loadModule(repository / "MedSegExtension" / "SegmentEditorMedSeg" / "SegmentEditorMedSeg.py")
        yield module
        application.reset()


def an_image(seed: int = 0) -> Volume:
    noise = np.random.default_rng(seed).integers(0, 200, SHAPE).astype(np.int16)
    return Volume(
        noise, Geometry.from_spacing(SHAPE, (1.0, 1.0, 2.0), orientation="LPS"), name="Mueller", modality="MR"
    )


class Corrector:
    """Somebody in front of the tab, with a volume and a segmentation of two segments."""

    def __init__(self, user: Any, folder: Path) -> None:
        self.user, self.ui, self.folder = user, user.ui, folder
        self.volume = user.load(an_image())
        self.node = self.segmentation(self.volume)

    @property
    def parameters(self) -> Any:
        return self.user.parameters

    @property
    def section(self) -> Any:
        return self.user.panel.cases

    @property
    def editor(self) -> Any:
        return slicer.util.getModuleWidget("SegmentEditor").editor

    @property
    def ids(self) -> list[str]:
        return list(self.node.GetSegmentation().GetSegmentIDs())

    def segmentation(self, volume: Any, name: str = "organs") -> Any:
        from medseg.mrml import segmentation_to_node, volume_from_node
        from support.results import result_on

        array = np.zeros(SHAPE, np.uint8)
        array[2:6, 3:6, 4:9], array[7:9, 2:5, 2:5] = 1, 200
        return segmentation_to_node(
            result_on(volume_from_node(volume), array), volume, self.user.application.scene, name=name
        )

    def choose(self, node: Any) -> None:
        self.ui.correctSegmentationSelector.setCurrentNode(node)

    def choose_folder(self) -> None:
        self.ui.caseFolderPathLineEdit.currentPath = str(self.folder)

    def added(self) -> str:
        self.user.until(lambda: not self.section.isAdding, 30.0)
        return self.ui.caseStatusLabel.text

    def save(self) -> None:
        assert slicer.util.saveScene(str(self.folder.parent / "scene.mrml"))


@pytest.fixture
def a_corrector(a_user: Any, tmp_path: Path) -> Iterator[Corrector]:
    a_user.ui.tabWidget.currentIndex = 1
    corrector = Corrector(a_user, tmp_path / "cases")
    slicer.util.selectModule("MedSeg")
    yield corrector
    corrector.added()
    slicer.util.selectModule("MedSeg")
    corrector.editor.setActiveEffect(None)
    a_user.ui.caseFolderPathLineEdit.currentPath = ""
    a_user.ui.newSegmentNameLineEdit.text = ""
    a_user.ui.tabWidget.currentIndex = 0


# --- the way to the Segment Editor


def test_the_editor_opens_with_segmentation_volume_segment_and_effect(a_corrector: Corrector) -> None:
    a_corrector.choose(a_corrector.node)
    assert a_corrector.ui.correctVolumeSelector.currentNode() is a_corrector.volume
    assert not a_corrector.ui.correctVolumeSelector.enabled
    a_corrector.ui.correctSegmentComboBox.currentIndex = 1
    display = a_corrector.node.GetDisplayNode()
    display.SetSegmentVisibility(a_corrector.ids[1], False)
    a_corrector.ui.correctButton.click()
    editor = a_corrector.editor
    assert slicer.util.selectedModule() == "SegmentEditor"
    assert editor.segmentationNode() is a_corrector.node
    assert editor.sourceVolumeNode() is a_corrector.volume
    assert editor.currentSegmentID() == a_corrector.ids[1]
    assert editor.activeEffect().name == "MedSeg"
    assert display.GetSegmentVisibility(a_corrector.ids[1])
    assert a_corrector.ui.correctStatusLabel.text == ""


def test_the_button_tells_what_is_missing(a_corrector: Corrector) -> None:
    ui = a_corrector.ui
    assert not ui.correctButton.enabled
    assert "begin a new segment below" in ui.correctButton.toolTip
    empty = a_corrector.user.application.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    a_corrector.choose(empty)
    assert "has no segment" in ui.correctButton.toolTip


def test_a_segmentation_without_its_volume_asks_for_one_and_guesses_none(a_corrector: Corrector) -> None:
    ui, scene = a_corrector.ui, a_corrector.user.application.scene
    other = a_corrector.user.load(an_image(1))
    a_corrector.choose(a_corrector.node)
    scene.RemoveNode(a_corrector.volume)
    stranger = a_corrector.segmentation(other, "stranger")
    stranger.SetNodeReferenceID(stranger.GetReferenceImageGeometryReferenceRole(), None)
    a_corrector.choose(stranger)
    assert ui.correctVolumeSelector.currentNode() is None
    assert ui.correctVolumeSelector.enabled
    assert "does not say which volume" in ui.correctButton.toolTip
    a_corrector.choose_folder()
    assert not ui.addCaseButton.enabled
    ui.correctVolumeSelector.setCurrentNode(other)
    ui.correctButton.click()
    assert a_corrector.editor.sourceVolumeNode() is other


def test_without_a_main_window_a_sentence_says_so(a_corrector: Corrector, monkeypatch: pytest.MonkeyPatch) -> None:
    a_corrector.choose(a_corrector.node)
    with monkeypatch.context() as patch:
        patch.setattr(slicer.util, "mainWindow", lambda *_, **__: None)
        a_corrector.ui.correctButton.click()
        assert "without a main window" in a_corrector.ui.correctStatusLabel.text
        a_corrector.choose(None)
        a_corrector.ui.newSegmentButton.click()
    assert len(a_corrector.user.nodes()) == 1, "nothing is left behind that cannot be drawn"


def test_an_editor_that_does_not_know_the_effect_is_told(
    a_corrector: Corrector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["MedSegLib.correctSection"], "EFFECT", "Nobody")
    a_corrector.choose(a_corrector.node)
    a_corrector.ui.correctButton.click()
    assert "does not know the effect MedSeg" in a_corrector.ui.correctStatusLabel.text
    assert slicer.util.selectedModule() == "MedSeg"


def test_a_new_segment_is_empty_and_in_the_editor(a_corrector: Corrector) -> None:
    a_corrector.choose(a_corrector.node)
    a_corrector.ui.newSegmentNameLineEdit.text = " Lesion "
    a_corrector.ui.newSegmentButton.click()
    segment = a_corrector.node.GetSegmentation().GetSegment(a_corrector.parameters.correctSegmentID)
    assert segment.GetName() == "Lesion"
    assert len(a_corrector.ids) == 3
    assert a_corrector.ui.correctSegmentComboBox.currentText == "Lesion"
    assert a_corrector.editor.currentSegmentID() == a_corrector.parameters.correctSegmentID
    assert a_corrector.editor.activeEffect().name == "MedSeg"
    assert a_corrector.ui.newSegmentNameLineEdit.text == ""


def test_a_name_that_is_taken_is_refused(a_corrector: Corrector) -> None:
    a_corrector.choose(a_corrector.node)
    name = a_corrector.node.GetSegmentation().GetNthSegment(0).GetName()
    a_corrector.ui.newSegmentNameLineEdit.text = name
    a_corrector.ui.newSegmentButton.click()
    assert "already" in a_corrector.ui.correctStatusLabel.text
    assert len(a_corrector.ids) == 2
    assert slicer.util.selectedModule() == "MedSeg"


def test_what_is_clicked_begins_from_nothing_but_a_volume(a_corrector: Corrector) -> None:
    transform = a_corrector.user.application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    a_corrector.volume.SetAndObserveTransformNodeID(transform.GetID())
    assert a_corrector.parameters.correctSegmentation is None
    assert a_corrector.parameters.correctVolume is a_corrector.volume, "the input volume comes first to mind"
    a_corrector.ui.newSegmentButton.click()
    node = a_corrector.parameters.correctSegmentation
    assert node is not a_corrector.node
    assert node.GetSegmentation().GetNumberOfSegments() == 1
    assert node.GetParentTransformNode() is transform
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is a_corrector.volume
    assert a_corrector.editor.segmentationNode() is node
    assert a_corrector.editor.activeEffect().name == "MedSeg"


def test_what_was_segmented_is_what_will_be_corrected(a_corrector: Corrector, a_blob_image: Any) -> None:
    a_corrector.choose(a_corrector.node)
    a_corrector.ui.correctSegmentComboBox.currentIndex = 1
    user = a_corrector.user
    user.load(a_blob_image[0])
    user.ui.tabWidget.currentIndex = 0
    user.press()
    outcome = user.finish()
    assert outcome.state == "done", outcome.sentence
    assert a_corrector.parameters.correctSegmentation is outcome.segmentationNode
    first = outcome.segmentationNode.GetSegmentation().GetNthSegmentID(0)
    assert a_corrector.parameters.correctSegmentID == first
    assert a_corrector.ui.correctVolumeSelector.currentNode() is user.parameters.inputVolume


# --- the training folder


def test_a_case_is_added_without_names_of_patients(a_corrector: Corrector) -> None:
    a_corrector.choose(a_corrector.node)
    assert a_corrector.ui.addCaseButton.toolTip == "Choose a training folder."
    a_corrector.choose_folder()
    a_corrector.ui.addCaseButton.click()
    assert not a_corrector.ui.addCaseButton.enabled
    text = a_corrector.added()
    assert text.startswith("Added as case_0001; the training folder has 1 case. New labels: ")
    folder = a_corrector.folder
    assert np.array_equal(read_volume(folder / "case_0001_image.nii.gz").array, an_image().array)
    labels = read_labelmap(folder / "case_0001_label.nii.gz")
    assert sorted(np.unique(labels.array)) == [0, 1, 2]
    assert labels.array[3, 4, 5] == 1
    assert all(b"Mueller" not in path.read_bytes() for path in folder.iterdir())


def test_the_same_case_is_brought_up_to_date(a_corrector: Corrector) -> None:
    a_corrector.choose(a_corrector.node)
    a_corrector.choose_folder()
    a_corrector.ui.addCaseButton.click()
    a_corrector.added()
    a_corrector.node.GetSegmentation().RemoveSegment(a_corrector.ids[1])
    a_corrector.ui.addCaseButton.click()
    assert "case_0001 in the training folder is up to date; it has 1 case." in a_corrector.added()
    assert read_labelmap(a_corrector.folder / "case_0001_label.nii.gz").array.max() == 1


def test_clicks_come_along_in_the_frame_of_the_volume(a_corrector: Corrector) -> None:
    from medseg.correction.log import CorrectionLog, digest_of
    from medseg.correction.prompts import Prompt
    from medseg.correction.region import Region
    from medseg.mrml.corrections import save_log
    from medseg.mrml.masks import segment_mask

    shift = a_corrector.user.application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 1.0)
    shift.SetMatrixTransformToParent(matrix)
    identifier = a_corrector.ids[0]
    mask = segment_mask(a_corrector.node, identifier).mask.array > 0
    log = CorrectionLog(np.zeros_like(mask))
    first, undone = Prompt("point", [-4.0, -4.0, 6.0]), Prompt("point", [0.0, 0.0, 0.0], False)
    region = Region((0, 0, 0), SHAPE)
    log.record([first], [region], digest_of(mask))
    log.record([first, undone], [region, region], digest_of(~mask))
    save_log(a_corrector.node, identifier, log.to_text())
    a_corrector.choose(a_corrector.node)
    a_corrector.choose_folder()
    a_corrector.ui.addCaseButton.click()
    a_corrector.added()

    def clicks() -> list[dict[str, Any]]:
        content = json.loads((a_corrector.folder / "case_0001_clicks.json").read_text())
        return content["labels"][0]["clicks"]

    assert clicks() == [first.to_dict()], "what was undone does not count"
    # The clicks lie where the segmentation is; the file of the image knows no transform.
    a_corrector.node.SetAndObserveTransformNodeID(shift.GetID())
    a_corrector.user.panel.update()
    a_corrector.ui.correctVolumeSelector.setCurrentNode(a_corrector.volume)
    a_corrector.ui.addCaseButton.click()
    a_corrector.added()
    assert clicks()[0]["ras"] == [-3.0, -4.0, 6.0]


def test_a_tick_adds_it_again_whenever_the_scene_is_saved(a_corrector: Corrector) -> None:
    a_corrector.choose_folder()
    a_corrector.choose(a_corrector.node)
    a_corrector.save()
    assert not a_corrector.folder.exists(), "not without the tick"
    a_corrector.ui.addCaseOnSaveCheckBox.checked = True
    assert a_corrector.parameters.addCaseOnSave
    a_corrector.save()
    assert "Added as case_0001" in a_corrector.added()
    # Another segmentation is chosen meanwhile; the one that was added before is still followed.
    other = a_corrector.segmentation(a_corrector.user.load(an_image(1)), "other")
    a_corrector.choose(other)
    a_corrector.node.GetSegmentation().RemoveSegment(a_corrector.ids[1])
    a_corrector.save()
    text = a_corrector.added()
    assert "case_0001 in the training folder is up to date" in text
    assert "Added as case_0002" in text
    assert read_labelmap(a_corrector.folder / "case_0001_label.nii.gz").array.max() == 1


def test_a_save_of_something_else_adds_nothing(a_corrector: Corrector, tmp_path: Path) -> None:
    a_corrector.choose_folder()
    a_corrector.choose(a_corrector.node)
    a_corrector.ui.addCaseOnSaveCheckBox.checked = True
    assert slicer.util.saveNode(a_corrector.volume, str(tmp_path / "volume.nrrd"))
    assert not a_corrector.section.isAdding
    assert not a_corrector.folder.exists()


def test_a_save_without_a_folder_says_that_nothing_was_added(a_corrector: Corrector) -> None:
    a_corrector.choose(a_corrector.node)
    a_corrector.ui.addCaseOnSaveCheckBox.checked = True
    a_corrector.save()
    assert "no training folder is chosen" in a_corrector.ui.caseStatusLabel.text


def test_one_bad_segmentation_does_not_keep_the_others_from_being_added(a_corrector: Corrector) -> None:
    a_corrector.choose_folder()
    a_corrector.ui.addCaseOnSaveCheckBox.checked = True
    a_corrector.choose(a_corrector.node)
    a_corrector.ui.addCaseButton.click()
    a_corrector.added()
    twice = a_corrector.segmentation(a_corrector.user.load(an_image(1)), "twice")
    for index in range(2):
        twice.GetSegmentation().GetNthSegment(index).SetName("Liver")
    a_corrector.choose(twice)
    a_corrector.save()
    text = a_corrector.added()
    assert "case_0001 in the training folder is up to date" in text
    assert "Two segments are called &#x27;Liver&#x27;" in text


def test_the_folder_is_remembered_on_this_computer_and_not_in_the_scene(a_corrector: Corrector, tmp_path: Path) -> None:
    import qt

    a_corrector.choose_folder()
    assert qt.QSettings().value("MedSeg/TrainingCases", "") == str(a_corrector.folder)
    a_corrector.save()
    assert str(a_corrector.folder) not in (tmp_path / "scene.mrml").read_text()
    a_corrector.ui.caseFolderPathLineEdit.currentPath = ""
    assert not qt.QSettings().value("MedSeg/TrainingCases", "")


def test_closing_the_scene_does_not_lose_a_case_that_is_being_written(a_corrector: Corrector) -> None:
    a_corrector.choose(a_corrector.node)
    a_corrector.choose_folder()
    a_corrector.ui.addCaseButton.click()
    a_corrector.user.application.closeScene()
    assert "Added as case_0001" in a_corrector.added()
    assert (a_corrector.folder / "case_0001_label.nii.gz").is_file()


def test_a_folder_that_cannot_be_written_to_is_told_in_one_sentence(a_corrector: Corrector, tmp_path: Path) -> None:
    (tmp_path / "cases").write_text("a file")
    a_corrector.choose(a_corrector.node)
    a_corrector.choose_folder()
    a_corrector.ui.addCaseButton.click()
    assert "could not be written" in a_corrector.added()
    assert str(tmp_path) not in a_corrector.user.panel.report()
