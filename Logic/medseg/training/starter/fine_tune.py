"""A recipe that goes on from a model with a few corrected cases: ``medseg train --new RECIPE --from MODEL``.

Network, preprocessing, window and labels are the model's, so that its weights fit. The rest is for 3 to 10 cases: few
steps of a small rate, a running average of the weights, and strong augmentation. The numbers are our choice.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import ModelError, RecipeError
from medseg.labels import read_labels
from medseg.models import ModelLibrary, Normalize, ScalePercentiles, ScaleRange
from medseg.training.collecting import CASES, IMAGE, LABELS, OTHERS, column_of, same_label
from medseg.training.starter.files import new_files, package_name, write_files
from medseg.training.starter.labels import table_of
from medseg.training.starter.pieces import (
    EVALUATION,
    FLIPS,
    MOST_FOLDS,
    MOST_NAMED,
    data_section,
    head,
    if_not_drawn,
    listed,
)
from medseg.training.starter.plan import batch_size_for
from medseg.training.starter.survey import study
from medseg.training.tunable import obstacle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from medseg.labels import Label
    from medseg.models import ModelPackage
    from medseg.progress import Progress
    from medseg.training.starter.survey import Study

EPOCHS, STEPS = 20, 20
LEARNING_RATE = 2e-4
_FEWEST_TO_MEASURE = 3
_MOST_NAME = 48
_KINDS = {ScaleRange: "scale_range", ScalePercentiles: "scale_percentiles", Normalize: "normalize"}


@dataclass(frozen=True)
class Fit:
    """How the labels of the data are those of a model.

    Attributes
    ----------
    values
        Value in the label files: value of the model.
    columns
        Value of the model: column of the folder's ``cases.csv``; empty where there is no such table.
    named
        The data name their labels; else their values were taken for those of the model.
    """

    values: dict[int, int]
    columns: dict[int, str]
    named: bool


def write_fine_tune(path: Path, data: Path, model: str, *, name: str, progress: Progress) -> list[str]:
    """See :func:`medseg.training.start_recipe`."""
    labels_path = new_files(path)
    package = ModelLibrary().find(model, "segment")
    _check_model(package)
    studied = study(data, progress)
    channels = studied.cases[0].channels
    if channels != len(package.inputs):
        raise RecipeError(
            f"The model '{package.name}' takes {len(package.inputs)} images and the data have {channels}.",
            advice="Give data with the images that the model takes, in its order.",
        )
    fit = fit_of(package, studied)
    text = _text(
        package,
        studied,
        fit,
        name=package_name(name) if name else f"{package.name[:_MOST_NAME].rstrip('-')}-tuned",
        labels_file=labels_path.name,
    )
    write_files(text, path, package.labels, labels_path)
    return _notes(package, fit, len(studied.cases))


def fit_of(package: ModelPackage, studied: Study) -> Fit:
    """Return which labels of the model the labels of the data are.

    Raises
    ------
    RecipeError
        When the model does not have one of them.
    """
    folder, values = studied.folder, studied.values
    collected = studied.files.images == (IMAGE,) and (folder / CASES).is_file()
    drawn: Iterable[Label]
    if collected:
        drawn, named = read_labels(folder / LABELS), True
    else:
        drawn, named = table_of(folder, {value: value for value in values})
    model = list(package.labels)
    if not named:
        unknown = sorted(set(values) - set(package.labels.values))
        if unknown:
            raise RecipeError(
                f"The data hold the label values {unknown} without names, and '{package.name}' has the values "
                f"{list(package.labels.values)}.",
                advice=f"Name the labels in {folder / LABELS}.",
            )
        return Fit({value: value for value in values}, {}, named=False)
    found: dict[int, int] = {}
    strange = []
    for label in drawn:
        same = same_label(label, model, drawn)
        if same is None or same.value in found.values():
            strange.append(label)
        else:
            found[label.value] = same.value
    # What was never drawn with a voxel does no harm; it says where a structure is not.
    foreign = [label.name for label in strange if label.value in values]
    if foreign:
        raise RecipeError(
            f"The model '{package.name}' does not have the labels {', '.join(foreign)} of the data; it has "
            f"{listed(package.labels.names)}.",
            advice="Rename them as the model has them, take them out, or train a new model without --from.",
        )
    columns = {}
    if collected:
        of_model = {becomes: value for value, becomes in found.items()}
        columns = {
            value: column_of(of_model[value]) if value in of_model else OTHERS for value in package.labels.values
        }
    return Fit(found, columns, named=True)


def _check_model(package: ModelPackage) -> None:
    problems = package.problems()
    if problems:
        raise ModelError(f"The model '{package.name}' cannot be used: {problems[0]}")
    reason = obstacle(package)
    if reason:
        raise RecipeError(
            f"The model '{package.name}' {reason}.", advice="Choose another model, or train one of your own."
        )


def _notes(package: ModelPackage, fit: Fit, cases: int) -> list[str]:
    notes = [f"{cases} cases; the training starts from the weights of {package.title} {package.version}."]
    if not fit.named:
        notes.append("The data do not name their labels, so their values were taken for those of the model.")
    absent = [label.name for label in package.labels if label.value not in fit.values.values()]
    if absent and fit.columns:
        notes.append(f"Nobody has drawn {', '.join(absent[:MOST_NAMED])}: what the model knows of it is kept loosely.")
    elif absent:
        notes.append(f"The data lack {', '.join(absent[:MOST_NAMED])}, which the model will forget. " + if_not_drawn())
    if cases < _FEWEST_TO_MEASURE:
        notes.append("With so few cases none is kept aside, so nothing says whether the new model is better.")
    else:
        notes.append("Compare the new model with the old one on cases that neither has seen.")
    return notes


def _text(package: ModelPackage, studied: Study, fit: Fit, *, name: str, labels_file: str) -> str:
    what = f"{name}: it goes on from {package.name} {package.version} with a few cases"
    about_labels = "those of the model; the last layer of its network has one channel for each"
    parts = [
        head(what, "medseg train --new --from", labels_file, about_labels)
        + f"start_from: {json.dumps(str(package.folder), ensure_ascii=False)}\n",
        _about(package, name, len(studied.cases)),
        _data(studied, fit),
        _model(package),
        _schedule(package, fit),
    ]
    return "\n".join(parts)


def _about(package: ModelPackage, name: str, cases: int) -> str:
    slots = [{"name": one.name, "modality": one.modality, "description": one.description} for one in package.inputs]
    content: dict[str, Any] = {
        "name": name,
        "version": "0.1.0",
        "title": f"{package.title}, fine-tuned",
        "description": package.description,
        "anatomy": list(package.anatomy),
        "modality": slots[0]["modality"],
    }
    if len(slots) > 1:
        content["inputs"] = slots
    else:
        content |= {"input_name": slots[0]["name"], "input_description": slots[0]["description"]}
    content |= {
        "minimum_slices": min(slot.minimum_slices for slot in package.inputs),
        "authors": package.authors,
        "copyright": "",
        "license": package.license,
        "citation": package.citation,
        "data_sources": f"Those of {package.title} {package.version}, whose weights were the start, and {cases} cases",
        "largest_component": package.postprocessing.largest_component,
        "fill_holes": package.postprocessing.fill_holes,
    }
    return _section("package", content)


def _data(studied: Study, fit: Fit) -> str:
    count = len(studied.cases)
    folds = min(MOST_FOLDS, count) if count >= _FEWEST_TO_MEASURE else 1
    text = data_section(studied, fit.values, folds=folds, of="the model")
    if not fit.columns:
        return text
    lines = ["  annotated:  # what was drawn in which case", f"    table: {json.dumps(CASES)}", "    columns:"]
    lines += [f"      {value}: {json.dumps(column)}" for value, column in fit.columns.items()]
    return text + "\n".join(lines) + "\n"


def _model(package: ModelPackage) -> str:
    steps = package.preprocessing
    preprocessing: dict[str, Any] = {
        "orientation": steps.orientation,
        "spacing": list(steps.spacing),
        "intensity": [
            {"kind": _KINDS[type(step)], **dataclasses.asdict(step)}  # type: ignore[call-overload]
            for step in steps.intensity
        ],
    }
    if steps.fit_in_plane is not None:
        preprocessing["fit_in_plane"] = {**dataclasses.asdict(steps.fit_in_plane)}
    window = {"size": list(package.window.size_ijk), "overlap": package.window.overlap}
    network = {"target": package.network_target, "arguments": package.network_arguments}
    why = "# The weights fit this network, and what it saw in training:\n"
    return why + _section("network", network) + _section("preprocessing", preprocessing) + _section("window", window)


def _schedule(package: ModelPackage, fit: Fit) -> str:
    if package.modalities == ("CT",):
        # Intensities of CT mean something: they are shaken little.
        intensities = "noise_std: 0.08\n  gamma_probability: 0.2\n  bias_probability: 0\n  intensity_shift: 0.08"
    else:
        intensities = (
            "noise_probability: 0.4\n  gamma_probability: 0.5\n  bias_probability: 0.4\n  intensity_shift: 0.2"
        )
    if _gives_probabilities(package):
        loss = "  kind: tversky_ce"
    elif fit.columns:
        loss = "  kind: missing_label_dice  # what was not drawn in a case is not counted\n  background: merged\n"
        loss += "  cross_entropy_weight: 1.0"
    else:
        loss = "  kind: dice_ce"
    return f"""\
augmentation:  # strong, since there are few cases; {FLIPS}
  affine_probability: 0.9
  rotation_degrees: [15, 15, 20]
  scale: 0.2
  elastic_probability: 0.4
  low_resolution_probability: 0.25
  {intensities}
loss:
{loss}
optimisation:  # few and small steps: the model is to learn from the cases, not to forget the others
  epochs: {EPOCHS}
  steps_per_epoch: {STEPS}
  batch_size: {batch_size_for(package.window.size_ijk)}
  learning_rate: {LEARNING_RATE:.1e}
  warmup_steps: 20
  average_decay: 0.98
  foreground_patches: 0.7
  validate_every: 5
{EVALUATION}"""


def _gives_probabilities(package: ModelPackage) -> bool:
    from medseg.networks import build_network

    network = build_network(package.network_target, package.network_arguments)
    return bool(getattr(network, "gives_probabilities", False))


def _section(name: str, content: dict[str, Any]) -> str:
    """Return a section in YAML: a line a key, values as JSON, which YAML reads too."""
    lines = [f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    return "\n".join([f"{name}:", *lines]) + "\n"
