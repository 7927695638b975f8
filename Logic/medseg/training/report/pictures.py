"""Pictures of a report and a package: cases kept aside, and the curves of the run."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.training.data import annotated_labels, translated
from medseg.volumes import read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from medseg.labels import LabelTable
    from medseg.training.pairs import Pair
    from medseg.training.recipe import Recipe

_INK, _FAINT, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_MOST_NAMED = 14
"""Labels that the legend of the Dice curves names."""


def case_picture(pair: Pair, result: Path, recipe: Recipe, labels: LabelTable) -> bytes:
    """Return a PNG of a case kept aside: the result and the truth on the image; only labels annotated in it."""
    from medseg.preview.comparison import write_comparison

    image = dataclasses.replace(read_volume(pair.image), modality=recipe.package.slots[0].modality)
    drawn, found = recipe.loss.on_image_grid(read_labelmap(pair.label), image), read_labelmap(result)
    truth = translated(drawn, recipe.data)
    annotated = annotated_labels(pair, truth, labels, recipe.data)
    found = found.with_array(np.where(np.isin(found.array, annotated), found.array, 0).astype(np.uint8))
    stream = io.BytesIO()
    # The formats of files round the grid: the three volumes share that of the image, as the checks have made sure.
    write_comparison(
        image,
        dataclasses.replace(truth, geometry=image.geometry),
        dataclasses.replace(found, geometry=image.geometry),
        labels,
        stream,
    )
    return stream.getvalue()


def package_picture(pair: Pair, result: Path, labels: LabelTable, modality: str, path: Path) -> None:
    """Write the preview of a result as the picture of a package; it does not name the case."""
    from medseg.preview import draw_preview

    image = dataclasses.replace(read_volume(pair.image), name="A case kept aside", modality=modality)
    draw_preview(image, dataclasses.replace(read_labelmap(result), geometry=image.geometry), labels, path)


def curves(progress: Sequence[Mapping[str, Any]], labels: LabelTable) -> bytes:
    """Return a PNG (1560 x 480 pixels) with the losses, the Dice of each label and the learning rate by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [entry for entry in progress if entry.get("kind") == "epoch"]
    figure = Figure(figsize=(13, 4), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    losses, dice, rate = figure.subplots(1, 3, width_ratios=[1.1, 1.1, 0.7])
    figure.subplots_adjust(left=0.035, right=0.992, bottom=0.13, top=0.92, wspace=0.2)
    _draw_losses(losses, epochs)
    _draw_dice(dice, epochs, labels)
    _style(rate, "Learning rate")
    _line(rate, epochs, [entry.get("learning_rate") for entry in epochs], color=_INK)
    rate.yaxis.set_major_formatter("{x:.2g}")
    for axes in (losses, dice, rate):
        axes.set_xlim(0.5, max((entry["epoch"] for entry in epochs), default=1) + 0.5)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _draw_losses(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    _style(axes, "Loss")
    names = dict.fromkeys(name for entry in epochs for name in entry.get("parts") or {})
    _line(axes, epochs, [entry.get("loss") for entry in epochs], color="#1f5fbf", label="training")
    _line(
        axes,
        epochs,
        [entry.get("validation_loss") for entry in epochs],
        color="#d9480f",
        label="validation",
        marker="o",
    )
    for place, name in enumerate(names):
        shade = 0.45 + 0.4 * place / max(len(names), 1)
        values = [(entry.get("parts") or {}).get(name) for entry in epochs]
        _line(axes, epochs, values, color=str(shade), label=name.replace("_", " "), linewidth=1.0, linestyle="--")
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)


def _draw_dice(axes: Axes, epochs: Sequence[Mapping[str, Any]], labels: LabelTable) -> None:
    _style(axes, "Dice of the cases kept aside, on the network's grid")
    if not any(entry.get("dice_per_label") for entry in epochs):
        axes.text(0.5, 0.5, "not validated yet", transform=axes.transAxes, ha="center", color=_FAINT)
        return
    for label in labels:
        values = [(entry.get("dice_per_label") or {}).get(str(label.value)) for entry in epochs]
        color = tuple(part / 255 for part in label.color)
        named = label.name if len(labels) <= _MOST_NAMED else None
        _line(axes, epochs, values, color=color, label=named, marker="o", markersize=3)
    if len(labels) > 1:
        means = [entry.get("validation_dice") for entry in epochs]
        _line(axes, epochs, means, color=_INK, label="mean", linewidth=2.2)
    axes.set_ylim(0.0, 1.0)
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK, loc="lower right")


def _line(axes: Axes, epochs: Sequence[Mapping[str, Any]], values: Sequence[float | None], **style: Any) -> None:
    known = [
        (entry["epoch"], value)
        for entry, value in zip(epochs, values, strict=True)
        if value is not None and math.isfinite(value)
    ]
    if known:
        axes.plot(*zip(*known, strict=True), **{"linewidth": 1.6, "markersize": 4, **style})


def _style(axes: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11, color=_INK, loc="left")
    axes.set_xlabel("epoch", fontsize=9, color=_FAINT)
    axes.grid(visible=True, color=_GRID, linewidth=0.8)
    axes.tick_params(labelsize=9, colors=_FAINT, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GRID)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
