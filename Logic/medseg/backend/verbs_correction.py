"""The verb that corrects a segment by prompts: a request is complete by itself, and cheap when it follows another.

A request says which segment it began with and all prompts since; so it does not matter whether this process still
knows the session (a worker that was ended, a prompt that was taken back, moved or deleted). What it knows it does not
do again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.backend.encoding_correction import Corrected, encode_corrected
from medseg.device import choose_device
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from medseg.backend.encoding import Parcel
    from medseg.backend.verbs import Task
    from medseg.correction.pipeline import CorrectionOptions
    from medseg.correction.region import Region
    from medseg.correction.session import Corrector
    from medseg.models import ModelPackage
    from medseg.volumes import Volume

INPUTS = ("volume", "segment", "allowed")
"""What the volumes of a request can be."""
NO_MODEL = "correct"
"""What a request names for the default model, or for a tool that needs none."""

WARM_SESSIONS = 2


@dataclass
class WarmSessions:
    """The last few sessions; the least recently used leaves first."""

    limit: int = WARM_SESSIONS
    _sessions: OrderedDict[Hashable, Corrector] = field(default_factory=OrderedDict)

    def get(self, key: Hashable, make: Callable[[], Corrector]) -> Corrector:
        """Return the session of this key, made if there is none."""
        if key not in self._sessions:
            while len(self._sessions) >= self.limit:
                self._sessions.popitem(last=False)
            self._sessions[key] = make()
        self._sessions.move_to_end(key)
        return self._sessions[key]


@dataclass(frozen=True)
class CorrectRequest:
    """The options of the verb ``correct``.

    Attributes
    ----------
    inputs
        What the volumes are, each once: :data:`INPUTS`. Without "segment" it begins from nothing; without "allowed"
        every voxel may be changed.
    prompts
        All of them since the segment was what it is, in order, as :meth:`medseg.correction.prompts.Prompt.to_dict`.
    since
        How many of these prompts, from the first on, the caller's segment holds already: the answer holds what the
        others may have changed.
    include
        A box, first and last + 1 voxel (k, j, i), that the answer holds too: what prompts that are not wanted any more
        may have changed in the caller's segment.
    options
        Those of :class:`medseg.correction.pipeline.CorrectionOptions`.
    """

    inputs: Sequence[str] = ("volume",)
    prompts: Sequence[dict[str, Any]] = ()
    since: int = 0
    include: Sequence[Sequence[int]] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def correct_verb(task: Task) -> Parcel:
    """Correct a segment (:class:`medseg.correction.session.Corrector`); the answer is what may have changed.

    Raises
    ------
    InputError
        When the volumes are not those, or a prompt cannot be followed: the earlier ones have been, and the next request
        goes on from there.
    """
    from medseg.backend.verbs import make_options
    from medseg.correction.pipeline import MODEL_TOOLS, CorrectionOptions, tool_used
    from medseg.correction.prompts import prompts_from

    request = make_options(CorrectRequest, task.options)
    options = make_options(CorrectionOptions, dict(request.options))
    volumes = _named(request, task)
    prompts = prompts_from(list(request.prompts))
    work, package = _session(task, request, options, volumes)
    volume = volumes["volume"]
    include = _box(request.include, volume)
    if type(request.since) is not int or request.since < 0:
        raise InputError("The prompts that are followed already are a whole number.", advice="Give their count.")
    start = time.perf_counter()
    work.follow(prompts, task.progress)
    seconds = time.perf_counter() - start
    region = _answered(work.regions[request.since :], include)
    low, high = region.bounds_ras(volume.geometry)
    tool = tool_used(work.tool, options)
    package = package if tool in MODEL_TOOLS else None
    result = Corrected(
        start=region.start,
        part=work.mask[region.slices],
        bounds_ras=(low, high),
        boxes=tuple((box.start, box.stop) for box in work.regions),
        seconds=seconds,
        tool=tool,
        device=choose_device(options.device).device if package is not None else "cpu",
        model={}
        if package is None
        else {"name": package.name, "version": package.version, "weights_sha256": package.weights_sha256},
    )
    return encode_corrected(result, volume.geometry.cropped(region.start, region.stop))


def _named(request: CorrectRequest, task: Task) -> dict[str, Volume]:
    names = [str(name) for name in request.inputs]
    fits = set(names) <= set(INPUTS) and len(set(names)) == len(names) == len(task.volumes) and "volume" in names
    if not fits:
        raise InputError(
            "Correcting takes a volume, and perhaps a segment and where it may be changed.",
            advice=f"Name each volume in the option inputs: {', '.join(INPUTS)}.",
        )
    volumes = dict(zip(names, task.volumes, strict=True))
    for volume in volumes.values():
        if not volume.geometry.is_close(volumes["volume"].geometry):
            raise InputError(
                "The segment lies on another grid than the volume.",
                advice="Resample it to the volume, or choose the volume that it was drawn on.",
            )
    return volumes


def _session(
    task: Task, request: CorrectRequest, options: CorrectionOptions, volumes: dict[str, Volume]
) -> tuple[Corrector, ModelPackage | None]:
    from medseg.correction.pipeline import make_tool, package_for
    from medseg.correction.session import Corrector

    package = package_for(options, None if task.model == NO_MODEL else task.model)

    def make() -> Corrector:
        task.progress.update(0.0, "Looking at the volume")
        volume = volumes["volume"]
        mask = volumes["segment"].array > 0 if "segment" in volumes else np.zeros(volume.shape, bool)
        allowed = volumes["allowed"].array > 0 if "allowed" in volumes else None
        network = None if package is None else task.models.get(package)
        return Corrector(make_tool(volume, options, package, network), volume, mask, allowed=allowed)

    weights = None if package is None else (str(package.folder), package.weights_sha256)
    key = (weights, options, tuple(request.inputs), task.addresses)
    return task.sessions.get(key, make), package


def _box(given: Sequence[Sequence[int]] | None, volume: Volume) -> Region | None:
    from medseg.correction.region import Region

    if given is None:
        return None
    try:
        start, stop = ([int(index) for index in corner] for corner in given)
        region = Region((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        fits = min(start) >= 0 and all(end <= size for end, size in zip(stop, volume.shape, strict=True))
    except (TypeError, ValueError, IndexError) as error:
        raise InputError("The box of the answer is not two voxels.", advice="Give its first and last + 1.") from error
    if not fits:
        raise InputError("The box of the answer reaches beyond the volume.", advice="Give one that lies in it.")
    return region


def _answered(regions: Sequence[Region], region: Region | None) -> Region:
    from medseg.correction.region import Region

    for one in regions:
        region = one.joined(region)
    # An answer has at least one voxel, which then is as it was.
    return region or Region((0, 0, 0), (1, 1, 1))
