"""What the panel remembers in the scene."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

# parameterNodeWrapper evaluates the annotations at run time.
from slicer import (  # noqa: TC002
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from MedSegLib.registrationChoices import (
    AlignBy,
    Effort,
    RegistrationMethod,
    Regulariser,
    Similarity,
    SmoothingKind,
    StartAt,
)


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
    correctSegmentation - The segmentation to correct; none means to begin a new one.
    correctSegmentID - The segment; bound to its combo box by hand.
    correctVolume - The volume that is looked at: that of the segmentation, where it has one.
    addCaseOnSave - Write corrected cases to the training folder whenever the scene is saved.
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
    registerFixed - The volume that stays.
    registerMoving - The volume that is brought onto it.
    registerMethod - How.
    registerModel - Name of a model that registers; bound to its combo box by hand.
    registerEffort - How long a deformable method works on the pair.
    registerSmoothness - Of a deformation: 0 follows the images, 1 is stiff.
    registerSimilarity - What a deformable method compares.
    registerRegulariser - What keeps a deformation smooth.
    registerMetric - What the alignment compares.
    registerStart - Where the alignment begins.
    registerInitial - A linear transform to begin with.
    registerTransform - The transform to overwrite; none means a new one for each run.
    registerWarped, registerLabels, registerInverse, registerJacobian, registerCheckerboard, registerDifference - What
        else to make.
    registerShowThrough - Put the moving volume under the transform.
    registerShowGrid - Draw the transform over the slices.
    registerFixedPoints, registerMovingPoints - Corresponding landmarks.
    registerFixedMask, registerMovingMask - Where to compare.
    registerFixedSegmentation, registerMovingSegmentation - The same structures in both.
    registerDevice - Where a deformable method computes.
    smoothTransform - A transform with a displacement field to smooth.
    smoothKind - What is small in a smooth field.
    smoothDistance - How far a displacement spreads, in mm.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    modelName: str
    outputSegmentation: vtkMRMLSegmentationNode
    device: Device = Device.AUTOMATIC
    show3D: bool = False
    makeTable: bool = True
    resultTable: vtkMRMLTableNode
    correctSegmentation: vtkMRMLSegmentationNode
    correctSegmentID: str
    correctVolume: vtkMRMLScalarVolumeNode
    addCaseOnSave: bool = False
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
    registerFixed: vtkMRMLScalarVolumeNode
    registerMoving: vtkMRMLScalarVolumeNode
    registerMethod: RegistrationMethod = RegistrationMethod.AFFINE
    registerModel: str
    registerEffort: Effort = Effort.QUICK
    registerSmoothness: Annotated[float, WithinRange(0.0, 1.0)] = 0.4
    registerSimilarity: Similarity = Similarity.AUTOMATIC
    registerRegulariser: Regulariser = Regulariser.DIFFUSION
    registerMetric: AlignBy = AlignBy.INFORMATION
    registerStart: StartAt = StartAt.AUTOMATIC
    registerInitial: vtkMRMLLinearTransformNode
    registerTransform: vtkMRMLTransformNode
    registerWarped: bool = True
    registerLabels: bool = False
    registerInverse: bool = False
    registerJacobian: bool = False
    registerCheckerboard: bool = False
    registerDifference: bool = False
    registerShowThrough: bool = False
    registerShowGrid: bool = False
    registerFixedPoints: vtkMRMLMarkupsFiducialNode
    registerMovingPoints: vtkMRMLMarkupsFiducialNode
    registerFixedMask: vtkMRMLSegmentationNode
    registerMovingMask: vtkMRMLSegmentationNode
    registerFixedSegmentation: vtkMRMLSegmentationNode
    registerMovingSegmentation: vtkMRMLSegmentationNode
    registerDevice: Device = Device.AUTOMATIC
    smoothTransform: vtkMRMLTransformNode
    smoothKind: SmoothingKind = SmoothingKind.DIFFUSION
    smoothDistance: Annotated[float, WithinRange(0.5, 50.0)] = 5.0
