"""A picture of a segmentation for a report or a README: three slices with outlines, a surface view, the volumes.

Nothing heavy is imported here; matplotlib (the extra ``preview``) is loaded by :func:`draw_preview`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import MedSegError

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.volumes import Volume

__all__ = ["check_preview", "draw_preview"]


def check_preview() -> None:
    """Raise :class:`~medseg.errors.MedSegError` when the package that draws previews is not installed."""
    try:
        import matplotlib  # noqa: F401, ICN001
    except ImportError as error:
        raise MedSegError(
            "A preview needs the Python package matplotlib, which is not installed.",
            advice='Run: python -m pip install "medseg[preview]"',
        ) from error


def draw_preview(image: Volume, labelmap: Volume, labels: LabelTable, path: str | Path) -> None:
    """Write one PNG (1440 x 1080 pixels) that shows ``labelmap`` on ``image``.

    It has an axial, a coronal and a sagittal slice, each through the largest cross-section of the segments, with the
    outlines of the labels in their colours, the anatomical directions and a scale bar; a shaded surface view; and a
    legend with names and millilitres.

    Parameters
    ----------
    image
        Intensities, (k, j, i), any orientation and spacing.
    labelmap
        Integer labels on the same grid; 0 is background.
    labels
        Names and colours. A value of ``labelmap`` that is not in the table is drawn in grey.
    path
        The PNG file; it appears whole or not at all.

    Raises
    ------
    GeometryError
        When the two volumes do not share one grid.
    MedSegError
        When matplotlib is not installed.
    WriteError
        When the file cannot be written.
    """
    check_preview()
    from medseg.preview.figure import write_figure

    write_figure(image, labelmap, labels, path)
