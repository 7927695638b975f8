"""The text of ``report.html``."""

from __future__ import annotations

import base64
import importlib.metadata
import math
import platform
from datetime import datetime, timezone
from html import escape
from typing import TYPE_CHECKING, Any

from medseg.training.evaluation import case_scores, figures, mean_of_means
from medseg.training.report.pictures import curves
from medseg.training.report.style import STYLE
from medseg.training.setup import RECIPE_TEXT
from medseg.training.summary import LABEL_HEAD, data_rows, label_rows
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.training.evaluation import Spread
    from medseg.training.report import Report, ReportTable
    from medseg.training.run_files import RunState

_PACKAGES = ("torch", "monai", "lightning", "numpy", "SimpleITK")


def page(
    report: Report,
    *,
    progress: Sequence[Mapping[str, Any]],
    state: RunState | None,
    seconds: float,
    pictures: Sequence[tuple[str, bytes]],
) -> str:
    """Return the page as HTML; pictures are embedded, nothing is fetched from anywhere.

    Parameters
    ----------
    progress, state
        What the run has written of itself.
    seconds
        Since the run was started this time.
    pictures
        PNG files of cases with their titles.
    """
    about = report.recipe.package
    sections = [
        _header(report, state),
        _cards(report, progress, seconds),
        _section("Accuracy on the cases kept aside", _accuracy(report, progress)),
        *(_section(table.title, _further(table)) for table in report.tables),
        _section("Worst cases", _pictures(pictures)),
        _section("Curves", _image(curves(progress, report.labels), "Curves of the run") if progress else ""),
        _section("Data", _data(report)),
        _section("Recipe and software", _details(report)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(about.title)} – training report</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _header(report: Report, state: RunState | None) -> str:
    about = report.recipe.package
    word = "finished" if report.package else (state.state if state else "running")
    now = datetime.now(timezone.utc)
    return (
        f'<h1>{escape(about.title)}<span class="state {word}">{word}</span></h1>'
        f'<p class="sub">Training report of the model {escape(about.name)}, version {escape(about.version)}. '
        f"Written {now:%Y-%m-%d %H:%M} UTC by MedSeg {VERSION}. Research software, not for diagnosis.</p>"
    )


def _cards(report: Report, progress: Sequence[Mapping[str, Any]], seconds: float) -> str:
    epochs = [entry for entry in progress if entry.get("kind") == "epoch"]
    cards: list[tuple[str, str]] = []
    structures = figures(report.results, report.labels)
    if structures:
        overlap, surface, distance = mean_of_means(structures)
        tolerance = report.tolerance_mm
        cards += [
            (_number(overlap, 3), "mean Dice"),
            (_number(min(one.dice.worst for one in structures), 3), "worst Dice of a structure in a case"),
            (_number(surface, 3), f"mean surface Dice at {tolerance:g} mm"),
            (_number(distance, 1, " mm"), "mean HD95"),
        ]
    if epochs:
        cards.append((f"{epochs[-1]['epoch']} of {report.recipe.optimisation.epochs}", "epochs"))
    trained = (epochs[-1].get("total_seconds") or 0.0) if epochs else 0.0
    cards.append((_duration(max(trained, seconds)), "in all"))
    shown = "".join(f'<div class="card"><b>{value}</b><span>{escape(what)}</span></div>' for value, what in cards)
    return f'<div class="cards">{shown}</div>'


def _accuracy(report: Report, progress: Sequence[Mapping[str, Any]]) -> str:
    structures = figures(report.results, report.labels)
    if not structures:
        return _interim(report, progress)
    tolerance = report.tolerance_mm
    head = ["Structure", "Cases", "Dice", "worst", f"Surface Dice ({tolerance:g} mm)", "worst", "HD95 (mm)", "worst"]
    colors = {label.name: label.color_hex for label in report.labels}
    rows = [
        [
            _dot(colors[one.label]) + escape(one.label),
            str(one.cases),
            _spread(one.dice, 3),
            _number(one.dice.worst, 3),
            _spread(one.surface_dice, 3),
            _number(one.surface_dice.worst, 3),
            _spread(one.hd95_mm, 1),
            _number(one.hd95_mm.worst, 1),
        ]
        for one in structures
    ]
    overlap, surface, distance = mean_of_means(structures)
    mean = ["Mean over structures", "", _number(overlap, 3), "", _number(surface, 3), "", _number(distance, 1), ""]
    table = _table(head, rows, last=mean if len(structures) > 1 else None)
    missed = [f"{escape(one.label)} in {one.undefined}" for one in structures if one.undefined]
    note = (
        "Mean ± standard deviation over cases, at the images' own resolution, with the exported model as it is run in "
        "use. Structures that are not annotated in a case are left out there."
    )
    if missed:
        note += f" Not found, or found where there is none (no HD95): {', '.join(missed)} cases."
    return f'{table}<p class="note">{note}</p>{_every_case(report)}'


def _every_case(report: Report) -> str:
    names = [label.name for label in report.labels if any(result.label == label.name for result in report.results)]
    dice = {(result.case, result.label): result.dice for result in report.results}
    rows = [
        [escape(case), _number(score, 3), *(_number(dice.get((case, name), math.nan), 3) for name in names)]
        for case, score in case_scores(report.results).items()
    ]
    head = ["Case", "Mean Dice", *names]
    return f"<details><summary>Dice of every case, the worst first</summary>{_table(head, rows)}</details>"


def _interim(report: Report, progress: Sequence[Mapping[str, Any]]) -> str:
    validated = [entry for entry in progress if entry.get("dice_per_label")]
    if not validated:
        return ""
    last = validated[-1]
    rows = []
    for label in report.labels:
        value = last["dice_per_label"].get(str(label.value))
        rows.append([_dot(label.color_hex) + escape(label.name), "–" if value is None else f"{value:.3f}"])
    note = f"After epoch {last['epoch']}, on the network's grid; the figures of the finished model follow at the end."
    return f'{_table(["Structure", "Dice"], rows)}<p class="note">{note}</p>'


def _further(table: ReportTable) -> str:
    rows = [[escape(cell) for cell in row] for row in table.rows]
    return _table(list(table.head), rows[:-1], last=rows[-1], texts=table.texts)


def _pictures(pictures: Sequence[tuple[str, bytes]]) -> str:
    if not pictures:
        return ""
    shown = [
        f"<figure><figcaption>{escape(title)}</figcaption>{_image(png, title)}</figure>" for title, png in pictures
    ]
    note = "Filled: the model. White lines: the truth. The slices go through the place where they differ most."
    return f'{"".join(shown)}<p class="note">{note}</p>'


def _data(report: Report) -> str:
    if not report.facts:
        return ""
    facts = _table(["", ""], [[escape(name), escape(text)] for name, text in data_rows(report.facts)], numbers=False)
    labels = _table(
        list(LABEL_HEAD), [[escape(cell) for cell in row] for row in label_rows(report.facts, report.labels)]
    )
    return f"{facts}<br>{labels}"


def _details(report: Report) -> str:
    try:
        recipe = (report.output / RECIPE_TEXT).read_text(encoding="utf-8")
    except OSError:
        recipe = ""
    versions = [("MedSeg", VERSION), ("Python", platform.python_version()), ("System", platform.platform())]
    versions += [(name, installed(name)) for name in _PACKAGES]
    text = ", ".join(f"{name} {version}" for name, version in versions)
    return f"<p>{escape(text)}.</p><details><summary>The recipe</summary><pre>{escape(recipe)}</pre></details>"


def installed(name: str) -> str:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    last: Sequence[str] | None = None,
    numbers: bool = True,
    texts: int = 1,
) -> str:
    """Return a table; cells are HTML, and all but those of the first ``texts`` columns are numbers."""

    def line(cells: Sequence[str], tag: str, kind: str = "") -> str:
        classes = ["" if place < texts or not numbers else ' class="n"' for place in range(len(cells))]
        body = "".join(f"<{tag}{css}>{cell}</{tag}>" for cell, css in zip(cells, classes, strict=True))
        return f"<tr{kind}>{body}</tr>"

    lines = [line([escape(cell) for cell in head], "th")] if any(head) else []
    lines += [line(row, "td") for row in rows]
    if last is not None:
        lines.append(line(last, "td", ' class="mean"'))
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _image(png: bytes, title: str) -> str:
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _dot(color: str) -> str:
    return f'<span class="dot" style="background:{color}"></span>'


def _spread(spread: Spread, digits: int) -> str:
    if math.isnan(spread.mean):
        return "–"
    return f"{spread.mean:.{digits}f} ± {spread.deviation:.{digits}f}"


def _number(value: float, digits: int, unit: str = "") -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}{unit}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
