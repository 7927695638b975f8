"""Whether two volumes are of one contrast is measured where no file tells it, and decides what is compared."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from medseg.errors import InputError
from medseg.losses import local_ncc
from medseg.losses.similarity import local_correlation
from medseg.registration import RegistrationOptions, SpatialTransform, register
from medseg.registration.contrast import SAME_CONTRAST, contrast_agreement, have_one_contrast
from medseg.registration.instance import Objective
from medseg.volumes import Volume
from support.registration import a_head, a_smooth_warp, a_turn, moved

HERE = SpatialTransform()


@pytest.fixture(scope="module")
def head() -> Volume:
    return a_head((40, 48, 44), (3.0, 3.0, 3.0))


def inverted(volume: Volume) -> Volume:
    """The head with dark and bright exchanged, in the same air."""
    array = volume.array
    return volume.with_array(np.where(array > 0.05, 1.1 - array, array).astype(np.float32))


def of(volume: Volume, modality: str) -> Volume:
    return dataclasses.replace(volume, modality=modality)


def test_a_volume_agrees_with_itself_whatever_its_gain(head: Volume) -> None:
    brighter = head.with_array(7 * head.array + 100)
    assert contrast_agreement(head, brighter, HERE) == pytest.approx(1, abs=1e-3)


def test_a_warped_head_is_still_of_one_contrast(head: Volume) -> None:
    warped = moved(head, a_smooth_warp(head.geometry, 6.0))
    assert contrast_agreement(head, warped, HERE) > SAME_CONTRAST


def test_dark_for_bright_does_not_agree(head: Volume) -> None:
    negative = head.with_array(-head.array)
    assert contrast_agreement(head, negative, HERE) == pytest.approx(-1, abs=1e-3)
    assert -1 < contrast_agreement(head, inverted(head), HERE) < SAME_CONTRAST


def test_the_alignment_is_looked_through(head: Volume) -> None:
    turn = a_turn(20, (10, 0, 0))
    assert contrast_agreement(head, moved(head, turn), turn) > contrast_agreement(head, moved(head, turn), HERE)


def test_volumes_that_share_nothing_are_refused(head: Volume) -> None:
    with pytest.raises(InputError, match="shows nothing of what the fixed one"):
        contrast_agreement(head, head, a_turn(0, (900, 0, 0)))


@pytest.mark.parametrize(
    ("fixed", "moving", "one"),
    [("CT", "MR", False), ("CT", "CT", True), ("MR", "MR", None), ("", "", None), ("CT", "", None)],
)
def test_modalities_decide_where_they_can(head: Volume, fixed: str, moving: str, one: bool | None) -> None:
    for other, measured in ((head, True), (inverted(head), False)):
        expected = measured if one is None else one
        assert have_one_contrast(of(head, fixed), of(other, moving), HERE) is expected


def test_the_local_correlation_is_the_root_of_the_local_ncc() -> None:
    fixed, moved_image = torch.rand(2, 1, 1, 12, 13, 14).unbind(0)
    correlation = local_correlation(fixed, moved_image, 5)
    assert float(correlation.square().mean()) == pytest.approx(-float(local_ncc(fixed, moved_image, 5)), rel=1e-4)
    assert float(correlation.min()) < 0 < float(correlation.max())
    assert torch.allclose(local_correlation(fixed, -moved_image, 5), -correlation, atol=1e-5)


@pytest.mark.parametrize("modality", ["", "MR"])
def test_what_suits_the_contrasts_is_compared_and_said(head: Volume, modality: str) -> None:
    options = RegistrationOptions("field", initial=HERE, spacing_mm=12.0, device="cpu")
    same = register(of(head, modality), of(head, modality), options)
    assert same.similarity == "lncc"
    assert not any("brightness" in notice for notice in same.notices)
    other = register(of(head, modality), of(inverted(head), modality), options)
    assert other.similarity == "nmi"
    assert any("different brightness" in notice for notice in other.notices)


def test_what_the_user_chose_is_compared(head: Volume) -> None:
    options = RegistrationOptions(
        "field", initial=HERE, spacing_mm=12.0, device="cpu", objective=Objective(similarity="lncc")
    )
    found = register(head, inverted(head), options)
    assert found.similarity == "lncc"
    assert not any("brightness" in notice for notice in found.notices)


def test_two_modalities_need_no_word(head: Volume) -> None:
    options = RegistrationOptions("field", initial=HERE, spacing_mm=12.0, device="cpu")
    found = register(of(head, "CT"), of(inverted(head), "MR"), options)
    assert found.similarity == "nmi"
    assert not any("brightness" in notice for notice in found.notices)


def test_a_loss_is_not_taken_before_the_similarity_is_settled() -> None:
    with pytest.raises(ValueError, match="settled before"):
        Objective(similarity="auto").on(None)  # type: ignore[arg-type] # it is not looked at
