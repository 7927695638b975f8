"""The section "Train a model": a run in a process of its own, followed, stopped, found again, installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import slicer

from support.fake_training import THIS

if TYPE_CHECKING:
    from collections.abc import Iterator


class Trainer:
    """What a person in front of the section does and sees."""

    def __init__(self, user: Any, folder: Path) -> None:
        self.user = user
        self.ui = user.ui
        self.folder = folder
        self.section = user.panel.training
        self.section.script = THIS

    @property
    def status(self) -> str:
        return self.ui.trainStatusLabel.text

    def fill(self, output: str = "output", **recipe: Any) -> None:
        """Choose data, a recipe that makes the fake run do what it says, and an output folder."""
        path = self.folder / "recipe.yaml"
        path.write_text(json.dumps({"epochs": 3, **recipe}), encoding="utf-8")
        self.ui.trainDataPathLineEdit.currentPath = str(self.folder)
        self.ui.trainRecipePathLineEdit.currentPath = str(path)
        self.ui.trainOutputPathLineEdit.currentPath = str(self.folder / output)

    def press(self, text: str) -> None:
        button = self.ui.trainButton
        assert button.text == text, self.status
        self.user.until(lambda: button.enabled, 5.0)
        button.click()

    def until_it_ends(self) -> None:
        self.user.until(lambda: not self.section.isTraining, 60.0)

    def until_it_runs(self) -> None:
        self.user.until(lambda: self.ui.trainProgressBar.value > 0 or not self.section.isTraining, 60.0)
        assert self.section.isTraining, self.status


@pytest.fixture
def a_trainer(a_user: Any, tmp_path: Path) -> Iterator[Trainer]:
    """Somebody in front of the tab Models, with nothing chosen."""
    a_user.ui.tabWidget.currentIndex = 4
    a_user.ui.trainDeviceComboBox.currentIndex = 0
    for widget in (a_user.ui.trainDataPathLineEdit, a_user.ui.trainRecipePathLineEdit):
        widget.currentPath = ""
    trainer = Trainer(a_user, tmp_path)
    yield trainer
    trainer.section.shutDown()
    if trainer.section._run is not None:
        trainer.section._run.kill()
    a_user.ui.trainOutputPathLineEdit.currentPath = ""
    a_user.ui.tabWidget.currentIndex = 0
    trainer.section.script = None


def test_the_button_tells_what_is_missing(a_trainer: Trainer) -> None:
    ui = a_trainer.ui
    for widget, missing in (
        (ui.trainDataPathLineEdit, "images"),
        (ui.trainRecipePathLineEdit, "recipe"),
        (ui.trainOutputPathLineEdit, "writes"),
    ):
        assert not ui.trainButton.enabled
        assert missing in ui.trainButton.toolTip
        widget.currentPath = str(a_trainer.folder / "something.yaml")
    assert ui.trainButton.enabled
    ui.trainOutputPathLineEdit.currentPath = ""
    assert not ui.trainButton.enabled


def test_a_run_is_followed_to_its_end_with_curves(a_trainer: Trainer) -> None:
    ui = a_trainer.ui
    a_trainer.fill(epochs=6, seconds=0.05)
    a_trainer.press("Start training")
    assert (ui.trainButton.text, ui.trainProgressBar.visible) == ("Stop training", True)
    assert not ui.trainOutputPathLineEdit.enabled
    a_trainer.until_it_ends()
    assert ui.trainButton.text == "Start training"
    assert not ui.trainProgressBar.visible
    assert ui.trainOutputPathLineEdit.enabled
    assert ui.trainCurvesLabel.visible
    legend = ui.trainLegendLabel.text
    for expected in (
        "Loss&nbsp;",
        "Validation loss&nbsp;",
        "bright blob&nbsp;",
        "dark blob&nbsp;",
        "rgb(200, 100, 50)",
    ):
        assert expected in legend
    assert ui.trainReportButton.enabled


def test_a_stopped_run_goes_on_with_the_same_button(a_trainer: Trainer) -> None:
    a_trainer.fill(epochs=100, seconds=0.1)
    a_trainer.press("Start training")
    a_trainer.until_it_runs()
    a_trainer.user.until(lambda: "Epoch" in a_trainer.status, 30.0)
    assert "left" in a_trainer.ui.trainProgressBar.format
    a_trainer.press("Stop training")
    # It may have ended by now; while it has not, the button waits.
    assert not (a_trainer.section.isTraining and a_trainer.ui.trainButton.enabled)
    a_trainer.until_it_ends()
    assert "go on where it was" in a_trainer.status
    a_trainer.fill(epochs=2)
    a_trainer.press("Go on with the training")
    a_trainer.until_it_ends()
    assert a_trainer.status == "Done."


def test_pressing_twice_starts_one_run_and_keeps_it(a_trainer: Trainer) -> None:
    a_trainer.fill(epochs=3, seconds=0.1)
    a_trainer.press("Start training")
    a_trainer.section.onTrainButton()
    a_trainer.until_it_ends()
    assert a_trainer.status == "Done."


def test_segment_works_while_a_training_runs(a_trainer: Trainer, a_blob_image: Any) -> None:
    user = a_trainer.user
    a_trainer.fill(epochs=1000, seconds=0.1)
    a_trainer.press("Start training")
    a_trainer.until_it_runs()
    user.load(a_blob_image[0])
    user.press()
    assert user.finish().state == "done"
    assert a_trainer.section.isTraining


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"fails": 2}, "The loss is not a number. Lower the learning rate."),
        ({"breaks": "Training needs the Python package 'lightning'."}, "needs the Python package"),
    ],
)
def test_a_failure_is_one_sentence_in_the_panel(a_trainer: Trainer, recipe: dict[str, Any], expected: str) -> None:
    a_trainer.fill(**recipe)
    a_trainer.press("Start training")
    a_trainer.until_it_ends()
    assert "color:#c0392b" in a_trainer.status
    assert expected in a_trainer.status.replace("&#x27;", "'")
    assert expected not in a_trainer.user.panel.report(), "it may name files, and people paste the report anywhere"
    assert [message for message in a_trainer.user.application.messages if message.shown] == []


def test_a_process_that_is_killed_is_noticed(a_trainer: Trainer) -> None:
    a_trainer.fill(epochs=4, dies=3)
    a_trainer.press("Start training")
    a_trainer.until_it_ends()
    assert "interrupted in epoch 3 of 4" in a_trainer.status
    assert a_trainer.ui.trainButton.text == "Go on with the training"


def test_a_panel_that_was_reloaded_finds_its_run(a_trainer: Trainer) -> None:
    """Shut down for a reload, the section leaves the run alone; a new one finds it by the remembered folder."""
    user = a_trainer.user
    a_trainer.fill(epochs=1000, seconds=0.1)
    a_trainer.press("Start training")
    a_trainer.until_it_runs()
    first = a_trainer.section._run
    a_trainer.section.shutDown(keepRunning=True)
    widgets = slicer.util.loadUI(user.widget.resourcePath("UI/Models.ui"))
    ui = slicer.util.childWidgetVariables(widgets)
    section = sys.modules["MedSegLib.trainSection"].TrainSection(
        ui, user.panel.segment._services, user.panel.models, lambda _: None
    )
    try:
        assert section._run is not first
        assert section.isTraining
        user.until(lambda: section.curves.hasEpochs, 30.0)
        section.shutDown()
        assert not (a_trainer.folder / "output" / "stop").exists(), "a run that it has not started is only looked at"
        section._look()
        section.onTrainButton()
        user.until(lambda: not section.isTraining, 30.0)
        assert "go on where it was" in ui.trainStatusLabel.text
    finally:
        section.shutDown()
        first.kill()


def test_the_run_ends_with_the_panel(a_trainer: Trainer) -> None:
    a_trainer.fill(epochs=1000, seconds=0.1)
    a_trainer.press("Start training")
    a_trainer.until_it_runs()
    a_trainer.section.shutDown()
    a_trainer.user.until(lambda: not a_trainer.section._run.status().is_going_on, 30.0)


def test_a_finished_model_is_installed_and_chosen_in_segment(a_trainer: Trainer, bright_blob_package: Path) -> None:
    """Ten minutes later in the same panel."""
    user, ui = a_trainer.user, a_trainer.ui
    package = a_trainer.folder / "output" / "from-a-run"
    shutil.copytree(bright_blob_package, package)
    metadata = package / "configs" / "metadata.json"
    text = metadata.read_text(encoding="utf-8").replace("bright-blob", "my-blobs").replace("Bright blobs", "My blobs")
    metadata.write_text(text, encoding="utf-8")
    a_trainer.fill(package="from-a-run")
    assert not ui.installTrainedButton.enabled
    a_trainer.press("Start training")
    a_trainer.until_it_ends()
    assert "Install the model" in a_trainer.status
    ui.installTrainedButton.click()
    user.until(lambda: user.parameters.modelName == "my-blobs", 30.0)
    assert "My blobs in noise (MR)" in user.shown_models
    assert user.panel.models.chosen.package.folder.parent.name == "models"
    installed = [ui.installedModelsListWidget.item(row).text() for row in range(ui.installedModelsListWidget.count)]
    assert any("My blobs" in text and "yours" in text for text in installed)

    user.application.answer(False)
    ui.installTrainedButton.click()
    assert "Replace it?" in user.application.messages[-1].text
    user.application.answer(True)
    ui.installTrainedButton.click()
    user.until(lambda: ui.installTrainedButton.enabled, 30.0)

    ui.installedModelsListWidget.setCurrentRow(user.panel.modelManager._names.index("my-blobs"))
    user.application.answer(True)
    ui.removeModelButton.click()
    assert "My blobs in noise (MR)" not in user.shown_models


def test_models_that_come_with_medseg_cannot_be_removed(a_trainer: Trainer) -> None:
    ui = a_trainer.ui
    for row in range(ui.installedModelsListWidget.count):
        ui.installedModelsListWidget.setCurrentRow(row)
        assert not ui.removeModelButton.enabled


def test_a_model_is_installed_from_a_zip_file(a_trainer: Trainer, bright_blob_package: Path) -> None:
    user = a_trainer.user
    archive = shutil.make_archive(str(a_trainer.folder / "model"), "zip", bright_blob_package)
    user.application.answer(Path(archive))
    a_trainer.ui.installFileButton.click()
    user.until(lambda: a_trainer.ui.installFileButton.enabled, 30.0)
    assert "is installed" in a_trainer.ui.modelsStatusLabel.text
    assert user.panel.modelManager._isUsers("bright-blob")

    (a_trainer.folder / "no.zip").write_text("nothing", encoding="utf-8")
    user.application.answer(a_trainer.folder / "no.zip")
    a_trainer.ui.installFileButton.click()
    user.until(lambda: a_trainer.ui.installFileButton.enabled, 30.0)
    assert "no usable zip file" in a_trainer.ui.modelsStatusLabel.text


def test_the_chart_grows_with_the_run_and_outlives_a_closed_scene(a_trainer: Trainer) -> None:
    user = a_trainer.user
    a_trainer.fill(epochs=1000, seconds=0.05)
    a_trainer.press("Start training")
    user.until(lambda: a_trainer.ui.trainChartButton.enabled, 30.0)
    a_trainer.ui.trainChartButton.click()
    (chart,) = user.nodes("vtkMRMLPlotChartNode")
    table = chart.GetNthPlotSeriesNode(0).GetTableNode()
    rows = table.GetNumberOfRows()
    user.until(lambda: table.GetNumberOfRows() > rows, 30.0)
    user.application.closeScene()
    user.application.processEvents()
    a_trainer.ui.trainChartButton.click()
    assert len(user.nodes("vtkMRMLPlotChartNode")) == 1


def test_report_and_recipe_are_opened_with_the_systems_programs(
    a_trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(sys.modules["MedSegLib.trainSection"], "openPath", lambda path, _status: opened.append(path))
    a_trainer.fill()
    a_trainer.ui.editRecipeButton.click()
    a_trainer.press("Start training")
    a_trainer.until_it_ends()
    a_trainer.ui.trainReportButton.click()
    assert opened == [a_trainer.folder / "recipe.yaml", a_trainer.folder / "output" / "report.html"]


def test_a_file_without_a_program_for_it_is_told_with_its_place(a_trainer: Trainer) -> None:
    """The offscreen platform of the tests has a program for nothing."""
    a_trainer.fill()
    a_trainer.ui.editRecipeButton.click()
    assert f"no program that opens {a_trainer.folder / 'recipe.yaml'}" in a_trainer.status
    assert str(a_trainer.folder) not in a_trainer.user.panel.report()
    a_trainer.press("Start training")
    a_trainer.until_it_ends()
    a_trainer.ui.trainReportButton.click()
    assert "report.html" in a_trainer.status
    a_trainer.ui.openModelsFolderButton.click()
    assert "no program that opens" in a_trainer.ui.modelsStatusLabel.text
    assert "models" in a_trainer.ui.modelsStatusLabel.text


def a_recipe_with_a_table(folder: Path, repository: Path, table: str) -> Path:
    text = (repository / "Resources/recipes/left-atrium-mr.yaml").read_text(encoding="utf-8")
    assert "\ndata:\n" in text
    path = folder / "with-table.yaml"
    line = f"  csv: {table}\n" if table else ""
    text = text.replace("\ndata:\n", f"\ndata:\n{line}")
    labels = repository / "Resources/recipes/left-atrium-mr.labels.csv"
    path.write_text(text.replace("left-atrium-mr.labels.csv", str(labels)), encoding="utf-8")
    return path


@pytest.mark.parametrize("table", ["pairs.csv", "../other place/pairs.csv"])
def test_a_recipe_that_names_its_data_needs_no_folder(
    a_trainer: Trainer, repository: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui = a_trainer.ui
    a_trainer.fill()
    recipe = a_recipe_with_a_table(a_trainer.folder, repository, table)
    ui.trainRecipePathLineEdit.currentPath = str(recipe)
    ui.trainDataPathLineEdit.currentPath = ""
    started: list[tuple[Path, Path]] = []
    monkeypatch.setattr(a_trainer.section._run, "start", lambda recipe, data, **_: started.append((recipe, data)))
    a_trainer.press("Start training")
    assert "Reading the recipe" in a_trainer.status
    assert not ui.trainButton.enabled
    assert not ui.trainRecipePathLineEdit.enabled
    a_trainer.user.until(lambda: ui.trainRecipePathLineEdit.enabled, 60.0)
    assert started == [(recipe, recipe.parent / table)], a_trainer.status


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "names no data"), ("seed: [", "is not valid YAML"), ("seed: 1", "is missing")],
)
def test_a_recipe_that_names_no_data_is_told_in_one_sentence_and_nothing_starts(
    a_trainer: Trainer, repository: Path, text: str, expected: str
) -> None:
    a_trainer.fill()
    recipe = a_recipe_with_a_table(a_trainer.folder, repository, "")
    if text:
        recipe.write_text(text, encoding="utf-8")
    a_trainer.ui.trainRecipePathLineEdit.currentPath = str(recipe)
    a_trainer.ui.trainDataPathLineEdit.currentPath = ""
    a_trainer.press("Start training")
    a_trainer.user.until(lambda: a_trainer.ui.trainRecipePathLineEdit.enabled, 60.0)
    assert expected in a_trainer.status
    assert "color:#c0392b" in a_trainer.status
    assert "Traceback" not in a_trainer.status
    assert not a_trainer.section.isTraining
    assert a_trainer.ui.trainButton.enabled
    assert str(a_trainer.folder) not in a_trainer.user.panel.report()


def test_a_recipe_is_written_for_the_data(a_trainer: Trainer) -> None:
    ui = a_trainer.ui
    assert not ui.newRecipeButton.enabled
    ui.trainDataPathLineEdit.currentPath = str(a_trainer.folder)
    a_trainer.user.application.answer(a_trainer.folder / "new")
    ui.newRecipeButton.click()
    assert not ui.newRecipeButton.enabled
    a_trainer.user.until(lambda: ui.newRecipeButton.enabled, 60.0)
    assert ui.trainRecipePathLineEdit.currentPath == str(a_trainer.folder / "new.yaml")
    assert "The labels have no names yet." in a_trainer.status

    ui.trainDataPathLineEdit.currentPath = str(a_trainer.folder / "nothing")
    a_trainer.user.application.answer(a_trainer.folder / "other.yaml")
    ui.newRecipeButton.click()
    a_trainer.user.until(lambda: ui.newRecipeButton.enabled, 60.0)
    assert "There is no folder" in a_trainer.status


def start_models(trainer: Trainer) -> list[str]:
    box = trainer.ui.trainStartComboBox
    return [box.itemText(index) for index in range(box.count)]


def write_new_recipe(trainer: Trainer, name: str) -> Any:
    trainer.ui.trainDataPathLineEdit.currentPath = str(trainer.folder)
    trainer.user.application.answer(trainer.folder / name)
    trainer.ui.newRecipeButton.click()
    assert not trainer.ui.trainStartComboBox.enabled
    trainer.user.until(lambda: trainer.ui.newRecipeButton.enabled, 60.0)
    return json.loads((trainer.folder / name).read_text(encoding="utf-8"))


def test_a_new_recipe_goes_on_from_the_chosen_model(a_trainer: Trainer) -> None:
    box = a_trainer.ui.trainStartComboBox
    assert start_models(a_trainer) == [
        "Nothing: train from scratch",
        "Bright blobs in noise",
        "Liver <b>&amp;</b> more",
    ]
    assert box.currentIndex == 0
    assert write_new_recipe(a_trainer, "scratch.yaml")["start_from"] == ""
    box.setCurrentIndex(2)
    assert write_new_recipe(a_trainer, "tuned.yaml")["start_from"] == "liver-ct"
    box.setCurrentIndex(0)
    assert write_new_recipe(a_trainer, "again.yaml")["start_from"] == ""


def test_models_to_start_from_come_and_go_with_what_is_installed(
    a_trainer: Trainer, resources: Path, bright_blob_package: Path
) -> None:
    box, panel = a_trainer.ui.trainStartComboBox, a_trainer.user.panel
    box.setCurrentIndex(1)
    folder = resources / "Models" / "another"
    shutil.copytree(bright_blob_package, folder)
    try:
        metadata = folder / "configs" / "metadata.json"
        text = metadata.read_text(encoding="utf-8").replace("bright-blob", "another").replace("Bright blobs", "Another")
        metadata.write_text(text, encoding="utf-8")
        panel.reloadModels()
        assert start_models(a_trainer)[1:3] == ["Another in noise", "Bright blobs in noise"]
        assert box.currentText == "Bright blobs in noise", "the choice stays"
        box.setCurrentIndex(1)
    finally:
        shutil.rmtree(folder)
    panel.reloadModels()
    assert "Another in noise" not in start_models(a_trainer)
    assert box.currentIndex == 0


def test_a_table_may_take_the_place_of_the_folder(a_trainer: Trainer) -> None:
    a_trainer.user.application.answer(a_trainer.folder / "pairs.csv")
    a_trainer.ui.trainTableButton.click()
    assert a_trainer.ui.trainDataPathLineEdit.currentPath == str(a_trainer.folder / "pairs.csv")


def test_choices_are_remembered_on_this_computer(a_trainer: Trainer) -> None:
    a_trainer.fill()
    a_trainer.ui.trainDeviceComboBox.currentIndex = 1
    import qt

    settings = qt.QSettings()
    assert settings.value("MedSeg/TrainingOutput") == str(a_trainer.folder / "output")
    assert settings.value("MedSeg/TrainingDevice") == "cpu"


def test_emptied_lines_do_not_come_back_after_a_restart(a_trainer: Trainer) -> None:
    a_trainer.fill()
    ui = a_trainer.ui
    lines = ("trainDataPathLineEdit", "trainRecipePathLineEdit", "trainOutputPathLineEdit")
    for name in lines:
        getattr(ui, name).currentPath = ""
    assert not ui.editRecipeButton.enabled
    assert not ui.newRecipeButton.enabled
    user = a_trainer.user
    later = slicer.util.childWidgetVariables(slicer.util.loadUI(user.widget.resourcePath("UI/Models.ui")))
    section = sys.modules["MedSegLib.trainSection"].TrainSection(
        later, user.panel.segment._services, user.panel.models, lambda _: None
    )
    assert [getattr(later, name).currentPath for name in lines] == ["", "", ""]
    section.shutDown()


def test_what_reads_the_recipe_loads_nothing_of_it_into_slicer(a_trainer: Trainer) -> None:
    """In a fresh process, since that of the tests has everything: the reader itself is in another process."""
    file = sys.modules["MedSegLib.recipeTable"].__file__
    loaded = "sorted({'medseg', 'yaml', 'pydantic', 'torch'} & set(sys.modules))"
    code = f"import runpy, sys; runpy.run_path({file!r}); print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packages_for_training_are_asked_for_before_the_first_one(
    a_trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dependencies = sys.modules["MedSegLib.dependencies"]
    find = dependencies.importlib.util.find_spec
    missing = {"lightning"}
    monkeypatch.setattr(
        dependencies.importlib.util, "find_spec", lambda name, *more: None if name in missing else find(name, *more)
    )
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirement: requirement.name not in missing)
    a_trainer.fill()
    a_trainer.user.application.answer(False)
    a_trainer.press("Start training")
    assert "What a training needs was not installed" in a_trainer.status
    assert not a_trainer.section.isTraining
    assert a_trainer.user.application.installations == []
