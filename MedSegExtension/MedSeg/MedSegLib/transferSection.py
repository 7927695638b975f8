"""The section "Thin slices from thick labels": draw on a few thick slices, get a segmentation of the thin ones."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import InputError, MedSegError
from MedSegLib.background import BackgroundTask
from MedSegLib.jobRun import JobRun, Outcome
from MedSegLib.jobSection import JobSection, Services

if TYPE_CHECKING:
    from medseg.backend import WorkerClient
    from medseg.mrml.thick import Plane
    from medseg.segmentation import SegmentationResult
    from medseg.training.thin_thick import SliceAxis
    from medseg.volumes import Volume

_logger = logging.getLogger(__name__)

TABLE_ROLE = "MedSegAgreement"
"""Node reference from a transferred segmentation to the table of its agreement with what was drawn."""

EDITOR_TAG = "SegmentEditor"
"""The singleton tag of the parameter node of Slicer's Segment Editor."""


@dataclass(frozen=True)
class TransferRequest:
    """What was drawn, on what, and how to carry it over."""

    segmentationNode: Any
    thickNode: Any
    thinNode: Any
    options: dict[str, Any] = field(default_factory=dict)

    def begin(self, client: WorkerClient) -> TransferRun:
        """Submit the job.

        Raises
        ------
        MedSegError
            When a volume or the segmentation cannot be used.
        """
        return TransferRun(client, self)


class TransferRun(JobRun):
    """Submits a job on construction and writes the thin segmentation and its table of agreement in the end."""

    def __init__(self, client: WorkerClient, request: TransferRequest) -> None:
        from medseg.mrml import drawn_labels, labelmap_from_segmentation, volume_from_node

        self.request = request
        self._labels = drawn_labels(request.segmentationNode)
        self._drawn = labelmap_from_segmentation(request.segmentationNode, request.thickNode)
        self._agreement: list[Any] = []
        self._comparison: threading.Thread | None = None
        volumes = [volume_from_node(request.thinNode), self._drawn]
        options = {"labels": self._labels, **request.options}
        super().__init__(
            client.submit("transfer", "thin-from-thick", volumes, options),
            request.thinNode.GetScene(),
            [
                (request.thinNode, _("The volume was deleted, so the transfer was stopped.")),
                (request.segmentationNode, _("The drawn segmentation was deleted, so the transfer was stopped.")),
            ],
        )

    def poll(self) -> Outcome | None:
        """Compare the result with what was drawn, which takes a moment, before it is written."""
        if self.job.state == "done" and not self.isStopping:
            if self._comparison is None:
                # Taken here: a cancel may let go of the result before the thread has begun.
                labelmap = self.job.result().labelmap
                self._comparison = threading.Thread(
                    target=self._compare, args=(labelmap,), name="MedSegAgreement", daemon=True
                )
                self._comparison.start()
            if self._comparison.is_alive():
                return None
        return super().poll()

    def _compare(self, labelmap: Volume) -> None:
        from medseg.training.thin_thick import measure_agreement

        try:
            self._agreement = measure_agreement(labelmap, self._drawn)
        except MedSegError:
            # The table is left out; the result says by itself how well it agrees.
            _logger.exception("The result could not be compared with what was drawn")

    def _write(self, result: SegmentationResult) -> Outcome:
        from medseg.mrml import agreement_to_table, segmentation_to_node

        request, scene = self.request, self._scene
        name = _("{segmentation} thin").format(segmentation=request.segmentationNode.GetName())
        node = segmentation_to_node(result, request.thinNode, scene, name=name)
        segmentation = node.GetSegmentation()
        for identifier in segmentation.GetSegmentIDs():
            # A person drew what the computer went on with.
            segmentation.GetSegment(identifier).SetTag("DICOM.SegmentAlgorithmType", "SEMIAUTOMATIC")
        tableNode = None
        if self._agreement:
            names = {label["value"]: label["name"] for label in self._labels}
            title = _("{segmentation} agreement").format(segmentation=node.GetName())
            tableNode = agreement_to_table(self._agreement, names, scene, title, volume_node=request.thinNode)
            node.SetNodeReferenceID(TABLE_ROLE, tableNode.GetID())
        display = request.segmentationNode.GetDisplayNode()
        if display is not None:
            # Both in one place could not be told apart.
            display.SetVisibility(False)
        slicer.util.setSliceViewerLayers(background=request.thinNode)
        sentences = [_("The labels are on the thin slices."), *result.notices]
        return Outcome("done", " ".join(sentences), node, tableNode)


class TransferSection(JobSection):
    """Connects the widgets of the section to the worker and the parameter node."""

    startText = _("Transfer to thin slices")
    startToolTip = _("Make a segmentation of the thin slices from what was drawn on the thick ones.")
    cancelToolTip = _("Stop the transfer; nothing is written.")

    def __init__(self, ui: Any, services: Services) -> None:
        super().__init__(ui.transferButton, ui.transferProgressBar, ui.transferStatusLabel, services)
        self._ui = ui
        self._task: BackgroundTask | None = None
        ui.transferTableView.setVisible(False)
        ui.makeThickCopyButton.connect("clicked(bool)", self.onMakeButton)
        ui.drawButton.connect("clicked(bool)", self.onDrawButton)

    @property
    def isMaking(self) -> bool:
        """Whether a thick copy is being computed."""
        return self._task is not None

    def sceneIsClosing(self) -> None:
        """Give up the run; a thick copy that is being computed is not written."""
        self._task = None
        super().sceneIsClosing()

    def shutDown(self) -> None:
        """Stop the run and forget what is being computed."""
        self._task = None
        super().shutDown()

    def update(self) -> None:
        """Bring the widgets in line with the parameters and the run."""
        parameters = self._parameterNode
        hasVolume = parameters is not None and parameters.inputVolume is not None
        self._ui.makeThickCopyButton.enabled = hasVolume and not self.isMaking
        self._ui.makeThickCopyButton.toolTip = self._makeToolTip()
        self._ui.drawButton.enabled = self._thickNode() is not None
        table = None if self.lastOutcome is None else self.lastOutcome.tableNode
        view = self._ui.transferTableView
        if view.mrmlTableNode() is not table:
            view.setMRMLTableNode(table)
            view.resizeColumnsToContents()
        view.setVisible(table is not None)
        self.updateButton()

    def onMakeButton(self, _checked: bool = False) -> None:
        """Compute the thick copy in the background; it and an empty segmentation on it are shown when it is there."""
        from medseg.mrml import volume_from_node
        from medseg.mrml.thick import slice_axis
        from medseg.training.thin_thick import thick_copy

        parameters = self._parameterNode
        if parameters is None or self.isMaking:
            return
        volumeNode, thickness = parameters.inputVolume, parameters.thickness
        try:
            volume = volume_from_node(volumeNode, copy=False)
            axis = slice_axis(volume.geometry, parameters.slicePlane.value)
        except MedSegError as error:
            self.status.fail(str(error))
            return
        self.status.say(_("Making the thick copy…"))
        task = self._task = BackgroundTask(
            self._services.poller,
            lambda: thick_copy(volume, thickness_mm=thickness, axis=axis),
            lambda thick, error: self._onThickCopy(thick, error, task, volumeNode, axis),
        )
        self.update()

    def onDrawButton(self, _checked: bool = False) -> None:
        """Open the Segment Editor with the thick copy and the segmentation."""
        thickNode = self._thickNode()
        if thickNode is None or self._parameterNode is None:
            return
        slicer.util.setSliceViewerLayers(background=thickNode)
        editorNode = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if editorNode is None:
            editorNode = slicer.vtkMRMLSegmentEditorNode()
            editorNode.SetSingletonTag(EDITOR_TAG)
            editorNode = slicer.mrmlScene.AddNode(editorNode)
        editorNode.SetAndObserveSegmentationNode(self._parameterNode.thickSegmentation)
        editorNode.SetAndObserveSourceVolumeNode(thickNode)
        slicer.util.selectModule("SegmentEditor")

    def _onThickCopy(
        self, thick: Volume | None, error: Exception | None, task: BackgroundTask, volumeNode: Any, axis: SliceAxis
    ) -> None:
        from medseg.mrml.thick import add_drawing, add_thick_copy, slice_plane

        if self._task is not task:  # the scene was closed meanwhile
            return
        self._task = None
        if thick is None:
            self.status.failWith(error)
        elif self._parameterNode is None or not slicer.mrmlScene.IsNodePresent(volumeNode):
            self.status.fail(_("The volume was deleted, so no thick copy was made. Choose another volume."))
        else:
            thickness = thick.geometry.spacing["ijk".index(axis)]
            thickNode = add_thick_copy(slicer.mrmlScene, thick, volumeNode, axis)
            self._parameterNode.thickSegmentation = add_drawing(thickNode)
            slicer.util.setSliceViewerLayers(background=thickNode)
            slices = _thickSlices(slice_plane(thick.geometry, axis), thickness)
            self._services.log.add(f"Thick copy: {slices}")
            sentence = _("Press Draw, add a segment for each structure, and draw on the {slices}.")
            self.status.say(sentence.format(slices=slices))
        self.update()

    def _makeToolTip(self) -> str:
        """Return what the button would make, so that nobody has to find out which slices are meant."""
        from medseg.mrml import geometry_from_node
        from medseg.mrml.thick import slice_axis, slice_plane

        parameters = self._parameterNode
        if parameters is None or parameters.inputVolume is None:
            return _("Choose a volume.")
        if self.isMaking:
            return _("Making the thick copy…")
        try:
            geometry = geometry_from_node(parameters.inputVolume)
        except MedSegError as error:
            return str(error)
        plane = slice_plane(geometry, slice_axis(geometry, parameters.slicePlane.value))
        slices = _thickSlices(plane, parameters.thickness)
        return _("Make a copy with {slices}, and an empty segmentation on it.").format(slices=slices)

    def _thickNode(self) -> Any:
        """Return the thick copy that the chosen segmentation was drawn on, None when it is not there."""
        from medseg.mrml.masks import reference_volume

        parameters = self._parameterNode
        if parameters is None or parameters.thickSegmentation is None:
            return None
        return reference_volume(parameters.thickSegmentation)

    def _request(self) -> TransferRequest | None:
        from medseg.mrml.thick import THIN_ROLE

        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return None
        thickNode = self._thickNode()
        # The volume that the copy was made of, whatever is chosen above by now.
        thinNode = thickNode.GetNodeReference(THIN_ROLE) or parameters.inputVolume
        if thinNode is None:
            raise InputError(_("The volume with the thin slices is not there."), advice=_("Choose it as the input."))
        options = {"method": parameters.transferMethod.value, "device": parameters.device.value}
        return TransferRequest(parameters.thickSegmentation, thickNode, thinNode, options)

    def _describe(self, request: TransferRequest) -> str:
        return f"Transfer labels to thin slices: {request.options}"

    def _obstacle(self) -> str:
        parameters = self._parameterNode
        if parameters is None or parameters.thickSegmentation is None:
            return _("Make a thick copy and draw on it.")
        if parameters.thickSegmentation.GetSegmentation().GetNumberOfSegments() == 0:
            return _("Draw at least one segment on the thick copy.")
        if self._thickNode() is None:
            return _("The thick copy that was drawn on is not in the scene.")
        return ""


def _thickSlices(plane: Plane, thickness: float) -> str:
    """Return what slices of a plane and a thickness in mm are called."""
    sentence = {
        "axial": _("axial slices of {thickness} mm"),
        "sagittal": _("sagittal slices of {thickness} mm"),
        "coronal": _("coronal slices of {thickness} mm"),
    }[plane]
    return sentence.format(thickness=f"{thickness:.3g}")
