"""The pieces of text that all recipes to start from share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.training.starter.survey import Study

MOST_FOLDS = 5
MOST_NAMED = 8

FLIPS = "flip_axes only where left and right may change places"
"""A comment on the augmentation."""

EVALUATION = """\
evaluation:
  tolerance_mm: 2.0  # of the surface Dice
"""


def head(what: str, command: str, labels_file: str, about_labels: str) -> str:
    """Return the first lines of a recipe: what it is, seed and label table.

    Parameters
    ----------
    what
        The end of the sentence that begins with "A recipe for".
    command
        That wrote it.
    about_labels
        A comment on the label table.
    """
    return f"""\
# A recipe for {what}.
# Written by `{command}`; change what you know better. docs/training.md explains every key.
seed: 0
labels: {json.dumps(labels_file)}  # {about_labels}
"""


def data_section(studied: Study, values: Mapping[int, int], *, folds: int, of: str) -> str:
    """Return the section on the data, to which lines may be added.

    Parameters
    ----------
    values
        Value in the label files: value in the recipe's label table.
    folds
        Parts of the data, one of which is kept aside, unless a table says which cases are.
    of
        What the values of the label table are, after the words "value of".
    """
    lines, files = ["data:"], studied.files
    if files.images:
        image = files.images[0] if len(files.images) == 1 else list(files.images)
        lines += [f"  image: {json.dumps(image)}", f"  label: {json.dumps(files.label)}"]
    if studied.has_split:
        lines.append("  # The table says which cases are kept aside.")
    else:
        lines.append(f"  folds: {folds}  # one part of so many is kept aside and never trained on; 1: none")
        lines.append("  fold: 0  # which one")
    if any(value != becomes for value, becomes in values.items()):
        lines.append(f"  values:  # value in the label files: value of {of}")
        lines += [f"    {value}: {becomes}" for value, becomes in values.items()]
    return "\n".join(lines) + "\n"


def listed(names: Sequence[str]) -> str:
    """Return the first few names, and whether there are others."""
    return ", ".join(names[:MOST_NAMED]) + (" and others" if len(names) > MOST_NAMED else "")


def if_not_drawn(where: str = "") -> str:
    """Return what to do about labels that are missing because nobody drew them."""
    place = f" {where}" if where else ""
    return (
        f"If it was not drawn{place} (and is not absent), set data.annotated to present and loss.kind to "
        "missing_label_dice."
    )
