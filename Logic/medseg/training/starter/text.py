"""The text of a recipe to start from, with a comment at everything that its user may want to change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from medseg.training.starter.pieces import EVALUATION, FLIPS, MOST_FOLDS, data_section, head, if_not_drawn, listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.training.starter.plan import Plan
    from medseg.training.starter.survey import Study, SurveyedCase


def recipe_text(plan: Plan, studied: Study, *, name: str, labels_file: str, labels: LabelTable) -> str:
    """Return the recipe in YAML."""
    parts = [
        head(
            f"{name}, made to fit the data",
            "medseg train --new",
            labels_file,
            "names, colours and terminology codes; name the labels there",
        ),
        _package(plan, name, labels),
        data_section(studied, plan.values, folds=min(MOST_FOLDS, len(studied.cases)), of="the label table")
        + "  annotated: all  # present: a label that a case does not hold was not drawn there\n",
        _network(plan, labels),
        _preprocessing(plan),
        _rest(plan),
    ]
    return "\n".join(parts)


def notes_on(
    plan: Plan, cases: Sequence[SurveyedCase], labels: LabelTable, labels_path: Path, *, names_found: bool
) -> list[str]:
    """Return what the user should look at, one sentence each."""
    spacing = " x ".join(f"{step:g}" for step in plan.spacing)
    size = " x ".join(map(str, plan.size))
    notes = [f"{len(cases)} cases of {plan.modality}; the network sees them at {spacing} mm, about {size} voxels."]
    if plan.coarsened:
        notes.append("That is coarser than the images, which are large; set preprocessing.spacing finer if it matters.")
    if not names_found:
        notes.append(f"Name the labels in {labels_path}.")
    absent = []
    for value, becomes in plan.values.items():
        count = sum(value in case.voxels for case in cases)
        if count < len(cases):
            absent.append(f"{labels.by_value(becomes).name} in {len(cases) - count}")
    if absent:
        notes.append(
            f"Not every case has every label: {', '.join(absent)} of {len(cases)} cases lack it. "
            + if_not_drawn("there")
        )
    notes.append("Say in the recipe what the data are and under which licence the model may be used (package).")
    return notes


def _package(plan: Plan, name: str, labels: LabelTable) -> str:
    title = " ".join(word.upper() if word in ("ct", "mr") else word for word in name.split("-"))
    title = title[:1].upper() + title[1:]
    inputs = ""
    if plan.channels > 1:
        lines = [f"    - {{name: Image {number + 1}, modality: {plan.modality}}}\n" for number in range(plan.channels)]
        inputs = "  inputs:\n" + "".join(lines)
    return f"""\
package:
  name: {name}
  version: 0.1.0
  title: {json.dumps(title)}
  description: {json.dumps(f"{listed(labels.names)} in {plan.modality}.", ensure_ascii=False)}
  anatomy: []  # words under which the model is found
  modality: {plan.modality}
{inputs}  minimum_slices: {plan.fewest_slices}
  authors: ""
  copyright: ""
  license: NOASSERTION  # an SPDX name, such as CC-BY-4.0; what the licence of the data allows
  data_sources: not described
  limits: ""  # on what the model was not tried, where it is known to fail
  picture: false  # true: put a picture of a case kept aside into the package, if the data allow it
  largest_component: false  # true: keep the largest piece of each label only
  fill_holes: false
"""


def _network(plan: Plan, labels: LabelTable) -> str:
    levels = len(plan.strides)
    deep = min(2, levels - 2)
    supervision = f"    deep_supervision: true\n    deep_supr_num: {deep}\n" if deep > 0 else ""
    return f"""\
network:
  target: monai.networks.nets.DynUNet  # a 3D U-Net; any network of monai.networks.nets or medseg.networks
  arguments:
    spatial_dims: 3
    in_channels: {plan.channels}
    out_channels: {labels.values[-1] + 1}  # the largest label value and the background
    kernel_size: {_lists(plan.kernels)}
    strides: {_lists(plan.strides)}
    upsample_kernel_size: {_lists(plan.strides[1:])}
    filters: {list(plan.filters)}
    norm_name: instance
{supervision}"""


def _preprocessing(plan: Plan) -> str:
    if plan.intensity is None:
        step = "    - kind: normalize  # mean 0 and standard deviation 1 in every case\n"
    else:
        low, high = plan.intensity
        step = f"""\
    - kind: scale_range  # HU, from what the labelled structures hold
      a_min: {low:g}
      a_max: {high:g}
      b_min: -1
      b_max: 1
      clip: true
"""
    why = "# mm; coarser than the images, to keep them small" if plan.coarsened else "# mm, the median of the data"
    return f"""\
preprocessing:
  orientation: {plan.orientation}
  spacing: {list(plan.spacing)}  {why}
  intensity:
{step}window:
  size: {list(plan.window)}  # voxels; larger sees more around each place and needs more memory
  overlap: 0.5
"""


def _rest(plan: Plan) -> str:
    if plan.intensity is None:
        augmentation = f"augmentation: {{}}  # the defaults; {FLIPS}\n"
    else:
        # Intensities of CT mean something: they are shaken little.
        augmentation = f"""\
augmentation:  # {FLIPS}
  noise_std: 0.06
  gamma_probability: 0
  bias_probability: 0
  intensity_shift: 0.06
  intensity_scale: 0.1
"""
    return f"""\
{augmentation}loss:
  kind: dice_ce
optimisation:
  epochs: 100  # more is better, with less and less to gain; the run can be stopped and gone on with
  steps_per_epoch: 50
  batch_size: {plan.batch_size}
  learning_rate: 1.0e-3
  foreground_patches: 0.6
  validate_every: 5
{EVALUATION}"""


def _lists(levels: Sequence[tuple[int, int, int]]) -> str:
    return json.dumps([level[0] if len(set(level)) == 1 else list(level) for level in levels])
