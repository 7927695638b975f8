"""Compiling the network and the loss for training (``optimisation.compile``)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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
    compiled = [network, *([objective] if objective.compiles else [])]

    def loss() -> Tensor:
        return objective(objective.outputs(network, layout(batch["image"])), batch)["loss"]

    return compile_parts(network, compiled, loss, precision)


def compile_parts(
    network: nn.Module,
    parts: Sequence[nn.Module],
    loss: Callable[[], Tensor],
    precision: AbstractContextManager[Any],
    *,
    each_size: bool = False,
) -> bool:
    """Let the calls of ``parts`` run compiled code; see :func:`compile_in_place`.

    Parameters
    ----------
    network
        What they belong to; nothing of it has changed afterwards.
    loss
        Computes a loss with the parts as a step of training does; run once, forth and back.
    each_size
        Compiles anew for every size of the images. Parts of one class that see different sizes need it: the compiler
        would else look for code for all sizes, and fails at it with convolutions that halve them.
    """
    layout_of_convolutions(network)
    statistics = [buffer.clone() for buffer in network.buffers()]
    for module in parts:
        module.compile(dynamic=False if each_size else None)
    try:
        with torch.random.fork_rng(), precision:
            loss().backward()
    except RuntimeError as error:
        for module in parts:
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


def layout_of_convolutions(network: nn.Module) -> None:
    """Give the weights of 3D convolutions the layout "channels last", in place."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layout(layer)


def layout(thing: Any) -> Any:
    """Return a layer (changed in place) or a batch (B, C, I, J, K) with "channels last" as the order in memory."""
    return thing.to(memory_format=torch.channels_last_3d)
