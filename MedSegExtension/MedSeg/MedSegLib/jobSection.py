"""What every part of the panel that runs jobs has: a button that starts and cancels, a bar, a line of status."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib import dependencies, settings
from MedSegLib.modelCard import durationText
from MedSegLib.report import withoutNames
from MedSegLib.runController import RunController
from MedSegLib.sentences import ERROR_COLOR, colored

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.backend import Job
    from MedSegLib.background import Poller
    from MedSegLib.jobRun import JobRun, Outcome
    from MedSegLib.parameterNode import MedSegParameterNode
    from MedSegLib.report import PanelLog
    from MedSegLib.runController import Request
    from MedSegLib.workerAccess import WorkerAccess

_logger = logging.getLogger(__name__)

DOUBLE_PRESS_SECONDS = 0.5
"""The button that started a run cancels it only after this long, so that a double click starts one and keeps it."""


@dataclass(frozen=True)
class Services:
    """What the parts of the panel share."""

    log: PanelLog
    poller: Poller
    worker: WorkerAccess
    requirementsFile: Path


class StatusLine:
    """A label with one sentence, which takes no room while it is empty."""

    def __init__(self, label: Any, log: PanelLog) -> None:
        self._label = label
        self._log = log
        self._show("")

    def say(self, sentence: str) -> None:
        """Show a sentence."""
        self._show(escape(sentence))

    def fail(self, sentence: str, *, logged: str = "") -> None:
        """Show and log what went wrong; ``logged`` takes the place of a sentence that may name files of patients."""
        # No message box: a run may fail minutes after the button was pressed, while the user works elsewhere.
        self._show(colored(sentence, ERROR_COLOR))
        self._log.add(logged or withoutNames(sentence), logging.ERROR)
        slicer.util.showStatusMessage(f"MedSeg: {sentence}", 10000)

    def failWith(self, error: Exception | None, *, logged: str = "") -> None:
        """Show and log an error; one that is no sentence for the user is a defect, and its trace is logged."""
        if isinstance(error, MedSegError):
            self.fail(str(error), logged=logged)
        else:
            _logger.error("MedSeg has a defect", exc_info=error)
            self.fail(_("MedSeg has a defect: {error!r}. Please report it.").format(error=error))

    def finish(self, sentence: str) -> None:
        """Show, log and announce how a run ended."""
        self.say(sentence)
        self._log.add(withoutNames(sentence))
        slicer.util.showStatusMessage(f"MedSeg: {sentence}", 5000)

    def _show(self, text: str) -> None:
        self._label.text = text
        self._label.setVisible(bool(text))


class JobSection:
    """A part of the panel whose button runs a job of the worker.

    A subclass says what to run (:meth:`_request`), what is missing (:meth:`_obstacle`) and what to do with the outcome
    (:meth:`_onOutcome`).
    """

    startText = ""
    startToolTip = ""
    cancelToolTip = ""
    closedSentence = _("The scene was closed, so the run was stopped.")

    def __init__(self, button: Any, progressBar: Any, statusLabel: Any, services: Services) -> None:
        self._button = button
        self._progressBar = progressBar
        self._services = services
        self.status = StatusLine(statusLabel, services.log)
        self.controller = RunController(services.poller, self._onProgress, self._onFinished, services.worker)
        self.lastOutcome: Outcome | None = None
        self.job: Job | None = None
        self._parameterNode: MedSegParameterNode | None = None
        self._startTime = 0.0
        self._loggedLines = 0
        button.connect("clicked(bool)", self.onButton)
        progressBar.setVisible(False)

    def onButton(self, _checked: bool = False) -> None:
        """Start a run, or cancel the one that goes on."""
        if self.controller.isRunning:
            if self._mayCancel():
                self.controller.stop(_("Cancelled."))
                self.updateButton()
            return
        try:
            self._start()
        except Exception as error:  # noqa: BLE001 - shown and logged
            self.status.failWith(error)
        self.updateButton()

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Show the parameters of a node; None while a scene is closed."""
        self._parameterNode = parameterNode

    def sceneIsClosing(self) -> None:
        """Give up the run, and let go of the last one's nodes: they are about to go."""
        self.lastOutcome = None
        self.controller.abandon(self.closedSentence)

    def shutDown(self) -> None:
        """Stop the run; for the end of the application and for a reload."""
        # Nodes that Python still holds when the application ends are reported as leaks.
        self.lastOutcome = None
        self.controller.shutDown()

    def update(self) -> None:
        """Bring the widgets in line with the parameters and the run."""
        self.updateButton()

    def updateButton(self) -> None:
        """Bring the button in line with the run and with what is missing for one."""
        if self.controller.isRunning:
            self._button.text = _("Cancel")
            self._button.toolTip = self.cancelToolTip
            self._button.enabled = self._mayCancel() and not self.controller.isStopping
            return
        self._button.text = self.startText
        obstacle = self._obstacle()
        self._button.enabled = not obstacle
        self._button.toolTip = obstacle or self.startToolTip

    # --- what a subclass fills in

    def _request(self) -> Request | None:
        """Return what to run, None when something is missing; may raise a MedSegError."""
        raise NotImplementedError

    def _describe(self, request: Any) -> str:
        """Return the line for the log, without names of nodes or files."""
        raise NotImplementedError

    def _obstacle(self) -> str:
        """Return what keeps the button from being pressed, empty when nothing does."""
        raise NotImplementedError

    def _onOutcome(self, outcome: Outcome) -> None:
        """Show what a run has left."""

    # --- a run

    def _start(self) -> None:
        request = self._request()
        if request is None:
            return
        self.lastOutcome = None
        if not settings.usesOwnEnvironment():
            dependencies.ensureInstalled(self._services.requirementsFile)
        self._loggedLines = 0
        self.job = self.controller.start(request).job
        self._startTime = time.monotonic()
        self._progressBar.setVisible(True)
        self._progressBar.value = 0
        self._progressBar.format = "%p%"
        self.status.say(_("Starting…"))
        self._services.log.add(self._describe(request))

    def _mayCancel(self) -> bool:
        return time.monotonic() - self._startTime > DOUBLE_PRESS_SECONDS

    def _onProgress(self, run: JobRun) -> None:
        job = run.job
        self._logJob()
        self._progressBar.value = round(100 * job.progress)
        left = job.seconds_left
        self._progressBar.format = (
            "%p%" if left is None else _("%p%, about {duration} left").format(duration=durationText(left))
        )
        self.status.say(job.text)
        self.updateButton()

    def _onFinished(self, outcome: Outcome) -> None:
        self.lastOutcome = outcome
        self._logJob()
        self._progressBar.setVisible(False)
        if outcome.state == "failed":
            self.status.fail(outcome.sentence)
        else:
            self.status.finish(outcome.sentence)
        self._onOutcome(outcome)
        self.update()

    def _logJob(self) -> None:
        lines = self.job.log[self._loggedLines :] if self.job is not None else []
        self._loggedLines += len(lines)
        for line in lines:
            self._services.log.add(line)
