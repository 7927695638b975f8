"""What the panel shows and remembers; nothing here needs the worker to compute."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import slicer

from slicer_app.pythonqt.wrapper import record_of

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = ("torch", "monai", "SimpleITK", "scipy", "skimage", "matplotlib", "lightning")


def test_the_module_file_imports_nothing_heavy(repository: Path) -> None:
    """In a fresh process, up to the built panel: Slicer starts no slower, and torch never enters its process."""
    code = f"""
import sys
sys.path.insert(0, {str(repository / "Testing")!r})
from slicer_app import SlicerApplication
application = SlicerApplication.instance()
before = set(sys.modules)
module = application.loadModule({str(repository / "MedSegExtension/MedSeg/MedSeg.py")!r})
print("medseg", sorted(name for name in set(sys.modules) - before if name.startswith("medseg")))
module.widget
print("heavy", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert seen["heavy"] == "[]"
    assert set(re.findall(r"'([^']+)'", seen["medseg"])) <= {"medseg", "medseg.errors", "medseg.version"}
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_module_describes_itself(the_module: Any, repository: Path) -> None:
    module = slicer.modules.medseg
    assert (module.title, list(module.categories)) == ("MedSeg", ["Segmentation"])
    assert module.helpText
    assert module.contributors
    assert module.acknowledgementText
    lines = (repository / "MedSegExtension/MedSeg/MedSeg.py").read_text(encoding="utf-8").splitlines()
    assert sum(1 for line in lines if line.startswith("class ")) == 4


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", ["Bright blobs in noise (MR)", "Liver <b>&amp;</b> more (CT)", "damaged (cannot be used)"]),
        ("noise mr", ["Bright blobs in noise (MR)"]),
        ("ABDOMEN ct", ["Liver <b>&amp;</b> more (CT)"]),
        ("mr abdomen", []),
        ("dam", ["damaged (cannot be used)"]),
    ],
)
def test_every_typed_word_must_fit(a_user: Any, typed: str, expected: list[str]) -> None:
    a_user.ui.modelSearchBox.text = typed
    assert a_user.shown_models == expected


def test_a_search_does_not_change_the_chosen_model(a_user: Any) -> None:
    a_user.ui.modelSearchBox.text = "abdomen"
    assert a_user.parameters.modelName == "bright-blob"
    assert a_user.ui.modelListWidget.currentRow == -1
    a_user.choose_model("liver-ct")
    assert a_user.parameters.modelName == "liver-ct"
    a_user.ui.modelSearchBox.text = ""
    assert a_user.ui.modelListWidget.currentRow == 1


def test_the_card_tells_what_a_user_wants_to_know(a_user: Any) -> None:
    card = a_user.ui.modelCardLabel.text
    for expected in ("Bright blobs in noise", "Segments bright spheres", "MR", "bright blob", "Apache-2.0", "0.1.0"):
        assert expected in card


def test_a_card_is_text_not_markup(a_user: Any) -> None:
    a_user.choose_model("liver-ct")
    assert "Liver &lt;b&gt;&amp;amp;&lt;/b&gt; more" in a_user.ui.modelCardLabel.text


def test_a_broken_model_is_listed_with_its_sentence_and_cannot_be_run(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    a_user.choose_model("damaged")
    assert "cannot be used" in a_user.ui.modelCardLabel.text
    assert "metadata.json" in a_user.ui.modelCardLabel.text
    assert not a_user.ui.segmentButton.enabled
    assert "can be used" in a_user.ui.segmentButton.toolTip


def test_missing_weights_are_told_and_the_model_cannot_be_run(
    a_user: Any, a_blob_image: Any, bright_blob_package: Path, a_user_folder_of_its_own: Path
) -> None:
    import shutil

    copy = a_user_folder_of_its_own / "models" / "bright-blob"
    shutil.copytree(bright_blob_package, copy)
    a_user.load(a_blob_image[0])
    a_user.panel.reloadModels()
    a_user.panel.models.chosen.package.weights.path.unlink()
    a_user.panel.reloadModels()
    a_user.panel.update()
    assert "weights" in a_user.ui.hintLabel.text + a_user.ui.modelCardLabel.text
    assert not a_user.ui.segmentButton.enabled
    shutil.rmtree(copy)
    a_user.panel.reloadModels()


def test_a_wrong_modality_is_hinted_and_a_right_one_is_not(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    assert "was made for" not in a_user.ui.hintLabel.text
    a_user.choose_model("liver-ct")
    assert "The volume is MR, but this model was made for CT" in a_user.ui.hintLabel.text
    assert a_user.ui.segmentButton.enabled


def test_the_cost_is_estimated_before_the_run(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    assert re.search(r"Estimate: \d+ s; \d+ [MG]B of memory\.", a_user.ui.hintLabel.text)
    a_user.parameters.device = type(a_user.parameters.device).AUTOMATIC
    assert re.search(r"Estimate: \d+ s on the CPU, \d+ s on a GPU;", a_user.ui.hintLabel.text)


def test_the_button_tells_what_is_missing(a_user: Any) -> None:
    assert not a_user.ui.segmentButton.enabled
    assert a_user.ui.segmentButton.toolTip == "Choose a volume."


def test_widgets_and_parameters_follow_each_other(a_user: Any, a_blob_image: Any) -> None:
    node = a_user.load(a_blob_image[0])
    parameters = a_user.parameters
    assert parameters.inputVolume is node
    a_user.ui.show3DCheckBox.checked = True
    a_user.ui.makeTableCheckBox.checked = False
    a_user.ui.deviceComboBox.currentIndex = 2
    assert (parameters.show3D, parameters.makeTable, parameters.device.value) == (True, False, "cuda")
    parameters.show3D = False
    assert not a_user.ui.show3DCheckBox.checked
    texts = [a_user.ui.deviceComboBox.itemText(index) for index in range(a_user.ui.deviceComboBox.count)]
    assert texts == ["Automatic", "CPU", "GPU (CUDA)"]


def test_the_state_comes_back_with_a_saved_scene(a_user: Any, a_blob_image: Any, tmp_path: Path) -> None:
    scene = a_user.application.scene
    node = a_user.load(a_blob_image[0])
    node.SetName("the input")
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "the output")
    a_user.choose_model("liver-ct")
    a_user.ui.outputSelector.setCurrentNode(output)
    a_user.ui.show3DCheckBox.checked = True
    a_user.ui.deviceComboBox.currentIndex = 1
    path = tmp_path / "scene.mrml"
    scene.SetURL(str(path))
    assert scene.Commit()

    a_user.application.closeScene()
    assert a_user.parameters.inputVolume is None
    assert a_user.parameters.show3D is False
    scene.SetURL(str(path))
    assert scene.Import()
    parameters = a_user.parameters
    assert parameters.inputVolume.GetName() == "the input"
    assert parameters.outputSegmentation.GetName() == "the output"
    assert (parameters.modelName, parameters.show3D, parameters.device.value) == ("liver-ct", True, "cpu")
    assert a_user.ui.inputSelector.currentNode().GetName() == "the input"
    assert a_user.ui.outputSelector.currentNode().GetName() == "the output"
    assert a_user.ui.show3DCheckBox.checked
    assert a_user.panel.models.chosen.name == "liver-ct"


def connections_of_bound_widgets(user: Any) -> dict[str, int]:
    """How many slots listen to each widget that shows a parameter."""
    bound = {widget.property("SlicerParameterName"): widget for widget in vars(user.ui).values()}
    return {name: len(record_of(widget._cpp).connections) for name, widget in bound.items() if name}


def test_coming_back_keeps_the_choices_and_binds_each_widget_once(a_user: Any) -> None:
    before = connections_of_bound_widgets(a_user)
    assert before["device"] == before["connectivity"] == before["transferMethod"] == 1
    for _ in range(3):
        a_user.application.closeScene()
        a_user.ui.deviceComboBox.currentIndex = 2
        a_user.ui.connectivityComboBox.currentIndex = 1
        a_user.ui.transferMethodComboBox.currentIndex = 1
        for _ in range(2):
            a_user.loaded.exit()
            a_user.loaded.enter()
        parameters = a_user.parameters
        assert (parameters.device.value, parameters.connectivity.value) == ("cuda", 26)
        assert parameters.transferMethod.value == "shape"
        assert a_user.ui.deviceComboBox.currentText == "GPU (CUDA)"
    assert connections_of_bound_widgets(a_user) == before


def test_coming_back_to_the_same_parameters_changes_no_parameter(a_user: Any) -> None:
    a_user.ui.deviceComboBox.currentIndex = 1
    seen: list[str] = []
    node = a_user.parameters.parameterNode
    tag = node.AddObserver("ModifiedEvent", lambda *_: seen.append(node.GetParameter("device")))
    a_user.loaded.exit()
    a_user.loaded.enter()
    node.RemoveObserver(tag)
    assert seen == []


def test_a_scene_that_is_loaded_after_coming_back_shows_its_own_choices(a_user: Any, tmp_path: Path) -> None:
    a_user.ui.deviceComboBox.currentIndex = 2
    a_user.ui.connectivityComboBox.currentIndex = 1
    assert slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    a_user.application.closeScene()
    a_user.loaded.exit()
    a_user.loaded.enter()
    assert a_user.ui.deviceComboBox.currentIndex == 0
    slicer.util.loadScene(str(tmp_path / "scene.mrml"))
    assert (a_user.parameters.device.value, a_user.parameters.connectivity.value) == ("cuda", 26)
    assert (a_user.ui.deviceComboBox.currentIndex, a_user.ui.connectivityComboBox.currentIndex) == (2, 1)


def test_a_model_of_a_saved_scene_that_is_not_installed_is_said_and_kept(a_user: Any, a_blob_image: Any) -> None:
    a_user.load(a_blob_image[0])
    a_user.parameters.modelName = "from-another-computer"
    assert "not installed here" in a_user.ui.modelCardLabel.text
    assert not a_user.ui.segmentButton.enabled
    assert a_user.parameters.modelName == "from-another-computer"


def test_the_first_volume_is_chosen_and_a_label_map_is_not(a_user: Any, a_blob_image: Any) -> None:
    from medseg.mrml import volume_to_node

    scene = a_user.application.scene
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    a_user.widget.initializeParameterNode()
    assert a_user.parameters.inputVolume is None
    node = volume_to_node(a_blob_image[0], scene)
    a_user.loaded.exit()
    a_user.loaded.enter()
    assert a_user.parameters.inputVolume is node


def test_the_sample_button_loads_the_synthetic_heart(a_user: Any) -> None:
    a_user.ui.sampleButton.click()
    assert not a_user.ui.sampleButton.enabled
    a_user.until(lambda: a_user.ui.sampleButton.enabled)
    node = a_user.parameters.inputVolume
    assert node.GetName() == "MedSegPhantom"
    assert node.GetImageData().GetDimensions() == (96, 72, 44)


def test_the_sample_is_registered_in_sample_data_and_needs_no_download(a_user: Any) -> None:
    (source,) = slicer.modules.sampleDataSources["MedSeg"]
    assert source.sampleName == "MedSegPhantom"
    (node,) = source.customDownloader(source)
    assert node.GetImageData() is not None


def test_an_application_without_sample_data_starts_without_a_complaint(
    a_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SampleData", None)
    sys.modules["MedSegLib.sampleData"].registerSampleData()


def test_terminology_of_the_models_is_known_to_slicer(a_user: Any) -> None:
    import vtk

    names = vtk.vtkStringArray()
    slicer.modules.terminologies.logic().GetLoadedTerminologyNames(names)
    known = [names.GetValue(index) for index in range(names.GetNumberOfValues())]
    assert "Segmentation category and type - MedSeg" in known


def test_checking_the_python_environment_tells_versions_or_what_is_wrong(a_user: Any, tmp_path: Path) -> None:
    ui = a_user.ui
    ui.pythonPathLineEdit.currentPath = str(tmp_path / "no-python")
    ui.checkPythonButton.click()
    assert "There is no Python" in ui.pythonReportLabel.text
    ui.pythonPathLineEdit.currentPath = sys.executable
    ui.checkPythonButton.click()
    assert not ui.checkPythonButton.enabled
    a_user.until(lambda: ui.checkPythonButton.enabled)
    assert "torch" in ui.pythonReportLabel.text
    assert "Traceback" not in ui.pythonReportLabel.text


def test_the_python_environment_is_remembered_and_forgotten(a_user: Any) -> None:
    import qt

    a_user.ui.pythonPathLineEdit.currentPath = sys.executable
    assert qt.QSettings().value("MedSeg/PythonInterpreter") == sys.executable
    a_user.ui.pythonPathLineEdit.currentPath = ""
    assert not qt.QSettings().contains("MedSeg/PythonInterpreter")


def test_a_reload_keeps_the_panel_working(a_user: Any, a_blob_image: Any) -> None:
    """What the button "Reload" of Slicer's developer mode runs, up to the base class, which the stand-in cuts short."""
    before = sys.modules["MedSegLib.panel"].Panel
    try:
        a_user.widget.onReload()
    except (NotImplementedError, AttributeError) as error:
        pytest.skip(f"the stand-in does not reload: {error}")
    assert sys.modules["MedSegLib.panel"].Panel is not before


def test_widgets_have_lower_camel_case_names_and_bound_parameters_exist(a_user: Any, repository: Path) -> None:
    names: list[str] = []
    bound: list[str] = []
    for path in sorted((repository / "MedSegExtension/MedSeg/Resources/UI").glob("*.ui")):
        tree = ET.parse(path)
        found = [element.get("name") for element in tree.iter() if element.tag in ("widget", "layout", "spacer")]
        assert found.pop(0) == path.stem
        names += found
        bound += [
            element.find("string").text
            for element in tree.iter("property")
            if element.get("name") == "SlicerParameterName"
        ]
    assert [name for name in names if not re.fullmatch(r"[a-z][A-Za-z0-9]*", name)] == []
    assert len(names) == len(set(names)), "all files make one namespace"
    by_hand = {"modelName", "resultTable", "correctSegmentID", "splitSegmentID", "attentionModel", "registerModel"}
    parameters = set(sys.modules["MedSegLib.parameterNode"].MedSegParameterNode.__annotations__)
    assert sorted(bound) == sorted(parameters - by_hand)


def test_only_the_tab_in_front_takes_room(a_user: Any) -> None:
    ui = a_user.ui
    contents = [ui.segmentContents, ui.Correct, ui.Register, ui.Analyse, ui.Models]
    for index in (1, 2, 3, 4, 0):
        ui.tabWidget.currentIndex = index
        assert [widget.isVisibleTo(ui.tabWidget) for widget in contents] == [number == index for number in range(5)]
