"""Run a network on windows: on the device it fits on, checked, and stoppable between two of its layers."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import DeviceError, DeviceMemoryError, ModelError
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

logger = logging.getLogger(__name__)

Heads = Callable[[Any], tuple[torch.Tensor, ...]]

_BATCH_ON_GPU = 4
_SECONDS_BETWEEN_CHECKS = 0.05


class Predictor:
    """A network that takes windows and gives scores, whatever the memory of its device.

    On a GPU the network runs in half precision (``torch.autocast``) on several windows at once. When the GPU runs out
    of memory the batch is halved; when one window is too much already, the network goes to the CPU for the rest. When
    half precision overflows, the rest is computed in single precision. Each is told in :attr:`notices`.

    Parameters
    ----------
    network
        Takes float32 (B, C, I, J, K) and returns (B, classes, I, J, K), or a list, tuple or dictionary whose first
        item is that (deep supervision; a second head).
    device
        Where to run it.
    batch_size
        Windows at once; the default is 1 on a CPU and 4 on a GPU.
    progress
        Asked between the layers of the network whether to stop.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        *,
        batch_size: int | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.device = torch.device(device)
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else _BATCH_ON_GPU)
        self.half_precision = self.device.type == "cuda"
        self.notices: list[str] = []
        self.seconds = 0.0
        self._progress = progress
        self._seconds_between_checks = _SECONDS_BETWEEN_CHECKS
        self._network = network.eval()
        self._network_to(self.device)

    def scores(self, windows: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield for each window (C, I, J, K) its scores (classes, I, J, K), float32, on :attr:`device`.

        Raises
        ------
        ModelError
            When the network cannot take such windows, gives another size, or gives values that are not numbers.
        DeviceError, DeviceMemoryError
            When the device fails, or the CPU has too little memory for one window.
        Cancelled
            When the user asks to stop; also in the middle of a window.
        """
        for (scores,) in self._batches(windows, _first_head):
            yield from scores

    def scores_and_embeddings(self, windows: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield for each window what a network with two heads gives: scores (classes, I, J, K) and embeddings (E, ...).

        Raises
        ------
        ModelError
            As :meth:`scores`; also when the network gives no second output.
        DeviceError, DeviceMemoryError, Cancelled
            As :meth:`scores`.
        """
        for scores, embeddings in self._batches(windows, _two_heads):
            yield from zip(scores, embeddings, strict=True)

    def _batches(self, windows: Sequence[torch.Tensor], heads: Heads) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield what the network gives for one batch of windows after the other; ``heads`` picks it from its output."""
        done = 0
        while done < len(windows):
            batch = torch.stack(list(windows[done : done + self.batch_size]))
            started = time.perf_counter()
            try:
                given = self._checked(batch, heads)
            except torch.cuda.OutOfMemoryError:
                self._make_smaller()
                continue
            finally:
                self.seconds += time.perf_counter() - started
            yield given
            done += len(batch)

    def _checked(self, batch: torch.Tensor, heads: Heads) -> tuple[torch.Tensor, ...]:
        given = self._forward(batch, heads)
        # A sum is not finite when one item is not, and reads the scores only once.
        if not all(torch.isfinite(head.sum()) for head in given):
            if not self.half_precision:
                raise ModelError(
                    "The network gave values that are not numbers (NaN or infinity).",
                    advice="Its weights are damaged or do not suit this image: install the model again, or check that"
                    " the volume is of the modality that the model asks for.",
                )
            self.half_precision = False
            self._notice("Half precision overflowed in this network; the rest was computed in single precision.")
            return self._checked(batch, heads)
        return given

    def _forward(self, batch: torch.Tensor, heads: Heads) -> tuple[torch.Tensor, ...]:
        try:
            with torch.inference_mode(), self._stoppable(), self._precision():
                given = tuple(head.float() for head in heads(self._network(batch.to(self.device))))
        except torch.cuda.OutOfMemoryError:
            raise
        except MemoryError as error:
            raise _too_little_memory() from error
        except (RuntimeError, ValueError, IndexError) as error:
            raise self._explained(error, batch) from error
        for head in given:
            if head.ndim != batch.ndim or head.shape[2:] != batch.shape[2:] or head.shape[0] != batch.shape[0]:
                raise ModelError(
                    f"The network gave scores of the size {tuple(head.shape)} for windows of the size"
                    f" {tuple(batch.shape)}; they must be as large as the windows.",
                    advice="The model's window or network is described wrongly; ask its author.",
                )
        return given

    def _explained(self, error: Exception, batch: torch.Tensor) -> Exception:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "allocate memory" in text or "DefaultCPUAllocator" in str(error):
            return _too_little_memory()
        if self.device.type != "cpu" and any(word in str(error) for word in ("CUDA", "cuDNN", "CUBLAS", "HIP")):
            return DeviceError(f"The device '{self.device}' failed: {text}", advice="Choose the device 'cpu'.")
        return ModelError(
            f"The network cannot take windows of the size {tuple(batch.shape)} (batch, channels, i, j, k): {text}",
            advice="The model's window, inputs or network are described wrongly; ask its author.",
        )

    def _make_smaller(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.batch_size > 1:
            self.batch_size = max(self.batch_size // 2, 1)
            logger.info("Out of memory on %s: batches of %d windows now", self.device, self.batch_size)
            return
        if self.device.type == "cpu":
            raise _too_little_memory()
        self._notice(
            f"The device '{self.device}' has too little memory for one window of this model;"
            " the rest was computed on the CPU, which is slower."
        )
        self.device = torch.device("cpu")
        self.half_precision = False
        self._network_to(self.device)

    def _network_to(self, device: torch.device) -> None:
        try:
            self._network.to(device)
        except torch.cuda.OutOfMemoryError:
            self.batch_size = 1
            self._make_smaller()
        except (RuntimeError, AssertionError) as error:
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DeviceError(
                f"The device '{device}' cannot take the model: {text}", advice="Choose the device 'cpu'."
            ) from error

    def _notice(self, text: str) -> None:
        logger.info(text)
        self.notices.append(text)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.half_precision:
            return torch.autocast("cuda", dtype=torch.float16)
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ask the user between the layers: one window of a large network may take many seconds on a CPU."""
        last = time.monotonic()

        def check(*_: object) -> None:
            nonlocal last
            if time.monotonic() - last >= self._seconds_between_checks:
                self._progress.check()
                last = time.monotonic()

        layers = [layer for layer in self._network.modules() if not any(layer.children())]
        handles = [
            layer.register_forward_pre_hook(check) for layer in layers if not isinstance(layer, torch.jit.ScriptModule)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _first(output: Any) -> torch.Tensor:
    """Return the scores at full resolution of a network that may give several (deep supervision)."""
    while not isinstance(output, torch.Tensor):
        if isinstance(output, Mapping):
            output = list(output.values())
        if not isinstance(output, (list, tuple)) or len(output) == 0:
            raise ModelError(
                f"The network gave a {type(output).__name__} where scores were expected.",
                advice="Only networks that give a tensor, or a list that begins with one, can segment.",
            )
        output = output[0]
    return output


def _first_head(output: Any) -> tuple[torch.Tensor, ...]:
    return (_first(output),)


def _two_heads(output: Any) -> tuple[torch.Tensor, ...]:
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, (list, tuple)) and len(output) == 2:
        scores, embeddings = output
        if isinstance(embeddings, torch.Tensor):
            return _first(scores), embeddings
    raise ModelError(
        "The network gives no embeddings, by which the model's instances are to be told apart.",
        advice="The model's instances do not suit its network; ask its author.",
    )


def _too_little_memory() -> DeviceMemoryError:
    return DeviceMemoryError(
        "The computer has too little memory for one window of this model.",
        advice="Close other programs, choose a smaller model, or run it on a machine with more memory.",
    )


@contextlib.contextmanager
def considerate_threads() -> Iterator[None]:
    """Let PyTorch leave one core to the rest of the machine where there are more than two; restored afterwards."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, cores - 1 if cores > 2 else cores))
    try:
        yield
    finally:
        torch.set_num_threads(before)
