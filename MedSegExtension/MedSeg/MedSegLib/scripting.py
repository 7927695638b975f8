"""Runs without the panel, for scripts: begin, wait, and give what came out or raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from MedSegLib.background import Poller, waitUntil
from MedSegLib.runController import RunController

if TYPE_CHECKING:
    from MedSegLib.jobRun import Outcome


def outcomeOf(request: Any) -> Outcome:
    """Do what a request asks for (see ``RunController.start``) and wait for it; Slicer stays alive meanwhile.

    Raises
    ------
    MedSegError
        When the request cannot be begun or the run does not end as "done"; a sentence for the user.
    """
    from medseg.errors import MedSegError

    outcomes: list[Outcome] = []
    poller = Poller()
    controller = RunController(poller, lambda _run: None, outcomes.append)
    try:
        controller.start(request)
        waitUntil(lambda: bool(outcomes))
    finally:
        controller.shutDown()
        poller.close()
    if outcomes[0].state != "done":
        raise MedSegError(outcomes[0].sentence)
    return outcomes[0]
