"""The section "Installed models": what is on this computer, installing from a file, removing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.background import BackgroundTask
from MedSegLib.fileDialogs import askForFile, openPath
from MedSegLib.jobSection import Services, StatusLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.models import ModelPackage
    from MedSegLib.modelList import ModelList

ZIP_FILTER = "Models (*.zip)"


class ModelManager:
    """Shows the models that the list of the tab Segment has read, and changes what is installed."""

    def __init__(self, ui: Any, services: Services, models: ModelList, onChanged: Callable[[str], None]) -> None:
        self._ui = ui
        self._services = services
        self._models = models
        self._onChanged = onChanged
        self._names: list[str] = []
        self._task: BackgroundTask | None = None
        self.status = StatusLine(ui.modelsStatusLabel, services.log)
        ui.installFileButton.connect("clicked(bool)", self.onInstallButton)
        ui.removeModelButton.connect("clicked(bool)", self.onRemoveButton)
        ui.openModelsFolderButton.connect("clicked(bool)", self.onOpenButton)
        ui.installedModelsListWidget.connect("currentRowChanged(int)", self._onRow)

    def update(self) -> None:
        """Fill the list anew."""
        listWidget = self._ui.installedModelsListWidget
        chosen = self._chosenName()
        wasBlocked = listWidget.blockSignals(True)
        listWidget.clear()
        self._names = []
        for entry in self._models.entries:
            isUsers = self._isUsers(entry.name)
            version = "" if entry.package is None else f" {entry.package.version}"
            place = _("installed by you") if isUsers else _("comes with MedSeg")
            state = _(" (cannot be used)") if entry.package is None else _(" (yours)") if isUsers else ""
            listWidget.addItem(f"{entry.title}{version}{state}")
            listWidget.item(listWidget.count - 1).setToolTip(f"{entry.name}, {place}. {entry.problem}".strip())
            self._names.append(entry.name)
        listWidget.setCurrentRow(self._names.index(chosen) if chosen in self._names else -1)
        listWidget.blockSignals(wasBlocked)
        self._onRow(listWidget.currentRow)

    def onInstallButton(self, _checked: bool = False) -> None:
        """Ask for a zip file and install the model in it."""
        from medseg.models import import_zip

        path = askForFile(_("Choose the zip file of a model"), str(Path.home()), ZIP_FILTER)
        if path is None or self._task is not None:
            return
        self.status.say(_("Installing…"))
        self._ui.installFileButton.enabled = False
        self._task = BackgroundTask(self._services.poller, lambda: import_zip(path), self._onInstalled)

    def onRemoveButton(self, _checked: bool = False) -> None:
        """Remove the chosen model after a question."""
        from medseg.models import remove_model

        name = self._chosenName()
        if not self._isUsers(name) or not slicer.util.confirmOkCancelDisplay(
            _("Remove the model “{name}” from this computer?").format(name=name)
        ):
            return
        try:
            remove_model(name)
        except MedSegError as error:
            self.status.fail(str(error))
        else:
            self.status.finish(_("“{name}” was removed.").format(name=name))
        self._onChanged("")

    def onOpenButton(self, _checked: bool = False) -> None:
        """Open the folder of the user's models."""
        from medseg.models import user_models_folder

        folder = user_models_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            sentence = _("The folder {folder} cannot be made: {error}.")
            self.status.fail(sentence.format(folder=folder, error=error.strerror))
            return
        openPath(folder, self.status)

    def _onInstalled(self, package: ModelPackage | None, error: Exception | None) -> None:
        self._task = None
        self._ui.installFileButton.enabled = True
        if package is not None:
            self._onChanged(package.name)
            registers = package.name in {other.name for other in self._models.registering}
            tab = _("Register") if registers else _("Segment")
            sentence = _("“{title}” is installed and chosen in the tab {tab}.")
            self.status.finish(sentence.format(title=package.title, tab=tab))
        else:
            self.status.failWith(error)

    def _onRow(self, _row: int) -> None:
        self._ui.removeModelButton.enabled = self._isUsers(self._chosenName())

    def _chosenName(self) -> str:
        row = self._ui.installedModelsListWidget.currentRow
        return self._names[row] if 0 <= row < len(self._names) else ""

    def _isUsers(self, name: str) -> bool:
        from medseg.models import user_models_folder

        return bool(name) and (user_models_folder() / name).is_dir()
