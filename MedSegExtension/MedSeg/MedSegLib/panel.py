"""The panel: what the widgets do. The module's file only builds it and hands it the parameter node."""

from __future__ import annotations

import logging
import time
from html import escape
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib import dependencies, settings
from MedSegLib.background import BackgroundTask, Poller
from MedSegLib.modelCard import durationText, estimateText, hints
from MedSegLib.modelList import ModelList
from MedSegLib.pythonSection import PythonSection
from MedSegLib.report import PanelLog
from MedSegLib.runController import RunController
from MedSegLib.sampleData import makeSample, showSample
from MedSegLib.segmentationRun import Outcome, RunRequest, SegmentationRun
from MedSegLib.terminology import loadTerminology

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.backend import Job
    from medseg.models import ModelPackage
    from MedSegLib.parameterNode import MedSegParameterNode

_logger = logging.getLogger(__name__)

DOUBLE_PRESS_SECONDS = 0.5
"""The button that started a run cancels it only after this long, so that a double click starts one and keeps it."""

ERROR_COLOR, HINT_COLOR = "#c0392b", "#b9770e"


class Panel:
    """Connects the widgets of ``MedSeg.ui`` to the models, the worker and the parameter node."""

    def __init__(self, ui: Any, requirementsFile: Path) -> None:
        self.ui = ui
        self.log = PanelLog(ui.logTextEdit)
        self.models = ModelList(ui, self._onModelChosen)
        self._poller = Poller()
        self.python = PythonSection(ui, self.log, self._poller)
        self.controller = RunController(self._poller, self._onProgress, self._onFinished)
        self.lastOutcome: Outcome | None = None
        self._requirementsFile = requirementsFile
        self._parameterNode: MedSegParameterNode | None = None
        self._sampleTask: BackgroundTask | None = None
        self._startTime = 0.0
        self._loggedLines = 0
        self._job: Job | None = None
        ui.segmentButton.connect("clicked(bool)", self.onSegmentButton)
        ui.sampleButton.connect("clicked(bool)", self.onSampleButton)
        ui.copyReportButton.connect("clicked(bool)", self.onCopyReportButton)
        ui.progressBar.setVisible(False)
        self.reloadModels()
        self.update()

    def reloadModels(self) -> None:
        """Look for models again, and tell Slicer's terminologies about their codes."""
        self.models.reload()
        loadTerminology(label for package in self.models.packages for label in package.labels)

    def cleanup(self) -> None:
        """Stop the worker and everything that goes on."""
        # Nodes that Python still holds when the application ends are reported as leaks.
        self.lastOutcome = None
        self.controller.shutDown()
        self._poller.close()

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Show the parameters of a node; None while a scene is closed."""
        self._parameterNode = parameterNode
        if parameterNode is not None and not parameterNode.modelName:
            parameterNode.modelName = self.models.firstUsable()
        self.update()

    def sceneIsClosing(self) -> None:
        """Give up the run, and let go of the last one's nodes: they are about to go."""
        self.lastOutcome = None
        self.controller.abandon(_("The scene was closed, so the segmentation was stopped."))

    def update(self) -> None:
        """Bring the widgets in line with the parameters and the run."""
        parameters = self._parameterNode
        if parameters is not None:
            self.models.choose(parameters.modelName)
        self._showTable(parameters.resultTable if parameters is not None else None)
        self._updateHints()
        self._updateButton()

    # --- the buttons

    def onSegmentButton(self, _checked: bool = False) -> None:
        """Start a run, or cancel the one that goes on."""
        if self.controller.isRunning:
            if time.monotonic() - self._startTime > DOUBLE_PRESS_SECONDS:
                self.controller.stop(_("Cancelled."))
                self._updateButton()
            return
        try:
            self._start()
        except MedSegError as error:
            self._fail(str(error))
        except Exception as error:
            _logger.exception("MedSeg could not start a run")
            self._fail(_("MedSeg has a defect: {error!r}. Please report it.").format(error=error))
        self._updateButton()

    def onSampleButton(self, _checked: bool = False) -> None:
        """Make the synthetic heart and choose it as the input."""
        if self._sampleTask is None:
            self.ui.sampleButton.enabled = False
            self._sampleTask = BackgroundTask(self._poller, makeSample, self._onSample)

    def onCopyReportButton(self, _checked: bool = False) -> None:
        """Put the report on the clipboard."""
        slicer.app.clipboard().setText(self.report())
        self._say(_("The report is on the clipboard."))

    def report(self) -> str:
        """Return versions, settings, the report of the last run and the log."""
        return self.log.report(self.python.facts(), "" if self._job is None else self._job.report())

    # --- a run

    def _start(self) -> None:
        package = self._package()
        parameters = self._parameterNode
        if parameters is None or parameters.inputVolume is None or package is None:
            return
        self.lastOutcome = None
        if not settings.usesOwnEnvironment():
            dependencies.ensureInstalled(self._requirementsFile)
        request = RunRequest(
            volumeNode=parameters.inputVolume,
            package=package,
            outputNode=parameters.outputSegmentation,
            device=parameters.device.value,
            show3D=parameters.show3D,
            makeTable=parameters.makeTable,
        )
        self._loggedLines = 0
        self._job = self.controller.start(request).job
        self._startTime = time.monotonic()
        self.ui.progressBar.setVisible(True)
        self.ui.progressBar.value = 0
        self.ui.progressBar.format = "%p%"
        self._say(_("Starting…"))
        weights = package.weights_sha256[:12]
        self.log.add(f"Segment with {package.name} {package.version} (weights {weights}) on {request.device}")

    def _onProgress(self, run: SegmentationRun) -> None:
        job = run.job
        self._logJob()
        self.ui.progressBar.value = round(100 * job.progress)
        left = job.seconds_left
        self.ui.progressBar.format = (
            "%p%" if left is None else _("%p%, about {duration} left").format(duration=durationText(left))
        )
        self._say(job.text)
        self._updateButton()

    def _onFinished(self, outcome: Outcome) -> None:
        self.lastOutcome = outcome
        self._logJob()
        self.ui.progressBar.setVisible(False)
        if outcome.state == "failed":
            self._fail(outcome.sentence)
        else:
            self._say(outcome.sentence)
            self.log.add(outcome.sentence)
            slicer.util.showStatusMessage(f"MedSeg: {outcome.sentence}", 5000)
        if self._parameterNode is not None and outcome.tableNode is not None:
            self._parameterNode.resultTable = outcome.tableNode
        self.update()

    def _logJob(self) -> None:
        lines = self._job.log[self._loggedLines :] if self._job is not None else []
        self._loggedLines += len(lines)
        for line in lines:
            self.log.add(line)

    # --- widgets

    def _onModelChosen(self, name: str) -> None:
        if self._parameterNode is not None:
            self._parameterNode.modelName = name
        self.update()

    def _onSample(self, volume: Any, error: Exception | None) -> None:
        self._sampleTask = None
        self.ui.sampleButton.enabled = True
        if error is not None:
            self._fail(_("The sample volume could not be made: {reason}").format(reason=error))
            return
        node = showSample(volume)
        if self._parameterNode is not None:
            self._parameterNode.inputVolume = node

    def _showTable(self, tableNode: Any) -> None:
        view = self.ui.resultsTableView
        if view.mrmlTableNode() is not tableNode:
            view.setMRMLTableNode(tableNode)
            view.resizeColumnsToContents()
        self.ui.resultsCollapsibleButton.setVisible(tableNode is not None)

    def _package(self) -> ModelPackage | None:
        chosen = self.models.chosen
        return None if chosen is None else chosen.package

    def _updateHints(self) -> None:
        package = self._package()
        parameters = self._parameterNode
        lines: list[str] = []
        if package is not None and parameters is not None:
            node = parameters.inputVolume
            try:
                lines = [_colored(hint, HINT_COLOR) for hint in hints(package, _modality(node))]
                if node is not None:
                    lines.append(escape(self._estimate(node, package, parameters.device.value)))
            except MedSegError as error:
                lines.append(_colored(str(error), HINT_COLOR))
        self.ui.hintLabel.text = "<br>".join(lines)
        self.ui.hintLabel.setVisible(bool(lines))

    def _estimate(self, node: Any, package: ModelPackage, device: str) -> str:
        from medseg.mrml import geometry_from_node

        return estimateText(geometry_from_node(node), package, device)

    def _updateButton(self) -> None:
        button = self.ui.segmentButton
        if self.controller.isRunning:
            button.text = _("Cancel")
            button.toolTip = _("Stop the segmentation; nothing is written.")
            mayCancel = time.monotonic() - self._startTime > DOUBLE_PRESS_SECONDS
            button.enabled = mayCancel and not self.controller.isStopping
            return
        button.text = _("Segment")
        obstacle = self._obstacle()
        button.enabled = not obstacle
        button.toolTip = obstacle or _("Segment the volume in the background.")

    def _obstacle(self) -> str:
        package = self._package()
        if self._parameterNode is None or self._parameterNode.inputVolume is None:
            return _("Choose a volume.")
        if package is None:
            return _("Choose a model that can be used.")
        if not package.weights.present or len(package.inputs) > 1:
            return hints(package, "")[0]
        return ""

    def _say(self, sentence: str) -> None:
        self.ui.statusLabel.text = escape(sentence)

    def _fail(self, sentence: str) -> None:
        # No message box: a run may fail minutes after the button was pressed, while the user works elsewhere.
        self.ui.statusLabel.text = _colored(sentence, ERROR_COLOR)
        self.log.add(sentence, logging.ERROR)
        slicer.util.showStatusMessage(f"MedSeg: {sentence}", 10000)


def _colored(sentence: str, color: str) -> str:
    return f'<span style="color:{color};">{escape(sentence)}</span>'


def _modality(node: Any) -> str:
    from medseg.mrml.volumes import modality_of

    return "" if node is None else str(modality_of(node))
