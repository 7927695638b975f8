"""The live curve of a loss, drawn into a label."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSegLib.curvePicture import LOSS_COLOR, Curve, Plot, drawPlots, pictureWidth

if TYPE_CHECKING:
    from collections.abc import Sequence

DRAW_SECONDS = 0.4
"""The picture is drawn on the main thread, so not at every step."""

_MARGIN = 0.08
"""Room above and below the curve, as a share of its height."""


class LossCurve:
    """Shows the losses of a refinement, the oldest first."""

    def __init__(self, picture: Any) -> None:
        self._picture = picture
        self._drawn: tuple[int, int] = (0, 0)
        self._lastDrawn = 0.0
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self._drawn = (0, 0)
        self._picture.clear()
        self._picture.setVisible(False)

    def update(self, losses: Sequence[float | None], *, now: bool = False) -> None:
        """Show the losses so far; ``now`` also when the last picture is hardly older.

        A missing loss ends a curve: what comes after it is compared with what comes after it alone.
        """
        pieces = _pieces(losses)
        state = (len(losses), pictureWidth(self._picture))
        isNew = state != self._drawn and bool(pieces)
        if not isNew or not (now or time.monotonic() - self._lastDrawn >= DRAW_SECONDS):
            return
        self._drawn, self._lastDrawn = state, time.monotonic()
        values = [loss for piece in pieces for _step, loss in piece]
        low, high = min(values), max(values)
        room = _MARGIN * (high - low) or 0.5 * abs(low) or 1.0
        title = _("Loss {last:.4f}, best {best:.4f}").format(
            last=values[-1], best=min(loss for _step, loss in pieces[-1])
        )
        curves = [Curve(LOSS_COLOR, piece) for piece in pieces]
        plot = Plot(title, curves, high + room, low - room, _("Iteration"))
        self._picture.setPixmap(drawPlots([plot], state[1]))
        self._picture.setVisible(True)


def _pieces(losses: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """Return the (iteration, loss) of each unbroken part."""
    pieces: list[list[tuple[float, float]]] = [[]]
    step = 0
    for loss in losses:
        if loss is None:
            pieces.append([])
        else:
            step += 1
            pieces[-1].append((float(step), loss))
    return [piece for piece in pieces if piece]
