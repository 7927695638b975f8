"""The searchable list of the models that segment, and the card of the chosen one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSegLib.modelCard import brokenCardHtml, cardHtml

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.models import ModelPackage


@dataclass(frozen=True)
class Entry:
    """A line of the list: a model that can be read, or a folder that cannot, with the reason."""

    name: str
    title: str
    package: ModelPackage | None
    problem: str = ""

    @property
    def registers(self) -> bool:
        """Whether it is a model of the tab "Register"."""
        from medseg.models.registration import REGISTER

        return self.package is not None and self.package.verb == REGISTER

    def matches(self, words: str) -> bool:
        """Whether every typed word occurs in the model's name, anatomy, modality, description or structures."""
        if self.package is not None:
            return bool(self.package.matches(words))
        return all(word in self.name.casefold() for word in words.casefold().split())


class ModelList:
    """Fills the widgets of the section "Model" and tells which model is chosen.

    The chosen name is kept when a search hides it, so that typing does not change the parameters; only choosing
    another line does.
    """

    def __init__(self, ui: Any, onChosen: Callable[[str], None]) -> None:
        self._ui = ui
        self._onChosen = onChosen
        self._entries: list[Entry] = []
        self._shown: list[Entry] = []
        self._name = ""
        ui.modelSearchBox.connect("textChanged(QString)", self._onSearch)
        ui.modelListWidget.connect("currentRowChanged(int)", self._onRow)

    @property
    def chosen(self) -> Entry | None:
        """The chosen model, or None when there is none of that name here."""
        return next((entry for entry in self._segmenting if entry.name == self._name), None)

    @property
    def entries(self) -> list[Entry]:
        """All models, whatever they do, also those that cannot be read."""
        return list(self._entries)

    @property
    def packages(self) -> list[ModelPackage]:
        """The models that segment and can be read."""
        return [entry.package for entry in self._segmenting if entry.package is not None]

    @property
    def registering(self) -> list[ModelPackage]:
        """The models that register."""
        return [entry.package for entry in self._entries if entry.registers and entry.package is not None]

    @property
    def _segmenting(self) -> list[Entry]:
        return [entry for entry in self._entries if not entry.registers]

    def reload(self) -> None:
        """Read the folders of models again."""
        from medseg.models import ModelLibrary

        library = ModelLibrary()
        self._entries = [Entry(package.name, package.title, package) for package in library.packages()]
        known = {entry.name for entry in self._entries}
        self._entries += [
            Entry(folder.name, folder.name, None, str(error))
            for folder, error in library.broken()
            if folder.name not in known
        ]
        self._fill()

    def firstUsable(self) -> str:
        """Return the name of the first model that can be run, empty when there is none."""
        return next((package.name for package in self.packages), "")

    def choose(self, name: str) -> None:
        """Show ``name`` as chosen, without telling anybody; an unknown name is shown as such."""
        if name != self._name:
            self._name = name
            self._fill()

    def _onSearch(self, _text: str) -> None:
        self._fill()

    def _onRow(self, row: int) -> None:
        if 0 <= row < len(self._shown) and self._shown[row].name != self._name:
            self._name = self._shown[row].name
            self._showCard()
            self._onChosen(self._name)

    def _fill(self) -> None:
        words = self._ui.modelSearchBox.text
        self._shown = [entry for entry in self._segmenting if entry.matches(words)]
        listWidget = self._ui.modelListWidget
        wasBlocked = listWidget.blockSignals(True)
        listWidget.clear()
        for entry in self._shown:
            self._addItem(entry)
        names = [entry.name for entry in self._shown]
        listWidget.setCurrentRow(names.index(self._name) if self._name in names else -1)
        listWidget.blockSignals(wasBlocked)
        self._showCard()

    def _addItem(self, entry: Entry) -> None:
        if entry.package is None:
            text, toolTip = _("{title} (cannot be used)").format(title=entry.title), entry.problem
        else:
            words = re.findall(r"\w+", entry.title)
            modalities = ", ".join(name for name in entry.package.modalities if name not in words)
            text = f"{entry.title} ({modalities})" if modalities else entry.title
            toolTip = entry.package.description
        listWidget = self._ui.modelListWidget
        listWidget.addItem(text)
        listWidget.item(listWidget.count - 1).setToolTip(toolTip)

    def _showCard(self) -> None:
        entry = self.chosen
        if entry is None and self._name:
            html = brokenCardHtml(self._name, _("It is not installed here. Choose another model."))
        elif entry is None:
            html = _("No model is installed.") if not self._segmenting else _("Choose a model.")
        elif entry.package is None:
            html = brokenCardHtml(entry.title, entry.problem)
        else:
            html = cardHtml(entry.package)
        self._ui.modelCardLabel.text = html
