"""The section "Smooth a transform": a displacement field without its small ripples, and what that changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSegLib.jobRun import JobRun, Outcome
from MedSegLib.jobSection import JobSection, Services

if TYPE_CHECKING:
    from medseg.backend import WorkerClient
    from medseg.backend.encoding_registration import Registered


@dataclass(frozen=True)
class SmoothRequest:
    """Which transform to smooth, and how (options of the worker's verb)."""

    transformNode: Any
    options: dict[str, Any] = field(default_factory=dict)

    def begin(self, client: WorkerClient) -> SmoothRun:
        """Submit the job.

        Raises
        ------
        MedSegError
            When there is no displacement field in the transform.
        """
        return SmoothRun(client, self)


class SmoothRun(JobRun):
    """Submits a job on construction and writes the smoothed transform in the end."""

    def __init__(self, client: WorkerClient, request: SmoothRequest) -> None:
        from medseg.backend.verbs_smoothing import NO_MODEL
        from medseg.mrml.smoothing import field_of_node

        self.request = request
        self._source = field_of_node(request.transformNode)
        super().__init__(
            client.submit("smooth_transform", NO_MODEL, self._source.volumes, request.options),
            request.transformNode.GetScene(),
            [(request.transformNode, _("The transform was deleted, so smoothing it was stopped."))],
        )

    def _write(self, result: Registered) -> Outcome:
        from medseg.mrml.registration_table import rows_to_table, smoothing_rows
        from medseg.mrml.smoothing import smoothed_to_node

        node = smoothed_to_node(result, self._source, self.request.transformNode, self._scene)
        tableNode = rows_to_table(
            smoothing_rows(result.figures),
            self._scene,
            _("{transform} quality").format(transform=node.GetName()),
            volume_node=node.GetNodeReference(node.GetMovingNodeReferenceRole()),
        )
        sentence = _("The displacements changed by {mean:.2g} mm on average, at most by {largest:.2g} mm.")
        text = sentence.format(mean=result.figures["mean_change_mm"], largest=result.figures["largest_change_mm"])
        return Outcome("done", text, tableNode=tableNode, transformNode=node)


class SmoothSection(JobSection):
    """Connects the widgets of the section to the worker and the parameter node."""

    startText = _("Smooth")
    startToolTip = _("Make a new transform with a smoother displacement field.")
    cancelToolTip = _("Stop smoothing; nothing is written.")

    def __init__(self, ui: Any, services: Services) -> None:
        super().__init__(ui.smoothButton, ui.smoothProgressBar, ui.smoothStatusLabel, services)
        self._ui = ui

    def update(self) -> None:
        """Bring the widgets in line with the parameters and the run."""
        table = None if self.lastOutcome is None else self.lastOutcome.tableNode
        view = self._ui.smoothTableView
        if view.mrmlTableNode() is not table:
            view.setMRMLTableNode(table)
            view.resizeColumnsToContents()
        view.setVisible(table is not None)
        self.updateButton()

    def _request(self) -> SmoothRequest | None:
        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return None
        options = {"kind": parameters.smoothKind.value, "distance_mm": parameters.smoothDistance}
        return SmoothRequest(parameters.smoothTransform, options)

    def _describe(self, request: SmoothRequest) -> str:
        return f"Smooth a transform: {request.options}"

    def _obstacle(self) -> str:
        if self._parameterNode is None or self._parameterNode.smoothTransform is None:
            return _("Choose a transform with a displacement field.")
        return ""
