"""The section "Get models": public models to search, their cards, and the download. Nothing is fetched unasked."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.jobSection import Services, StatusLine
from MedSegLib.libraryTask import LibraryTask
from MedSegLib.modelCard import MAXIMUM_STRUCTURES, cardTable, memoryText

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.models import ModelPackage
    from medseg.models.catalogue import CatalogueEntry
    from MedSegLib.modelList import ModelList


class CatalogueSection:
    """Shows the catalogue that lies on this computer, and downloads the chosen model after a question."""

    def __init__(
        self, ui: Any, services: Services, models: ModelList, onInstalled: Callable[[ModelPackage], str]
    ) -> None:
        self._ui = ui
        self._models = models
        self._onInstalledModel = onInstalled
        self._entries: list[CatalogueEntry] = []
        self._shown: list[CatalogueEntry] = []
        self._installed: set[str] = set()
        self.status = StatusLine(ui.catalogueStatusLabel, services.log)
        self.task = LibraryTask(services.poller, self.status, ui.catalogueProgressBar, ui.catalogueCancelButton)
        ui.catalogueSearchBox.connect("textChanged(QString)", self._onSearch)
        ui.catalogueListWidget.connect("currentRowChanged(int)", self._onRow)
        ui.downloadModelButton.connect("clicked(bool)", self.onDownloadButton)
        ui.catalogueCollapsibleButton.connect("contentsCollapsed(bool)", self._onCollapsed)
        self._showCard()

    def update(self) -> None:
        """Read the catalogue and what is installed of it; does nothing while the section is closed."""
        from medseg.models.catalogue import load_catalogue
        from medseg.models.records import read_record

        if self._ui.catalogueCollapsibleButton.collapsed:
            return
        try:
            self._entries = load_catalogue().entries
        except MedSegError as error:
            self._entries = []
            self.status.fail(str(error))
        packages = [entry.package for entry in self._models.entries if entry.package is not None]
        records = [read_record(package.folder) for package in packages]
        self._installed = {record.origin.entry for record in records if record is not None}
        self._fill()

    @property
    def chosen(self) -> CatalogueEntry | None:
        """The model in the chosen line."""
        row = self._ui.catalogueListWidget.currentRow
        return self._shown[row] if 0 <= row < len(self._shown) else None

    def onDownloadButton(self, _checked: bool = False) -> None:
        """Ask, with the licence, and download and install the chosen model."""
        from medseg.models.adding import add_model

        entry = self.chosen
        if entry is None or entry.problem or self.task.isRunning or not self._confirm(entry):
            return
        self.status.say(_("Connecting…"))
        again = entry.name in self._installed
        self.task.start(
            lambda progress: add_model(entry.name, accept_license=True, overwrite=again, progress=progress),
            self._onDone,
        )
        self._showCard()

    def shutDown(self) -> None:
        """Stop a download; what has come is kept for the next time."""
        self.task.shutDown()

    def _confirm(self, entry: CatalogueEntry) -> bool:
        size = entry.remote.bytes
        text = _(
            "Download “{title}” from {host} ({size})?\n\nLicense: {license}\n{checksum}\n\n"
            "Pressing OK means that you have read the license and accept it."
        ).format(
            title=entry.title,
            host=urlsplit(entry.remote.addresses[0]).hostname,
            size=memoryText(size) if size else _("size not published"),
            license=entry.license,
            checksum=entry.checksum_text,
        )
        details = "\n".join(part for part in (entry.license_url, entry.remarks, entry.remote.addresses[0]) if part)
        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=_("Download a model"), detailedText=details))

    def _onDone(self, package: ModelPackage | None, error: Exception | None) -> None:
        if package is None:
            self.status.failWith(error)
        else:
            self.status.finish(self._onInstalledModel(package))
        self.update()
        self._showCard()

    def _onSearch(self, _text: str) -> None:
        self._fill()

    def _onRow(self, _row: int) -> None:
        self._showCard()

    def _onCollapsed(self, isCollapsed: bool) -> None:
        if not isCollapsed:
            self.update()

    def _fill(self) -> None:
        chosen = self.chosen
        words = self._ui.catalogueSearchBox.text
        self._shown = [entry for entry in self._entries if entry.matches(words)]
        listWidget = self._ui.catalogueListWidget
        wasBlocked = listWidget.blockSignals(True)
        listWidget.clear()
        for entry in self._shown:
            state = _(" (installed)") if entry.name in self._installed else ""
            listWidget.addItem(f"{entry.title}{state}")
            listWidget.item(listWidget.count - 1).setToolTip(entry.description)
        names = [entry.name for entry in self._shown]
        listWidget.setCurrentRow(names.index(chosen.name) if chosen is not None and chosen.name in names else -1)
        listWidget.blockSignals(wasBlocked)
        self._showCard()

    def _showCard(self) -> None:
        entry = self.chosen
        label, button = self._ui.catalogueCardLabel, self._ui.downloadModelButton
        label.text = "" if entry is None else entryHtml(entry)
        label.setVisible(entry is not None)
        button.setVisible(not self.task.isRunning)
        button.enabled = entry is not None and not entry.problem
        isInstalled = entry is not None and entry.name in self._installed
        button.text = _("Download again…") if isInstalled else _("Download…")
        button.toolTip = entry.problem if entry is not None else _("Choose a model of the list first.")


def entryHtml(entry: CatalogueEntry) -> str:
    """Return the card of a model that can be downloaded."""
    structures = list(entry.structures[:MAXIMUM_STRUCTURES])
    more = entry.structure_count - len(structures)
    if more > 0:
        structures.append(_("and {count} more").format(count=more))
    size = entry.remote.bytes
    license_ = _link(entry.license_url, entry.license)
    if entry.is_restricted:
        license_ += " " + escape(_("(read it: it may forbid what you have in mind)"))
    rows = [
        (_("Input"), escape(", ".join(entry.modalities))),
        (_("Structures"), escape(", ".join(structures))),
        (_("License"), license_),
        (_("Size"), escape(memoryText(size) if size else _("not published"))),
        (_("Checksum"), escape(entry.checksum_text)),
        (_("Remark"), escape(" ".join(part for part in (entry.problem, entry.remarks) if part))),
        (_("Source"), _link(entry.homepage, urlsplit(entry.homepage).netloc)),
        (_("Citation"), escape(entry.citation)),
    ]
    return f"<b>{escape(entry.title)}</b> {escape(entry.version)}<br>{escape(entry.description)}{cardTable(rows)}"


def _link(address: str, text: str) -> str:
    return f'<a href="{escape(address)}">{escape(text)}</a>' if address else escape(text)
