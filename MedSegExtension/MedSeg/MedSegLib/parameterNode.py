"""What the panel remembers in the scene."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

# parameterNodeWrapper evaluates the annotations at run time.
from slicer import (  # noqa: TC002
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Device(Enum):
    """Where the network runs; saved scenes hold the member's name."""

    AUTOMATIC = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("GPU (CUDA)")}[self.value]


class Connectivity(Enum):
    """Which voxels belong together: the number of neighbours."""

    FACES = 6
    CORNERS = 26

    def label(self) -> str:
        """Return the text of the combo box."""
        return {6: _("Faces (6 neighbors)"), 26: _("Faces, edges, corners (26)")}[self.value]


class TransferMethod(Enum):
    """How labels of thick slices become labels of thin ones."""

    GUIDED = "guided"
    SHAPE = "shape"
    JOINT = "joint"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {
            "guided": _("With the image (minutes)"),
            "shape": _("Shapes only (seconds)"),
            "joint": _("Joint loss of the paper (slowest)"),
        }[self.value]


class SlicePlane(Enum):
    """In which plane thick slices lie."""

    AUTOMATIC = "auto"
    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {
            "auto": _("Automatic"),
            "axial": _("Axial"),
            "sagittal": _("Sagittal"),
            "coronal": _("Coronal"),
        }[self.value]


@parameterNodeWrapper
class MedSegParameterNode:
    """The parameters of the panel; widgets are bound by their property ``SlicerParameterName``.

    inputVolume - The CT or MR volume to segment.
    modelName - Name of the model package; bound to the list of models by hand.
    outputSegmentation - The segmentation to overwrite; none means a new one for each run.
    device - Where the network runs.
    show3D - Make the closed surface and show it.
    makeTable - Make a table of the volumetry.
    resultTable - The table that the panel shows, that of the last run.
    thickness - Thickness of the slices of a thick copy, in mm.
    slicePlane - The plane of its slices.
    thickSegmentation - What was drawn on a thick copy.
    transferMethod - How it becomes a segmentation of the thin slices.
    splitSegmentation - The segmentation with the segment to split into instances.
    splitSegmentID - The segment; bound to its combo box by hand.
    connectivity - Which voxels belong together.
    minimumVolume - Smaller instances are left out, in mm³.
    keepEnds - Keep small instances that the scan may have cut.
    splitTouching - Separate also what is connected by a neck.
    neckDepth - How much less deep a neck is than the parts that it connects, in mm.
    attentionVolume - The volume that the network looks at.
    attentionModel - Name of a model with attention; bound to its combo box by hand.
    attentionPoint - The point list whose last point the network looks from.
    compareSegmentation - The segmentation to judge.
    referenceSegmentation - The one that is taken for true.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    modelName: str
    outputSegmentation: vtkMRMLSegmentationNode
    device: Device = Device.AUTOMATIC
    show3D: bool = False
    makeTable: bool = True
    resultTable: vtkMRMLTableNode
    thickness: Annotated[float, WithinRange(0.5, 100.0)] = 5.0
    slicePlane: SlicePlane = SlicePlane.AUTOMATIC
    thickSegmentation: vtkMRMLSegmentationNode
    transferMethod: TransferMethod = TransferMethod.GUIDED
    splitSegmentation: vtkMRMLSegmentationNode
    splitSegmentID: str
    connectivity: Connectivity = Connectivity.FACES
    minimumVolume: Annotated[float, WithinRange(0.0, 1e6)] = 0.0
    keepEnds: bool = True
    splitTouching: bool = False
    neckDepth: Annotated[float, WithinRange(0.5, 20.0)] = 3.0
    attentionVolume: vtkMRMLScalarVolumeNode
    attentionModel: str
    attentionPoint: vtkMRMLMarkupsFiducialNode
    compareSegmentation: vtkMRMLSegmentationNode
    referenceSegmentation: vtkMRMLSegmentationNode
