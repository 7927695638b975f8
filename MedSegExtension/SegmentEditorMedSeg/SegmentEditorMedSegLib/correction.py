"""One segment of the Segment Editor under correction: prompts go to the worker, answers into the segment.

No widgets. The editor's own undo takes answers back; that, edits by other effects, another volume and a reopened scene
are noticed here by looking at the segment before each prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from medseg.backend.correction_client import CorrectionSession, Followed
from medseg.backend.prepared import PreparedVolume
from medseg.correction.log import CorrectionLog, LoggedPrompt, digest_of
from medseg.correction.prompts import Prompt, plane_across
from medseg.correction.region import Region
from medseg.errors import InputError, MedSegError, WorkerError
from medseg.mrml.corrections import (
    aligned_volume,
    change_images,
    editable_voxels,
    mark_corrected,
    mask_of,
    save_log,
    saved_log,
)
from medseg.mrml.images import image_geometry
from medseg.mrml.points import points_in_frame, points_in_world
from SegmentEditorMedSegLib.segmentKey import isEditableByItself, keyOf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.backend import Job, WorkerClient
    from medseg.correction.prompts import Plane
    from medseg.volumes import Geometry


SLICE = "slice"
"""The tool whose prompts belong to the slices in which they were drawn."""


_KEPT_LOGS = 8


@dataclass(frozen=True)
class Settings:
    """How prompts are followed: a model (empty for the default), options of the verb, and whether others are left.

    ``plane`` is in which slices the next prompt is seen; it belongs to the prompt, and matters for the tool "slice".
    """

    model: str = ""
    tool: str = "network"
    regionMm: float = 0.0
    keepOthers: bool = True
    reachMm: float = 0.0
    plane: Plane | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of the verb "correct"."""
        options = {"tool": self.tool, "region_mm": self.regionMm or None}
        return {**options, "reach_mm": self.reachMm} if self.tool == SLICE else options


@dataclass(eq=False)
class _State:
    """What belongs to one segment while nothing else changes it."""

    key: tuple[Any, ...]
    geometry: Geometry
    volume: PreparedVolume
    allowed: np.ndarray | None
    log: CorrectionLog
    position: int
    mask: np.ndarray
    session: CorrectionSession | None = None
    sessionKey: Any = None
    earlier: list[list[LoggedPrompt]] = field(default_factory=list)
    isToBeRead: bool = False


class SegmentCorrection:
    """Follows prompts on the segment that is selected in the editor.

    Parameters
    ----------
    effect
        The scripted effect (``qSlicerSegmentEditorScriptedEffect``).
    readyClient
        Gives the worker's client; may raise a MedSegError.
    onChanged
        Called when prompts, region or state of the segment are other than before.
    onFinished
        Called with a sentence (empty when all went well) when an answer has arrived or failed.
    """

    def __init__(
        self,
        effect: Any,
        readyClient: Callable[[], WorkerClient],
        onChanged: Callable[[], None],
        onFinished: Callable[[str], None],
    ) -> None:
        self._effect, self._readyClient = effect, readyClient
        self._onChanged, self._onFinished = onChanged, onFinished
        self._state: _State | None = None
        self._job: Job | None = None
        self._wanted: list[Prompt] = []
        self._next: tuple[list[Prompt], Settings] | None = None
        self._settings = Settings()
        self._isWriting = False
        self._wasRetried = False
        self.lastRegion: Region | None = None
        self.lastSeconds = 0.0

    # --- what can be asked

    @property
    def isRunning(self) -> bool:
        """Whether an answer is awaited."""
        return self._job is not None

    @property
    def job(self) -> Job | None:
        """The job that an answer is awaited of."""
        return self._job

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts that the segment holds, in the frame of the segmentation."""
        return [] if self._state is None else self._state.log.prompts(self._state.position)

    @property
    def geometry(self) -> Geometry | None:
        """The grid on which the segment is corrected."""
        return None if self._state is None else self._state.geometry

    def promptsInWorld(self) -> list[tuple[Prompt, np.ndarray]]:
        """Return the prompts with their places (N, 3) in the world, RAS mm."""
        node = self._segmentationNode()
        return [] if node is None else [(prompt, points_in_world(prompt.ras, node)) for prompt in self.prompts]

    # --- what can be done

    def add(self, kind: str, world: np.ndarray, positive: bool, settings: Settings) -> None:
        """Follow a further prompt, once those before it are followed.

        Parameters
        ----------
        world
            Its places (N, 3), RAS mm.

        Raises
        ------
        MedSegError
            When there is nothing to correct, or the prompt cannot be used.
        """
        self._catchUp(settings)
        plane = settings.plane if settings.tool == SLICE else None
        prompt = Prompt(kind, points_in_frame(world, self._needSegmentation()), positive, plane)
        self._ask([*self._ahead(), prompt], settings)

    def planeAcross(self, world: np.ndarray, normal: np.ndarray) -> Plane:
        """Return which slices of the segmentation are nearest to a view's at a place (3,), RAS mm, by its normal (3,).

        Raises
        ------
        MedSegError
            When there is no segmentation.
        """
        ends = points_in_frame(np.stack([world, world + normal]), self._needSegmentation())
        return plane_across(ends[1] - ends[0])

    def move(self, number: int, world: np.ndarray, settings: Settings) -> None:
        """Follow all prompts again, with the point of one at another place (world, RAS mm).

        Raises
        ------
        MedSegError
            As :meth:`add`.
        """
        self._catchUp(settings)
        prompts = self._ahead()
        if number < len(prompts):
            place = points_in_frame(world[None], self._needSegmentation())
            before = prompts[number]
            prompts[number] = Prompt(before.kind, place, before.positive, before.plane)
            self._ask(prompts, settings)

    def removeAt(self, number: int, settings: Settings) -> None:
        """Follow all prompts again but one.

        Raises
        ------
        MedSegError
            As :meth:`add`.
        """
        self._catchUp(settings)
        prompts = self._ahead()
        if number < len(prompts):
            self._ask([*prompts[:number], *prompts[number + 1 :]], settings)

    def startAnew(self) -> None:
        """Take the segment as it is for the start; the prompts so far cannot be taken back one by one any more."""
        if self._state is not None and self._job is None:
            self._state.log, self._state.position = CorrectionLog(self._state.mask.copy()), 0
            self._state.session = None
            save_log(self._needSegmentation(), self._segmentID(), "")
        self.lastRegion = None
        self._onChanged()

    def lookAgain(self, settings: Settings) -> None:
        """Notice what the editor's undo, another effect or another selection has done to the segment."""
        if self._isWriting or self._job is not None:
            return
        self._settings = settings
        self._seeAgain()
        self._onChanged()

    def _seeAgain(self) -> None:
        try:
            self._catchUp(self._settings)
        except MedSegError:
            # There is no segment or no volume: nothing to show, and the next prompt says why.
            self._state = None

    def poll(self) -> bool:
        """Take an answer that has arrived; return whether one is still awaited. To be called often."""
        job = self._job
        if job is None:
            return False
        job.poll()
        if job.state in ("queued", "running"):
            return True
        self._job = None
        sentence = ""
        following, self._next = self._next, None
        try:
            if job.state == "done":
                sentence = self._write(job.result())
            elif job.state == "failed" and isinstance(job.error, WorkerError) and not self._wasRetried:
                # A worker that has ended is started again, and the request says all that it needs to know.
                self._wasRetried, self._next = True, following
                self._submit(self._wanted)
                return True
            else:
                sentence = str(job.error or _("The worker gave no reason."))
        except MedSegError as error:
            sentence, following = str(error), None
        finally:
            job.drop_result()
        if following is not None and job.state == "done":
            try:
                self._goOn(*following)
            except MedSegError as error:
                sentence = str(error)
        if self._job is None:
            # What was changed or selected meanwhile was not looked at.
            self._seeAgain()
        self._onChanged()
        self._onFinished(sentence)
        return self._job is not None

    def forget(self) -> None:
        """Await nothing any more and keep nothing: the scene, the segmentation or the effect is going."""
        if self._job is not None:
            self._job.cancel()
        self._job, self._next, self._wanted, self._state = None, None, [], None
        self.lastRegion = None

    # --- the segment and what is known of it

    def _segmentationNode(self) -> Any:
        parameterSetNode = self._effect.parameterSetNode()
        return None if parameterSetNode is None else parameterSetNode.GetSegmentationNode()

    def _needSegmentation(self) -> Any:
        node = self._segmentationNode()
        if node is None or node.GetSegmentation() is None:
            raise InputError(_("There is no segmentation to correct."), advice=_("Choose or create one above."))
        return node

    def _segmentID(self) -> str:
        node = self._needSegmentation()
        identifier = self._effect.parameterSetNode().GetSelectedSegmentID() or ""
        if node.GetSegmentation().GetSegment(identifier) is None:
            raise InputError(_("No segment is selected."), advice=_("Select one in the list, or add one."))
        return identifier

    def _key(self, keepOthers: bool) -> tuple[Any, ...]:
        """Return what must be as it was for the state to be that of the segment."""
        return keyOf(self._effect, self._needSegmentation(), self._segmentID(), keepOthers)

    def _catchUp(self, settings: Settings) -> None:
        """Bring the state in line with the segment as it is now.

        Raises
        ------
        MedSegError
            When there is no segment or no volume.
        """
        if self._job is not None:
            if self._state is None or self._key(self._settings.keepOthers) != self._state.key:
                raise InputError(
                    _("An answer for the segment as it was is awaited."), advice=_("Wait for it, then point again.")
                )
            return
        key, before = self._key(settings.keepOthers), self._state
        if before is None or before.key != key or before.isToBeRead:
            self._state = self._read(key, before)

    def _read(self, key: tuple[Any, ...], before: _State | None) -> _State:
        effect, editor = self._effect, self._effect.parameterSetNode()
        source, reference = effect.sourceVolumeImageData(), effect.referenceGeometryImage()
        if editor.GetSourceVolumeNode() is None or source is None or reference is None:
            raise InputError(
                _("There is no volume to look at."), advice=_("Choose the source volume of the segmentation.")
            )
        geometry = image_geometry(reference)
        mask = mask_of(effect.selectedSegmentLabelmap(), reference)
        allowed = editable_voxels(editor, reference, source, keep_others=key[-1])
        isSameVolume = before is not None and before.key[2] == key[2] and before.geometry == geometry
        if before is not None and isSameVolume and before.key[:2] == key[:2]:
            position = _positionIn(before, digest_of(mask))
            if position is not None and _isEqual(before.allowed, allowed):
                before.key, before.position, before.mask, before.isToBeRead = key, position, mask, False
                return before
        volume = before.volume if before is not None and isSameVolume else PreparedVolume(aligned_volume(source))
        log, position = CorrectionLog(mask.copy()), 0
        if before is None or before.key[:2] != key[:2]:
            # Another segment, or the scene was closed and opened again since.
            found = CorrectionLog.from_text(saved_log(self._needSegmentation(), self._segmentID()), mask)
            if found is not None and found[1].get("volume") == editor.GetSourceVolumeNode().GetID():
                log = found[0]
                position = log.position_of(digest_of(mask)) or 0
        return _State(key, geometry, volume, allowed, log, position, mask)

    # --- the worker

    def _ahead(self) -> list[Prompt]:
        """Return the prompts that the segment holds or will hold when all answers are here."""
        if self._next is not None:
            return list(self._next[0])
        return list(self._wanted) if self._job is not None else self.prompts

    def _ask(self, prompts: list[Prompt], settings: Settings) -> None:
        if self._job is not None:
            self._next = (prompts, settings)
            return
        self._settings, self._wasRetried = settings, False
        self._submit(prompts)

    def _goOn(self, prompts: list[Prompt], settings: Settings) -> None:
        """Follow what was asked for while an answer was awaited."""
        done = self.prompts
        self._catchUp(settings)
        if self.prompts != done:
            # Other voxels may be changed now, so the segment as it is became the start.
            prompts = prompts[len(done) :] if prompts[: len(done)] == done else []
        if prompts != self.prompts:
            self._ask(prompts, settings)

    def _submit(self, prompts: Sequence[Prompt]) -> None:
        state = self._state
        assert state is not None
        key = (self._settings.model, tuple(sorted(self._settings.options().items())))
        client = self._readyClient()
        if state.session is None or state.sessionKey != key or state.session.client is not client:
            grid = state.geometry
            state.session = CorrectionSession(
                client,
                state.volume,
                PreparedVolume(_volumeOf(state.log.start, grid)),
                None if state.allowed is None else PreparedVolume(_volumeOf(state.allowed, grid)),
                self._settings.model or None,
                self._settings.options(),
            )
            state.sessionKey = key
        state.session.followed = [
            Followed(entry.prompt, (entry.region.start, entry.region.stop))
            for entry in state.log.entries[: state.position]
        ]
        self._wanted = list(prompts)
        self._job = state.session.submit(self._wanted)

    def _write(self, result: Any) -> str:
        """Write an answer into the segment, one step of the editor's undo; return what the user should know.

        Raises
        ------
        InputError
            When the segment is not the one any more that the answer is for.
        """
        state, prompts, keepOthers = self._state, self._wanted, self._settings.keepOthers
        self._state = None  # unless it is still that of the segment
        if state is None:
            return ""
        if self._key(keepOthers) != state.key:
            raise InputError(
                _("The segment was changed meanwhile, so the answer was not written."), advice=_("Click again.")
            )
        before, after = state.mask[result.slices], result.part > 0
        reference = self._effect.referenceGeometryImage()
        added, removed = change_images(before, after, result.start, reference)
        self._isWriting = True
        try:
            if added is not None or removed is not None:
                self._effect.saveStateForUndo()
            for image, mode in (
                (removed, self._effect.ModificationModeRemove),
                (added, self._effect.ModificationModeAdd),
            ):
                if image is not None:
                    self._effect.modifySelectedSegmentByLabelmap(image, mode)
            segment = self._needSegmentation().GetSegmentation().GetSegment(self._segmentID())
            mark_corrected(segment, result.model or {"name": result.tool})
        finally:
            self._isWriting = False
        self._state = state
        state.mask[result.slices] = after
        held = state.log.prompts(state.position)
        goesOn = list(prompts[: len(held)]) == held
        if not goesOn:
            state.earlier = [*state.earlier[1 - _KEPT_LOGS :], state.log.entries]
        regions = [Region(start, stop) for start, stop in result.boxes]
        state.log.record(prompts, regions, digest_of(state.mask))
        state.position = len(prompts)
        state.key = self._key(keepOthers)
        state.isToBeRead = isEditableByItself(self._effect.parameterSetNode())
        volumeID = self._effect.parameterSetNode().GetSourceVolumeNode().GetID()
        save_log(self._needSegmentation(), self._segmentID(), state.log.to_text(volume=volumeID, tool=result.tool))
        self.lastSeconds = result.seconds
        self.lastRegion = regions[-1] if regions else None
        editor = self._effect.parameterSetNode()
        if goesOn or keepOthers or editor.GetOverwriteMode() == editor.OverwriteNone:
            return ""
        return _("What other segments lost does not come back by this; Ctrl+Z brings it back.")


def _positionIn(state: _State, digest: int) -> int | None:
    """Return how many prompts a segment holds, also of those before a point was moved or deleted."""
    position = state.log.position_of(digest, near=state.position)
    if position is not None:
        return position
    for place, entries in reversed(list(enumerate(state.earlier))):
        position = CorrectionLog(state.log.start, entries).position_of(digest)
        if position is not None:
            state.earlier, state.log.entries = state.earlier[:place], entries
            return position
    return None


def _isEqual(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _volumeOf(mask: np.ndarray, geometry: Geometry) -> Any:
    from medseg.volumes import Volume

    return Volume(mask.astype(np.uint8), geometry)
