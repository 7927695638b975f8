"""The panel: puts its parts together. The module's file only builds it and hands it the parameter node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSegLib.attentionSection import AttentionSection
from MedSegLib.background import Poller
from MedSegLib.casesSection import CasesSection
from MedSegLib.catalogueSection import CatalogueSection
from MedSegLib.compareSection import CompareSection
from MedSegLib.correctSection import CorrectSection
from MedSegLib.jobSection import JobSection, Services
from MedSegLib.modelManager import ModelManager
from MedSegLib.pythonSection import PythonSection
from MedSegLib.registerSection import RegisterSection
from MedSegLib.report import PanelLog
from MedSegLib.segmentSection import SegmentSection
from MedSegLib.smoothSection import SmoothSection
from MedSegLib.splitSection import SplitSection
from MedSegLib.tabs import Tabs
from MedSegLib.terminology import loadTerminology
from MedSegLib.trainSection import TrainSection
from MedSegLib.transferSection import TransferSection
from MedSegLib.workerAccess import sharedWorker

if TYPE_CHECKING:
    from pathlib import Path

    from MedSegLib.jobRun import Outcome
    from MedSegLib.modelList import ModelList
    from MedSegLib.parameterNode import MedSegParameterNode
    from MedSegLib.runController import RunController


class Panel:
    """Connects the widgets of the ``.ui`` files to the models, the worker and the parameter node."""

    def __init__(self, ui: Any, requirementsFile: Path) -> None:
        self.ui = ui
        self.log = PanelLog(ui.logTextEdit)
        self._poller = Poller()
        self._worker = sharedWorker()
        services = Services(self.log, self._poller, self._worker, requirementsFile)
        self.tabs = Tabs(ui.tabWidget, [ui.segmentContents, ui.Correct, ui.Register, ui.Analyse, ui.Models])
        self.python = PythonSection(ui, self.log, self._poller)
        self.segment = SegmentSection(ui, services)
        self.transfer = TransferSection(ui, services)
        self.correct = CorrectSection(ui, services)
        self.cases = CasesSection(ui, services)
        self.register = RegisterSection(ui, services, self.models)
        self.smooth = SmoothSection(ui, services)
        self.split = SplitSection(ui, services)
        self.attention = AttentionSection(ui, services, self.models)
        self.compare = CompareSection(ui, services)
        self.modelManager = ModelManager(ui, services, self.models, self.onModelsChanged)
        self.catalogue = CatalogueSection(ui, services, self.models, self.modelManager.installed)
        self.training = TrainSection(ui, services, self.models, self.onModelsChanged)
        self._parameterNode: MedSegParameterNode | None = None
        ui.copyReportButton.connect("clicked(bool)", self.onCopyReportButton)
        self.reloadModels()
        self.update()

    @property
    def models(self) -> ModelList:
        return self.segment.models

    @property
    def controller(self) -> RunController:
        """What runs segmentations."""
        return self.segment.controller

    @property
    def lastOutcome(self) -> Outcome | None:
        """How the last segmentation ended."""
        return self.segment.lastOutcome

    @property
    def jobSections(self) -> list[JobSection]:
        """The parts that run jobs of the worker."""
        return [self.segment, self.transfer, self.register, self.smooth, self.split, self.attention]

    @property
    def _sections(self) -> list[Any]:
        """All parts that show what is in the scene."""
        return [*self.jobSections, self.correct, self.cases, self.compare]

    def reloadModels(self) -> None:
        """Look for models again, and tell Slicer's terminologies about their codes."""
        self.models.reload()
        self.modelManager.update()
        self.catalogue.update()
        self.training.update()
        loadTerminology(label for package in self.models.packages for label in package.labels)

    def onModelsChanged(self, name: str) -> None:
        """Show the models anew, and choose the one that was installed ("" for none)."""
        self.reloadModels()
        if name and self._parameterNode is not None:
            if name in {package.name for package in self.models.registering}:
                self._parameterNode.registerModel = name
            else:
                self._parameterNode.modelName = name
        self.update()

    def cleanup(self, *, isReloading: bool = False) -> None:
        """Stop the worker and everything that goes on; a training goes on while the panel is reloaded."""
        for section in self._sections:
            section.shutDown()
        self.modelManager.shutDown()
        self.catalogue.shutDown()
        self.training.shutDown(keepRunning=isReloading)
        self._worker.end()
        self._poller.close()

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Show the parameters of a node; None while a scene is closed."""
        self._parameterNode = parameterNode
        for section in self._sections:
            section.setParameterNode(parameterNode)
        self.update()

    def sceneIsClosing(self) -> None:
        """Give up what goes on, and let go of results: their nodes are about to go."""
        for section in self._sections:
            section.sceneIsClosing()
        self.training.sceneIsClosing()

    def update(self) -> None:
        """Bring the widgets in line with the parameters and the runs."""
        for section in self._sections:
            section.update()

    def onSegmentButton(self, checked: bool = False) -> None:
        """Start a segmentation, or cancel the one that goes on."""
        self.segment.onButton(checked)

    def onCopyReportButton(self, _checked: bool = False) -> None:
        """Put the report on the clipboard."""
        slicer.app.clipboard().setText(self.report())
        self.segment.status.say(_("The report is on the clipboard."))

    def report(self) -> str:
        """Return versions, settings, the reports of the last runs and the log."""
        jobs = [section.job for section in self.jobSections if section.job is not None]
        return self.log.report(self.python.facts(), "\n\n".join(job.report() for job in jobs))
