"""The figures of a transform, before and after, as a table node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.mrml.hierarchy import place_beside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIGURE_COLUMN, BEFORE_COLUMN, AFTER_COLUMN = "Figure", "Before", "After"

Row = tuple[str, float | None, float | None]


def rows_to_table(rows: Sequence[Row], scene: Any, name: str, *, volume_node: Any = None) -> Any:
    """Write figures into a new table node: what, before, after; empty where there is nothing.

    Parameters
    ----------
    rows
        See :func:`figure_rows`.
    volume_node
        The table is put beside it in the subject hierarchy.

    Returns
    -------
    vtkMRMLTableNode
        Three columns of text: the figures are of several kinds and units, and what is not known is empty.
    """
    import vtk

    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    modified = node.StartModify()
    try:
        for column, (title, description) in enumerate(
            (
                (FIGURE_COLUMN, "What was measured"),
                (BEFORE_COLUMN, "How it was without the result"),
                (AFTER_COLUMN, "How it is with the result"),
            )
        ):
            array = vtk.vtkStringArray()
            array.SetName(title)
            for row in rows:
                value = row[column]
                array.InsertNextValue(value if isinstance(value, str) else "" if value is None else f"{value:.4g}")
            node.AddColumn(array)
            node.SetColumnDescription(title, description)
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
    finally:
        node.EndModify(modified)
    place_beside(node, volume_node)
    return node


def figure_rows(figures: Mapping[str, Any], names: Mapping[int, str]) -> list[Row]:
    """Return (what, before, after) for each figure that is known.

    Parameters
    ----------
    figures
        :attr:`medseg.backend.encoding_registration.Registered.figures`.
    names
        Of the structures, by label value.
    """
    rows: list[Row] = [
        ("Correlation", figures.get("correlation_before"), figures.get("correlation_after")),
        ("Mutual information", figures.get("information_before"), figures.get("information_after")),
    ]
    overlap = figures.get("overlap")
    if overlap:
        rows += [
            ("Mean Dice", overlap["mean_dice_before"], overlap["mean_dice_after"]),
            ("Mean HD95 [mm]", None, overlap["mean_hd95_mm"]),
        ]
        rows += [
            (f"Dice {names.get(int(value), value)}", label["dice_before"], label["dice_after"])
            for value, label in figures["labels"].items()
        ]
    before, after = figures.get("landmarks_before"), figures.get("landmarks_after")
    if before and after:
        rows += [
            ("Landmarks apart, mean [mm]", before["mean_mm"], after["mean_mm"]),
            ("Landmarks apart, largest [mm]", before["largest_mm"], after["largest_mm"]),
        ]
    rows += _rows_of_deformation(figures.get("deformation"))
    rows.append(("Inverse off by up to [mm]", None, figures.get("inverse_error_mm")))
    return [row for row in rows if row[1] is not None or row[2] is not None]


def smoothing_rows(figures: Mapping[str, Any]) -> list[Row]:
    """Return (what, before, after) for the figures of a transform that was smoothed."""
    before, after = (_rows_of_deformation(figures[side]) for side in ("before", "after"))
    return [(one[0], one[2], other[2]) for one, other in zip(before, after, strict=True)]


def _rows_of_deformation(deformation: Mapping[str, Any] | None) -> list[Row]:
    if not deformation:
        return []
    share = deformation["folded_share"]
    return [
        ("Folded voxels [%]", None, None if share is None else 100 * share),
        ("SD of log Jacobian", None, deformation["std_log_jacobian"]),
        ("Smallest Jacobian", None, deformation["smallest_jacobian"]),
        ("Largest Jacobian", None, deformation["largest_jacobian"]),
    ]
