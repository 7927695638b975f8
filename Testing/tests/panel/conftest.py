"""The panel of MedSeg in the stand-in for the Slicer application, with the real worker and a small real model."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from slicer_app import SlicerApplication
from support.packages import bright_blob_case, write_bright_blob_package
from support.processes import until, workers
from support.radiologist import a_radiologist, clicks_resources, the_radiologist  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RUN_SECONDS = 120.0


class PanelUser:
    """What a person in front of the panel does and sees."""

    def __init__(self, application: SlicerApplication, loaded: Any) -> None:
        self.application = application
        self.loaded = loaded
        self.widget = loaded.widget
        self.panel = self.widget.panel
        self.ui = self.widget.ui

    @property
    def parameters(self) -> Any:
        return self.widget.logic.getParameterNode()

    @property
    def status(self) -> str:
        return self.ui.statusLabel.text

    @property
    def shown_models(self) -> list[str]:
        return [self.ui.modelListWidget.item(row).text() for row in range(self.ui.modelListWidget.count)]

    def nodes(self, class_name: str = "vtkMRMLSegmentationNode") -> list[Any]:
        collection = self.application.scene.GetNodesByClass(class_name)
        return [collection.GetItemAsObject(index) for index in range(collection.GetNumberOfItems())]

    def load(self, volume: Any) -> Any:
        """Load a volume and choose it."""
        from medseg.mrml import volume_to_node

        node = volume_to_node(volume, self.application.scene)
        self.ui.inputSelector.setCurrentNode(node)
        return node

    def choose_model(self, name: str) -> None:
        names = [entry.name for entry in self.panel.models._shown]
        self.ui.modelListWidget.setCurrentRow(names.index(name))

    def until(self, condition: Callable[[], Any], seconds: float = RUN_SECONDS) -> None:
        self.application.processEventsUntil(condition, seconds)

    def press(self, text: str = "Segment") -> None:
        button = self.ui.segmentButton
        self.until(lambda: button.enabled, 5.0)
        assert button.text == text, f"{button.text}: {self.status}"
        button.click()

    def finish(self, seconds: float = RUN_SECONDS) -> Any:
        self.until(lambda: not self.panel.controller.isRunning, seconds)
        return self.panel.lastOutcome

    def start_and_wait_for_progress(self) -> None:
        self.press()
        self.until(lambda: self.ui.progressBar.value > 0 or not self.panel.controller.isRunning)
        assert self.panel.controller.isRunning, self.status


@pytest.fixture(scope="module", autouse=True)
def no_worker_outlives_its_file() -> Iterator[None]:
    """Fail the file whose worker is still there when its modules are gone."""
    before = workers().keys()
    yield
    until(lambda: workers().keys() <= before, "the end of the workers of this file")


@pytest.fixture(scope="session")
def application() -> SlicerApplication:
    """The stand-in for the Slicer application."""
    return SlicerApplication.instance()


@pytest.fixture(scope="session")
def resources(tmp_path_factory: pytest.TempPathFactory, bright_blob_package: Path) -> Path:
    """A folder of bundled resources with three models: bright blobs (MR), liver (CT), and a broken one."""
    folder = tmp_path_factory.mktemp("resources")
    shutil.copytree(bright_blob_package, folder / "Models" / "bright-blob")
    liver = write_bright_blob_package(
        folder / "Models" / "liver-ct",
        name="liver-ct",
        title="Liver <b>&amp;</b> more",
        description="For tests of the panel.",
        anatomy=["liver", "abdomen"],
        inputs=[ct_slot()],
    )
    assert liver.is_dir()
    (folder / "Models" / "damaged").mkdir()
    return folder


def ct_slot() -> Any:
    from medseg.models import InputSlot

    return InputSlot("image", "CT", "Portal-venous CT", minimum_slices=8)


@pytest.fixture(scope="module")
def the_module(application: SlicerApplication, repository: Path, resources: Path) -> Iterator[Any]:
    """The module, loaded from its file as Slicer does; the worker stays warm for the tests of one file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSEG_RESOURCES", str(resources))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield application.loadModule(repository / "MedSegExtension" / "MedSeg" / "MedSeg.py")
        application.reset()


@pytest.fixture
def a_user(application: SlicerApplication, the_module: Any) -> Iterator[PanelUser]:
    """Someone in front of the panel, with an empty scene and default settings."""
    user = PanelUser(application, the_module)
    application.closeScene()
    user.ui.modelSearchBox.text = ""
    user.ui.pythonPathLineEdit.currentPath = ""
    user.widget.enter()
    user.parameters.modelName = "bright-blob"
    user.parameters.device = user.parameters.device.CPU
    yield user
    user.panel.controller.abandon("The test is over.")
    application.closeScene()
    application.processEvents()
    assert application.takeSlotErrors() == []


@pytest.fixture(scope="session")
def a_blob_image() -> tuple[Any, Any]:
    """A small image of bright spheres and its truth."""
    return bright_blob_case(3, (40, 36, 44), (1.0, 1.0, 1.5), orientation="LPS")


@pytest.fixture(scope="session")
def a_large_image() -> Any:
    """An image that keeps the small model busy for several seconds."""
    return bright_blob_case(4, (150, 150, 150))[0]
