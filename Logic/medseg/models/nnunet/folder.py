"""A results folder of nnU-Net v2 as a model package, read as data.

Either the folder of one training (``nnUNetTrainer__nnUNetPlans__3d_fullres``: ``plans.json``, ``dataset.json``,
``fold_0`` ...), or one that holds several of them, such as that of a data set (``Dataset027_ACDC``). What was trained
is asked of the checkpoints and not of the names of folders, which users change.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import MedSegError, ModelError
from medseg.models.choices import NO, YES, Choice, check_choices
from medseg.models.fields import Fields, read_json
from medseg.models.nnunet.checkpoint import LOWEST_TORCH, CheckpointFacts, read_facts
from medseg.models.nnunet.labels import read_classes
from medseg.models.nnunet.plans import Configuration, channel_names, read_configuration
from medseg.models.package import NNUNET, InputSlot, ModelPackage, WeightsFile
from medseg.models.preprocessing import Preprocessing, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

PLANS, DATASET = "plans.json", "dataset.json"
_METADATA = "configs/metadata.json"
_DEPTH = 2
_FOLD = re.compile(r"fold_([0-9]{1,3}|all)")
_CHECKPOINTS = ("final", "best", "latest")
_PREFERRED = ("3d_fullres", "3d_cascade_fullres", "3d_lowres", "2d")
_MODALITIES = {
    "CT": ("ct",),
    "MR": ("mr", "mri", "t1", "t1w", "t1c", "t1gd", "t2", "t2w", "flair", "adc", "dwi"),
    "PT": ("pet",),
}
_OVERLAP = 0.5
"""nnU-Net's default; its predictor moves windows by half their size at most."""


@dataclass(frozen=True)
class _Training:
    """One folder with a training, and what its first checkpoint says."""

    folder: Path
    folds: dict[str, tuple[str, ...]]
    facts: CheckpointFacts

    def checkpoint(self, fold: str, which: str) -> Path:
        return _checkpoint(self.folder, fold, which)


def is_nnunet(folder: Path) -> bool:
    """Say whether ``folder`` is, or holds, a results folder of nnU-Net v2; a bundle is none."""
    try:
        return not (folder / _METADATA).exists() and next(_training_folders(folder), None) is not None
    except (OSError, ValueError):
        return False


def read_nnunet(folder: Path, choices: Mapping[str, str]) -> ModelPackage:
    """Return the model in ``folder`` with what was chosen; nothing of it is run, and torch is not needed.

    Parameters
    ----------
    choices
        "configuration": one that the folder has; the default is 3d_fullres, as nnU-Net recommends, else the cascade,
        3d_lowres or 2d. "folds": one or several, whose scores are averaged; the default is all numbered ones, as in
        nnU-Net, else "all". "checkpoint": "final" by default, or "best". "mirroring": "no" by default, because it
        multiplies the time by up to eight; nnU-Net mirrors unless it is told otherwise.

    Raises
    ------
    ModelError
        When a file is missing, damaged, contradicts another or asks for what MedSeg does not have.
    UntrustedModelError
        When a checkpoint would run code.
    """
    trainings = _trainings(folder)
    names = _names(trainings)
    name = choices.get("configuration") or _default_configuration(names)
    if name not in names:
        check_choices(str(folder), [_configuration_choice(names, name)], {"configuration": name})
    return _Reader(folder, names, choices).package(name)


def copy_nnunet(source: Path, target: Path) -> None:
    """Copy of the model in ``source`` what is needed to run it: plans, data set, final and best checkpoints.

    The first stage of a cascade, which nnU-Net keeps beside it, comes along.

    Raises
    ------
    ModelError
        When ``source`` cannot be read.
    OSError
        When a file cannot be copied.
    """
    trainings = _trainings(source)
    for training in trainings:
        previous = _previous(training, trainings)
        trainings += [previous] if previous is not None and previous not in trainings else []
    for number, training in enumerate(trainings):
        place = target / _place(training, number)
        for name in (PLANS, DATASET):
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(training.folder / name, place / name)
        for fold, kinds in training.folds.items():
            for which in [kind for kind in kinds if kind != "latest"] or kinds:
                (place / f"fold_{fold}").mkdir(exist_ok=True)
                shutil.copyfile(training.checkpoint(fold, which), _checkpoint(place, fold, which))


class _Reader:
    """Reads one configuration after the other of a folder, with the same choices."""

    def __init__(self, folder: Path, names: dict[str, _Training], choices: Mapping[str, str]) -> None:
        self.folder = folder
        self.names = names
        self.wanted = dict(choices)

    def package(self, name: str) -> ModelPackage:
        training = self.names[name]
        plans, dataset = read_json(training.folder, PLANS), read_json(training.folder, DATASET)
        channels, classes = channel_names(dataset), read_classes(dataset)
        configuration = read_configuration(plans, training.facts.configuration, len(channels), training.facts.trainer)
        choices = self._choices(name, training)
        chosen = {choice.name: choice.chosen for choice in choices}
        files = tuple(
            _weights(training.checkpoint(fold.strip(), chosen["checkpoint"])) for fold in chosen["folds"].split(",")
        )
        first_stage = self._first_stage(training, configuration)
        values = first_stage.labels.values if first_stage is not None else ()
        title = _title(plans, dataset)
        return ModelPackage(
            folder=self.folder,
            name=_package_name(title, training, alone=len(self.names) == 1),
            title=f"{title.replace('_', ' ')} ({name})",
            description=_description(dataset, training),
            version=_said(dataset, "release", 60) or "unnumbered",
            license=_licence(dataset),
            verb="segment",
            inputs=tuple(InputSlot(channel, _modality(channel), "", 1) for channel in channels),
            labels=classes.table,
            output_channels=classes.channels,
            network_target=configuration.network_target,
            network_arguments={
                "in_channels": len(channels) + len(values),
                "out_channels": classes.channels,
                **configuration.network_arguments,
            },
            preprocessing=Preprocessing(spacing=configuration.preparation.described_spacing()),
            window=Window(configuration.patch, _OVERLAP, "nnunet", "nnunet"),
            weights=files[0],
            citation=_said(dataset, "reference", 2000),
            requires={"torch": LOWEST_TORCH},
            kind=NNUNET,
            members=files,
            mirror_axes=training.facts.mirror_axes if chosen["mirroring"] == YES else (),
            preparation=configuration.preparation.with_first_stage(values),
            regions=classes.regions,
            first_stage=first_stage,
            choices=choices,
        )

    def _choices(self, name: str, training: _Training) -> tuple[Choice, ...]:
        folds = tuple(training.folds)
        usual = ",".join([fold for fold in folds if fold != "all"] or folds)
        text = "Networks whose scores are averaged; the default is all numbered ones."
        found = [_configuration_choice(self.names, name), self._choice("folds", text, folds, usual, several=True)]
        each = [training.folds[fold.strip()] for fold in found[1].chosen.split(",")]
        kinds = tuple(kind for kind in _CHECKPOINTS if all(kind in of_fold for of_fold in each))
        if not kinds:
            raise ModelError(
                f"The folds {found[1].chosen} of {training.folder} have no checkpoint of one kind.",
                advice="Choose other folds, or train them to their end.",
            )
        text = "Weights at the end of training, or those that validated best."
        found.append(self._choice("checkpoint", text, kinds, kinds[0]))
        text = "Average over mirror images: slower, sometimes a little better."
        found.append(self._choice("mirroring", text, (NO, YES) if training.facts.mirror_axes else (NO,), NO))
        return tuple(found)

    def _choice(
        self, name: str, description: str, values: tuple[str, ...], default: str, *, several: bool = False
    ) -> Choice:
        chosen = self.wanted.get(name) or default
        choice = Choice(name, description, values, chosen, default, several)
        check_choices(self.folder.name, [choice], {name: chosen})
        return choice

    def _first_stage(self, training: _Training, configuration: Configuration) -> ModelPackage | None:
        if not configuration.previous_stage:
            return None
        previous = _previous(training, self.names.values())
        if previous is None:
            raise ModelError(
                f"The model {training.folder} takes labels of its first stage, '{configuration.previous_stage}', which"
                " is not there.",
                advice="Put the folder of that training beside it, as nnU-Net does.",
            )
        wanted = {key: value for key, value in self.wanted.items() if key in ("mirroring",)}
        if "all" in previous.folds and "all" in self.wanted.get("folds", ""):
            wanted["folds"] = "all"
        name = previous.facts.configuration
        return _Reader(previous.folder, {name: previous}, wanted).package(name)


def _training_folders(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Yield ``folder`` and those in it, some levels down, that hold a training."""
    if (folder / PLANS).is_file() and (folder / DATASET).is_file() and _folds(folder):
        yield folder
    elif depth > 0 and folder.is_dir():
        for item in sorted(folder.iterdir()):
            if item.is_dir() and not item.name.startswith((".", "_")):
                yield from _training_folders(item, depth - 1)


def _trainings(folder: Path) -> list[_Training]:
    found = []
    for place in _training_folders(folder):
        folds = _folds(place)
        fold, kinds = next(iter(folds.items()))
        found.append(_Training(place, folds, read_facts(_checkpoint(place, fold, kinds[0]))))
    if not found:
        raise ModelError(
            f"{folder} holds no training of nnU-Net v2.",
            advice=f"Give a folder with {PLANS}, {DATASET} and folders fold_0, fold_1 ... with checkpoints.",
        )
    return found


def _folds(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the folds that have checkpoints, numbers first, and the kinds of checkpoint that each has."""
    found: dict[str, tuple[str, ...]] = {}
    for item in folder.iterdir():
        match = _FOLD.fullmatch(item.name)
        kinds = tuple(kind for kind in _CHECKPOINTS if match and _checkpoint(folder, match[1], kind).is_file())
        if match and kinds:
            found[match[1]] = kinds
    return dict(sorted(found.items(), key=lambda entry: (entry[0] == "all", entry[0].zfill(3))))


def _checkpoint(folder: Path, fold: str, which: str) -> Path:
    return folder / f"fold_{fold}" / f"checkpoint_{which}.pth"


def _names(trainings: Sequence[_Training]) -> dict[str, _Training]:
    """Return the trainings by the name of their configuration, with the folder's where two have the same."""
    count = [training.facts.configuration for training in trainings]
    return {
        training.facts.configuration
        if count.count(training.facts.configuration) == 1
        else training.folder.name: training
        for training in trainings
    }


def _configuration_choice(names: Mapping[str, _Training], chosen: str) -> Choice:
    text = "What was trained; the default is 3d_fullres."
    return Choice("configuration", text, tuple(names), chosen, _default_configuration(names))


def _default_configuration(names: Mapping[str, _Training]) -> str:
    return next((name for name in _PREFERRED if name in names), next(iter(names)))


def _previous(training: _Training, others: Iterable[_Training]) -> _Training | None:
    """Return the first stage of a cascade, among ``others`` or beside its folder; ``None``: it needs or has none."""
    plans = read_json(training.folder, PLANS)
    found = plans.object("configurations").object(training.facts.configuration)
    stage = found.text("previous_stage", limit=100) if found.has("previous_stage") else ""
    if not stage:
        return None
    beside = [] if any(other.facts.configuration == stage for other in others) else _beside(training.folder)
    fitting = [other for other in (*others, *beside) if other.facts.configuration == stage]
    same = [other for other in fitting if other.facts.trainer == training.facts.trainer]
    return next(iter(same or fitting), None)


def _beside(folder: Path) -> list[_Training]:
    found = []
    for item in sorted(folder.parent.iterdir()):
        if item != folder and item.is_dir() and (item / PLANS).is_file():
            try:
                found += _trainings(item)
            except MedSegError:
                # A neighbour that cannot be read is no first stage.
                continue
    return found


def _weights(path: Path) -> WeightsFile:
    try:
        return WeightsFile(path, "", path.stat().st_size)
    except OSError as error:
        raise ModelError(
            f"The weights {path} cannot be read: {error.strerror or error}.", advice="Install the model again."
        ) from error


def _said(fields: Fields, name: str, limit: int) -> str:
    """Return what a data set says for people, on one line; anything may stand there, and nothing depends on it."""
    value = fields.data.get(name, "")
    text = str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    return "".join(mark for mark in " ".join(text.split()) if mark.isprintable())[:limit]


def _title(plans: Fields, dataset: Fields) -> str:
    return _said(plans, "dataset_name", 150) or _said(dataset, "name", 150) or "nnU-Net model"


def _package_name(title: str, training: _Training, *, alone: bool) -> str:
    parts = [title, training.facts.configuration if alone else ""]
    words = re.findall(r"[a-z0-9]+", " ".join(parts).lower())
    return "-".join(words)[:64].strip("-") or "nnunet-model"


def _place(training: _Training, number: int) -> str:
    words = re.findall(r"[A-Za-z0-9_]+", training.facts.configuration)
    return f"{number}_{'_'.join(words)[:40]}"


def _description(dataset: Fields, training: _Training) -> str:
    said = _said(dataset, "description", 2000)
    return f"{said} Trained with nnU-Net v2 ({training.facts.trainer}, {training.facts.configuration}).".strip()


def _licence(dataset: Fields) -> str:
    of_data = _said(dataset, "licence", 150) or _said(dataset, "license", 150)
    return f"not stated; of its training data: {of_data}" if of_data else "not stated; ask its author"


def _modality(channel: str) -> str:
    words = set(re.findall(r"[a-z0-9]+", channel.lower()))
    return next((modality for modality, known in _MODALITIES.items() if words & set(known)), "")
