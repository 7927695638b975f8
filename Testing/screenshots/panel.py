"""Draw the panel without 3D Slicer: ``python Testing/screenshots/panel.py [NAME ...]``.

The names are segment, thin, correct, register, analyse, models and library; without one all pictures are drawn. The
panel is the real one in the stand-in for the application, with the real worker, synthetic hearts and a real (short)
training; the pictures go to ``Resources/Screenshots``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Testing"))
os.environ.setdefault("QT_SCALE_FACTOR", "1.5")

from slicer_app import SlicerApplication  # noqa: E402 - the scale must be set before Qt starts

MODEL = "left-atrium-mr"
LONGEST_RUN = 900.0
WIDTH = 390
TARGET = ROOT / "Resources" / "Screenshots"

HEARTS, HEART_SPACING = 8, (3.75, 3.75, 3.75)
RECIPE = """
labels: labels.csv
package: {name: heart-phantoms, version: 0.1.0, title: Left atrium of phantoms, description: Computed hearts.,
  anatomy: [heart], modality: MR, authors: MedSeg, copyright: MedSeg, license: Apache-2.0, data_sources: Computed.}
data: {image: "{case}_image.nii.gz", label: "{case}_label.nii.gz", folds: 4}
network:
  target: monai.networks.nets.UNet
  arguments: {spatial_dims: 3, in_channels: 1, out_channels: 2, channels: [8, 16, 32], strides: [2, 2]}
preprocessing: {spacing: [null, null, null], intensity: [{kind: normalize}]}
window: {size: [24, 24, 16]}
optimisation: {epochs: 40, steps_per_epoch: 6, batch_size: 2, validate_every: 2, workers: 0, learning_rate: 0.005}
"""


class Photographer:
    """Uses the panel as a person would and takes pictures of it."""

    def __init__(self) -> None:
        self.application = SlicerApplication.instance()
        self.module = self.application.loadModule(ROOT / "MedSegExtension" / "MedSeg" / "MedSeg.py")
        self.ui = self.module.widget.ui
        self.panel = self.module.widget.panel
        self.parameters = self.module.widget.logic.getParameterNode()

    def until(self, condition: Any, seconds: float = LONGEST_RUN) -> None:
        self.application.processEventsUntil(condition, seconds)

    def run(self, button: Any, section: Any) -> None:
        """Press a button and wait for the outcome of its job."""
        self.until(lambda: button.enabled, 60.0)
        button.click()
        self.until(lambda: not section.controller.isRunning)
        if section.lastOutcome is None or section.lastOutcome.state != "done":
            sys.exit(section.lastOutcome.sentence if section.lastOutcome else "nothing was started")

    def load_heart(self) -> None:
        self.parameters.modelName = MODEL
        self.ui.sampleButton.click()
        self.until(lambda: self.ui.segmentButton.enabled, 60.0)

    def collapse(self, *but: Any) -> None:
        """Close the sections of the tab Segment, but for some."""
        ui = self.ui
        for section in (
            ui.modelCollapsibleButton,
            ui.outputsCollapsibleButton,
            ui.resultsCollapsibleButton,
            ui.thinSlicesCollapsibleButton,
        ):
            section.collapsed = section not in but

    def take(self, name: str, tab: int) -> None:
        self.ui.tabWidget.currentIndex = tab
        self.application.processEvents()
        self.panel.training.curves.update(now=True)
        self.module.representation.resize(WIDTH, 10)
        TARGET.mkdir(parents=True, exist_ok=True)
        self.application.screenshot(TARGET / f"{name}.png", self.module.representation, width=WIDTH)

    def segment(self) -> None:
        """The tab Segment after a run."""
        self.load_heart()
        self.run(self.ui.segmentButton, self.panel.segment)
        self.take("panel", 0)

    def thin(self) -> None:
        """Thin slices from a drawing on thick ones; the bundled model draws in place of a person."""
        import slicer

        from medseg.mrml import labelmap_from_segmentation, volume_to_node
        from medseg.training.thin_thick import thick_copy

        self.load_heart()
        self.run(self.ui.segmentButton, self.panel.segment)
        found = labelmap_from_segmentation(self.panel.lastOutcome.segmentationNode, self.parameters.inputVolume)
        self.ui.makeThickCopyButton.click()
        self.until(lambda: self.parameters.thickSegmentation is not None, 60.0)
        thick = thick_copy(found.with_array(found.array.astype(float)), thickness_mm=self.parameters.thickness)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Left atrium")
        volume_to_node(thick.with_array((thick.array > 0.5).astype("uint8")), slicer.mrmlScene, node=node)
        drawing = self.parameters.thickSegmentation
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(node, drawing)
        drawing.GetSegmentation().GetNthSegment(0).SetName("Left atrium")
        self.ui.transferMethodComboBox.currentIndex = 1
        self.panel.update()
        self.run(self.ui.transferButton, self.panel.transfer)
        self.collapse(self.ui.thinSlicesCollapsibleButton)
        self.take("panel-thin-slices", 0)

    def correct(self) -> None:
        """The tab Correct after a segmentation, and the effect of the Segment Editor after two clicks at it."""
        import numpy as np
        import slicer

        self.application.openMainWindow()
        self.application.loadModule(ROOT / "MedSegExtension" / "SegmentEditorMedSeg" / "SegmentEditorMedSeg.py")
        self.load_heart()
        self.run(self.ui.segmentButton, self.panel.segment)
        self.take("panel-correct", 1)
        self.ui.correctButton.click()
        editor = slicer.util.getModuleWidget("SegmentEditor")
        effect = editor.editor.activeEffect().self()
        effect.scriptedEffect.setParameter("Tool", "threshold")
        bounds = [0.0] * 6
        self.parameters.correctSegmentation.GetBounds(bounds)
        middle = np.array([[(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]])
        for place in (middle, middle + 4.0):
            effect.addPrompt("point", place)
            self.until(lambda: not effect.correction.isRunning, 120.0)
        self.application.processEvents()
        self.application.screenshot(TARGET / "segment-editor-effect.png", editor.parent)

    def register(self) -> None:
        """The tab Register after a deformable registration of a heart to another."""
        import slicer

        from medseg.mrml import volume_to_node
        from medseg.phantom import left_atrium_phantom

        for name, seed, parameter in (("Heart before", 1, "registerFixed"), ("Heart after", 2, "registerMoving")):
            image, _truth = left_atrium_phantom(seed, spacing=HEART_SPACING)
            setattr(self.parameters, parameter, volume_to_node(image, slicer.mrmlScene, name))
        self.ui.registerMethodComboBox.currentIndex = 4
        self.ui.registerShowThroughCheckBox.checked = True
        self.run(self.ui.registerButton, self.panel.register)
        self.take("panel-register", 2)

    def analyse(self) -> None:
        """A segment that was split into its instances."""
        import slicer

        from medseg.mrml import volume_to_node
        from MedSegLib.selfTest import threeBlocks

        blocks = threeBlocks()
        volume = volume_to_node(blocks.with_array(blocks.array * 100), slicer.mrmlScene, "Spine")
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Vertebrae")
        volume_to_node(blocks, slicer.mrmlScene, node=labels)
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine segmentation")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation)
        segmentation.GetSegmentation().GetNthSegment(0).SetName("Vertebrae")
        self.ui.splitSegmentationSelector.setCurrentNode(segmentation)
        self.ui.attentionVolumeSelector.setCurrentNode(volume)
        self.run(self.ui.splitButton, self.panel.split)
        self.take("panel-analyse", 3)

    def models(self) -> None:
        """A training that is over, with its curves."""
        with tempfile.TemporaryDirectory(prefix="MedSeg-") as name:
            folder = Path(name) / "hearts"
            folder.mkdir()
            write_hearts(folder)
            for edit, path in (
                (self.ui.trainDataPathLineEdit, folder),
                (self.ui.trainRecipePathLineEdit, folder / "recipe.yaml"),
                (self.ui.trainOutputPathLineEdit, folder / "run"),
            ):
                edit.currentPath = str(path)
            self.ui.trainDeviceComboBox.currentIndex = 1
            self.ui.trainButton.click()
            self.until(lambda: not self.panel.training.isTraining)
            if not self.ui.installTrainedButton.enabled:
                sys.exit(self.ui.trainStatusLabel.text)
            for edit, text in (
                (self.ui.trainDataPathLineEdit, "/data/hearts"),
                (self.ui.trainRecipePathLineEdit, "/data/hearts.yaml"),
                (self.ui.trainOutputPathLineEdit, "/data/run"),
            ):
                # The picture need not show a temporary folder; nobody is told, so the run stays in front.
                edit.blockSignals(True)
                edit.currentPath = text
                edit.blockSignals(False)
            self.take("panel-models", 4)

    def library(self) -> None:
        """A model of the catalogue, before its download."""
        self.ui.trainCollapsibleButton.collapsed = True
        self.ui.catalogueCollapsibleButton.collapsed = False
        self.ui.catalogueSearchBox.text = "teeth"
        self.ui.catalogueListWidget.setCurrentRow(0)
        self.take("panel-get-models", 4)


def write_hearts(folder: Path) -> None:
    """Write synthetic hearts of large voxels, their label maps and the recipe."""
    from medseg.phantom import left_atrium_phantom
    from medseg.volumes import write_labelmap, write_volume

    for seed in range(HEARTS):
        image, truth = left_atrium_phantom(seed, spacing=HEART_SPACING)
        write_volume(image, folder / f"heart{seed}_image.nii.gz")
        write_labelmap(truth, folder / f"heart{seed}_label.nii.gz")
    table = ROOT / "Resources" / "recipes" / "left-atrium-mr.labels.csv"
    (folder / "labels.csv").write_text(table.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")


def main(*wanted: str) -> None:
    """Take the pictures that are named, or all."""
    for name in wanted or ("segment", "thin", "correct", "register", "analyse", "models", "library"):
        photographer = Photographer()
        getattr(photographer, name)()
        photographer.application.reset()


if __name__ == "__main__":
    main(*sys.argv[1:])
