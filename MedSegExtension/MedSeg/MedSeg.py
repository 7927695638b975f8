"""The module MedSeg of 3D Slicer: segments and registers CT and MR volumes in a process of their own."""

# ruff: noqa: PT009 - in Slicer, unittest runs the test below, and its assertions say more than a bare assert

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from MedSegLib import dependencies, settings
from MedSegLib.background import waitUntil
from MedSegLib.panel import Panel
from MedSegLib.parameterNode import Device, MedSegParameterNode, TransferMethod
from MedSegLib.registrationChoices import RegistrationMethod
from MedSegLib.registrationRun import RegistrationRequest
from MedSegLib.sampleData import registerSampleData
from MedSegLib.scripting import outcomeOf
from MedSegLib.segmentationRun import Outcome, RunRequest
from MedSegLib.selfTest import TRAINED_NAME, dice, drawBlocks, drawLabels, loadHeart, turnedHeart, writeTrainingSet


class MedSeg(ScriptedLoadableModule):
    """What Slicer lists: title, category, help."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("MedSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations"]
        self.parent.contributors = ["The MedSeg developers"]
        self.parent.helpText = _(
            "Segments CT and MR volumes with deep learning models, and registers them. Choose a volume and a model and "
            "press Segment: the model runs on this computer in a process of its own, and the result is a segmentation "
            "with names, colors and terminology, and a table of the volumetry. The tab Correct opens the Segment "
            "Editor with the effect MedSeg: point at what is wrong, and the segment is corrected there. Choose two "
            "volumes in the tab Register: "
            "the result is a transform and how good it is. No image leaves the computer."
        )
        self.parent.acknowledgementText = _("Developed by the MedSeg developers under the Apache License 2.0.")
        slicer.app.connect("startupCompleted()", registerSampleData)


class MedSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Builds the panel and gives it the parameter node of the scene."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: MedSegLogic | None = None
        self.panel: Panel | None = None
        self._parameterNode: MedSegParameterNode | None = None
        self._parameterNodeGuiTag: Any = None
        self._isShown = True
        self._isReloading = False

    def setup(self) -> None:
        """Called when the user opens the module the first time and the widget is initialized."""
        ScriptedLoadableModuleWidget.setup(self)
        self.ui = self._buildWidgets()
        self.logic = MedSegLogic()
        self.panel = Panel(self.ui, Path(self.resourcePath("requirements.txt")))
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEnd)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEnd)
        self.initializeParameterNode()

    def _buildWidgets(self) -> Any:
        """Load the panel and put its parts, each from a file of its own, in their places; return all by name."""
        panel = slicer.util.loadUI(self.resourcePath("UI/MedSeg.ui"))
        self.layout.addWidget(panel)
        places = slicer.util.childWidgetVariables(panel)
        parts = [panel]
        for name, place in (
            ("ThinSlices", places.thinSlicesCollapsibleButton),
            ("Correct", places.correctTab),
            ("Register", places.registerTab),
            ("Analyse", places.analyseTab),
            ("Models", places.modelsTab),
        ):
            part = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
            place.layout().addWidget(part)
            parts.append(part)
        for part in parts:
            part.setMRMLScene(slicer.mrmlScene)
        return slicer.util.childWidgetVariables(panel)

    def cleanup(self) -> None:
        """Called when the application closes and the module widget is destroyed, and before a reload."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.cleanup(isReloading=self._isReloading)
        if self._parameterNode is not None:
            # At the end of the application the widgets may be gone already.
            with contextlib.suppress(ValueError, RuntimeError):
                self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNode = None

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self._isShown = True
        self.panel.reloadModels()
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user opens a different module; a run goes on."""
        self._isShown = False

    def onReload(self) -> None:
        """Reload the module and, unlike Slicer's default, the parts that it consists of."""
        names = [name for name in sys.modules if name == "MedSegLib" or name.startswith("MedSegLib.")]
        modules = {name: sys.modules.pop(name) for name in names}
        try:
            for name in names:
                importlib.import_module(name)
        except Exception:
            sys.modules.update(modules)
            raise
        self._isReloading = True
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        """Called just before the scene is closed."""
        self.panel.sceneIsClosing()
        self.setParameterNode(None)

    def onSceneEnd(self, _caller: Any, _event: Any) -> None:
        """Called just after the scene was closed or another one was imported into it."""
        if self._isShown or self._parameterNode is not None:
            # An import may change the node that is shown, and its events were held back meanwhile.
            self.setParameterNode(None)
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Ensure that the parameter node exists and is shown; choose the first volume when none is chosen."""
        parameterNode, shown = self.logic.getParameterNode(), self._parameterNode
        # Binding the same node once more would do no good: Slicer 5.10 never stops observing what was bound.
        if shown is None or shown.parameterNode is not parameterNode.parameterNode:
            self.setParameterNode(parameterNode)
        else:
            # What the nodes hold may have changed meanwhile: segments are drawn in another module.
            self.panel.update()
        if not self._parameterNode.inputVolume:
            # Label maps and vector volumes are scalar volumes too, by class.
            nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            volumes = [node for node in nodes if node.GetClassName() == "vtkMRMLScalarVolumeNode"]
            if volumes:
                self._parameterNode.inputVolume = volumes[0]

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Bind the widgets to a parameter node and follow its changes."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            # Not connectGui: in some versions it gives no tag, and what it has connected could never be disconnected.
            named = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
            widgets = {name: widget for name, widget in named.items() if name}
            self._parameterNodeGuiTag = parameterNode.connectParametersToGui(widgets)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self.panel.setParameterNode(parameterNode)

    def onParametersModified(self, _caller: Any = None, _event: Any = None) -> None:
        """Called after any parameter changed."""
        self.panel.update()


class MedSegLogic(ScriptedLoadableModuleLogic):
    """Segmentation and registration for scripts, without the panel."""

    def getParameterNode(self) -> MedSegParameterNode:
        """Return the parameter node of the scene, made when there is none."""
        return MedSegParameterNode(super().getParameterNode())

    def segment(
        self,
        volumeNode: Any,
        modelName: str,
        outputNode: Any = None,
        *,
        device: str = "auto",
        makeTable: bool = True,
        show3D: bool = False,
    ) -> Outcome:
        """Segment a volume node and wait for the result; Slicer stays alive meanwhile.

        >>> outcome = MedSegLogic().segment(volumeNode, "left-atrium-mr")  # doctest: +SKIP
        >>> outcome.segmentationNode, outcome.tableNode  # doctest: +SKIP

        Raises
        ------
        MedSegError
            When the volume or the model cannot be used or the run fails; a sentence for the user.
        """
        from medseg.models import ModelLibrary

        package = ModelLibrary().find(modelName)
        return outcomeOf(RunRequest(volumeNode, package, outputNode, device, show3D, makeTable))

    def register(
        self,
        fixedNode: Any,
        movingNode: Any,
        method: str = "affine",
        outputNode: Any = None,
        *,
        modelName: str = "",
        start: str = "auto",
        inputs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Outcome:
        """Register a volume node to another and wait for the result; Slicer stays alive meanwhile.

        ``inputs`` are more nodes by the names of ``medseg.mrml.registration_inputs.RegistrationNodes``, such as
        "fixed_mask" or "moving_segmentation"; ``start`` is told there too. ``options`` are those of
        ``medseg.backend.verbs_registration.RegisterRequest``, such as ``refine="full"`` or ``outputs=["warped"]``.

        >>> outcome = MedSegLogic().register(fixedNode, movingNode, "field", smoothness=0.6)  # doctest: +SKIP
        >>> movingNode.SetAndObserveTransformNodeID(outcome.transformNode.GetID())  # doctest: +SKIP

        Raises
        ------
        MedSegError
            When a node or an option cannot be used or the run fails; a sentence for the user.
        """
        from medseg.mrml.registration_inputs import RegistrationNodes
        from medseg.registration.models import registration_package

        model = str(registration_package(modelName or None).folder) if method == "model" else ""
        nodes = RegistrationNodes(fixedNode, movingNode, **(inputs or {}))
        return outcomeOf(RegistrationRequest(nodes, {"method": method, **options}, model, start, outputNode))


class MedSegTest(ScriptedLoadableModuleTest):
    """Works with synthetic images through the panel's own buttons, with the real worker and a real training process."""

    modelName = "left-atrium-mr"
    minimumDice = 0.8
    longestRun = 600.0  # seconds; the first import of torch on a slow machine is included

    def runTest(self) -> None:
        """Run all tests; raises when one fails. Called by Slicer's Self Tests and by "Reload and Test"."""
        suite = unittest.TestLoader().loadTestsFromTestCase(type(self))
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        if not result.wasSuccessful():
            message = "\n".join(text for _test, text in result.failures + result.errors)
            raise AssertionError(message)

    def setUp(self) -> None:
        missing = dependencies.missingPackages()
        if missing and not settings.usesOwnEnvironment():
            self.skipTest(f"Slicer's Python lacks {', '.join(missing)}")
        slicer.mrmlScene.Clear()
        self.widget = slicer.util.getModuleWidget("MedSeg")
        self.panel = self.widget.panel
        self.panel.reloadModels()
        self.widget.initializeParameterNode()
        packages = {package.name for package in self.panel.models.packages}
        self.assertIn(self.modelName, packages, "the model is not installed")

    def tearDown(self) -> None:
        for section in self.panel.jobSections:
            section.controller.abandon("The test is over.")
        slicer.mrmlScene.Clear()

    def test_AVolumeBecomesASegmentation(self) -> None:
        volumeNode, truth = loadHeart()
        parameters = self._choose(volumeNode, show3D=True)
        self._press("Segment")
        outcome = self._finished()
        self.assertEqual(outcome.state, "done", self._explain())

        package = self.panel.models.chosen.package
        node = outcome.segmentationNode
        segmentation = node.GetSegmentation()
        names = [segmentation.GetNthSegment(index).GetName() for index in range(segmentation.GetNumberOfSegments())]
        self.assertEqual(names, [label.name for label in package.labels])
        for index, label in enumerate(package.labels):
            segment = segmentation.GetNthSegment(index)
            tag, text = segment.GetTerminologyEntryTagName(), vtk.reference("")
            self.assertTrue(segment.GetTag(tag, text), f"{label.name} has no terminology")
            self.assertIn(f"{label.type.scheme}^{label.type.value}^{label.type.meaning}", str(text))
            self.assertTrue(segment.GetTag("DICOM.SegmentAlgorithmType", text))
            self.assertEqual(str(text), "AUTOMATIC")
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        self.assertEqual(node.GetNodeReference(role), volumeNode)
        self.assertTrue(segmentation.ContainsRepresentation(_closedSurfaceName()))

        from medseg.mrml import labelmap_from_segmentation

        labelmap = labelmap_from_segmentation(node, volumeNode)
        self.assertTrue(labelmap.geometry.is_close(truth.geometry))
        overlap = dice(labelmap.array == package.labels[0].value, truth.array > 0)
        self.assertGreaterEqual(overlap, self.minimumDice, "Dice with the truth of the synthetic heart")
        self.assertEqual(parameters.resultTable, outcome.tableNode)
        self.assertEqual(outcome.tableNode.GetNumberOfRows(), len(package.labels))

    def test_ARunIsCancelled(self) -> None:
        self._choose(loadHeart(large=True)[0])
        self._press("Segment")
        self._waitUntilRunning()
        self._press("Cancel")
        outcome = self._finished(seconds=20.0)
        self.assertEqual(outcome.state, "cancelled", self._explain())
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)
        self.assertEqual(self.widget.ui.segmentButton.text, "Segment")
        self.assertTrue(self.widget.ui.segmentButton.enabled)

    def test_TheSceneIsClosedDuringARun(self) -> None:
        self._choose(loadHeart(large=True)[0])
        self._press("Segment")
        self._waitUntilRunning()
        slicer.mrmlScene.Clear()
        outcome = self._finished(seconds=20.0)
        self.assertEqual(outcome.state, "cancelled", self._explain())
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

        self.widget.initializeParameterNode()
        self._choose(loadHeart()[0])
        self._press("Segment")
        self.assertEqual(self._finished().state, "done", self._explain())

    def test_ASegmentIsSplitIntoInstances(self) -> None:
        segmentationNode = drawBlocks()
        self.widget.ui.splitSegmentationSelector.setCurrentNode(segmentationNode)
        self._pressButton(self.widget.ui.splitButton)
        outcome = self._outcomeOf(self.panel.split)
        self.assertEqual(outcome.state, "done", outcome.sentence)
        self.assertEqual(outcome.segmentationNode.GetSegmentation().GetNumberOfSegments(), 3)

    def test_ACorrectedCaseIsAddedToATrainingFolder(self) -> None:
        from medseg.labels import read_labels

        ui, before = self.widget.ui, self.widget.ui.caseFolderPathLineEdit.currentPath
        with tempfile.TemporaryDirectory(prefix="MedSeg-") as name:
            try:
                ui.correctSegmentationSelector.setCurrentNode(drawBlocks())
                self.assertTrue(ui.correctButton.enabled, ui.correctButton.toolTip)
                ui.caseFolderPathLineEdit.currentPath = name
                self._pressButton(ui.addCaseButton)
                isAdded = waitUntil(lambda: not self.panel.cases.isAdding, 60.0)
                self.assertTrue(isAdded and (Path(name) / "case_0001_label.nii.gz").is_file(), ui.caseStatusLabel.text)
                self.assertEqual(len(read_labels(Path(name) / "labels.csv")), 1)
            finally:
                ui.caseFolderPathLineEdit.currentPath = before

    def test_TwoVolumesAreRegistered(self) -> None:
        from medseg.mrml import transform_from_node, volume_to_node

        fixed, moving, matrix = turnedHeart()
        parameters = self.widget.logic.getParameterNode()
        parameters.registerFixed = volume_to_node(fixed, slicer.mrmlScene, "heart")
        parameters.registerMoving = volume_to_node(moving, slicer.mrmlScene, "turned heart")
        parameters.registerMethod = RegistrationMethod.RIGID
        parameters.registerShowThrough = True
        self._pressButton(self.widget.ui.registerButton)
        outcome = self._outcomeOf(self.panel.register)
        self.assertEqual(outcome.state, "done", outcome.sentence)
        found = transform_from_node(outcome.transformNode)
        for index in ((0, 0, 0), [size - 1 for size in fixed.geometry.size]):
            point = fixed.geometry.ijk_to_ras_points([float(number) for number in index])
            apart = abs(found.apply(point) - (matrix[:3, :3] @ point + matrix[:3, 3])).max()
            self.assertLess(apart, 2.0, "mm from where the corner of the heart is")
        self.assertEqual(parameters.registerMoving.GetParentTransformNode(), outcome.transformNode)

    def test_ThickLabelsBecomeThin(self) -> None:
        from medseg.mrml import labelmap_from_segmentation
        from medseg.training.thin_thick import thick_copy

        volumeNode, truth = loadHeart()
        parameters = self._choose(volumeNode)
        parameters.transferMethod = TransferMethod.SHAPE
        self._pressButton(self.widget.ui.makeThickCopyButton)
        isMade = waitUntil(lambda: not self.panel.transfer.isMaking, 60.0)
        self.assertTrue(isMade and parameters.thickSegmentation is not None, self.widget.ui.transferStatusLabel.text)
        thick = thick_copy(truth.with_array(truth.array.astype(float)), thickness_mm=parameters.thickness)
        self._draw(parameters.thickSegmentation, thick.with_array((thick.array > 0.5).astype("uint8")))
        self._pressButton(self.widget.ui.transferButton)
        outcome = self._outcomeOf(self.panel.transfer)
        self.assertEqual(outcome.state, "done", outcome.sentence)
        found = labelmap_from_segmentation(outcome.segmentationNode, volumeNode)
        self.assertGreaterEqual(dice(found.array > 0, truth.array > 0), 0.85)
        self.assertGreater(outcome.tableNode.GetNumberOfRows(), 0)

    def test_AModelIsTrainedAndInstalled(self) -> None:
        from medseg.errors import MedSegError
        from medseg.models import remove_model

        missing = dependencies.missingPackages(dependencies.TRAINING)
        if missing and not settings.usesOwnEnvironment():
            self.skipTest(f"Slicer's Python lacks {', '.join(missing)}")
        ui, section = self.widget.ui, self.panel.training
        edits = (ui.trainDataPathLineEdit, ui.trainRecipePathLineEdit, ui.trainOutputPathLineEdit)
        before = [edit.currentPath for edit in edits]
        with tempfile.TemporaryDirectory(prefix="MedSeg-") as name:
            folder = Path(name)
            try:
                for edit, path in zip(edits, (folder, writeTrainingSet(folder), folder / "run"), strict=True):
                    edit.currentPath = str(path)
                self._pressButton(ui.trainButton)
                self.assertTrue(waitUntil(lambda: not section.isTraining, self.longestRun), ui.trainStatusLabel.text)
                self.assertTrue(section.curves.hasEpochs, ui.trainStatusLabel.text)
                self._pressButton(ui.installTrainedButton)
                parameters = self.widget.logic.getParameterNode()
                isChosen = waitUntil(lambda: parameters.modelName == TRAINED_NAME, 60.0)
                self.assertTrue(isChosen, ui.trainStatusLabel.text)
                self.assertIn(TRAINED_NAME, {package.name for package in self.panel.models.packages})
            finally:
                with contextlib.suppress(MedSegError):
                    remove_model(TRAINED_NAME)
                section.shutDown()
                waitUntil(lambda: not section.isTraining, 60.0)
                for edit, path in zip(edits, before, strict=True):
                    edit.currentPath = path
                self.panel.onModelsChanged("")

    def _draw(self, segmentationNode: Any, labelmap: Any) -> None:
        drawLabels(segmentationNode, labelmap)
        self.panel.update()

    def _choose(self, volumeNode: Any, show3D: bool = False) -> MedSegParameterNode:
        """Choose volume and model as the user's widgets would; the CPU, since not every computer has a GPU."""
        parameters = self.widget.logic.getParameterNode()
        parameters.modelName = self.modelName
        parameters.device = Device.CPU
        parameters.show3D = show3D
        self.widget.ui.inputSelector.setCurrentNode(volumeNode)
        self.assertEqual(parameters.inputVolume, volumeNode)
        return parameters

    def _press(self, text: str) -> None:
        button = self.widget.ui.segmentButton
        self.assertTrue(waitUntil(lambda: button.enabled, 5.0), button.toolTip)
        self.assertEqual(button.text, text)
        button.click()

    def _pressButton(self, button: Any) -> None:
        self.assertTrue(waitUntil(lambda: button.enabled, 5.0), button.toolTip)
        button.click()

    def _outcomeOf(self, section: Any) -> Outcome:
        self.assertTrue(waitUntil(lambda: not section.controller.isRunning, self.longestRun), self._explain())
        self.assertIsNotNone(section.lastOutcome, self._explain())
        return section.lastOutcome

    def _waitUntilRunning(self) -> None:
        isRunning = waitUntil(lambda: self.widget.ui.progressBar.value > 0 or self._isOver(), self.longestRun)
        self.assertTrue(isRunning, self._explain())
        self.assertFalse(self._isOver(), self._explain())

    def _isOver(self) -> bool:
        return not self.panel.controller.isRunning

    def _finished(self, seconds: float | None = None) -> Outcome:
        self.assertTrue(waitUntil(self._isOver, seconds or self.longestRun), self._explain())
        self.assertIsNotNone(self.panel.lastOutcome, self._explain())
        return self.panel.lastOutcome

    def _explain(self) -> str:
        return f"{self.widget.ui.statusLabel.text}\n{self.panel.report()}"


def _closedSurfaceName() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
