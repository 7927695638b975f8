"""Build a network from its name, from an allow-list only (a model package never runs code of its own)."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from medseg.errors import ModelError, UntrustedModelError

if TYPE_CHECKING:
    from torch import nn

ALLOWED_MODULES = ("medseg.networks", "monai.networks.nets")


def build_network(target: str, arguments: dict[str, Any]) -> nn.Module:
    """Return the network that ``target`` names, built with ``arguments``, with fresh weights.

    Parameters
    ----------
    target
        ``medseg.networks.<Class>`` or ``monai.networks.nets.<Class>``.
    arguments
        Keyword arguments of the class: numbers, strings, booleans, lists and dictionaries of these.

    Raises
    ------
    UntrustedModelError
        When ``target`` is not a network of an allowed module; nothing was imported or run.
    ModelError
        When the network does not exist there or does not take these arguments.
    """
    module_name, _, class_name = target.rpartition(".")
    if module_name not in ALLOWED_MODULES or not class_name.isidentifier() or class_name.startswith("_"):
        raise UntrustedModelError(
            f"The model asks for the network '{target}', which is not on the list of networks that MedSeg runs.",
            advice=f"Networks may come from {' and '.join(ALLOWED_MODULES)} only; ask its author for such a version.",
        )
    from torch import nn

    found = getattr(importlib.import_module(module_name), class_name, None)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise ModelError(
            f"The network '{target}' does not exist in the installed version.",
            advice="Update MedSeg and MONAI, or use a version of the model made for the installed ones.",
        )
    try:
        return found(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"The network '{target}' cannot be built as the model describes it: {error}",
            advice="The model package is damaged or was made for another version of MONAI; install it again.",
        ) from error
