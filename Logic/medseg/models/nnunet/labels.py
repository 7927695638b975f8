"""The labels of a ``dataset.json``: what a network's channels mean, and the names and codes of the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, ModelError
from medseg.labels import LabelTable, named_label

if TYPE_CHECKING:
    from medseg.models.fields import Fields

_IGNORE, _BACKGROUND = "ignore", "background"
_MOST_LABELS = 4096


@dataclass(frozen=True)
class Classes:
    """What the channels of a network's output are.

    Attributes
    ----------
    channels
        Their number.
    regions
        For regions, the value that each channel writes, in this order; empty for classes that exclude each other.
    table
        Names, colours and codes of the values.
    """

    channels: int
    regions: tuple[int, ...]
    table: LabelTable


def read_classes(dataset: Fields) -> Classes:
    """Return the classes or regions of a data set; its label for what is to be ignored in training is left out.

    Raises
    ------
    ModelError
        When they are not numbered as nnU-Net numbers them.
    """
    labels = dataset.object("labels")
    given = {_readable(str(name)): _values(labels, str(name)) for name in labels.data if str(name).lower() != _IGNORE}
    if given.pop(_BACKGROUND, None) != (0,):
        raise labels.fail(_BACKGROUND, "0")
    try:
        if any(len(values) > 1 for values in given.values()):
            return _regions(dataset, {name: values for name, values in given.items() if set(values) != {0}})
        return _classes(labels, given)
    except InputError as error:
        raise ModelError(f"{error.message} ({labels.where})", advice=error.advice) from error


def _classes(labels: Fields, given: dict[str, tuple[int, ...]]) -> Classes:
    # nnU-Net writes the number of the channel, and channels are in the order of the values.
    ordered = sorted(given, key=lambda name: given[name])
    if not ordered or len({given[name] for name in ordered}) < len(ordered):
        raise ModelError(
            f"{labels.where} lists no structure, or two of one value.", advice="Ask the author for a corrected model."
        )
    table = LabelTable([named_label(index, name) for index, name in enumerate(ordered, start=1)])
    return Classes(len(ordered) + 1, (), table)


def _regions(dataset: Fields, given: dict[str, tuple[int, ...]]) -> Classes:
    order = dataset.data.get("regions_class_order")
    whole = isinstance(order, list) and all(isinstance(value, int) and 0 <= value <= 65535 for value in order)
    if not isinstance(order, list) or not whole or len(order) != len(given):
        raise dataset.fail("regions_class_order", f"{len(given)} whole numbers, one a region")
    names: dict[int, str] = {}
    regions = list(given.items())
    for index, ((name, values), value) in enumerate(zip(regions, order, strict=True)):
        if value == 0:
            continue
        # A later region writes over an earlier one: what stays of that has the region's name no more.
        covered = any(set(values) & set(later) for _, later in regions[index + 1 :])
        names[value] = f"rest of {name}" if covered else name
    return Classes(len(given), tuple(order), LabelTable([named_label(value, name) for value, name in names.items()]))


def _values(labels: Fields, name: str) -> tuple[int, ...]:
    value: Any = labels.data[name]
    values = value if isinstance(value, list) else [value]
    whole = [int(item) for item in values if isinstance(item, (int, float)) and item == int(item)]
    if not values or len(whole) != len(values) or not all(0 <= item <= _MOST_LABELS for item in whole):
        raise labels.fail(name, f"a whole number from 0 to {_MOST_LABELS}, or a list of these")
    return tuple(whole)


def _readable(name: str) -> str:
    return "".join(mark for mark in name if mark.isprintable()).strip()[:100] or "unnamed"
