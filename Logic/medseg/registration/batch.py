"""One pair after the other: what each registration reports, which ones are done, and all of them in one table."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.files import atomic_path
from medseg.progress import NO_PROGRESS, Progress
from medseg.registration.pipeline import register
from medseg.registration.quality import inverse_consistency
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from medseg.registration.pairs import Pair, PairFiles
    from medseg.registration.pipeline import RegistrationOptions, RegistrationResult

Status = Literal["done", "skipped", "failed"]

FIGURES: dict[str, tuple[str, ...]] = {
    "correlation_before": ("quality", "correlation_before"),
    "correlation_after": ("quality", "correlation_after"),
    "information_before": ("quality", "information_before"),
    "information_after": ("quality", "information_after"),
    "dice_before": ("quality", "overlap", "mean_dice_before"),
    "dice_after": ("quality", "overlap", "mean_dice_after"),
    "dice_worst": ("quality", "overlap", "worst_dice_after"),
    "hd95_mm": ("quality", "overlap", "mean_hd95_mm"),
    "tre_before_mm": ("quality", "landmarks_before", "mean_mm"),
    "tre_after_mm": ("quality", "landmarks_after", "mean_mm"),
    "tre_worst_mm": ("quality", "landmarks_after", "worst_mm"),
    "folded_share": ("quality", "deformation", "folded_share"),
    "std_log_jacobian": ("quality", "deformation", "std_log_jacobian"),
    "seconds": ("total_seconds",),
}
"""Columns of the summary, and where a report has them."""


@dataclass(frozen=True)
class Outcome:
    """What became of a pair: its figures (NaN where there are none), or the sentence that says why it failed."""

    name: str
    status: Status
    figures: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


def register_pair(
    pair: Pair,
    options: RegistrationOptions,
    *,
    landmarks_measure_only: bool = False,
    network: nn.Module | None = None,
    progress: Progress = NO_PROGRESS,
) -> RegistrationResult:
    """Register a pair with all that it has.

    Parameters
    ----------
    landmarks_measure_only
        Keep the landmarks from the registration, so that their error says how good it is. Without it they are where
        the alignment begins, too.
    network
        That of the model, when it is loaded already.

    Raises
    ------
    InputError
        As :func:`medseg.registration.register`.
    """
    start = None if landmarks_measure_only else pair.landmarks
    result = register(
        pair.fixed,
        pair.moving,
        dataclasses.replace(options, landmarks=start),
        fixed_mask=pair.fixed_mask,
        moving_mask=pair.moving_mask,
        fixed_labels=pair.fixed_labels,
        moving_labels=pair.moving_labels,
        network=network,
        progress=progress,
    )
    if start is not None or pair.landmarks is None:
        return result
    return dataclasses.replace(result, quality=result.quality.with_landmarks(result.transform, *pair.landmarks))


def report_of(
    files: PairFiles,
    pair: Pair,
    result: RegistrationResult,
    settings: Mapping[str, Any],
    *,
    outputs: Iterable[Path] = (),
) -> dict[str, Any]:
    """Return the report of a registration, for :func:`medseg.registration.write_report`.

    ``files`` (by their column), ``method``, ``settings``, ``quality`` (:meth:`~medseg.registration.Quality.to_dict`),
    ``inverse_consistency`` (of the written inverse, else ``None``), ``matrix`` (linear part, 4x4, RAS mm), ``start``
    (what the deformation began with), ``similarity`` (what it compared), ``losses``, ``seconds`` and their sum,
    ``notices``, ``outputs`` (the names of the files that are written with it), ``version``.
    """
    consistency = None
    if result.inverse is not None:
        found = inverse_consistency(result.transform, result.inverse, pair.fixed.geometry, pair.moving.geometry)
        consistency = found._asdict()
    return {
        "version": VERSION,
        "name": pair.name,
        "files": _told(files),
        "method": settings.get("method"),
        "settings": dict(settings),
        "quality": result.quality.to_dict(),
        "inverse_consistency": consistency,
        "matrix": result.alignment.matrix.tolist(),
        "start": result.start,
        "similarity": result.similarity or None,
        "losses": list(result.losses),
        "seconds": dict(result.timings),
        "total_seconds": sum(result.timings.values()),
        "notices": list(result.notices),
        "outputs": [path.name for path in outputs],
    }


def figures_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a report that the summary shows, NaN where it has none."""
    return {column: _found(report, place) for column, place in FIGURES.items()}


def finished_report(
    path: Path, files: PairFiles, settings: Mapping[str, Any], outputs: Iterable[Path]
) -> dict[str, Any] | None:
    """Return the report of a pair that need not be registered again, else ``None``.

    That is one whose report was written of the same files with the same settings, after these files changed last, and
    with it all the outputs, which are still there. (A file of that name may be of an earlier run with other settings.)
    """
    wanted = list(outputs)
    try:
        written = path.stat().st_mtime
        report = json.loads(path.read_text(encoding="utf-8"))
        newest = max(changed_at(one) for one in files.paths.values())
    except (OSError, ValueError):
        return None
    if not isinstance(report, dict) or not all(output.is_file() for output in wanted):
        return None
    if not {output.name for output in wanted} <= set(report.get("outputs", ())):
        return None
    same = report.get("files") == _told(files) and report.get("settings") == json.loads(json.dumps(dict(settings)))
    return report if same and newest <= written else None


def changed_at(path: Path) -> float:
    """Return when a file, or a folder or any file in it, changed last, as ``st_mtime``."""
    if not path.is_dir():
        return path.stat().st_mtime
    return max(one.stat().st_mtime for one in (path, *path.iterdir()))


def write_summary(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write one line for each pair as CSV: its name, status and figures, and why it failed."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("name", "status", *FIGURES, "message"))
        for one in outcomes:
            values = [one.figures.get(column, math.nan) for column in FIGURES]
            cells = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
            writer.writerow((one.name, one.status, *cells, one.message))


def mean_figures(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """Return the mean of each figure over the pairs that have it."""
    rows = [one.figures for one in outcomes if one.status != "failed"]
    means = {}
    for column in FIGURES:
        known = [value for row in rows if not math.isnan(value := row.get(column, math.nan))]
        if known:
            means[column] = float(np.mean(known))
    return means


def _found(report: Mapping[str, Any], place: Sequence[str]) -> float:
    value: Any = report
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, (int, float)) else math.nan


def _told(files: PairFiles) -> dict[str, str]:
    return {column: str(path.resolve()) for column, path in files.paths.items()}
