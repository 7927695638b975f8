"""Windows, blending and interpolation against MONAI and against the same done with whole score arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from medseg.errors import Cancelled, DeviceError, DeviceMemoryError, ModelError
from medseg.progress import Progress
from medseg.segmentation.grids import AxisSampling
from medseg.segmentation.predictor import Predictor
from medseg.segmentation.sliding import cut_window, segment_by_windows
from medseg.segmentation.windows import importance_map, make_plan
from support.segmentation import random_network

CASES = [
    ((40, 30, 50), (16, 16, 16), 0.25),
    ((20, 9, 33), (16, 16, 16), 0.5),
    ((10, 9, 11), (16, 16, 16), 0.5),
    ((33, 50, 7), (32, 16, 4), 0.6),
    ((30, 1, 40), (16, 16, 16), 0.25),
    ((17, 16, 15), (16, 16, 16), 0.0),
]


def an_image(size, channels=1, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((channels, *size)).astype(np.float32))


def monai_scores(image, network, window, overlap, blend="gaussian"):
    inferer = SlidingWindowInferer(window, sw_batch_size=2, overlap=overlap, mode=blend)
    with torch.inference_mode():
        return inferer(image[None], network)[0].numpy()


def matrix_of(sampling):
    matrix = np.zeros((sampling.output_size, sampling.input_size))
    rows = np.arange(sampling.output_size)
    np.add.at(matrix, (rows, sampling.lower), 1 - sampling.weight)
    np.add.at(matrix, (rows, sampling.upper), sampling.weight)
    return matrix


def labels_of(scores):
    return scores.argmax(axis=0) if len(scores) > 1 else (scores[0] > 0).astype(np.int64)


def run(image, network, window, overlap, classes, *, sampling=None, limit=1 << 30, blend="gaussian", **options):
    size = tuple(image.shape[1:])
    sampling = sampling or tuple(AxisSampling.linear(n, n, 1.0, 0.0) for n in size)
    plan = make_plan(size, window, overlap, classes, sampling, limit_bytes=limit)
    labels = np.full([axis.output_size for axis in sampling], 99, np.uint8)
    predictor = options.pop("predictor", None) or Predictor(network, batch_size=options.pop("batch_size", 1))
    weights = importance_map(plan.window, blend)
    segment_by_windows(image, predictor, plan, weights=weights, sampling=sampling, labels=labels, **options)
    return labels


def assert_same_but_for_ties(labels, scores, tolerance=1e-5):
    expected = labels_of(scores)
    wrong = labels != expected
    if len(scores) > 1:
        ordered = np.sort(scores, axis=0)
        margin = ordered[-1] - ordered[-2]
    else:
        margin = np.abs(scores[0])
    assert margin[wrong].max(initial=0.0) < tolerance
    assert wrong.mean() < 1e-3


@pytest.mark.parametrize(("size", "window", "overlap"), CASES)
@pytest.mark.parametrize("limit", [1 << 30, 60_000, 1], ids=["whole", "bands", "thinnest bands"])
def test_labels_are_those_of_monais_sliding_window(size, window, overlap, limit):
    image, network = an_image(size), random_network(5)
    labels = run(image, network, window, overlap, 5, limit=limit)
    assert_same_but_for_ties(labels, monai_scores(image, network, window, overlap))


def test_labels_are_those_of_monai_with_constant_blending_and_two_channels():
    image, network = an_image((20, 33, 18), channels=2), random_network(3, channels=2)
    labels = run(image, network, (12, 12, 12), 0.5, 3, blend="constant")
    assert_same_but_for_ties(labels, monai_scores(image, network, (12, 12, 12), 0.5, "constant"))


@pytest.mark.parametrize("batch_size", [2, 5, 64])
def test_the_batch_size_changes_nothing(batch_size):
    image, network = an_image((24, 20, 30)), random_network(4)
    one = run(image, network, (12, 12, 12), 0.5, 4)
    assert np.array_equal(run(image, network, (12, 12, 12), 0.5, 4, batch_size=batch_size), one)


@pytest.mark.parametrize("scales", [(0.5, 0.4, 0.7), (1.0, 2.0, 0.5), (1.6, 1.0, 2.3), (0.31, 1.0, 1.0)])
@pytest.mark.parametrize("limit", [1 << 30, 100_000, 1], ids=["whole", "bands", "thinnest bands"])
def test_scores_are_interpolated_as_if_they_were_all_there(scales, limit):
    size = (26, 21, 24)
    image, network = an_image(size), random_network(4)
    sampling = tuple(
        AxisSampling.linear(n, max(round(n / scale), 1), scale, (scale - 1) / 2 + 0.1)
        for n, scale in zip(size, scales, strict=True)
    )
    labels = run(image, network, (12, 10, 8), 0.5, 4, sampling=sampling, limit=limit)
    scores = monai_scores(image, network, (12, 10, 8), 0.5)
    scores = np.einsum("cijk,ai,bj,dk->cabd", scores, *map(matrix_of, sampling), optimize=True)
    assert_same_but_for_ties(labels, scores)


def test_one_channel_is_a_probability_above_one_half():
    image, network = an_image((20, 18, 16)), random_network(1)
    labels = run(image, network, (12, 12, 12), 0.5, 2)
    assert_same_but_for_ties(labels, monai_scores(image, network, (12, 12, 12), 0.5))
    assert set(np.unique(labels)) == {0, 1}


@pytest.mark.parametrize("wrap", [lambda t: [t, t[..., ::2]], lambda t: (t, None), lambda t: {"out": t}])
def test_the_first_output_of_a_network_with_deep_supervision_counts(wrap):
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = random_network(3)

        def forward(self, image):
            return wrap(self.inner(image))

    image = an_image((20, 18, 16))
    assert np.array_equal(run(image, Deep(), (12, 12, 12), 0.5, 3), run(image, Deep().inner, (12, 12, 12), 0.5, 3))


def test_a_window_beyond_the_image_is_filled_with_zeros():
    image = torch.arange(1.0, 28.0).view(1, 3, 3, 3)
    window = cut_window(image, (-1, 0, 2), (3, 2, 4))
    assert window.shape == (1, 3, 2, 4)
    assert torch.equal(window[0, 1:, :, :1], image[0, :2, :2, 2:])
    assert window.sum() == image[0, :2, :2, 2:].sum()


class Broken(nn.Module):
    """Gives NaN in one voxel of one window."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, image):
        self.calls += 1
        scores = torch.cat([image, -image], dim=1)
        if self.calls == 3:
            scores[0, 1, 2, 2, 2] = float("nan")
        return scores


def test_a_network_that_gives_nan_is_told_in_a_sentence():
    with pytest.raises(ModelError, match=r"not numbers.*install the model again"):
        run(an_image((24, 24, 24)), Broken(), (12, 12, 12), 0.0, 2)


def test_scores_of_another_size_than_the_window_are_refused():
    with pytest.raises(ModelError, match=r"\(1, 3, 10, 10, 10\)"):
        run(an_image((24, 24, 24)), nn.Conv3d(1, 3, 3), (12, 12, 12), 0.0, 3)


@pytest.mark.parametrize(("given", "named"), [(5, 3), (2, 3), (1, 3)])
def test_a_network_with_another_number_of_classes_is_refused(given, named):
    with pytest.raises(ModelError, match=f"{given} classes.*{named}"):
        run(an_image((16, 16, 16)), random_network(given), (12, 12, 12), 0.0, named)


def test_a_network_that_cannot_take_such_windows_is_told_in_a_sentence():
    with pytest.raises(ModelError, match="cannot take windows of the size"):
        run(an_image((16, 16, 16)), random_network(2, channels=3), (12, 12, 12), 0.0, 2)


@pytest.mark.parametrize("output", ["text", None, [], 3.0])
def test_a_network_that_gives_no_scores_is_told_in_a_sentence(output):
    class Silent(nn.Module):
        def forward(self, _):
            return output

    with pytest.raises(ModelError, match="where scores were expected"):
        run(an_image((16, 16, 16)), Silent(), (12, 12, 12), 0.0, 2)


class Hungry(nn.Module):
    """Runs out of a device's memory above a batch of ``most`` windows, as CUDA tells it."""

    def __init__(self, most):
        super().__init__()
        self.inner = random_network(2)
        self.most = most
        self.batches = []

    def forward(self, image):
        if len(image) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        self.batches.append(len(image))
        return self.inner(image)


def test_a_full_device_gets_smaller_batches_and_the_result_is_the_same():
    image, network = an_image((30, 30, 24)), Hungry(most=3)
    labels = run(image, network, (12, 12, 12), 0.5, 2, batch_size=7)
    assert max(network.batches) == 3
    assert np.array_equal(labels, run(image, network.inner, (12, 12, 12), 0.5, 2))


def test_a_device_too_small_for_one_window_hands_over_to_the_cpu_and_says_so(monkeypatch):
    """The device is pretended: this machine need not have one."""
    image, network = an_image((24, 24, 24)), Hungry(most=0)
    moves = []
    monkeypatch.setattr(network, "to", lambda device: moves.append(torch.device(device).type))
    predictor = Predictor(network, "cpu", batch_size=4)
    predictor.device = torch.device("meta")
    on_device = predictor._forward

    def forward(batch, heads):
        network.most = 4 if predictor.device.type == "cpu" else 0
        if predictor.device.type == "meta":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return on_device(batch, heads)

    monkeypatch.setattr(predictor, "_forward", forward)
    labels = run(image, network, (12, 12, 12), 0.5, 2, predictor=predictor)
    assert moves[-1] == "cpu"
    assert predictor.device.type == "cpu"
    assert len(predictor.notices) == 1
    assert "too little memory" in predictor.notices[0]
    assert np.array_equal(labels, run(image, network.inner, (12, 12, 12), 0.5, 2))


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried 9 TB"),
        MemoryError(),
    ],
)
def test_a_cpu_without_memory_for_one_window_is_told_in_a_sentence(error):
    class Full(nn.Module):
        def forward(self, _):
            raise error

    with pytest.raises(DeviceMemoryError, match=r"too little memory.*smaller model"):
        run(an_image((16, 16, 16)), Full(), (12, 12, 12), 0.0, 2)


def test_a_gpu_that_fails_is_told_with_the_way_round_it(monkeypatch):
    class Failing(nn.Module):
        def forward(self, _):
            raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    predictor = Predictor(Failing())
    predictor.device = torch.device("meta")
    with pytest.raises(DeviceError, match="Choose the device 'cpu'"):
        list(predictor.scores([torch.zeros(1, 4, 4, 4)]))


def test_a_device_that_cannot_take_the_network_is_told_with_the_way_round_it(monkeypatch):
    network = random_network(2)

    def to(_):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore lines")

    monkeypatch.setattr(network, "to", to)
    with pytest.raises(DeviceError, match=r"no kernel image.*Choose the device 'cpu'"):
        Predictor(network, "meta")


def test_half_precision_that_overflows_is_given_up_for_the_rest(monkeypatch):
    class Overflowing(nn.Module):
        def forward(self, image):
            return image.expand(-1, 2, -1, -1, -1) / (0.0 if predictor.half_precision else 1.0)

    predictor = Predictor(Overflowing())
    predictor.half_precision = True
    monkeypatch.setattr(Predictor, "_precision", lambda _: torch.inference_mode())
    scores = list(predictor.scores([torch.ones(1, 4, 4, 4)]))
    assert torch.equal(scores[0], torch.ones(2, 4, 4, 4))
    assert "single precision" in predictor.notices[0]


def test_a_run_can_be_cancelled_between_two_windows():
    seen = []
    progress = Progress(lambda _, text: seen.append(text), lambda: len(seen) >= 3)
    with pytest.raises(Cancelled):
        run(an_image((36, 36, 36)), random_network(2), (12, 12, 12), 0.0, 2, progress=progress)
    assert seen == ["Window 1 of 27", "Window 2 of 27", "Window 3 of 27"]


def test_a_run_can_be_cancelled_between_two_layers_of_one_window():
    class Slow(nn.Module):
        """Asks to stop after its first layer, as a user would in the middle of a large window."""

        def __init__(self):
            super().__init__()
            self.first, self.second = random_network(2), random_network(2, channels=2)
            self.second_ran = False

        def forward(self, image):
            features = self.first(image)
            stop.append(True)
            result = self.second(features)
            self.second_ran = True
            return result

    stop, network = [], Slow()
    predictor = Predictor(network, progress=Progress(None, lambda: bool(stop)))
    predictor._seconds_between_checks = 0.0
    with pytest.raises(Cancelled):
        list(predictor.scores([torch.zeros(1, 8, 8, 8)]))
    assert not network.second_ran
    assert not any(layer._forward_pre_hooks for layer in network.modules())


def test_progress_rises_to_one_and_counts_the_windows_of_all_bands():
    seen = []
    progress = Progress(lambda fraction, text: seen.append((fraction, text)))
    run(an_image((24, 24, 24)), random_network(2), (12, 12, 12), 0.5, 2, limit=20_000, progress=progress)
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert seen[-1][1] == f"Window {len(seen)} of {len(seen)}"
