"""One run of the verb Register: from two volume nodes, through the worker, to a transform node. No widgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSegLib.jobRun import JobRun, Outcome
from MedSegLib.registrationVerdict import verdict

if TYPE_CHECKING:
    from medseg.backend import WorkerClient
    from medseg.backend.encoding_registration import Registered
    from medseg.mrml.registration_inputs import RegistrationNodes, Start
    from medseg.mrml.registration_results import RegistrationOutputs

FOREGROUND_OPACITY = 0.5


@dataclass(frozen=True)
class RegistrationRequest:
    """What to register, how, and what to show afterwards.

    ``model`` is the folder of a model package, or empty for a method without one.
    """

    nodes: RegistrationNodes
    options: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    start: Start = "auto"
    transformNode: Any = None
    showThrough: bool = False
    showGrid: bool = False

    def begin(self, client: WorkerClient) -> RegistrationRun:
        """Submit the job.

        Raises
        ------
        MedSegError
            When a node cannot be used.
        """
        return RegistrationRun(client, self)


class RegistrationRun(JobRun):
    """Submits a job on construction; in the end writes the transform and shows the volumes on each other.

    Raises
    ------
    MedSegError
        On construction, when a node cannot be used.
    """

    def __init__(self, client: WorkerClient, request: RegistrationRequest) -> None:
        from medseg.backend.verbs_registration import NO_MODEL
        from medseg.mrml.registration_inputs import registration_inputs

        nodes = request.nodes
        self.request = request
        self._inputs = registration_inputs(nodes, request.start)
        options = {**self._inputs.options, **request.options}
        super().__init__(
            client.submit("register", request.model or NO_MODEL, self._inputs.volumes, options),
            nodes.fixed.GetScene(),
            [
                (nodes.fixed, _("The fixed volume was deleted, so the registration was stopped.")),
                (nodes.moving, _("The moving volume was deleted, so the registration was stopped.")),
                (request.transformNode, _("The output transform was deleted, so the registration was stopped.")),
            ],
        )

    def _write(self, result: Registered) -> Outcome:
        from medseg.mrml.registration_results import write_registration
        from medseg.mrml.registration_table import figure_rows, rows_to_table

        request, nodes = self.request, self.request.nodes
        outputs = write_registration(result, nodes, self._inputs, self._scene, transform_node=request.transformNode)
        tableNode = rows_to_table(
            figure_rows(result.figures, self._inputs.names),
            self._scene,
            _("{transform} quality").format(transform=outputs.transform.GetName()),
            volume_node=nodes.moving,
        )
        self._show(outputs)
        sentences = [self._summary(result), verdict(result.figures), *result.notices]
        return Outcome(
            "done",
            " ".join(sentences),
            outputs.segmentation,
            tableNode,
            outputs.warped,
            transformNode=outputs.transform,
        )

    def _summary(self, result: Registered) -> str:
        from medseg.registration.pipeline import NO_NETWORK

        seconds, start = max(sum(result.timings.values()), 1.0), result.figures.get("start", NO_NETWORK)
        if start == NO_NETWORK:
            return _("Finished in {seconds:.0f} s.").format(seconds=seconds)
        return _("Finished in {seconds:.0f} s, begun with {start}.").format(seconds=seconds, start=start)

    def _show(self, outputs: RegistrationOutputs) -> None:
        from medseg.mrml.registration_results import put_under_transform
        from medseg.mrml.transforms import show_grid

        nodes, shown = self.request.nodes, outputs.warped
        if self.request.showThrough:
            put_under_transform(nodes, outputs.transform)
            # What was resampled once is drawn faster, and lies in the same place.
            shown = shown or nodes.moving
        if self.request.showGrid:
            show_grid(outputs.transform, nodes.fixed)
        if shown is not None:
            slicer.util.setSliceViewerLayers(
                background=nodes.fixed, foreground=shown, foregroundOpacity=FOREGROUND_OPACITY
            )
