"""The effect MedSeg: a radiologist points at what is missing or too much, and the selected segment follows."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from SegmentEditorMedSegLib.gestures import BOX, LASSO, POINTING, Stroke

_logger = logging.getLogger(__name__)

_POLL_MILLISECONDS = 10
"""An answer takes a few tenths of a second: the panel's slower look would be felt."""

_KEYS = {"p": "positive", "n": "negative", "c": POINTING, "o": BOX, "l": LASSO}
_CURSOR_TIP = 8
"""Pixel of the cursor's pictures, from the left and the top, that points."""
_OBLIQUE = 0.02
"""A view is oblique when its plane is turned by more than this, as a sine."""


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """See the module's help. Slicer makes one for its list and one for each editor."""

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.name = "MedSeg"
        scriptedEffect.title = _("MedSeg")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.options: Any = None
        self.correction: Any = None
        self._display: Any = None
        self._strokeDisplay: Any = None
        self._stroke: Stroke | None = None
        self._strokeView: Any = None
        self._poller: Any = None
        self._isPolling = False
        self._shortcuts: list[tuple[Any, Any]] = []
        self._observations: list[tuple[Any, int]] = []
        self._observed: Any = None
        self._lookTimer: Any = None
        self._cursors: dict[str, bool] = {}

    def clone(self) -> Any:
        """Slicer: return a new scripted effect of this kind."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(str(Path(__file__)).replace("\\", "/"))
        return cloned

    def icon(self) -> Any:
        """Slicer: return the icon of the effect's button."""
        path = Path(__file__).with_suffix(".png")
        return qt.QIcon(str(path)) if path.exists() else qt.QIcon()

    def helpText(self) -> str:
        """Slicer: return what is shown when the effect is chosen (HTML)."""
        return _(
            "<html>Correct the selected segment, or begin it, by pointing at it in the slice views: a model or a "
            "helper follows, and only inside a box around the prompt.<p><ul style='margin: 0'>"
            "<li><b>Left click:</b> a point that belongs to the segment (Add) or does not (Remove)."
            "<li><b>Left drag:</b> a scribble, a box or a lasso."
            "<li><b>Ctrl:</b> Remove instead of Add for this one, and the reverse."
            "<li><b>P, N:</b> Add, Remove; <b>C, O, L:</b> point and scribble, box, lasso."
            "<li>Points can be moved and deleted; those after them are followed again. Ctrl+Z takes the last one back."
            "</ul></html>"
        )

    # --- life

    def setupOptionsFrame(self) -> None:
        """Slicer: make the options, once."""
        from SegmentEditorMedSegLib.effectOptions import EffectOptions

        self.options = EffectOptions(self.scriptedEffect, self._onTakeBack, self._onStartAnew)
        self.scriptedEffect.addOptionsWidget(self.options.widget)
        self._showState()

    def setMRMLDefaults(self) -> None:
        """Slicer: give the parameters their first values; also after a scene was closed."""
        from SegmentEditorMedSegLib.effectOptions import DEFAULTS

        for name, value in DEFAULTS.items():
            self.scriptedEffect.setParameterDefault(name, value)

    def activate(self) -> None:
        """Slicer: the user has chosen the effect."""
        from MedSegLib.background import Poller
        from MedSegLib.workerAccess import sharedWorker
        from SegmentEditorMedSegLib.correction import SegmentCorrection
        from SegmentEditorMedSegLib.effectOptions import WITHOUT_MODEL
        from SegmentEditorMedSegLib.promptDisplay import PromptDisplay
        from SegmentEditorMedSegLib.strokeDisplay import StrokeDisplay

        self._poller = Poller(_POLL_MILLISECONDS)
        self._isPolling = False
        self._display = PromptDisplay(self._onPointMoved, self._onPointRemoved)
        self._strokeDisplay = StrokeDisplay(self.scriptedEffect)
        self.correction = SegmentCorrection(
            self.scriptedEffect, sharedWorker().readyClient, self._showState, self._onFinished
        )
        self._lookTimer = qt.QTimer()
        self._lookTimer.setSingleShot(True)
        self._lookTimer.setInterval(0)
        self._lookTimer.connect("timeout()", self._onLook)
        self._cursors = {}
        self._installShortcuts()
        self._observe(self.scriptedEffect.parameterSetNode(), vtk.vtkCommand.ModifiedEvent)
        self._followSegmentation()
        self._say("")
        if not self.options.lookForModels() and self.options.settings().tool == WITHOUT_MODEL:
            self._say(_("No model that follows prompts is installed; the segment grows from what you point at."))
        self.options.show()
        self.correction.lookAgain(self.options.settings())
        self._warmUp()

    def deactivate(self) -> None:
        """Slicer: another effect was chosen, or the editor is left."""
        for shortcut, function in self._shortcuts:
            shortcut.disconnect("activated()", function)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
        for node, tag in self._observations:
            node.RemoveObserver(tag)
        self._observations, self._observed = [], None
        if self._lookTimer is not None:
            self._lookTimer.stop()
            self._lookTimer.disconnect("timeout()", self._onLook)
            self._lookTimer = None
        self._endStroke()
        job = None if self.correction is None else self.correction.job
        if self.correction is not None:
            self.correction.forget()
            self.correction = None
        if self._display is not None:
            self._display.remove()
            self._display = None
        if self._poller is not None:
            self._letEnd(self._poller, job)
            self._poller = None

    def _letEnd(self, poller: Any, job: Any) -> None:
        """Close a poller when a cancelled job is over: the client's threads, which cancel it, need the time."""
        poller.remove(self._poll)

        def look() -> None:
            if job is None or job.state not in ("queued", "running"):
                poller.close()

        if job is None:
            poller.close()
        else:
            poller.add(look)

    def cleanup(self) -> None:
        """Slicer: the editor is going."""
        self.deactivate()
        AbstractScriptedSegmentEditorEffect.cleanup(self)

    def sourceVolumeNodeChanged(self) -> None:
        """Slicer: another source volume was chosen; also told while the effect is not active."""
        self._lookSoon()

    def updateGUIFromMRML(self) -> None:
        """Slicer: a parameter of an effect has changed."""
        if self.options is not None:
            self.options.show()

    def updateMRMLFromGUI(self) -> None:
        """Slicer: the options write their parameters themselves."""

    # --- the mouse and the keys

    def createCursor(self, _widget: Any) -> Any:
        """Slicer: return the cursor over a view: a cross with a plus or a minus."""
        return _cursor(self.options is None or self.options.isPositive)

    def _showCursor(self, viewWidget: Any, positive: bool) -> None:
        """Show at the cursor of a view whether a press adds or removes."""
        name = viewWidget.mrmlSliceNode().GetName()
        if self._cursors.get(name) != positive:
            self._cursors[name] = positive
            viewWidget.sliceView().setViewCursor(_cursor(positive))

    def processInteractionEvents(self, callerInteractor: Any, eventId: int, viewWidget: Any) -> bool:
        """Slicer: something happened in a view; return whether nobody else is to see it."""
        if self.correction is None or viewWidget.className() != "qMRMLSliceWidget":
            return False
        place = tuple(int(number) for number in callerInteractor.GetEventPosition()[:2])
        self._showCursor(viewWidget, self._isPositiveNow(callerInteractor))
        if eventId in (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.LeftButtonDoubleClickEvent):
            return self._press(callerInteractor, viewWidget, place)
        if self._stroke is not None and viewWidget == self._strokeView:
            if eventId == vtk.vtkCommand.MouseMoveEvent:
                self._stroke.move(place)
                self._strokeDisplay.show(viewWidget, self._stroke.outline, positive=self._stroke.positive)
                return True
            if eventId == vtk.vtkCommand.LeftButtonReleaseEvent:
                self._release(viewWidget, place)
                return True
        if eventId == vtk.vtkCommand.KeyPressEvent and not callerInteractor.GetControlKey():
            return self._choose(_KEYS.get(str(callerInteractor.GetKeySym() or "").lower(), ""))
        return False

    def _press(self, interactor: Any, viewWidget: Any, place: tuple[int, int]) -> bool:
        # Shift and Alt are the views' own; a press on a point of a prompt is meant for the point.
        if interactor.GetShiftKey() or interactor.GetAltKey() or self._isOnPoint(viewWidget, place):
            return False
        if self.scriptedEffect.confirmCurrentSegmentVisible() != self.scriptedEffect.ConfirmedWithoutDialog:
            return True
        self._stroke = Stroke(self.options.shape, self._isPositiveNow(interactor), [place])
        self._strokeView = viewWidget
        return True

    def _isPositiveNow(self, interactor: Any) -> bool:
        return bool(self.options.isPositive != bool(interactor.GetControlKey()))

    def _release(self, viewWidget: Any, place: tuple[int, int]) -> None:
        stroke = self._stroke
        assert stroke is not None
        stroke.move(place)
        self._endStroke()
        if stroke.kind is None:
            self._say(_("Drag to draw a box or a lasso."))
            return
        world = np.array([self.xyToRas(list(xy), viewWidget) for xy in stroke.corners()], np.float64)
        if stroke.kind == "box" and self._isOblique(viewWidget):
            self._say(_("A box is drawn in an axial, sagittal or coronal view: this one is turned."))
            return
        self.addPrompt(stroke.kind, world, stroke.positive, self._normalOf(viewWidget))

    def addPrompt(self, kind: str, world: np.ndarray, positive: bool = True, normal: np.ndarray | None = None) -> None:
        """Follow a prompt, as if it was drawn; for scripts too.

        Parameters
        ----------
        kind
            "point", "scribble", "box" or "lasso".
        world
            Its places (N, 3), RAS mm.
        normal
            (3,), RAS, that of the slice view; ``None``: not drawn in one.
        """

        def add() -> None:
            settings = self.options.settings()
            if normal is not None:
                settings = dataclasses.replace(settings, plane=self.correction.planeAcross(world[0], normal))
            self.correction.add(kind, world, positive, settings)

        self._attempt(add)

    def _endStroke(self) -> None:
        self._stroke, self._strokeView = None, None
        if self._strokeDisplay is not None:
            self._strokeDisplay.hide()

    def _isOnPoint(self, viewWidget: Any, place: tuple[int, int]) -> bool:
        millimetres = self.scriptedEffect.viewNode(viewWidget).GetFieldOfView()[0]
        pixels = max(self.scriptedEffect.viewNode(viewWidget).GetDimensions()[0], 1)
        return self._display.isNear(np.array(self.xyToRas(list(place), viewWidget)), pixels / max(millimetres, 1e-6))

    def _normalOf(self, viewWidget: Any) -> np.ndarray:
        matrix = self.scriptedEffect.viewNode(viewWidget).GetSliceToRAS()
        return np.array([matrix.GetElement(row, 2) for row in range(3)])

    def _isOblique(self, viewWidget: Any) -> bool:
        # A box lies along the axes of the segmentation, which may be turned against the world.
        from medseg.mrml.points import points_in_frame

        matrix = self.scriptedEffect.viewNode(viewWidget).GetSliceToRAS()
        axes = np.array([[matrix.GetElement(row, column) for row in range(3)] for column in range(2)])
        editor = self.scriptedEffect.parameterSetNode()
        origin, *ends = points_in_frame(np.vstack([np.zeros(3), axes]), editor.GetSegmentationNode())
        turned = [np.sort(np.abs(end - origin) / np.linalg.norm(end - origin))[1] for end in ends]
        return bool(max(turned) > _OBLIQUE)

    def _choose(self, what: str) -> bool:
        if self.options is None or not what:
            return False
        if what in ("positive", "negative"):
            self.options.setPositive(what == "positive")
        else:
            self.options.setShape(what)
        self.options.show()
        return True

    def _installShortcuts(self) -> None:
        mainWindow = slicer.util.mainWindow()
        if mainWindow is None:
            return
        for key, what in _KEYS.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), mainWindow)

            def choose(what: str = what) -> None:
                self._choose(what)

            shortcut.connect("activated()", choose)
            self._shortcuts.append((shortcut, choose))

    # --- answers

    def _attempt(self, ask: Any) -> None:
        """Ask for a correction, and wait for it without keeping the application."""
        from medseg.errors import MedSegError

        try:
            self._ensureReady()
            ask()
        except MedSegError as error:
            self._say(str(error))
        except Exception as error:
            _logger.exception("The effect MedSeg has a defect")
            self._say(_("MedSeg has a defect: {error!r}. Please report it.").format(error=error))
        if self.correction.isRunning and not self._isPolling:
            self._isPolling = True
            self._poller.add(self._poll)
        self._showState()

    def _ensureReady(self) -> None:
        """Have what the worker needs installed, after asking the user, when it is missing."""
        from MedSegLib import dependencies

        folder = Path(dependencies.__file__).resolve().parents[1]
        dependencies.ensureInstalled(folder / "Resources" / "requirements.txt")

    def _warmUp(self) -> None:
        """Let the worker load what it needs before the first click, if it can be done without asking anything."""
        from medseg.errors import MedSegError
        from MedSegLib import dependencies
        from MedSegLib.workerAccess import sharedWorker

        if not dependencies.missingPackages():
            with contextlib.suppress(MedSegError):
                sharedWorker().readyClient().start()

    def _poll(self) -> None:
        try:
            isRunning = self.correction is not None and self.correction.poll()
        except Exception as error:
            _logger.exception("The effect MedSeg has a defect")
            self._say(_("MedSeg has a defect: {error!r}. Please report it.").format(error=error))
            isRunning = False
            self._showState()
        if not isRunning and self._poller is not None:
            self._isPolling = False
            self._poller.remove(self._poll)

    def _onFinished(self, sentence: str) -> None:
        self._say(sentence)

    def _onPointMoved(self, number: int, world: np.ndarray) -> None:
        self._attempt(lambda: self.correction.move(number, world, self.options.settings()))

    def _onPointRemoved(self, number: int) -> None:
        self._attempt(lambda: self.correction.removeAt(number, self.options.settings()))

    def _onTakeBack(self) -> None:
        # Unlike the editor's undo it goes back to the first prompt, however many there are.
        if self.correction is not None and self.correction.prompts:
            self._onPointRemoved(len(self.correction.prompts) - 1)

    def _onStartAnew(self) -> None:
        if self.correction is not None:
            self.correction.startAnew()

    # --- what may change around it

    def _observe(self, node: Any, event: int) -> None:
        if node is not None:
            self._observations.append((node, node.AddObserver(event, self._onSceneChanged)))

    def _followSegmentation(self) -> None:
        """Observe the segmentation that is edited now: the editor's undo shows there only."""
        editor = self.scriptedEffect.parameterSetNode()
        node = None if editor is None else editor.GetSegmentationNode()
        if node is not self._observed:
            for observed, tag in [pair for pair in self._observations if pair[0] is self._observed]:
                observed.RemoveObserver(tag)
                self._observations.remove((observed, tag))
            self._observed = node
            for event in (slicer.vtkSegmentation.SegmentModified, slicer.vtkSegmentation.SourceRepresentationModified):
                self._observe(node, event)

    def _onSceneChanged(self, _caller: Any, _event: Any) -> None:
        self._lookSoon()

    def _lookSoon(self) -> None:
        # The editor reports states that are not finished; it is looked at when it has done its work.
        if self._lookTimer is not None:
            self._lookTimer.start()

    def _onLook(self) -> None:
        if self.correction is not None:
            self._followSegmentation()
            self.correction.lookAgain(self.options.settings())

    # --- what is shown

    def _say(self, sentence: str) -> None:
        if self.options is not None:
            self.options.ui.statusLabel.text = sentence
            self.options.ui.statusLabel.setVisible(bool(sentence))

    def _showState(self) -> None:
        correction = self.correction
        if self.options is None:
            return
        prompts = [] if correction is None else correction.promptsInWorld()
        self.options.ui.promptsLabel.text = self._stateText(len(prompts))
        for button in (self.options.ui.takeBackButton, self.options.ui.startAnewButton):
            button.enabled = bool(prompts) and not correction.isRunning
        if correction is not None and self._display is not None and not correction.isRunning:
            self._display.show(prompts)
            editor = self.scriptedEffect.parameterSetNode()
            segmentationNode = None if editor is None else editor.GetSegmentationNode()
            if correction.geometry is not None and segmentationNode is not None:
                transformID = segmentationNode.GetTransformNodeID()
                self._display.showRegion(correction.lastRegion if prompts else None, correction.geometry, transformID)

    def _stateText(self, count: int) -> str:
        correction = self.correction
        if correction is None:
            return ""
        if correction.isRunning:
            return _("Following…")
        if not count:
            return _("Point at what belongs to the segment.")
        text = _("1 prompt") if count == 1 else _("{count} prompts").format(count=count)
        region, geometry = correction.lastRegion, correction.geometry
        if region is None or geometry is None:
            return text + "."
        sizes = " x ".join(f"{n * step:.0f}" for n, step in zip(region.shape[::-1], geometry.spacing, strict=True))
        return _("{prompts}; the last one could change {sizes} mm, and took {seconds:.1f} s.").format(
            prompts=text, sizes=sizes, seconds=correction.lastSeconds
        )


def _cursor(positive: bool) -> Any:
    picture = Path(__file__).with_name("cursorAdd.png" if positive else "cursorRemove.png")
    return qt.QCursor(qt.QPixmap(str(picture)), _CURSOR_TIP, _CURSOR_TIP)
