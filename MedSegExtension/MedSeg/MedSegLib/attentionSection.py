"""The section "Where does the network look": a point, and a map of what counts for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSegLib.choices import Choices
from MedSegLib.jobRun import JobRun, Outcome
from MedSegLib.jobSection import JobSection, Services

if TYPE_CHECKING:
    from medseg.backend import WorkerClient
    from medseg.models import ModelPackage
    from medseg.volumes.derived import DerivedVolume
    from MedSegLib.modelList import ModelList

OVERLAY_ROLE = "MedSegAttention"
"""Node reference from a volume to its map, so that looking from another point renews the map."""

OVERLAY_OPACITY = 0.5


@dataclass(frozen=True)
class AttentionRequest:
    """What to look at, with which model, from which point."""

    volumeNode: Any
    package: ModelPackage
    pointNode: Any
    device: str = "auto"

    def begin(self, client: WorkerClient) -> AttentionRun:
        """Submit the job.

        Raises
        ------
        MedSegError
            When the volume cannot be used or the list has no point.
        """
        return AttentionRun(client, self)


class AttentionRun(JobRun):
    """Submits a job on construction and shows the map over the volume in the end."""

    def __init__(self, client: WorkerClient, request: AttentionRequest) -> None:
        from medseg.mrml import volume_from_node
        from medseg.mrml.points import point_in_volume

        self.request = request
        volume = volume_from_node(request.volumeNode)
        options = {"point": list(point_in_volume(request.pointNode, request.volumeNode)), "device": request.device}
        super().__init__(
            client.submit("attention_row", str(request.package.folder), [volume], options),
            request.volumeNode.GetScene(),
            [(request.volumeNode, _("The volume was deleted, so the map was stopped."))],
        )

    def _write(self, result: DerivedVolume) -> Outcome:
        from medseg.mrml.overlays import overlay_to_node

        volumeNode = self.request.volumeNode
        node = overlay_to_node(result, volumeNode, self._scene, volumeNode.GetNodeReference(OVERLAY_ROLE))
        volumeNode.SetNodeReferenceID(OVERLAY_ROLE, node.GetID())
        slicer.util.setSliceViewerLayers(background=volumeNode, foreground=node, foregroundOpacity=OVERLAY_OPACITY)
        return Outcome("done", " ".join(result.notices), volumeNode=node)


class AttentionSection(JobSection):
    """Connects the widgets of the section to the models, the worker and the parameter node."""

    startText = _("Show attention")
    startToolTip = _("Compute the map in the background and show it over the volume.")
    cancelToolTip = _("Stop; nothing is written.")

    def __init__(self, ui: Any, services: Services, models: ModelList) -> None:
        super().__init__(ui.attentionButton, ui.attentionProgressBar, ui.attentionStatusLabel, services)
        self._ui = ui
        self._models = models
        self._choices = Choices(ui.attentionModelComboBox, self._onModelChosen)
        ui.attentionModelComboBox.setPlaceholderText(_("No model with attention"))
        ui.placePointButton.connect("clicked(bool)", self.onPlaceButton)

    def update(self) -> None:
        """Bring the widgets in line with the parameters, the models and the run."""
        parameters = self._parameterNode
        packages = self._packages()
        if parameters is not None and packages and not parameters.attentionModel:
            parameters.attentionModel = next(iter(packages))
        titles = {name: package.title for name, package in packages.items()}
        self._choices.show(titles, "" if parameters is None else parameters.attentionModel)
        self._ui.placePointButton.enabled = parameters is not None
        self.updateButton()

    def onPlaceButton(self, _checked: bool = False) -> None:
        """Let the next click into a view place a point; makes a point list when none is chosen."""
        parameters = self._parameterNode
        if parameters is None:
            return
        if parameters.attentionPoint is None:
            name = slicer.mrmlScene.GenerateUniqueName(_("Attention point"))
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
            node.CreateDefaultDisplayNodes()
            parameters.attentionPoint = node
        logic = slicer.modules.markups.logic()
        logic.SetActiveList(parameters.attentionPoint)
        logic.StartPlaceMode(False)

    def _packages(self) -> dict[str, ModelPackage]:
        from medseg.segmentation.attention_map import shows_attention

        return {package.name: package for package in self._models.packages if shows_attention(package)}

    def _request(self) -> AttentionRequest | None:
        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return None
        return AttentionRequest(
            parameters.attentionVolume,
            self._packages()[parameters.attentionModel],
            parameters.attentionPoint,
            parameters.device.value,
        )

    def _describe(self, request: AttentionRequest) -> str:
        return f"Look from a point with {request.package.name} {request.package.version} on {request.device}"

    def _obstacle(self) -> str:
        parameters = self._parameterNode
        packages = self._packages()
        if not packages:
            return _("No model with attention is installed. Train or install one.")
        if parameters is None or parameters.attentionVolume is None:
            return _("Choose a volume.")
        if parameters.attentionModel not in packages:
            return _("Choose a model.")
        if parameters.attentionPoint is None:
            return _("Place a point.")
        return ""

    def _onModelChosen(self, name: str) -> None:
        if self._parameterNode is not None:
            self._parameterNode.attentionModel = name
        self.updateButton()
