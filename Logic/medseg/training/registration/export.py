"""From trained weights to a package that registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.models import InputSlot, Registration, Window
from medseg.training.export import trial_package, write_trained
from medseg.training.registration.card import registration_card
from medseg.training.registration.measuring import metrics_of
from medseg.training.registration.sources import TableSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
    figures: Sequence[PairFigures] = (),
    measured: Measured | None = None,
    epochs: int | None = None,
) -> Path:
    """Write the network as a package that registers to ``folder``, replacing an earlier one, and return the folder.

    ``network`` is a :class:`~medseg.networks.RegistrationNetwork`, ``labels`` are the structures by which it was
    measured; the rest is as for :func:`medseg.training.export.export_package`, errors too.
    """
    about = recipe.package
    write_trained(
        network,
        recipe,
        labels,
        folder,
        inputs=[InputSlot(name, about.modality, description) for name, description in _SLOTS],
        preprocessing=recipe.preprocessing,
        window=Window(recipe.grid.size),
        measured=measured,
        metrics=metrics_of(figures),
        card=registration_card(recipe, figures, epochs=epochs),
        registration=Registration(
            domain=about.domain,
            multiple=network.multiple,
            conditional=network.conditional,
            smoothness=recipe.loss.usual_smoothness,
            synthetic=recipe.source(TableSource) is None,
        ),
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
    network = nn.Module()
    network.multiple, network.conditional = 1, False
    with trial_package(path) as folder:
        export_registration_package(network, recipe, labels, folder)
