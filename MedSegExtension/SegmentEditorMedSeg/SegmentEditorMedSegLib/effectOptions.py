"""The options of the effect: widgets to parameters of the editor and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from SegmentEditorMedSegLib.gestures import BOX, LASSO, POINTING, SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from SegmentEditorMedSegLib.correction import Settings

DEFAULTS: dict[str, Any] = {
    "Positive": 1,
    "Shape": POINTING,
    "Tool": "",
    "Model": "",
    "RegionMm": 0,
    "KeepOthers": 1,
    "ReachMm": 0,
}
"""The parameters in the Segment Editor's node, with the values that they have at first; no tool: what there is."""

WITH_MODEL, WITHOUT_MODEL = "network", "fast-marching"
"""The tool at first, with a model that follows prompts and without one."""


class EffectOptions:
    """Widgets that show and set the parameters of the effect.

    Parameters
    ----------
    effect
        The scripted effect.
    onTakeBack, onStartAnew
        Called when the user wants the last prompt to be taken back, and all to be forgotten.
    """

    def __init__(self, effect: Any, onTakeBack: Callable[[], None], onStartAnew: Callable[[], None]) -> None:
        from medseg.correction.pipeline import TOOLS

        self._effect = effect
        self.widget = slicer.util.loadUI(str(Path(__file__).with_name("options.ui")))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._shapes = {POINTING: self.ui.pointingButton, BOX: self.ui.boxButton, LASSO: self.ui.lassoButton}
        self._tools = list(TOOLS)
        names = toolNames()
        for tool in self._tools:
            self.ui.toolComboBox.addItem(names.get(tool, tool))
        self._isShowing = False
        self._usualTool = WITH_MODEL
        for button in (self.ui.positiveButton, self.ui.negativeButton, *self._shapes.values()):
            button.connect("clicked(bool)", self._onChanged)
        self.ui.keepOthersCheckBox.connect("toggled(bool)", self._onChanged)
        self.ui.toolComboBox.connect("currentIndexChanged(int)", self._onToolChosen)
        self.ui.regionSpinBox.connect("valueChanged(double)", self._onChanged)
        self.ui.reachSpinBox.connect("valueChanged(double)", self._onChanged)
        self._onTakeBack, self._onStartAnew = onTakeBack, onStartAnew
        self.ui.takeBackButton.connect("clicked(bool)", self._onTakeBackClicked)
        self.ui.startAnewButton.connect("clicked(bool)", self._onStartAnewClicked)

    def setDefaults(self) -> None:
        """Give the parameters the values that they have at first, where they have none."""
        for name, value in DEFAULTS.items():
            self._effect.setParameterDefault(name, value)

    def lookForModels(self) -> bool:
        """See whether there is a model that follows prompts in volumes, for the tool at first; return that."""
        from medseg.models import ModelLibrary
        from medseg.models.correction import CORRECT, is_flat

        hasModel = any(not is_flat(package.window) for package in ModelLibrary().packages(CORRECT))
        self._usualTool = WITH_MODEL if hasModel else WITHOUT_MODEL
        return hasModel

    def settings(self) -> Settings:
        """Return how prompts are to be followed."""
        from SegmentEditorMedSegLib.correction import Settings

        tool = self._text("Tool")
        return Settings(
            model=self._text("Model"),
            tool=tool if tool in self._tools else self._usualTool,
            regionMm=float(self._text("RegionMm") or 0),
            keepOthers=self._text("KeepOthers") != "0",
            reachMm=float(self._text("ReachMm") or 0),
        )

    @property
    def isPositive(self) -> bool:
        """Whether what is pointed at belongs to the segment."""
        return self._text("Positive") != "0"

    @property
    def shape(self) -> str:
        """What a drag draws."""
        shape = self._text("Shape")
        return shape if shape in SHAPES else POINTING

    def setPositive(self, positive: bool) -> None:
        """Choose whether what is pointed at belongs to the segment."""
        self._effect.setParameter("Positive", 1 if positive else 0)

    def setShape(self, shape: str) -> None:
        """Choose what a drag draws."""
        self._effect.setParameter("Shape", shape)

    def show(self) -> None:
        """Bring the widgets in line with the parameters."""
        from SegmentEditorMedSegLib.correction import SLICE

        self._isShowing = True
        try:
            # Of two buttons that exclude each other, only checking one has an effect.
            (self.ui.positiveButton if self.isPositive else self.ui.negativeButton).checked = True
            self._shapes[self.shape].checked = True
            settings = self.settings()
            self.ui.toolComboBox.setCurrentIndex(self._tools.index(settings.tool))
            self.ui.regionSpinBox.value = settings.regionMm
            self.ui.keepOthersCheckBox.checked = settings.keepOthers
            self.ui.reachSpinBox.value = settings.reachMm
            for widget in (self.ui.reachLabel, self.ui.reachSpinBox):
                widget.setVisible(settings.tool == SLICE)
        finally:
            self._isShowing = False

    def _onChanged(self, _value: Any = None) -> None:
        if self._isShowing or self._effect.parameterSetNode() is None:
            return
        shape = next((name for name, button in self._shapes.items() if button.checked), POINTING)
        for name, value in (
            ("Positive", 1 if self.ui.positiveButton.checked else 0),
            ("Shape", shape),
            ("RegionMm", int(self.ui.regionSpinBox.value)),
            ("KeepOthers", 1 if self.ui.keepOthersCheckBox.checked else 0),
            ("ReachMm", int(self.ui.reachSpinBox.value)),
        ):
            self._effect.setParameter(name, value)

    def _onToolChosen(self, index: int) -> None:
        if not self._isShowing and self._effect.parameterSetNode() is not None and index >= 0:
            self._effect.setParameter("Tool", self._tools[index])

    def _onTakeBackClicked(self, _checked: bool = False) -> None:
        self._onTakeBack()

    def _onStartAnewClicked(self, _checked: bool = False) -> None:
        self._onStartAnew()

    def _text(self, name: str) -> str:
        if self._effect.parameterSetNode() is None or not self._effect.parameterDefined(name):
            return str(DEFAULTS[name])
        return str(self._effect.parameter(name))


def toolNames() -> dict[str, str]:
    """Return what the tools are called."""
    return {
        "network": _("A model that follows prompts"),
        "slice": _("A model for single slices"),
        "threshold": _("Threshold"),
        "random-walker": _("Growing (random walker)"),
        "fast-marching": _("Growing (fast marching)"),
        "smooth": _("Smoothing"),
        "auto": _("What suits the image"),
    }
