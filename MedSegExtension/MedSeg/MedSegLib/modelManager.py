"""The section "Installed models": what is on this computer, installing from files, checking, exporting, removing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.fileDialogs import askForFile, askForFolder, askWhereToSave, openPath
from MedSegLib.jobSection import Services, StatusLine
from MedSegLib.libraryTask import LibraryTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.models import ModelPackage
    from medseg.models.licensing import LicenseError
    from medseg.models.verifying import Verification
    from MedSegLib.modelList import ModelList

ZIP_FILTER = "Models (*.zip)"


class ModelManager:
    """Shows the models that the list of the tab Segment has read, and changes what is installed."""

    def __init__(self, ui: Any, services: Services, models: ModelList, onChanged: Callable[[str], None]) -> None:
        self._ui = ui
        self._models = models
        self._onChanged = onChanged
        self._names: list[str] = []
        self.status = StatusLine(ui.modelsStatusLabel, services.log)
        self.task = LibraryTask(services.poller, self.status, ui.modelsProgressBar, ui.modelsCancelButton)
        ui.installFileButton.connect("clicked(bool)", self.onInstallButton)
        ui.installFolderButton.connect("clicked(bool)", self.onInstallFolderButton)
        ui.exportModelButton.connect("clicked(bool)", self.onExportButton)
        ui.verifyModelsButton.connect("clicked(bool)", self.onVerifyButton)
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
        self._updateButtons()

    def installed(self, package: ModelPackage) -> str:
        """Show and choose a model that was just installed, and return the sentence that says so."""
        self._onChanged(package.name)
        tabs = {"register": _("Register"), "correct": _("Correct")}
        sentence = _("“{title}” is installed and chosen in the tab {tab}.")
        return sentence.format(title=package.title, tab=tabs.get(package.verb, _("Segment")))

    def onInstallButton(self, _checked: bool = False) -> None:
        """Ask for a zip file and install the model in it."""
        self._install(askForFile(_("Choose the zip file of a model"), str(Path.home()), ZIP_FILTER))

    def onInstallFolderButton(self, _checked: bool = False) -> None:
        """Ask for a folder and install the model in it."""
        self._install(askForFolder(_("Choose the folder of a model"), str(Path.home())))

    def onExportButton(self, _checked: bool = False) -> None:
        """Write the chosen model to a zip file."""
        from medseg.models.exporting import export_model

        package = self._chosenPackage()
        if package is None or self.task.isRunning:
            return
        suggestion = str(Path.home() / f"{package.name}-{package.version}.zip")
        path = askWhereToSave(_("Export the model"), suggestion, ZIP_FILTER)
        if path is None:
            return
        target = path if path.suffix.lower() == ".zip" else path.with_name(f"{path.name}.zip")
        self._start(lambda progress: export_model(package, target, progress), self._onExported)

    def onVerifyButton(self, _checked: bool = False) -> None:
        """Compare the files of all models with their checksums."""
        from medseg.models import ModelLibrary
        from medseg.models.verifying import verify_library

        if not self.task.isRunning:
            self._start(lambda progress: verify_library(ModelLibrary(), (), progress), self._onVerified)

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

    def shutDown(self) -> None:
        """Stop what goes on; nothing is left half-done."""
        self.task.shutDown()

    def _start(self, function: Callable[[Any], Any], onDone: Callable[[Any, Exception | None], None]) -> None:
        def finished(value: Any, error: Exception | None) -> None:
            if error is not None:
                self.status.failWith(error)
            else:
                onDone(value, None)
            self._updateButtons()

        self.status.say(_("Working…"))
        self.task.start(function, finished)
        self._updateButtons()

    def _install(self, path: Path | None, *, accepted: bool = False) -> None:
        from medseg.models.adding import add_model
        from medseg.models.licensing import LicenseError

        if path is None or self.task.isRunning:
            return

        def finished(package: ModelPackage | None, error: Exception | None) -> None:
            self._updateButtons()
            if package is not None:
                self.status.finish(self.installed(package))
            elif isinstance(error, LicenseError):
                self.status.say(str(error))
                if self._accepts(error):
                    self._install(path, accepted=True)
            else:
                self.status.failWith(error)

        self.status.say(_("Installing…"))
        self.task.start(lambda progress: add_model(path, accept_license=accepted, progress=progress), finished)
        self._updateButtons()

    def _accepts(self, error: LicenseError) -> bool:
        text = _("“{title}” is under the license {license}. Have you read it, and do you accept it?").format(
            title=error.title, license=error.license
        )
        return bool(
            slicer.util.confirmOkCancelDisplay(text, windowTitle=_("License of the model"), detailedText=error.text)
        )

    def _onExported(self, path: Path, _error: Exception | None) -> None:
        self.status.finish(_("The model was written to {path}.").format(path=path))

    def _onVerified(self, found: list[Verification], _error: Exception | None) -> None:
        bad = [one for one in found if one.problems]
        unknown = [one.name for one in found if not one.problems and not one.compared]
        sound = len(found) - len(bad) - len(unknown)
        parts = [_("{count} of {all} models are as they were published.").format(count=sound, all=len(found))]
        parts += [_("No checksum is known of {names}.").format(names=", ".join(unknown))] if unknown else []
        parts += [f"{one.name}: {' '.join(one.problems)}" for one in bad]
        (self.status.fail if bad else self.status.finish)(" ".join(parts))

    def _onRow(self, _row: int) -> None:
        self._updateButtons()

    def _updateButtons(self) -> None:
        ui, isIdle = self._ui, not self.task.isRunning
        for button in (ui.installFileButton, ui.installFolderButton, ui.verifyModelsButton):
            button.enabled = isIdle
        ui.exportModelButton.enabled = isIdle and self._chosenPackage() is not None
        ui.removeModelButton.enabled = isIdle and self._isUsers(self._chosenName())

    def _chosenPackage(self) -> ModelPackage | None:
        name = self._chosenName()
        return next((entry.package for entry in self._models.entries if entry.name == name), None)

    def _chosenName(self) -> str:
        row = self._ui.installedModelsListWidget.currentRow
        return self._names[row] if 0 <= row < len(self._names) else ""

    def _isUsers(self, name: str) -> bool:
        from medseg.models import user_models_folder

        return bool(name) and (user_models_folder() / name).is_dir()
