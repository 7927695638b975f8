"""From trained weights to a package that registers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from medseg.errors import InputError, ModelError, TrainingError
from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.models import InputSlot, Registration, Window, write_package
from medseg.training.averaging import START_ANOTHER, all_finite
from medseg.training.export import refused_package
from medseg.training.registration.card import registration_card
from medseg.training.registration.measuring import metrics_of
from medseg.training.registration.sources import TableSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.models import Measured
    from medseg.training.registration.measuring import PairFigures
    from medseg.training.registration.recipe import RegistrationRecipe

_SLOTS = (("Fixed volume", "Stays where it is"), ("Moving volume", "Is brought onto the fixed one"))


def export_registration_package(
    network: nn.Module,
    recipe: RegistrationRecipe,
    labels: LabelTable,
    folder: Path,
    *,
    multiple: int,
    conditional: bool,
    figures: Sequence[PairFigures] = (),
    measured: Measured | None = None,
    epochs: int | None = None,
) -> Path:
    """Write the network as a package that registers to ``folder``, replacing an earlier one, and return the folder.

    Weights are stored as float16, which halves the file; the figures are those of the stored weights.

    Parameters
    ----------
    labels
        The structures by which it was measured.
    multiple, conditional
        What the network says of itself.
    epochs
        How far a run has come that was not finished.

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
        inputs=[InputSlot(name, about.modality, description) for name, description in _SLOTS],
        labels=labels,
        network_target=recipe.network.target,
        network_arguments=recipe.network.arguments,
        preprocessing=recipe.preprocessing,
        window=Window(recipe.grid.size),
        state_dict=weights,
        measured=measured,
        metrics=metrics_of(figures),
        anatomy=about.anatomy,
        authors=about.authors,
        copyright=about.copyright,
        citation=about.citation,
        data_source=about.data_sources,
        card=registration_card(recipe, figures, epochs=epochs),
        registration=Registration(
            domain=about.domain,
            multiple=multiple,
            conditional=conditional,
            smoothness=recipe.loss.usual_smoothness,
            synthetic=recipe.source(TableSource) is None,
        ),
        half=True,
        overwrite=True,
    )
    return folder


def check_registration_package(recipe: RegistrationRecipe, path: Path) -> None:
    """Write the package that the recipe ``path`` leads to as a trial, without weights.

    Raises
    ------
    RecipeError
        When :mod:`medseg.models` refuses it: better now than after hours of training.
    """
    labels = LabelTable([Label(1, "label 1", (0, 0, 0), ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE)])
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        try:
            export_registration_package(
                nn.Module(), recipe, labels, Path(folder, "package"), multiple=1, conditional=False
            )
        except (InputError, ModelError) as error:
            raise refused_package(path, folder, error) from error
