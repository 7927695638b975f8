"""What the module's own test needs beside assertions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.volumes import Volume

TRAINED_NAME = "medseg-self-test"
"""The model that the training of the self test makes; removed in the end."""

_SIDE = 16

_RECIPE = f"""
labels: labels.csv
package:
  name: {TRAINED_NAME}
  version: 0.1.0
  title: MedSeg self test
  description: Finds bright blocks.
  anatomy: [none]
  modality: MR
  authors: The MedSeg developers
  copyright: The MedSeg developers
  license: Apache-2.0
  data_sources: Computed.
data: {{image: "{{case}}_image.nii.gz", label: "{{case}}_label.nii.gz", folds: 4}}
network:
  target: monai.networks.nets.UNet
  arguments: {{spatial_dims: 3, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]}}
preprocessing: {{spacing: [null, null, null], intensity: [{{kind: normalize}}]}}
window: {{size: [{_SIDE}, {_SIDE}, {_SIDE}]}}
optimisation: {{epochs: 2, steps_per_epoch: 2, validate_every: 1, workers: 0}}
"""


def dice(first: Any, second: Any) -> float:
    """Return the Dice coefficient of two boolean arrays of one shape, 0 when both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 0.0


def loadHeart(large: bool = False) -> tuple[Any, Volume]:
    """Show the synthetic heart and return its node and its truth; a large one (many hearts) keeps a model busy."""
    import numpy as np

    from medseg.phantom import left_atrium_phantom
    from medseg.volumes import Geometry, Volume
    from MedSegLib.sampleData import showSample

    image, truth = left_atrium_phantom()
    if large:
        array = np.tile(image.array, (3, 3, 3))
        image = Volume(array, Geometry.from_spacing(array.shape, image.geometry.spacing), modality="MR")
    return showSample(image), truth


def drawLabels(segmentationNode: Any, labelmap: Volume) -> None:
    """Add the labels to a segmentation, as if the user had drawn them."""
    from medseg.mrml import volume_to_node

    labelmapNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    volume_to_node(labelmap, slicer.mrmlScene, node=labelmapNode)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmapNode, segmentationNode)
    slicer.mrmlScene.RemoveNode(labelmapNode)


def drawBlocks() -> Any:
    """Return a new segmentation node with one segment of three blocks, drawn on a volume of them."""
    from medseg.mrml import volume_to_node

    blocks = threeBlocks()
    volumeNode = volume_to_node(blocks.with_array(blocks.array * 100), slicer.mrmlScene, "blocks")
    segmentationNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "blocks")
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    drawLabels(segmentationNode, blocks)
    return segmentationNode


def threeBlocks() -> Volume:
    """Return a labelmap with three blocks of value 1, one below the other, that do not touch."""
    import numpy as np

    from medseg.volumes import Geometry, Volume

    array = np.zeros((40, 24, 24), np.uint8)
    for first in (4, 16, 28):
        array[first : first + 8, 8:16, 8:16] = 1
    return Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 1.5)))


def turnedHeart() -> tuple[Volume, Volume, Any]:
    """Return a synthetic heart, the same heart turned by 8 degrees and shifted, and the 4x4 matrix that did it."""
    import math

    import numpy as np

    from medseg.phantom import left_atrium_phantom
    from medseg.volumes import Geometry, Volume

    image, _truth = left_atrium_phantom(spacing=(3.75, 3.75, 3.75))
    turn, center = math.radians(8.0), np.asarray(image.geometry.center_ras)
    matrix = np.eye(4)
    matrix[:2, :2] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    matrix[:3, 3] = center - matrix[:3, :3] @ center + (9.0, -6.0, 4.0)
    moved = Geometry(image.shape, matrix @ image.geometry.ijk_to_ras)
    return image, Volume(image.array, moved, modality=image.modality), matrix


def writeTrainingSet(folder: Path) -> Path:
    """Write four small images of a bright block, their label maps and a recipe of two epochs; return the recipe."""
    import numpy as np

    from medseg.labels import Code, Label, LabelTable, write_labels
    from medseg.volumes import Geometry, Volume, write_labelmap, write_volume

    geometry = Geometry.from_spacing((_SIDE, _SIDE, _SIDE), (1.0, 1.0, 1.0))
    for number in range(4):
        label = np.zeros(geometry.shape, np.uint8)
        label[3 + number : 10 + number, 4:11, 5:12] = 1
        noise = np.random.default_rng(number).normal(100.0, 10.0, geometry.shape)
        image = (noise + 80.0 * label).astype(np.float32)
        write_volume(Volume(image, geometry, modality="MR"), folder / f"case{number}_image.nii.gz")
        write_labelmap(Volume(label, geometry), folder / f"case{number}_label.nii.gz")
    tissue = Code("SCT", "85756007", "Tissue")
    write_labels(LabelTable([Label(1, "Block", (200, 100, 50), tissue, tissue)]), folder / "labels.csv")
    recipe = folder / "recipe.yaml"
    recipe.write_text(_RECIPE, encoding="utf-8")
    return recipe
