"""The per-case tool: labels drawn on a thick copy of a volume become labels on its thin slices.

Importing this costs nothing; torch comes when a network is trained, SimpleITK with the first distances.
"""

from __future__ import annotations

import csv
import io
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.device import choose_device, release_memory
from medseg.errors import Cancelled, DeviceMemoryError, InputError
from medseg.files import atomic_path
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.thin_thick.case import Case, make_case
from medseg.training.thin_thick.drawing import SliceAgreement, agreement, keep_drawing
from medseg.training.thin_thick.shapes import Interpolation, LabelShapes, classes_of, places_of_thin_slices
from medseg.volumes import check_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from medseg.volumes import Volume

Method = Literal["guided", "joint", "shape"]

_POOR_DICE = 0.7
_SMALL_SLICE = 0.2  # of the voxels of the slice on which the label is largest

AGREEMENT_COLUMNS = (
    "thick_slice",
    "first_thin_slice",
    "last_thin_slice",
    "label",
    "drawn_voxels",
    "mean_difference",
    "dice",
)


@dataclass(frozen=True)
class TransferOptions:
    """How to transfer.

    Attributes
    ----------
    method
        "guided": interpolation of the drawn shapes, corrected by a network that learns from the image of this case
        (:mod:`~medseg.training.thin_thick.guided`). "shape": the interpolation alone, in a second or two. "joint": the
        paper's, a network that sees only the image, trained with the joint loss.
    keep_drawing
        Make more than half of the thin slices of a thick one show what was drawn, voxel by voxel; ``None``: yes but for
        "joint", which the paper does not have it for.
    interpolation
        Of "shape" and under "guided": "cubic", or "classic", shape-based interpolation as the textbook has it; see
        :class:`~medseg.training.thin_thick.shapes.LabelShapes`.
    steps, seconds
        Length of the training, and the time at which it ends at the latest.
    weights
        l1, l2, l3 of the joint loss.
    margin_mm
        How much of the image around the labels is looked at, within the slice.
    seed
        The same seed, the same result.
    device
        "auto", "cpu", "cuda" or "cuda:N".

    Raises
    ------
    InputError
        When a value is outside its range.
    """

    method: Method = "guided"
    keep_drawing: bool | None = None
    interpolation: Interpolation = "cubic"
    steps: int = 400
    seconds: float = 180.0
    weights: tuple[float, float, float] = (1.0, 1.0, 0.1)
    margin_mm: float = 15.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.method not in ("guided", "joint", "shape"):
            raise InputError(
                f"There is no method '{self.method}' to transfer labels.", advice="Choose guided, shape or joint."
            )
        if self.interpolation not in ("cubic", "classic"):
            raise InputError(f"There is no interpolation '{self.interpolation}'.", advice="Choose cubic or classic.")
        if not 1 <= self.steps <= 100_000 or not 0 < self.seconds <= 86_400:
            raise InputError(
                f"{self.steps} steps in at most {self.seconds:g} s is no training.",
                advice="Give at least one step and a positive number of seconds.",
            )
        weights = tuple(self.weights)
        if len(weights) != 3 or min(weights) < 0 or max(weights[:2]) == 0:
            raise InputError(
                f"The weights of the joint loss are {self.weights}.",
                advice="Give three numbers from 0; the first or the second must be above 0.",
            )
        if not 0 < self.margin_mm <= 500:
            raise InputError(f"The margin is {self.margin_mm:g} mm.", advice="Give a number from above 0 to 500.")
        # JSON brings a list.
        object.__setattr__(self, "weights", weights)

    @property
    def keeps_drawing(self) -> bool:
        """Whether what was drawn is enforced."""
        return self.method != "joint" if self.keep_drawing is None else self.keep_drawing


@dataclass
class TransferResult:
    """Labels on thin slices.

    Attributes
    ----------
    labelmap
        uint8 (uint16, uint32 when a value needs it) on exactly the grid of the thin volume.
    values
        The label values that were drawn.
    agreement
        One row for each thick slice and label: how far the result shows what was drawn.
    notices
        What the user should know, whole sentences.
    timings
        Seconds: "prepare", "train", "apply", "total".
    device
        Where the network was trained: "cpu", "cuda:0".
    """

    labelmap: Volume
    values: tuple[int, ...]
    agreement: list[SliceAgreement]
    notices: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"


def transfer(
    thin: Volume,
    thick_labels: Volume,
    options: TransferOptions | None = None,
    *,
    progress: Progress = NO_PROGRESS,
) -> TransferResult:
    """Turn labels drawn on a thick copy of ``thin`` into labels on its thin slices.

    Parameters
    ----------
    thin
        The image; any orientation, oblique or sheared.
    thick_labels
        Whole numbers, 0 for background, on the grid of a :func:`~medseg.training.thin_thick.thick.thick_copy` of
        ``thin`` or a part of it. A voxel belongs to a label when more than half of its thickness does: what is seen
        when the outline is drawn where the averaged image is half bright.
    options
        See :class:`TransferOptions`.
    progress
        Told at every step; cancelling takes less than a second and leaves nothing behind.

    Raises
    ------
    InputError, GeometryError
        When the image cannot be used, or the labels are empty or do not lie on a thick copy of it.
    DeviceError, DeviceMemoryError
        When the device is not there, or the memory is too small.
    Cancelled
        When the user asked to stop.
    """
    stopped: Cancelled | DeviceMemoryError
    try:
        return _Transfer(thin, thick_labels, options or TransferOptions(), progress).run()
    except Cancelled as error:
        stopped = Cancelled(error.message, advice=error.advice)
    except MemoryError:
        stopped = DeviceMemoryError(
            "There is not enough memory to transfer these labels.",
            advice="Crop the volume, transfer fewer labels at once, or close other programs.",
        )
    # Raised here: the first exception's traceback holds the arrays of its frames.
    release_memory()
    raise stopped


class _Transfer:
    def __init__(self, thin: Volume, labels: Volume, options: TransferOptions, progress: Progress) -> None:
        self.thin, self.labels, self.options, self.progress = thin, labels, options, progress
        self.notices: list[str] = []
        self.timings: dict[str, float] = {}
        self.device = "cpu"

    def run(self) -> TransferResult:
        begun = time.perf_counter()
        self.progress.update(0.0, "Checking the images")
        if self.labels.array.dtype.kind not in "bui" or self.labels.array.min() < 0:
            raise InputError(
                "The labels on the thick slices are not whole numbers from 0.", advice="Choose the label map."
            )
        self.notices += check_image(self.thin, purpose="transferring labels")
        case = make_case(self.thin, self.labels, self.options.margin_mm)
        self.progress.update(0.02, "Measuring the labels")
        shapes = LabelShapes(
            case.drawn,
            range(1, len(case.values) + 1),
            case.thick_spacing,
            self.options.interpolation,
            progress=self.progress.part(0.02, 0.06),
        )
        self.timings["prepare"] = time.perf_counter() - begun
        scores_of = self._method(case, shapes)
        applied = time.perf_counter()
        classes = self._classes(case, scores_of)
        labelmap = case.restored(classes, self.thin)
        rows = agreement(classes, case.drawn, range(1, len(case.values) + 1), first=case.first, ratio=case.ratio)
        self.timings["apply"] = time.perf_counter() - applied
        self.timings["total"] = time.perf_counter() - begun
        self._judge(rows, case)
        self.progress.update(1.0, "Done")
        return TransferResult(
            labelmap=labelmap,
            values=case.values,
            agreement=[_of_volume(row, case) for row in rows],
            notices=self.notices,
            timings=self.timings,
            device=self.device,
        )

    def _method(self, case: Case, shapes: LabelShapes) -> Callable[[int], np.ndarray]:
        """Train what is to be trained and return the function that gives the scores of a thin slice."""
        places = places_of_thin_slices(len(case.image), case.first, case.ratio, len(case.drawn))

        def interpolated(slice_: int) -> np.ndarray:
            return shapes.at(places[slice_])

        if self.options.method == "shape":
            self.timings["train"] = 0.0
            return interpolated
        from medseg.segmentation.predictor import considerate_threads
        from medseg.training.thin_thick import guided, joint

        choice = choose_device(self.options.device)
        if choice.fell_back:
            self.notices.append(choice.reason)
        schedule = guided.Schedule(steps=self.options.steps, seconds=self.options.seconds, seed=self.options.seed)
        begun = time.perf_counter()

        def train(device: str) -> Any:
            progress = self.progress.part(0.06, 0.85)
            if self.options.method == "joint":
                return joint.fit_joint(case, self.options.weights, schedule, device, progress)
            return guided.fit_guided(case, shapes, schedule, device, progress)

        with considerate_threads():
            trained = self._on_device(train, choice.device)
        self.timings["train"] = time.perf_counter() - begun
        if trained is None:
            self.notices.append(
                "The labels cover too few thick slices to learn from (at least three are needed): their shapes were"
                " interpolated without looking at the image."
            )
            return interpolated
        model, steps = trained
        if steps.was_cut:
            self.notices.append(
                f"Learning was stopped after {self.options.seconds:.0f} s, at step {steps.taken} of"
                f" {self.options.steps}."
            )
        if self.options.method == "joint":
            return lambda slice_: joint.joint_scores(model, case, slice_)
        return lambda slice_: guided.guided_scores(model, case, interpolated(slice_), places[slice_], slice_)

    def _on_device(self, train: Callable[[str], Any], device: str) -> Any:
        import torch

        self.device = device
        try:
            return train(device)
        except torch.cuda.OutOfMemoryError:
            self.notices.append("The graphics card has too little memory; the processor was used instead.")
        release_memory()
        self.device = "cpu"
        return train("cpu")

    def _classes(self, case: Case, scores_of: Callable[[int], np.ndarray]) -> np.ndarray:
        """Return class indices (T, rows, columns) of the crop, one group of thin slices at a time."""
        classes = np.zeros(case.image.shape, np.uint16)
        progress = self.progress.part(0.85, 1.0)

        def scored(slice_: int) -> np.ndarray:
            progress.update(slice_ / len(classes), f"Slice {slice_ + 1} of {len(classes)}")
            return scores_of(slice_)

        grouped = np.zeros(len(classes), bool)
        for number, drawn in enumerate(case.drawn):
            members = range(*case.group(number).indices(len(classes)))
            grouped[members] = True
            scores = np.stack([scored(slice_) for slice_ in members], axis=1)
            if self.options.keeps_drawing:
                keep_drawing(scores, drawn)
            classes[members] = classes_of(scores)
        for slice_ in np.flatnonzero(~grouped).tolist():
            classes[slice_] = classes_of(scored(slice_))
        return classes

    def _judge(self, rows: Sequence[SliceAgreement], case: Case) -> None:
        """Tell where the result shows something else than what was drawn."""
        largest: dict[int, int] = {}
        for row in rows:
            largest[row.value] = max(largest.get(row.value, 0), row.drawn_voxels)
        # At its ends a label is small on a slice and rounded off: that is no disagreement.
        whole = [row for row in rows if row.drawn_voxels > _SMALL_SLICE * largest[row.value]]
        worst = min(whole, key=lambda row: row.dice, default=None)
        if worst is not None and worst.dice < _POOR_DICE:
            self.notices.append(
                f"The result agrees least with what was drawn on thick slice {worst.thick_slice + case.first_drawn + 1}"
                f" (label {case.values[worst.value - 1]}, Dice {worst.dice:.2f}): look at it."
            )


def _of_volume(row: SliceAgreement, case: Case) -> SliceAgreement:
    """Return a row about the crop as one about the whole volume."""
    return SliceAgreement(
        thick_slice=row.thick_slice + case.first_drawn,
        first_thin=row.first_thin + case.start[0],
        last_thin=row.last_thin + case.start[0],
        value=case.values[row.value - 1],
        drawn_voxels=row.drawn_voxels,
        mean_difference=row.mean_difference,
        dice=row.dice,
    )


def write_agreement_csv(path: str | Path, rows: Sequence[SliceAgreement]) -> None:
    """Write the agreement as a table (UTF-8, commas, :data:`AGREEMENT_COLUMNS`; slices counted from 0).

    Raises
    ------
    WriteError
        When the file cannot be written; what stood there before is untouched.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(AGREEMENT_COLUMNS)
    for row in rows:
        figures = (f"{row.mean_difference:.4f}", f"{row.dice:.4f}")
        writer.writerow((row.thick_slice, row.first_thin, row.last_thin, row.value, row.drawn_voxels, *figures))
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="\n")
