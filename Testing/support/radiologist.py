"""Someone in front of the Segment Editor with the effect MedSeg, in the stand-in for the application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.correction import write_clicks_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slicer_app import SlicerApplication

SIZE, RADIUS = 40, 9
FIELD_MM = 80.0
MIDDLE = (20, 20, 20)


class Radiologist:
    """What someone in front of the Segment Editor does and sees; clicks are at voxels (k, j, i)."""

    def __init__(self, application: SlicerApplication, repository: Path) -> None:
        import slicer

        self.application, self.slicer = application, slicer
        application.openMainWindow()
        for name in ("MedSeg", "SegmentEditorMedSeg"):
            application.loadModule(repository / "MedSegExtension" / name / f"{name}.py")
        self.editor = slicer.util.getModuleWidget("SegmentEditor").editor
        self.red = application.sliceView("Red")
        self.reopen()

    def reopen(self) -> None:
        """Begin with a bright ball, an empty segment for it, and a neighbour that touches it."""
        from medseg.mrml import volume_to_node
        from medseg.volumes import Geometry, Volume

        self.geometry = Geometry.from_spacing((SIZE,) * 3, (1.0, 1.0, 1.5))
        k, j, i = np.indices(self.geometry.shape) - SIZE // 2
        self.ball = k**2 + j**2 + i**2 <= RADIUS**2
        noise = np.random.default_rng(0).normal(0, 5, self.geometry.shape)
        image = Volume((100.0 * self.ball + noise).astype(np.float32), self.geometry)
        self.volume = volume_to_node(image, self.slicer.mrmlScene, "ball")
        self.node = self.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segments")
        self.node.CreateDefaultDisplayNodes()
        self.node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        for name in ("Ball", "Neighbour"):
            self.node.GetSegmentation().AddEmptySegment(name, name)
        self.editor.setSegmentationNode(self.node)
        self.editor.setSourceVolumeNode(self.volume)
        neighbour = np.zeros(self.geometry.shape, bool)
        neighbour[:, :, : SIZE // 2 - RADIUS + 3] = True
        self.begin("Neighbour")
        self.draw(neighbour)
        self.begin()

    def begin(self, segment: str = "Ball", **parameters: Any) -> None:
        """Select a segment and choose the effect."""
        self.editor.setCurrentSegmentID(segment)
        self.editor.setActiveEffectByName("MedSeg")
        for name, value in {"Tool": "threshold", **parameters}.items():
            self.scripted.setParameter(name, value)

    @property
    def scripted(self) -> Any:
        return self.editor.activeEffect()

    @property
    def effect(self) -> Any:
        return self.scripted.self()

    @property
    def ui(self) -> Any:
        return self.effect.options.ui

    @property
    def status(self) -> str:
        return self.ui.statusLabel.text

    @property
    def prompts(self) -> list[Any]:
        return self.effect.correction.prompts

    def draw(self, wanted: np.ndarray) -> None:
        """Paint with another tool: the selected segment becomes this."""
        from medseg.mrml.corrections import change_images

        reference = self.scripted.referenceGeometryImage()
        before = self.mask(self.editor.currentSegmentID())
        added, removed = change_images(before, wanted, (0, 0, 0), reference)
        self.scripted.saveStateForUndo()
        for image, mode in ((removed, 2), (added, 1)):
            if image is not None:
                self.scripted.modifySelectedSegmentByLabelmap(image, mode)
        self.settle()

    def mask(self, segment: str = "Ball") -> np.ndarray:
        from medseg.mrml.masks import segment_mask

        return np.asarray(segment_mask(self.node, segment).mask.array > 0)

    def ras(self, place: tuple[int, int, int]) -> list[float]:
        return self.geometry.ijk_to_ras_points(np.array(place[::-1], float)).tolist()

    def at(self, *places: tuple[int, int, int]) -> list[tuple[int, int]]:
        """Show the slice of voxels, enlarged, and return where in the view they are."""
        width, height = self.red.node.GetDimensions()[:2]
        self.red.node.SetFieldOfView(FIELD_MM, FIELD_MM * height / width, 1.0)
        self.red.show(self.ras(places[0]))
        return [self.red.xyOf(self.ras(place)) for place in places]

    def click(self, place: tuple[int, int, int] = MIDDLE, *, wait: bool = True) -> None:
        self.red.click(*self.at(place))
        if wait:
            self.wait()

    def wait(self) -> None:
        self.application.processEventsUntil(lambda: not self.effect.correction.isRunning, 120)
        self.settle()

    def settle(self) -> None:
        for _ in range(3):
            self.application.processEvents()

    def memory_mb(self) -> tuple[float, float]:
        """What this process and the computing one have of the memory at the moment."""
        import os

        from MedSegLib.workerAccess import sharedWorker

        health = sharedWorker().readyClient()._running().request("GET", "/health").checked()
        return tuple(
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            for pid in (os.getpid(), health["compute"]["pid"])
        )

    def points(self, *, positive: bool = True) -> list[Any]:
        """The points that are shown: their lists are not saved, and named after their sign."""
        name = f"MedSeg {'positive' if positive else 'negative'} points"
        node = self.slicer.mrmlScene.GetFirstNodeByName(name)
        if node is None:
            return []
        found = []
        for index in range(node.GetNumberOfControlPoints()):
            place = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(index, place)
            found.append(place)
        return found


@pytest.fixture(scope="module")
def clicks_resources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundled resources with one model that follows clicks, though nobody has trained it."""
    folder = tmp_path_factory.mktemp("resources")
    write_clicks_package(folder / "Models" / "any-structure")
    return folder


@pytest.fixture(scope="module")
def the_radiologist(application: SlicerApplication, repository: Path, clicks_resources: Path) -> Iterator[Radiologist]:
    """One editor and one worker for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSEG_RESOURCES", str(clicks_resources))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield Radiologist(application, repository)
        # Slicer ends it with itself; a process of tests goes on with the next file.
        from MedSegLib.workerAccess import sharedWorker

        sharedWorker().end()
        application.reset()


@pytest.fixture
def a_radiologist(application: SlicerApplication, the_radiologist: Radiologist) -> Iterator[Radiologist]:
    """Someone with the effect chosen on an empty segment."""
    application.closeScene()
    the_radiologist.reopen()
    yield the_radiologist
    the_radiologist.editor.setActiveEffect(None)
    application.closeScene()
    application.processEvents()
    assert application.takeSlotErrors() == []
