"""Progress and cancellation of a long computation, in one small object that is passed down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """Reports how far a computation is and stops it when the user asks.

    A computation calls :meth:`update` (or :meth:`check`) often, at least several times a second; both raise
    :class:`~medseg.errors.Cancelled` once ``cancelled`` returns true.

    >>> seen = []
    >>> progress = Progress(lambda fraction, text: seen.append((fraction, text)))
    >>> progress.part(0.5, 1.0).update(0.5, "network")
    >>> seen
    [(0.75, 'network')]
    """

    def __init__(
        self,
        report: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._report = report
        self._cancelled = cancelled

    def check(self) -> None:
        """Raise :class:`~medseg.errors.Cancelled` when the user asked to stop."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled

    def update(self, fraction: float, text: str = "") -> None:
        """Report ``fraction`` (0 to 1, clipped) and a short text; raise ``Cancelled`` when asked to stop."""
        self.check()
        if self._report is not None:
            self._report(min(max(fraction, 0.0), 1.0), text)

    def part(self, start: float, end: float) -> Progress:
        """Return a progress whose 0 to 1 is ``start`` to ``end`` of this one."""
        report = self._report
        if report is None:
            return Progress(None, self._cancelled)
        return Progress(
            lambda fraction, text: report(start + (end - start) * fraction, text),
            self._cancelled,
        )


NO_PROGRESS = Progress()
