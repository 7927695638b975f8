"""The number format that a run computes in."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from medseg.training.tasks import AnyRecipe

_LOG = logging.getLogger(__name__)

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def precision_of(recipe: AnyRecipe, network: nn.Module, accelerator: str) -> Precision:
    """Return what the recipe's ``precision`` means for ``network`` on "cpu" or "gpu", in Lightning's words.

    "auto" takes bfloat16 where the hardware is fast with it. On a processor it is refused, whatever the recipe says,
    where its gradients would be wrong, see :func:`has_wrong_gradients_in_bfloat16`.
    """
    wanted = recipe.optimisation.precision
    named: dict[str, Precision] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
    if accelerator == "gpu":
        fastest: Precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
        return named.get(wanted, fastest)
    # Measured with a 3D U-Net: in bfloat16 a step takes a third of the time on a Xeon with AMX, half of it on an EPYC
    # with AVX-512 BF16. Without such instructions it takes longer.
    fast = _processor_has("amx_tile") or _processor_has("avx512_bf16")
    chosen = named.get(wanted, "bf16-mixed" if fast else "32-true")
    if chosen == "bf16-mixed" and has_wrong_gradients_in_bfloat16(network, recipe):
        _LOG.warning("The run computes in 32 bits: this processor's bfloat16 gets convolutions over two voxels wrong.")
        return "32-true"
    return chosen


def has_wrong_gradients_in_bfloat16(network: nn.Module, recipe: AnyRecipe) -> bool:
    """Say whether a 3x3x3 convolution of the network sees exactly two voxels along I, and this processor errs then.

    oneDNN 3.12 (PyTorch 2.13) reads memory that nothing was written to when it computes the weight gradient of such a
    convolution with AVX-512 BF16 instructions; with AMX it does not (measured with both on the same processor, where
    only an input of 2 x N x N voxels had wrong gradients, up to not-a-number). The network is run once to see.
    """
    if _processor_has("amx_tile") or not _processor_has("avx512_bf16"):
        return False
    narrow = False

    def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal narrow
        assert isinstance(layer, nn.Conv3d)
        narrow |= max(layer.kernel_size) > 1 and inputs[0].shape[2] == 2

    trial = copy.deepcopy(network)
    for layer in trial.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_pre_hook(look)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            trial.train()(*recipe.empty_inputs())
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError):
        return False  # the trial that follows says what is wrong
    return narrow


def _processor_has(instructions: str) -> bool:
    """Ask PyTorch, whose older versions do not answer."""
    return getattr(torch.cpu, f"_is_{instructions}_supported", lambda: False)()
