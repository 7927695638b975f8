"""The tab Models: what is installed, and public models from a real server that behaves well or badly."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medseg.models import download, user_models_folder
from medseg.models.download import Patience
from support.catalogues import OfferedModel, offer
from support.web_server import Answer, forbid_connections

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 60.0


@dataclass
class ModelsTab:
    """The tab, with a catalogue of the house whose first model lies on a server."""

    user: Any
    offered: OfferedModel

    @property
    def ui(self) -> Any:
        return self.user.ui

    @property
    def status(self) -> str:
        return self.ui.catalogueStatusLabel.text

    @property
    def managed(self) -> str:
        return self.ui.modelsStatusLabel.text

    def choose(self, words: str = "blobs server") -> None:
        """Open the section and choose the only model that fits."""
        self.ui.catalogueCollapsibleButton.collapsed = True
        self.ui.catalogueCollapsibleButton.collapsed = False
        self.ui.catalogueSearchBox.text = words
        self.ui.catalogueListWidget.setCurrentRow(0)

    def download(self, *, accept: bool = True) -> None:
        self.user.application.answer(accept)
        self.ui.downloadModelButton.click()

    def wait(self) -> None:
        tasks = (self.user.panel.catalogue.task, self.user.panel.modelManager.task)
        self.user.until(lambda: not any(task.isRunning for task in tasks), SECONDS)

    def shows(self, widget: Any) -> bool:
        return widget.isVisibleTo(self.ui.catalogueCollapsibleButton)

    def select(self, name: str) -> None:
        self.ui.installedModelsListWidget.setCurrentRow(self.user.panel.modelManager._names.index(name))


@pytest.fixture
def the_tab(
    a_user: Any,
    bright_blob_package: Path,
    resources: Path,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ModelsTab]:
    shutil.copy(repository / "Resources" / "catalogue.json", resources)
    monkeypatch.setenv("MEDSEG_CATALOGUE", str(tmp_path / "catalogue.json"))
    monkeypatch.setattr(download, "PATIENCE", Patience(seconds=1.0, attempts=2, pause=0.01))
    package = renamed(bright_blob_package, tmp_path / "package", "served-blobs", "Served blobs")
    tab = ModelsTab(a_user, offer(package, tmp_path / "catalogue.json"))
    a_user.panel.reloadModels()
    yield tab
    tab.ui.catalogueSearchBox.text = ""
    tab.ui.catalogueCollapsibleButton.collapsed = True
    tab.wait()
    tab.offered.server.close()


def renamed(package: Path, target: Path, name: str, title: str) -> Path:
    """Copy a package under another name."""
    shutil.copytree(package, target)
    metadata = target / "configs" / "metadata.json"
    data = json.loads(metadata.read_text(encoding="utf-8"))
    data["medseg"] |= {"name": name, "title": title}
    metadata.write_text(json.dumps(data), encoding="utf-8")
    return target


def left_behind() -> list[str]:
    folder = user_models_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_nothing_is_asked_of_the_network_before_the_button_is_pressed(
    the_tab: ModelsTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = forbid_connections(monkeypatch.setattr)
    the_tab.user.panel.reloadModels()
    the_tab.choose("")
    assert the_tab.ui.catalogueListWidget.count > 10
    the_tab.choose()
    the_tab.download(accept=False)
    assert attempts == []
    assert the_tab.offered.server.seen == []


def test_the_card_tells_licence_size_and_checksum(the_tab: ModelsTab) -> None:
    the_tab.choose("dentalsegmentator")
    card = the_tab.ui.catalogueCardLabel.text
    assert the_tab.shows(the_tab.ui.catalogueCardLabel)
    assert the_tab.shows(the_tab.ui.downloadModelButton)
    assert "CC-BY-4.0" in card
    assert "published MD5" in card
    the_tab.choose("mrsegmentator")
    assert "No checksum is published" in the_tab.ui.catalogueCardLabel.text
    the_tab.choose("multi organ reverse")
    assert not the_tab.ui.downloadModelButton.enabled
    the_tab.choose("no such model at all")
    assert not the_tab.ui.downloadModelButton.enabled
    assert not the_tab.shows(the_tab.ui.catalogueCardLabel)


def test_a_model_is_downloaded_after_a_question_and_chosen(the_tab: ModelsTab) -> None:
    the_tab.choose()
    the_tab.download()
    question = the_tab.user.application.messages[-1].text
    assert "License: Apache-2.0" in question
    assert "published SHA-256" in question
    assert not the_tab.shows(the_tab.ui.downloadModelButton)
    the_tab.wait()
    assert "Served blobs” is installed and chosen" in the_tab.status
    assert the_tab.user.parameters.modelName == "served-blobs"
    assert "(installed)" in the_tab.ui.catalogueListWidget.item(0).text()
    assert "again" in the_tab.ui.downloadModelButton.text
    the_tab.download()
    the_tab.wait()
    assert left_behind() == ["served-blobs"]


def test_a_stalled_download_can_be_cancelled_and_goes_on_later(the_tab: ModelsTab) -> None:
    size = len(the_tab.offered.server.content)
    the_tab.offered.server.answers = [Answer(stall_after=size // 2)]
    the_tab.choose()
    the_tab.download()
    the_tab.user.until(lambda: the_tab.ui.catalogueProgressBar.value > 30, SECONDS)
    assert the_tab.shows(the_tab.ui.catalogueCancelButton)
    the_tab.ui.catalogueCancelButton.click()
    the_tab.wait()
    assert the_tab.status == "Cancelled."
    assert left_behind() == []
    the_tab.download()
    the_tab.wait()
    assert "is installed" in the_tab.status
    assert the_tab.offered.server.asked_ranges == [None, f"bytes={size // 2}-"]


def test_a_server_that_lies_ends_in_a_sentence_and_nothing_is_installed(the_tab: ModelsTab) -> None:
    the_tab.offered.server.answers = [Answer(content=the_tab.offered.server.content[::-1])]
    the_tab.choose()
    the_tab.download()
    the_tab.wait()
    assert "SHA-256 is another" in the_tab.status
    assert left_behind() == []
    assert the_tab.ui.downloadModelButton.enabled


def test_a_catalogue_that_is_damaged_is_told(the_tab: ModelsTab) -> None:
    the_tab.offered.catalogue.write_text("{", encoding="utf-8")
    the_tab.choose()
    assert "cannot be used" in the_tab.status
    assert the_tab.ui.catalogueListWidget.count == 0


def test_a_restricted_licence_of_a_folder_is_asked_about(the_tab: ModelsTab, tmp_path: Path) -> None:
    metadata = tmp_path / "package" / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text(encoding="utf-8").replace("Apache-2.0", "CC-BY-NC-4.0"), encoding="utf-8")
    the_tab.user.application.answer(tmp_path / "package", False)
    the_tab.ui.installFolderButton.click()
    the_tab.wait()
    assert "CC-BY-NC-4.0" in the_tab.user.application.messages[-1].text
    assert "not been accepted" in the_tab.managed
    assert left_behind() == []
    the_tab.user.application.answer(tmp_path / "package", True)
    the_tab.ui.installFolderButton.click()
    the_tab.user.until(lambda: "is installed" in the_tab.managed, SECONDS)
    assert left_behind() == ["served-blobs"]


def test_models_are_checked_exported_and_removed(the_tab: ModelsTab, tmp_path: Path) -> None:
    the_tab.choose()
    the_tab.download()
    the_tab.wait()
    the_tab.select("served-blobs")
    the_tab.user.application.answer(tmp_path / "exported")
    the_tab.ui.exportModelButton.click()
    the_tab.wait()
    assert (tmp_path / "exported.zip").is_file()

    weights = user_models_folder() / "served-blobs" / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[::-1])
    the_tab.ui.verifyModelsButton.click()
    the_tab.wait()
    assert "served-blobs: models/model.pt is damaged" in the_tab.managed

    the_tab.select("served-blobs")
    the_tab.user.application.answer(True)
    the_tab.ui.removeModelButton.click()
    assert left_behind() == []
    the_tab.user.application.answer(tmp_path / "exported.zip")
    the_tab.ui.installFileButton.click()
    the_tab.wait()
    assert left_behind() == ["served-blobs"]
