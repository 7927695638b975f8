"""The section "Train a model": a recipe, data, an output folder, a button; the run goes on in a process of its own."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib import dependencies, settings
from MedSegLib.background import BackgroundTask, Ticker
from MedSegLib.choices import Choices
from MedSegLib.fileDialogs import askForFile, askWhereToSave, openPath
from MedSegLib.jobSection import DOUBLE_PRESS_SECONDS, Services, StatusLine
from MedSegLib.modelCard import durationText
from MedSegLib.parameterNode import Device
from MedSegLib.recipeTable import tableOfRecipe
from MedSegLib.trainingCurves import TrainingCurves

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.backend.interpreter import PythonInterpreter
    from medseg.backend.training_process import TrainingProcess, TrainingStatus
    from medseg.models import ModelPackage
    from MedSegLib.modelList import ModelList

_logger = logging.getLogger(__name__)

LOOK_MILLISECONDS = 500
"""How often the state of a run is looked at."""

RECIPE_SETTING, DATA_SETTING = "MedSeg/TrainingRecipe", "MedSeg/TrainingData"
OUTPUT_SETTING, DEVICE_SETTING = "MedSeg/TrainingOutput", "MedSeg/TrainingDevice"
RECIPE_FILTER, TABLE_FILTER = "Recipes (*.yaml *.yml)", "Tables (*.csv)"


class TrainSection:
    """Starts, follows and stops the run of the chosen output folder, and installs what it made.

    Paths and device are kept in the application's settings, not in the scene: they belong to this computer. So a
    panel that was reloaded finds the run that goes on.
    """

    def __init__(self, ui: Any, services: Services, models: ModelList, onInstalled: Callable[[str], None]) -> None:
        self._ui = ui
        self._services = services
        self._models = models
        self._onInstalled = onInstalled
        self.status = StatusLine(ui.trainStatusLabel, services.log)
        self.curves = TrainingCurves(ui.trainCurvesLabel, ui.trainLegendLabel)
        self._startModels = Choices(ui.trainStartComboBox, self._onStartModel)
        self._startModel = ""
        self.script: Path | None = None
        self._run: TrainingProcess | None = None
        self._shown: TrainingStatus | None = None
        self._task: BackgroundTask | None = None
        self._ticker = Ticker(self._poll, LOOK_MILLISECONDS)
        self._startTime = 0.0
        self._restore()
        ui.trainProgressBar.setVisible(False)
        for widget, slot in (
            (ui.trainDataPathLineEdit, self._onData),
            (ui.trainRecipePathLineEdit, self._onRecipe),
            (ui.trainOutputPathLineEdit, self._onOutput),
        ):
            widget.connect("currentPathChanged(QString)", slot)
            widget.connect("validInputChanged(bool)", _whenInvalid(slot))
        ui.trainDeviceComboBox.connect("currentIndexChanged(int)", self._onDevice)
        for button, slot in (
            (ui.trainButton, self.onTrainButton),
            (ui.trainTableButton, self.onTableButton),
            (ui.newRecipeButton, self.onNewRecipeButton),
            (ui.editRecipeButton, self.onEditRecipeButton),
            (ui.installTrainedButton, self.onInstallButton),
            (ui.trainReportButton, self.onReportButton),
            (ui.trainChartButton, self.onChartButton),
        ):
            button.connect("clicked(bool)", slot)
        self.update()
        self._look()

    def update(self) -> None:
        """Offer the models that a new recipe can go on from; one that is not there any more is not chosen."""
        from medseg.training.tunable import tunable

        titles = {package.name: package.title for package in tunable(self._models.packages)}
        lines = {"": _("Nothing: train from scratch"), **titles}
        if self._startModel not in lines:
            self._startModel = ""
        self._startModels.show(lines, self._startModel)

    @property
    def isTraining(self) -> bool:
        """Whether a run goes on in the chosen folder."""
        return self._shown is not None and self._shown.is_going_on

    def sceneIsClosing(self) -> None:
        """Let go of the chart; the run goes on."""
        self.curves.forgetChart()

    def shutDown(self, *, keepRunning: bool = False) -> None:
        """Stop the run that was started here, unless the panel will be back in a moment and find it again.

        One that a former panel of this application has started ends with the application; one that somebody else has
        started is only looked at.
        """
        self._ticker.stop()
        self.curves.forgetChart()
        if self._run is not None and self._run.is_own and self.isTraining and not keepRunning:
            try:
                self._run.stop()
            except MedSegError:
                # The process ends with this application in any case.
                _logger.exception("The training could not be asked to stop")

    # --- the buttons

    def onTrainButton(self, _checked: bool = False) -> None:
        """Start the run or go on with it, or stop it."""
        try:
            if not self.isTraining:
                self._start()
            elif time.monotonic() - self._startTime > DOUBLE_PRESS_SECONDS and self._run is not None:
                self._run.stop()
                self._services.log.add("Stop the training")
                self._look()
        except Exception as error:  # noqa: BLE001 - shown and logged
            self.status.failWith(error)
        self._updateButtons()

    def onTableButton(self, _checked: bool = False) -> None:
        """Ask for a table of images and label maps."""
        path = askForFile(_("Choose a table of images and label maps"), self._folder(self._data), TABLE_FILTER)
        if path is not None:
            self._ui.trainDataPathLineEdit.currentPath = str(path)

    def onNewRecipeButton(self, _checked: bool = False) -> None:
        """Ask where to write a recipe, and let a process write one that fits the data."""
        data, startModel = Path(self._data), self._startModel
        suggestion = str(data.parent / f"{data.stem}.yaml")
        path = askWhereToSave(_("Save the new recipe"), suggestion, RECIPE_FILTER)
        if path is None:
            return
        if not path.suffix:
            path = path.with_suffix(".yaml")
        try:
            self._ensureInstalled()
            interpreter = settings.chooseInterpreter()
        except MedSegError as error:
            self.status.fail(str(error))
            return
        environment = _environmentFor(interpreter)
        self.status.say(_("Looking through the data…"))
        self._services.log.add("Write a new recipe")

        def write() -> tuple[Path, list[str]]:
            from medseg.backend.training_process import write_recipe

            notes = write_recipe(
                path,
                data,
                start_from=startModel,
                interpreter=interpreter,
                environment=environment,
                script=self.script,
            )
            return path, notes

        self._task = BackgroundTask(self._services.poller, write, self._onRecipeWritten)
        self._updateButtons()

    def onEditRecipeButton(self, _checked: bool = False) -> None:
        """Open the recipe in the system's editor."""
        openPath(Path(self._recipe), self.status)

    def onInstallButton(self, _checked: bool = False) -> None:
        """Put the finished model among the user's models."""
        from medseg.models import install_folder, read_package, user_models_folder

        folder = None if self._shown is None else self._shown.package
        if folder is None:
            return
        try:
            name = read_package(folder).name
            if (user_models_folder() / name).exists() and not slicer.util.confirmOkCancelDisplay(
                _("There is a model “{name}” already. Replace it?").format(name=name)
            ):
                return
        except MedSegError as error:
            self.status.fail(str(error))
            return
        self._task = BackgroundTask(
            self._services.poller, lambda: install_folder(folder, overwrite=True), self._onPackageInstalled
        )
        self._updateButtons()

    def onReportButton(self, _checked: bool = False) -> None:
        """Open the report of the run."""
        if self._shown is not None and self._shown.report is not None:
            openPath(self._shown.report, self.status)

    def onChartButton(self, _checked: bool = False) -> None:
        """Show the curves in a plot view."""
        self.curves.showChart(Path(self._output).name or "MedSeg")

    # --- the run

    def _start(self) -> None:
        if self._obstacle() or self._run is None:
            return
        self._ensureInstalled()
        interpreter = settings.chooseInterpreter()
        if self._data:
            self._startRun(Path(self._data), interpreter)
            return
        run, recipe = self._run, Path(self._recipe)
        environment = _environmentFor(interpreter)
        self.status.say(_("Reading the recipe…"))
        self._task = BackgroundTask(
            self._services.poller,
            lambda: tableOfRecipe(recipe, interpreter, environment),
            lambda table, error: self._onTable(table, error, run, interpreter),
        )

    def _startRun(self, data: Path, interpreter: PythonInterpreter) -> None:
        self._run.start(
            Path(self._recipe),
            data,
            device=self._device.value,
            interpreter=interpreter,
            environment=_environmentFor(interpreter),
            script=self.script,
        )
        self._startTime = time.monotonic()
        self._services.log.add(f"Train on {self._device.value}")
        self._look()

    def _ensureInstalled(self) -> None:
        if not settings.usesOwnEnvironment():
            dependencies.ensureInstalled(self._services.requirementsFile)
            dependencies.ensureTrainingInstalled(self._services.requirementsFile.with_name("requirements-training.txt"))

    def _look(self) -> None:
        """Look at the chosen folder, whatever is there."""
        from medseg.backend.training_process import TrainingProcess

        output = self._output
        if self._run is None or str(self._run.output) != output:
            self._run = TrainingProcess(Path(output)) if _isAbsolute(output) else None
            self.curves.follow(Path(output) if self._run is not None else None)
            self._shown = None
        status = None if self._run is None else self._run.status()
        self._show(status)
        if status is not None and status.is_going_on:
            self._ticker.start()
        else:
            self._ticker.stop()

    def _poll(self) -> None:
        if self._run is None:
            return
        status = self._run.status()
        if not status.is_going_on:
            self._ticker.stop()
        self._show(status)
        self.curves.update(now=not status.is_going_on)
        self._ui.trainChartButton.enabled = self.curves.hasEpochs

    def _show(self, status: TrainingStatus | None) -> None:
        """Show a status; what has just ended is told and logged."""
        before, self._shown = self._shown, status
        bar = self._ui.trainProgressBar
        bar.setVisible(status is not None and status.is_going_on)
        if status is None or status.state == "none":
            self.status.say("")
        elif status.is_going_on:
            bar.value = round(100 * status.fraction)
            left = status.seconds_left
            bar.format = "%p%" if left is None else _("%p%, about {duration} left").format(duration=durationText(left))
            self.status.say(status.sentence)
        elif before is not None and before.is_going_on:
            if status.state == "failed":
                self.status.fail(status.sentence, logged=_("The training failed; its sentence may name files."))
            else:
                self.status.finish(self._ending(status))
        elif before is None or before != status:
            self.status.say(self._ending(status))
        self._updateButtons()

    def _ending(self, status: TrainingStatus) -> str:
        if status.state == "finished" and status.package is not None:
            return _("The training is finished. Install the model to use it in the tab Segment.")
        if status.state == "cancelled":
            return _("The training was stopped. Start it again to go on where it was.")
        return str(status.sentence)

    # --- what a background task has done

    def _onTable(
        self, table: Path | None, error: Exception | None, run: TrainingProcess, interpreter: PythonInterpreter
    ) -> None:
        self._task = None
        if table is None:
            self.status.failWith(error, logged=_("The recipe cannot be used; the sentence may name files."))
        elif self._run is run:  # else another output was chosen meanwhile
            try:
                self._startRun(table, interpreter)
            except MedSegError as failure:
                self.status.failWith(failure)
        self._updateButtons()

    def _onRecipeWritten(self, written: tuple[Path, list[str]] | None, error: Exception | None) -> None:
        self._task = None
        if written is None:
            self.status.failWith(error)
        else:
            path, notes = written
            self._ui.trainRecipePathLineEdit.currentPath = str(path)
            self.status.finish(" ".join([_("The recipe is written; read it before you start."), *notes]))
        self._updateButtons()

    def _onPackageInstalled(self, package: ModelPackage | None, error: Exception | None) -> None:
        self._task = None
        if package is None:
            self.status.failWith(error)
        else:
            self._onInstalled(package.name)
            self.status.finish(_("“{title}” is installed and chosen in the tab Segment.").format(title=package.title))
        self._updateButtons()

    # --- widgets

    @property
    def _data(self) -> str:
        return str(self._ui.trainDataPathLineEdit.currentPath).strip()

    @property
    def _recipe(self) -> str:
        return str(self._ui.trainRecipePathLineEdit.currentPath).strip()

    @property
    def _output(self) -> str:
        return str(self._ui.trainOutputPathLineEdit.currentPath).strip()

    @property
    def _device(self) -> Device:
        return list(Device)[self._ui.trainDeviceComboBox.currentIndex]

    def _folder(self, path: str) -> str:
        return os.path.dirname(path) or str(Path.home())  # noqa: PTH120 - of a text that need not be a path yet

    def _restore(self) -> None:
        remembered = qt.QSettings()
        for widget, name in (
            (self._ui.trainDataPathLineEdit, DATA_SETTING),
            (self._ui.trainRecipePathLineEdit, RECIPE_SETTING),
            (self._ui.trainOutputPathLineEdit, OUTPUT_SETTING),
        ):
            widget.currentPath = str(remembered.value(name, "") or "")
        for device in Device:
            self._ui.trainDeviceComboBox.addItem(device.label())
        values = [device.value for device in Device]
        value = str(remembered.value(DEVICE_SETTING, "auto") or "auto")
        self._ui.trainDeviceComboBox.currentIndex = values.index(value) if value in values else 0

    def _onData(self, path: str) -> None:
        qt.QSettings().setValue(DATA_SETTING, path)
        self._updateButtons()

    def _onRecipe(self, path: str) -> None:
        qt.QSettings().setValue(RECIPE_SETTING, path)
        self._updateButtons()

    def _onOutput(self, path: str) -> None:
        qt.QSettings().setValue(OUTPUT_SETTING, path)
        self._look()

    def _onStartModel(self, name: str) -> None:
        self._startModel = name

    def _onDevice(self, _index: int) -> None:
        qt.QSettings().setValue(DEVICE_SETTING, self._device.value)

    def _obstacle(self) -> str:
        if not self._recipe:
            # A recipe may name its data itself; whether it does is seen when it is read.
            return (
                _("Choose a recipe, or let one be written for your data.")
                if self._data
                else _("Choose a folder with images and label maps, or a recipe that names a table of them.")
            )
        if self._run is None:
            return _("Choose a folder for what the training writes.")
        if self._task is not None:
            return _("Wait a moment.")
        return ""

    def _updateButtons(self) -> None:
        ui, status = self._ui, self._shown
        isTraining, isBusy = self.isTraining, self._task is not None
        button = ui.trainButton
        if isTraining:
            button.text = _("Stop training")
            button.toolTip = _("Stop after the current step; the checkpoint stays, and the same button goes on.")
            button.enabled = status is not None and status.state != "stopping"
        else:
            obstacle = self._obstacle()
            goesOn = status is not None and status.state in ("cancelled", "interrupted")
            button.text = _("Go on with the training") if goesOn else _("Start training")
            button.toolTip = obstacle or _("Train in the background, in a process of its own.")
            button.enabled = not obstacle
        mayChoose = not isTraining and not isBusy
        for widget in (ui.trainDataPathLineEdit, ui.trainRecipePathLineEdit, ui.trainOutputPathLineEdit):
            widget.enabled = mayChoose
        ui.trainTableButton.enabled = ui.trainDeviceComboBox.enabled = mayChoose
        ui.trainStartComboBox.enabled = mayChoose
        ui.newRecipeButton.enabled = bool(self._data) and mayChoose
        ui.editRecipeButton.enabled = bool(self._recipe)
        ui.installTrainedButton.enabled = (
            status is not None and status.state == "finished" and status.package is not None and not isBusy
        )
        ui.trainReportButton.enabled = status is not None and status.report is not None
        ui.trainChartButton.enabled = self.curves.hasEpochs


def _isAbsolute(path: str) -> bool:
    return bool(path) and Path(path).is_absolute()


def _environmentFor(interpreter: PythonInterpreter) -> dict[str, str] | None:
    """Return the environment to start a Python with, None for that of this process."""
    return settings.startupEnvironment() if interpreter.foreign else None


def _whenInvalid(slot: Callable[[str], None]) -> Callable[[bool], None]:
    """Return the slot for the validity of a line, which tells ``slot`` that no path is left.

    The widget announces no path when its line is emptied.
    """

    def onValidity(isValid: bool) -> None:
        if not isValid:
            slot("")

    return onValidity
