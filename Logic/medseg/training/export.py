"""From trained weights to a measured model package."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from medseg.errors import InputError, ModelError, RecipeError, TrainingError
from medseg.files import atomic_path, write_error
from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.models import InputSlot, Measured, Postprocessing, Preprocessing, write_package
from medseg.models.placing import folder_beside, replace_folder
from medseg.segmentation.stacks import stacking_axis
from medseg.training.averaging import START_ANOTHER, all_finite
from medseg.training.card import training_card
from medseg.training.evaluation import figures, mean_of_means

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medseg.training.evaluation import CaseResult
    from medseg.training.recipe import Recipe
    from medseg.training.tasks import AnyRecipe

PICTURE = "preview.png"
"""The picture of a package, beside its card."""


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """Return the recipe's preprocessing as the package that it leads to will have it."""
    return recipe.preprocessing.build()


def export_package(
    network: nn.Module,
    recipe: Recipe,
    labels: LabelTable,
    folder: Path,
    *,
    results: Sequence[CaseResult] = (),
    trained_on: int = 0,
    kept_aside: Sequence[str] = (),
    earlier: Mapping[str, float] | None = None,
    measured: Measured | None = None,
    spacings: Sequence[tuple[float, float, float]] = (),
    picture: Path | None = None,
    epochs: int | None = None,
) -> Path:
    """Write the network as a model package to ``folder``, replacing an earlier one, and return the folder.

    Weights are stored as float16, which halves the file; the figures in ``results`` are those of the stored weights.
    ``earlier`` are figures of the weights that the run started from; the card says so when they stand in for results.
    ``spacings`` are those of the training cases on the network's grid (mm); of a network that stacks slices the package
    carries the range of their distances. ``kept_aside`` names the cases that were not trained on, ``picture`` is a PNG
    for the card, and ``epochs`` says how far a run has come that was not finished.

    Raises
    ------
    TrainingError
        When the weights are not finite.
    """
    about = recipe.package
    write_trained(
        network,
        recipe,
        labels,
        folder,
        inputs=[InputSlot(one.name, one.modality, one.description, about.minimum_slices) for one in about.slots],
        preprocessing=preprocessing_of(recipe),
        window=recipe.window.build(),
        postprocessing=Postprocessing(about.largest_component, about.fill_holes),
        instances=about.instances.build() if about.instances else None,
        slice_spacing_range=slice_spacings_of(recipe, spacings),
        measured=measured,
        metrics=metrics_of(results, labels) or earlier,
        card=training_card(
            recipe,
            labels,
            results,
            trained_on=trained_on,
            kept_aside=kept_aside,
            has_earlier=bool(earlier),
            picture=PICTURE if picture else None,
            epochs=epochs,
        ),
    )
    if picture:
        with atomic_path(folder / "docs" / PICTURE) as path:
            shutil.copyfile(picture, path)
    return folder


def write_trained(network: nn.Module, recipe: AnyRecipe, labels: LabelTable, folder: Path, **task: Any) -> None:
    """Write what a recipe of any task says of its package, with the weights as float16.

    Parameters
    ----------
    task
        What :func:`medseg.models.write_package` takes besides.

    Raises
    ------
    TrainingError
        When the weights are not finite.
    """
    about = recipe.package
    weights = network.state_dict()
    if not all_finite(weights.values()):
        raise TrainingError("The weights are not finite; no package was written.", advice=START_ANOTHER)
    write_package(
        folder,
        name=about.name,
        title=about.title,
        description=about.description,
        version=about.version,
        license=about.license,
        labels=labels,
        network_target=recipe.network.target,
        network_arguments=recipe.network.arguments,
        state_dict=weights,
        anatomy=about.anatomy,
        authors=about.authors,
        copyright=about.copyright,
        citation=about.citation,
        data_source=about.data_sources,
        half=True,
        overwrite=True,
        **task,
    )


def check_package(recipe: Recipe, path: Path) -> None:
    """Write the package that the recipe ``path`` leads to as a trial, without weights.

    What :mod:`medseg.models` would refuse after hours of training it refuses now, by its own rules.

    Raises
    ------
    RecipeError
        When it refuses the package.
    """
    about = recipe.package
    values = {1}
    if about.instances is not None:
        values |= {*about.instances.build().values, *about.instances.minimum_mm3}
    # Which labels there are is not known yet, and so not how many channels the network has.
    arguments = {name: value for name, value in recipe.network.arguments.items() if name != "out_channels"}
    network = recipe.network.model_copy(update={"arguments": arguments})
    with trial_package(path) as folder:
        labels = LabelTable(
            Label(value, f"label {value}", (0, 0, 0), ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE) for value in values
        )
        export_package(nn.Module(), recipe.model_copy(update={"network": network}), labels, folder)


@contextlib.contextmanager
def trial_package(recipe: Path) -> Iterator[Path]:
    """Give the folder of a package that is written as a trial, and gone afterwards.

    Raises
    ------
    RecipeError
        When :mod:`medseg.models` refuses the package that the recipe leads to.
    """
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        try:
            yield Path(folder, "package")
        except (InputError, ModelError) as error:
            where = rf"(( in 'medseg')? in configs/\w+\.json of the | \()?model package {re.escape(folder)}\S*"
            raise RecipeError(
                f"The recipe {recipe} leads to a model package that MedSeg would not take:"
                f" {re.sub(where, '', error.message)}",
                advice="Correct it and start again; the texts of a package have a greatest length.",
            ) from error


def slice_spacings_of(recipe: Recipe, spacings: Sequence[tuple[float, float, float]]) -> tuple[float, float] | None:
    """Return the least and the largest distance of slices (mm), ``None`` for a network that does not stack slices."""
    axis = stacking_axis(recipe.network.target, recipe.network.arguments)
    along = [] if axis is None else [spacing[axis] for spacing in spacings]
    return (min(along), max(along)) if along else None


def metrics_of(results: Sequence[CaseResult], labels: LabelTable) -> dict[str, float]:
    """Return the figures of a package: over all structures, and the mean Dice of each when there are several.

    ``mean_dice``, ``mean_surface_dice`` and ``mean_hd95_mm`` are means over the structures of their means over cases;
    ``worst_dice`` is the lowest of any structure in any case, ``lowest_structure_dice`` the lowest of their means.
    """
    structures = figures(results, labels)
    if not structures:
        return {}
    overlap, surface, distance = mean_of_means(structures)
    found = {
        "mean_dice": overlap,
        "worst_dice": min(structure.dice.worst for structure in structures),
        "mean_surface_dice": surface,
        "mean_hd95_mm": distance,
    }
    if len(structures) > 1:
        found["lowest_structure_dice"] = min(structure.dice.mean for structure in structures)
        found |= {f"dice {structure.label}": structure.dice.mean for structure in structures}
    return {name: round(value, 4) for name, value in found.items() if not math.isnan(value)}


def place_package(package: Path, target: Path) -> Path:
    """Put a copy of a package where the user wants it, and return where it is.

    A name that ends in ``.zip`` becomes an archive that ``medseg.models.import_zip`` takes; anything else is a folder
    into which the package goes under its own name, replacing an older one.

    Raises
    ------
    WriteError
        When it cannot be written; what stood there before is untouched.
    """
    if target.suffix.lower() == ".zip":
        _make_parent(target)
        with atomic_path(target) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(package.rglob("*")):
                if file.is_file():
                    archive.write(file, f"{package.name}/{file.relative_to(package).as_posix()}")
        return target.resolve()
    placed = target / package.name
    if placed.resolve() == package.resolve():
        return placed.resolve()
    with folder_beside(target) as temporary:
        draft = temporary / "copy"
        shutil.copytree(package, draft)
        replace_folder(draft, placed, temporary)
    return placed.resolve()


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path.parent, error) from error
