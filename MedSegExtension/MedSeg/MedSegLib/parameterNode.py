"""What the panel remembers in the scene."""

from __future__ import annotations

from enum import Enum

# parameterNodeWrapper evaluates the annotations at run time.
from slicer import (  # noqa: TC002
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper


class Device(Enum):
    """Where the network runs; saved scenes hold the member's name."""

    AUTOMATIC = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("GPU (CUDA)")}[self.value]


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
    """

    inputVolume: vtkMRMLScalarVolumeNode
    modelName: str
    outputSegmentation: vtkMRMLSegmentationNode
    device: Device = Device.AUTOMATIC
    show3D: bool = False
    makeTable: bool = True
    resultTable: vtkMRMLTableNode
