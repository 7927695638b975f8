"""The section "Learn from corrections": corrected cases are collected in a folder to train from."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.background import BackgroundTask
from MedSegLib.jobSection import Services, StatusLine

if TYPE_CHECKING:
    from medseg.mrml.training_cases import CaseReading
    from medseg.training.collecting import AppendedCase
    from MedSegLib.parameterNode import MedSegParameterNode

FOLDER_SETTING = "MedSeg/TrainingCases"
FILE_SAVED = "fileSaved(qSlicerIO::IOProperties)"
SCENE_ENDINGS = (".mrml", ".mrb")
LONGEST_WAIT = 60.0
"""Seconds that the end of the application waits for a case that is being written."""


class CasesSection:
    """Adds the chosen segmentation to the folder when the button is pressed, and when the scene is saved if asked to.

    The folder is kept in the application's settings, since it belongs to this computer; the tick in the scene.
    """

    def __init__(self, ui: Any, services: Services) -> None:
        self._ui = ui
        self._services = services
        self.status = StatusLine(ui.caseStatusLabel, services.log)
        self._parameterNode: MedSegParameterNode | None = None
        self._task: BackgroundTask | None = None
        self._written = threading.Event()
        self._waiting: list[tuple[Path, list[CaseReading], list[str]]] = []
        ui.caseFolderPathLineEdit.currentPath = str(qt.QSettings().value(FOLDER_SETTING, "") or "")
        ui.caseFolderPathLineEdit.connect("currentPathChanged(QString)", self._onFolder)
        # The widget announces no path when its line is emptied.
        ui.caseFolderPathLineEdit.connect("validInputChanged(bool)", self._onValidity)
        ui.addCaseButton.connect("clicked(bool)", self.onAddButton)
        # Not the scene's StartSaveEvent: it has a name, but nothing in Slicer (5.13) invokes it.
        slicer.app.coreIOManager().connect(FILE_SAVED, self.onFileSaved)

    @property
    def isAdding(self) -> bool:
        """Whether a case is being written."""
        return self._task is not None

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Show the parameters of a node; None while a scene is closed."""
        self._parameterNode = parameterNode

    def sceneIsClosing(self) -> None:
        """A case that is being written needs no scene any more."""

    def shutDown(self) -> None:
        """Let a case be finished: a scene is often saved on the way out."""
        slicer.app.coreIOManager().disconnect(FILE_SAVED, self.onFileSaved)
        if self._task is not None:
            self._written.wait(LONGEST_WAIT)
            self._task = None
        self._waiting.clear()

    def update(self) -> None:
        """Bring the widgets in line with the parameters."""
        obstacle = self._obstacle()
        self._ui.addCaseButton.enabled = not obstacle
        self._ui.addCaseButton.toolTip = obstacle or _(
            "Write image, label map and clicks to the folder; a case that is there already is brought up to date."
        )

    def onAddButton(self, _checked: bool = False) -> None:
        """Add the chosen segmentation, with all its segments."""
        parameters = self._parameterNode
        if parameters is not None and not self._obstacle():
            self._add([(parameters.correctSegmentation, parameters.correctVolume)])

    def onFileSaved(self, properties: Any = None) -> None:
        """Called after any file was saved."""
        # Where Slicer cannot hand over what was saved, it is taken for the scene: adding once more does no harm.
        name = properties.get("fileName") if isinstance(properties, dict) else slicer.mrmlScene.GetURL()
        if str(name or "").lower().endswith(SCENE_ENDINGS):
            self.onSceneSaved()

    def onSceneSaved(self) -> None:
        """Add the chosen segmentation and those that were added before once more, when the user asked for it."""
        from medseg.mrml.masks import reference_volume
        from medseg.mrml.training_cases import CASE_ATTRIBUTE

        parameters = self._parameterNode
        if parameters is None or not parameters.addCaseOnSave:
            return
        if self._folder() is None:
            self.status.fail(_("The scene was saved, but no case was added: no training folder is chosen."))
            return
        cases = []
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            isChosen = node is parameters.correctSegmentation
            volumeNode = parameters.correctVolume if isChosen else reference_volume(node)
            if volumeNode is not None and (isChosen or node.GetAttribute(CASE_ATTRIBUTE)):
                cases.append((node, volumeNode))
        self._add(cases)

    def _add(self, cases: list[tuple[Any, Any]]) -> None:
        """Read segmentations and their volumes here, and write them in the background."""
        folder = self._folder()
        problems: list[str] = []
        readings = [self._read(*nodes, problems) for nodes in cases]
        work = [reading for reading in readings if reading is not None]
        if folder is not None and work:
            self._waiting.append((folder, work, problems))
            self._writeNext()
        elif problems:
            self.status.fail(" ".join(problems))

    def _read(self, segmentationNode: Any, volumeNode: Any, problems: list[str]) -> CaseReading | None:
        from medseg.mrml.training_cases import CASE_ATTRIBUTE, read_case

        try:
            reading = read_case(segmentationNode, volumeNode)
        except MedSegError as error:
            problems.append(str(error))
            return None
        segmentationNode.SetAttribute(CASE_ATTRIBUTE, "1")
        return reading

    def _writeNext(self) -> None:
        if self._task is None and self._waiting:
            folder, readings, problems = self._waiting.pop(0)
            written = self._written = threading.Event()
            self.status.say(_("Adding to the training folder…"))

            def write() -> list[AppendedCase]:
                try:
                    return [reading.append_to(folder) for reading in readings]
                finally:
                    written.set()

            self._task = BackgroundTask(
                self._services.poller, write, lambda added, error: self._onWritten(added, error, problems)
            )
        self.update()

    def _onWritten(self, added: list[AppendedCase] | None, error: Exception | None, problems: list[str]) -> None:
        self._task = None
        if added is None:
            self.status.failWith(error, logged=_("A case could not be added; the sentence may name files."))
        elif problems:
            self.status.fail(" ".join([*map(_sentence, added), *problems]))
        else:
            self.status.finish(" ".join(map(_sentence, added)))
        self._writeNext()

    def _folder(self) -> Path | None:
        text = str(self._ui.caseFolderPathLineEdit.currentPath).strip()
        return Path(text) if text and Path(text).is_absolute() else None

    def _onFolder(self, path: str) -> None:
        qt.QSettings().setValue(FOLDER_SETTING, path)
        self.update()

    def _onValidity(self, isValid: bool) -> None:
        if not isValid:
            self._onFolder("")

    def _obstacle(self) -> str:
        parameters = self._parameterNode
        if parameters is None or parameters.correctSegmentation is None:
            return _("Choose a segmentation above.")
        if parameters.correctVolume is None:
            return _("Choose the volume of the segmentation above.")
        if self._folder() is None:
            return _("Choose a training folder.")
        if self.isAdding:
            return _("Wait a moment.")
        return ""


def _sentence(case: AppendedCase) -> str:
    count = _("1 case") if case.cases == 1 else _("{count} cases").format(count=case.cases)
    text = (
        _("{name} in the training folder is up to date; it has {cases}.")
        if case.replaced
        else _("Added as {name}; the training folder has {cases}.")
    ).format(name=case.name, cases=count)
    if case.new_labels:
        text += " " + _("New labels: {names}.").format(names=", ".join(case.new_labels))
    return text
