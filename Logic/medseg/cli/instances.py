"""``medseg analyse instances`` and ``medseg analyse panoptic``: single bones in segmentations, and their agreement."""

import csv
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medseg.analysis import Panoptic
    from medseg.labels import LabelTable

SegmentationArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SEGMENTATION",
        help="A segmentation (.seg.nrrd) or a labelmap (NIfTI, NRRD, MetaImage).",
        show_default=False,
    ),
]
NamesOption = Annotated[
    Path | None,
    typer.Option("--labels", help="The names of a labelmap's values (labels.csv of a model).", show_default=False),
]


class Method(str, Enum):
    """How to split."""

    COMPONENTS = "components"
    WATERSHED = "watershed"


class Connectivity(str, Enum):
    """Neighbours of a voxel."""

    SIX = "6"
    TWENTY_SIX = "26"


def instances(
    segmentation: SegmentationArgument,
    label: Annotated[str, typer.Option("--label", "-l", help="The segment to split: its name or its label value.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A segmentation (.seg.nrrd) or a labelmap.")],
    *,
    names: NamesOption = None,
    method: Annotated[
        Method, typer.Option(help="By connection only, or also at the necks of parts that touch (watershed).")
    ] = Method.COMPONENTS,
    connectivity: Annotated[
        Connectivity, typer.Option(help="6 keeps apart what touches at an edge or a corner.")
    ] = Connectivity.SIX,
    neck: Annotated[
        float, typer.Option(help="With watershed: how much less deep a neck is than its parts, in mm.")
    ] = 3.0,
    minimum: Annotated[
        float, typer.Option(help="Remove parts of fewer mm³, unless they touch the top or bottom slice.")
    ] = 0.0,
    keep_ends: Annotated[
        bool, typer.Option(help="Keep small parts that the top or bottom of the scan may have cut.")
    ] = True,
    statistics: Annotated[Path | None, typer.Option(help="Write the volumes to this .csv file.")] = None,
) -> None:
    """Split one segment into its instances, "<segment> a", "b" and so on from the head to the feet."""
    from medseg.analysis import SplitOptions
    from medseg.cli.cases import OUTPUT_ENDINGS, Case, outputs_for
    from medseg.cli.console import Bar, remarks, results
    from medseg.cli.run import write_result
    from medseg.cli.segments import chosen_label, names_of
    from medseg.segmentation.splitting import split_segment
    from medseg.segmentation.statistics import write_statistics_csv
    from medseg.volumes import read_labelmap

    options = SplitOptions(method.value, int(connectivity.value), neck, minimum, keep_ends)
    case = Case(segmentation.name, (segmentation,))
    (target,) = outputs_for("--output", str(output), [case], OUTPUT_ENDINGS)
    tables = outputs_for("--statistics", str(statistics), [case], (".csv",)) if statistics else []
    with Bar(remarks()) as bar:
        progress = bar.start(segmentation.name)
        labelmap = read_labelmap(segmentation)
        chosen = chosen_label(label, labelmap, names_of(segmentation, names))
        result = split_segment(labelmap, chosen, options, progress=progress)
        write_result(result, target)
        for path in tables:
            write_statistics_csv(path, result.statistics)
    for notice in result.notices:
        remarks().print(f"Note: {notice}", markup=False)
    count = len(result.labels)
    results().print(f"{chosen.name}: {count} instance{'s' * (count != 1)}", markup=False)
    for path in (target, *tables):
        results().print(f"Written: {path}", markup=False)


def panoptic(
    predicted: Annotated[Path, typer.Argument(metavar="PREDICTED", help="The instances to judge.", show_default=False)],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="The true instances.", show_default=False)],
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only instances whose name begins like this, such as 'Thoracic vertebra'; may be repeated."),
    ] = None,
    labels: NamesOption = None,
    table: Annotated[Path | None, typer.Option("--csv", help="Write the table to this file too.")] = None,
) -> None:
    """Compare instances by panoptic quality with Dice (match above 0.5, one to one).

    With names in both, instances are compared in groups ("Left rib a", "Left rib b" ... are the group "Left rib") and
    pooled in the last row; without, all values are one group.
    """
    from medseg.analysis.panoptic import compare_instances, pooled
    from medseg.cli.cases import check_writable
    from medseg.cli.segments import names_of
    from medseg.files import atomic_path
    from medseg.volumes import read_labelmap

    if table is not None:
        check_writable([table])
    ours, theirs = read_labelmap(predicted), read_labelmap(truth)
    groups = _groups(names_of(predicted, labels), names_of(truth, labels), only or [])
    found = compare_instances(ours, theirs, groups)
    if groups is not None:
        found["all"] = pooled(found.values())
    rows = [_row(name, each) for name, each in found.items()]
    _print_table(rows)
    if table is not None:
        with atomic_path(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([_COLUMNS, *rows])


_COLUMNS = ("group", "pq", "sq", "rq", "true_positives", "false_positives", "false_negatives")


def _row(name: str, found: "Panoptic") -> tuple[str, ...]:
    figures = ["" if value != value else f"{value:.4f}" for value in (found.pq, found.sq, found.rq)]  # noqa: PLR0124
    counts = (found.true_positives, found.false_positives, found.false_negatives)
    return (name, *figures, *map(str, counts))


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    from medseg.cli.console import results

    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("Group")
    for heading in ("PQ", "SQ", "RQ", "Found", "Invented", "Missed"):
        shown.add_column(heading, justify="right")
    for row in rows:
        shown.add_row(*row)
    results().print(shown, soft_wrap=False)


def _groups(
    ours: "LabelTable | None", theirs: "LabelTable | None", only: list[str]
) -> dict[str, tuple[list[int], list[int]]] | None:
    """Return the instances of both by group; ``None`` when names are missing and none were asked for."""
    from medseg.analysis.naming import group_of
    from medseg.errors import InputError

    if ours is None or theirs is None:
        if only:
            raise InputError(
                "The names of the instances are not known.",
                advice="Give segmentations (.seg.nrrd), or name a table with --labels.",
            )
        return None
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for side, table in enumerate((ours, theirs)):
        for label in table:
            if only and not any(label.name.casefold().startswith(start.casefold()) for start in only):
                continue
            groups.setdefault(group_of(label.name), ([], []))[side].append(label.value)
    if not groups:
        raise InputError(f"No instance is called {' or '.join(only)}.", advice="Check the names.")
    return groups
