"""Correcting through a worker: warm from prompt to prompt, and none the worse when the worker forgets everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.backend import WorkerClient
from medseg.backend.correction_client import CorrectionSession
from medseg.backend.encoding import decode_answer
from medseg.backend.encoding_correction import Corrected
from medseg.backend.prepared import PreparedVolume
from medseg.backend.verbs import VERBS, Task, WarmModels
from medseg.backend.verbs_correction import NO_MODEL, WarmSessions
from medseg.correction.prompts import Prompt
from medseg.errors import Cancelled, InputError, ModelError
from medseg.progress import NO_PROGRESS, Progress
from medseg.volumes import Geometry, Volume
from support.correction import write_clicks_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from medseg.backend.job import Job

GRID = Geometry.from_spacing((20, 40, 40), (1.0, 1.0, 2.0))
VOLUME = Volume(np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32), GRID, name="Doe^Jane")


def a_segment() -> np.ndarray:
    mask = np.zeros(GRID.shape, np.uint8)
    mask[6:14, 12:28, 12:28] = 1
    return mask


def point(k: int, j: int, i: int, *, positive: bool = True) -> Prompt:
    return Prompt("point", GRID.ijk_to_ras_points(np.array([i, j, k], float)), positive)


CLICKS = [point(9, 20, 20), point(10, 14, 14, positive=False), point(4, 30, 30)]


@pytest.fixture(scope="module")
def a_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clicks_package(tmp_path_factory.mktemp("model") / "any-structure")


class Caller:
    """Asks the verb itself, in this process, and keeps a segment as a panel would."""

    def __init__(self, model: Path, sessions: WarmSessions | None = None) -> None:
        self.mask, self.sessions, self.model = a_segment(), sessions or WarmSessions(), model

    def ask(
        self, given: Sequence[Prompt], since: int = 0, *, progress: Progress = NO_PROGRESS, **changes: Any
    ) -> Corrected:
        options = {
            "inputs": ["volume", "segment"], "prompts": [prompt.to_dict() for prompt in given],
            "since": since, "options": {"device": "cpu", "region_mm": 30.0}, **changes,
        }  # fmt: skip
        volumes = [VOLUME, VOLUME.with_array(a_segment())]
        task = Task(
            str(self.model), options, volumes, WarmModels(), progress, addresses=("v", "s"), sessions=self.sessions
        )
        found = decode_answer(bytearray(b"".join(VERBS["correct"](task).chunks())))
        assert isinstance(found, Corrected)
        self.mask[found.slices] = found.part
        return found


def test_the_answer_is_the_part_that_may_have_changed(a_model: Path) -> None:
    caller = Caller(a_model)
    found = caller.ask(CLICKS[:1])
    (box,) = found.boxes
    assert box == (found.start, tuple(np.add(found.start, found.part.shape)))
    assert found.model["name"] == "any-structure"
    assert caller.mask[9, 20, 20] == 1
    low, high = found.bounds_ras
    assert np.allclose(np.subtract(high, low), np.array(found.part.shape[::-1]) * GRID.spacing)
    again = caller.ask(CLICKS[:1], since=1)
    assert again.part.shape == (1, 1, 1), "nothing is new"


def test_a_worker_that_forgot_everything_gives_the_same(a_model: Path) -> None:
    warm, cold = Caller(a_model), Caller(a_model)
    for count in range(1, len(CLICKS) + 1):
        warm.ask(CLICKS[:count], since=count - 1)
        cold.sessions = WarmSessions()
        cold.ask(CLICKS[:count], since=count - 1)
    assert np.array_equal(warm.mask, cold.mask)


def test_planes_of_prompts_and_the_reach_come_to_the_worker(tmp_path: Path) -> None:
    caller = Caller(write_clicks_package(tmp_path / "any-slice", flat=True))
    options = {"device": "cpu", "tool": "slice", "plane": "coronal", "reach_mm": 0.0}
    given = [CLICKS[0], Prompt("point", CLICKS[2].ras, plane="sagittal")]
    found = caller.ask(given, options=options)
    assert (found.tool, found.model["name"]) == ("slice", "any-slice")
    shapes = [tuple(np.subtract(stop, start)) for start, stop in found.boxes]
    assert [shape.index(1) for shape in shapes] == [1, 2]
    further = caller.ask(given[:1], options={**options, "reach_mm": 3.0})
    (start, stop) = further.boxes[0]
    assert start[1] >= 20 - 3
    assert stop[1] <= 20 + 4
    assert caller.mask[9, 20, 20] == 1


def test_the_box_that_the_caller_names_is_in_the_answer(a_model: Path) -> None:
    caller = Caller(a_model)
    caller.ask(CLICKS)
    fewer = Caller(a_model)
    fewer.ask(CLICKS[:1])
    found = caller.ask(CLICKS[:1], since=1, include=[[0, 0, 0], list(GRID.shape)])
    assert found.part.shape == GRID.shape
    assert np.array_equal(caller.mask, fewer.mask)


def test_sessions_are_told_apart_and_the_oldest_leaves(a_model: Path) -> None:
    caller = Caller(a_model, WarmSessions(limit=2))
    for edge in (20.0, 30.0, 40.0):
        caller.ask(CLICKS[:1], options={"device": "cpu", "region_mm": edge})
    assert len(caller.sessions._sessions) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": ["segment", "allowed"]}, "Correcting takes a volume"),
        ({"inputs": ["volume"]}, "Correcting takes a volume"),
        ({"include": [[0, 0, 0], [99, 1, 1]]}, "beyond the volume"),
        ({"include": [[0, 0], [1, 1]]}, "not two voxels"),
        ({"options": {"region_mm": -3}}, "region in which"),
        ({"options": {"colour": 1}}, "no option colour"),
        ({"options": {"tool": "magic"}}, "no tool 'magic'"),
        ({"prompts": [{"type": "point", "ras": [1, 2]}]}, "Prompt 1 cannot be used"),
        ({"prompts": [{"type": "point", "ras": [900, 2, 3]}]}, "outside of the volume"),
        ({"since": -1}, "followed already"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(a_model: Path, changes: dict[str, Any], words: str) -> None:
    caller = Caller(a_model)
    with pytest.raises(InputError, match=words):
        caller.ask([], **{"prompts": [click.to_dict() for click in CLICKS[:1]], **changes})


def test_a_model_of_another_verb_is_refused(a_model: Path) -> None:
    caller = Caller(a_model)
    caller.model = a_model / "nowhere"
    with pytest.raises(ModelError, match="no model"):
        caller.ask(CLICKS[:1])


def test_a_cancelled_correction_goes_on_later_where_it_was(a_model: Path) -> None:
    sessions = WarmSessions()
    caller = Caller(a_model, sessions)
    looks = iter([False, False, True])
    with pytest.raises(Cancelled):
        caller.ask(CLICKS, progress=Progress(cancelled=lambda: next(looks, True)))
    assert len(next(iter(sessions._sessions.values())).prompts) == 1
    fresh = Caller(a_model)
    fresh.ask(CLICKS)
    caller.ask(CLICKS)
    assert np.array_equal(caller.mask, fresh.mask)


# --- through a worker


@pytest.fixture(scope="module")
def a_client() -> Iterator[WorkerClient]:
    client = WorkerClient()
    yield client
    client.stop()


def finished(job: Job) -> Any:
    assert job.wait(120)
    return job.result()


def a_session(client: WorkerClient, model: Path) -> CorrectionSession:
    return CorrectionSession(
        client, PreparedVolume(VOLUME), PreparedVolume(VOLUME.with_array(a_segment())), model=str(model),
        options={"device": "cpu", "region_mm": 30.0},
    )  # fmt: skip


def follow(session: CorrectionSession, mask: np.ndarray, prompts: Sequence[Prompt]) -> None:
    result = finished(session.submit(prompts))
    mask[result.slices] = result.part
    session.accept(result, prompts)


def test_a_panel_that_takes_back_moves_and_deletes_has_what_the_prompts_make(
    a_client: WorkerClient, a_model: Path
) -> None:
    session, mask, steps = a_session(a_client, a_model), a_segment(), []
    for count in range(1, 4):
        follow(session, mask, CLICKS[:count])
        steps.append(mask.copy())
    follow(session, mask, CLICKS[:1])
    assert np.array_equal(mask, steps[0])
    follow(session, mask, CLICKS)
    assert np.array_equal(mask, steps[2])
    follow(session, mask, [])
    assert np.array_equal(mask, a_segment()), "back at the start, to the voxel"
    moved = [CLICKS[0], point(11, 15, 14, positive=False)]
    follow(session, mask, CLICKS[:2])
    follow(session, mask, moved)
    fresh, expected = a_session(a_client, a_model), a_segment()
    follow(fresh, expected, moved)
    assert np.array_equal(mask, expected)
    assert session.prompts == moved


def test_a_worker_killed_between_two_prompts_is_not_noticed(a_model: Path) -> None:
    client = WorkerClient()
    try:
        session, mask = a_session(client, a_model), a_segment()
        follow(session, mask, CLICKS[:2])
        client.stop()
        follow(session, mask, CLICKS)
    finally:
        client.stop()
    caller = Caller(a_model)
    for count in (2, 3):
        caller.ask(CLICKS[:count], since=count - 2)
    assert np.array_equal(mask, caller.mask)


def test_a_volume_of_many_jobs_is_packed_once(a_client: WorkerClient, a_model: Path) -> None:
    made = []

    def segment() -> Volume:
        made.append(1)
        return VOLUME.with_array(a_segment())

    session = a_session(a_client, a_model)
    session.segment = PreparedVolume(segment)
    for count in (1, 2):
        follow(session, a_segment(), CLICKS[:count])
    assert made == [1]


def test_without_a_model_the_sentence_says_so(a_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_RESOURCES", str(a_model.parent.parent))
    caller = Caller(a_model)
    caller.model = NO_MODEL
    with pytest.raises(InputError, match="No model that follows clicks"):
        caller.ask(CLICKS[:1])
