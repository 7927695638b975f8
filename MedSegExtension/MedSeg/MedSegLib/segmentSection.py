"""The tab "Segment": a volume, a model, a button."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.background import BackgroundTask
from MedSegLib.jobSection import JobSection, Services
from MedSegLib.modelCard import estimateText, hints
from MedSegLib.modelList import ModelList
from MedSegLib.sampleData import makeSample, showSample
from MedSegLib.segmentationRun import RunRequest
from MedSegLib.sentences import HINT_COLOR, colored

if TYPE_CHECKING:
    from medseg.models import ModelPackage
    from MedSegLib.jobRun import Outcome
    from MedSegLib.parameterNode import MedSegParameterNode


class SegmentSection(JobSection):
    """Connects the widgets of the tab to the models, the worker and the parameter node."""

    startText = _("Segment")
    startToolTip = _("Segment the volume in the background.")
    cancelToolTip = _("Stop the segmentation; nothing is written.")
    closedSentence = _("The scene was closed, so the segmentation was stopped.")

    def __init__(self, ui: Any, services: Services) -> None:
        super().__init__(ui.segmentButton, ui.progressBar, ui.statusLabel, services)
        self._ui = ui
        self.models = ModelList(ui, self._onModelChosen)
        self._sampleTask: BackgroundTask | None = None
        ui.sampleButton.connect("clicked(bool)", self.onSampleButton)

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Show the parameters of a node; None while a scene is closed."""
        super().setParameterNode(parameterNode)
        if parameterNode is not None and not parameterNode.modelName:
            parameterNode.modelName = self.models.firstUsable()

    def update(self) -> None:
        """Bring the widgets in line with the parameters and the run."""
        parameters = self._parameterNode
        if parameters is not None:
            self.models.choose(parameters.modelName)
        self._showTable(parameters.resultTable if parameters is not None else None)
        self._updateHints()
        self.updateButton()

    def onSampleButton(self, _checked: bool = False) -> None:
        """Make the synthetic heart and choose it as the input."""
        if self._sampleTask is None:
            self._ui.sampleButton.enabled = False
            self._sampleTask = BackgroundTask(self._services.poller, makeSample, self._onSample)

    # --- a run

    def _request(self) -> RunRequest | None:
        package = self._package()
        parameters = self._parameterNode
        if parameters is None or parameters.inputVolume is None or package is None:
            return None
        return RunRequest(
            volumeNode=parameters.inputVolume,
            package=package,
            outputNode=parameters.outputSegmentation,
            device=parameters.device.value,
            show3D=parameters.show3D,
            makeTable=parameters.makeTable,
        )

    def _describe(self, request: RunRequest) -> str:
        package = request.package
        weights = package.weights_sha256[:12]
        return f"Segment with {package.name} {package.version} (weights {weights}) on {request.device}"

    def _onOutcome(self, outcome: Outcome) -> None:
        parameters = self._parameterNode
        if parameters is not None and outcome.tableNode is not None:
            parameters.resultTable = outcome.tableNode
        if parameters is not None and outcome.state == "done" and outcome.segmentationNode is not None:
            # What was segmented is what will be corrected, from its first segment on.
            parameters.correctSegmentation, parameters.correctSegmentID = outcome.segmentationNode, ""

    def _obstacle(self) -> str:
        package = self._package()
        if self._parameterNode is None or self._parameterNode.inputVolume is None:
            return _("Choose a volume.")
        if package is None:
            return _("Choose a model that can be used.")
        if not package.weights.present or len(package.inputs) > 1:
            return hints(package, "")[0]
        return ""

    # --- widgets

    def _onModelChosen(self, name: str) -> None:
        if self._parameterNode is not None:
            self._parameterNode.modelName = name
        self.update()

    def _onSample(self, volume: Any, error: Exception | None) -> None:
        self._sampleTask = None
        self._ui.sampleButton.enabled = True
        if error is not None:
            self.status.fail(_("The sample volume could not be made: {reason}").format(reason=error))
            return
        node = showSample(volume)
        if self._parameterNode is not None:
            self._parameterNode.inputVolume = node

    def _showTable(self, tableNode: Any) -> None:
        view = self._ui.resultsTableView
        if view.mrmlTableNode() is not tableNode:
            view.setMRMLTableNode(tableNode)
            view.resizeColumnsToContents()
        self._ui.resultsCollapsibleButton.setVisible(tableNode is not None)

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
                lines = [colored(hint, HINT_COLOR) for hint in hints(package, _modality(node))]
                if node is not None:
                    lines.append(escape(self._estimate(node, package, parameters.device.value)))
            except MedSegError as error:
                lines.append(colored(str(error), HINT_COLOR))
        self._ui.hintLabel.text = "<br>".join(lines)
        self._ui.hintLabel.setVisible(bool(lines))

    def _estimate(self, node: Any, package: ModelPackage, device: str) -> str:
        from medseg.mrml import geometry_from_node

        return estimateText(geometry_from_node(node), package, device)


def _modality(node: Any) -> str:
    from medseg.mrml.volumes import modality_of

    return "" if node is None else str(modality_of(node))
