"""Compiling the network and the loss for training (``optimisation.compile``)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from medseg.training.objectives import Batch, Objective

_LOG = logging.getLogger(__name__)


def compile_in_place(
    network: nn.Module, objective: Objective, batch: Batch, precision: AbstractContextManager[Any]
) -> bool:
    """Let the calls of ``network``, and of an objective that can be, run compiled code; weights keep their names.

    The weights of 3D convolutions and the images get the layout "channels last", for which the compiler writes the
    better code. Measured with a 3D U-Net of 5 M parameters, three outputs and eight classes, in bfloat16 on one core:
    the network's part of a step took 0.6 s instead of 1.0, the loss 0.24 s instead of 0.71.

    Parameters
    ----------
    batch
        As the network will see it, on its device; it is run once, forth and back, which takes a minute.
    precision
        Context in which the network runs.

    Returns
    -------
    bool
        False when it cannot be compiled here: there is no C++ compiler, or the network does something that cannot be
        translated. It then runs as before, and a warning says why.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layout(layer)
    compiled = [network, *([objective] if objective.compiles else [])]
    statistics = [buffer.clone() for buffer in network.buffers()]
    for module in compiled:
        module.compile()
    try:
        with torch.random.fork_rng(), precision:
            objective(objective.outputs(network, layout(batch["image"])), batch)["loss"].backward()
    except RuntimeError as error:
        for module in compiled:
            module._compiled_call_impl = None  # noqa: SLF001 - what compile() sets, and PyTorch offers no way back
        torch.compiler.reset()
        lines = str(error).strip().splitlines() or [type(error).__name__]
        _LOG.warning("The network cannot be compiled here and is trained as it is: %s", lines[0][:300])
        return False
    finally:
        network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), statistics, strict=True):
                buffer.copy_(before)
    return True


def layout(thing: Any) -> Any:
    """Return a layer (changed in place) or a batch (B, C, I, J, K) with "channels last" as the order in memory."""
    return thing.to(memory_format=torch.channels_last_3d)
