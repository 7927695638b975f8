"""The discriminative loss, term by term, with numbers that a person can check."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.losses import Margins, discriminative_loss, discriminative_terms


def points(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, requires_grad=True)


def test_two_points_of_an_instance_twice_the_pull_apart_cost_nothing() -> None:
    x = points((0.0, 0.0), (3.0, 0.0))
    terms = discriminative_terms(x, torch.tensor([7, 7]))
    assert terms.variance.item() == 0.0
    terms.variance.backward()
    assert not x.grad.any()


def test_the_variance_is_the_mean_over_instances_of_the_squared_excess() -> None:
    x = points((0.0, 0.0), (4.0, 0.0), (9.0, 9.0))
    terms = discriminative_terms(x, torch.tensor([1, 1, 5]))
    # Both members of the first are 2 from their mean, 0.5 too far; the second has one member: (0.25 + 0) / 2.
    assert terms.variance.item() == pytest.approx(0.125)
    terms.variance.backward()
    # d/dx of 0.5 (|x - y| / 2 - 1.5)^2, the mean moving along: 0.5 (4 / 2 - 1.5) towards each other.
    assert torch.allclose(x.grad, torch.tensor([[-0.25, 0.0], [0.25, 0.0], [0.0, 0.0]]))


def test_an_instance_weighs_the_same_however_many_voxels_it_has() -> None:
    x = points(*[(0.0,)] * 9, (4.0,), (10.0,), (14.0,))
    terms = discriminative_terms(x, torch.tensor([1] * 10 + [2] * 2))
    # Mean 0.4: nine members within the pull, one 3.6 away; the second: two members 2 away.
    assert terms.variance.item() == pytest.approx(((3.6 - 1.5) ** 2 / 10 + 0.25) / 2)


def test_means_twice_the_push_apart_cost_nothing() -> None:
    x = points((0.0, 0.0), (6.0, 0.0))
    terms = discriminative_terms(x, torch.tensor([1, 2]))
    assert terms.distance.item() == 0.0
    terms.distance.backward()
    assert not x.grad.any()


def test_the_distance_is_the_mean_over_ordered_pairs_of_the_squared_lack() -> None:
    x = points((0.0,), (1.0,), (10.0,))
    terms = discriminative_terms(x, torch.tensor([1, 2, 3]))
    # 5 is lacking between the first two, nothing else: 2 * 25 over 3 * 2 ordered pairs.
    assert terms.distance.item() == pytest.approx(50 / 6)
    terms.distance.backward()
    # 2 * 2 * 5 / 6 apart from each other.
    assert torch.allclose(x.grad, torch.tensor([[10 / 3], [-10 / 3], [0.0]]))


def test_the_regular_term_is_the_mean_length_of_the_means() -> None:
    x = points((3.0, 4.0), (3.0, 4.0), (0.0, 2.0))
    terms = discriminative_terms(x, torch.tensor([1, 1, 2]))
    assert terms.regular.item() == pytest.approx((5 + 2) / 2)


def test_the_total_has_the_published_weights() -> None:
    terms = discriminative_terms(points((0.0, 0.0), (4.0, 0.0), (2.0, 4.0)), torch.tensor([1, 1, 2]))
    # variance 0.125, means (2, 0) and (2, 4): distance (6 - 4)^2, regular (2 + sqrt(20)) / 2.
    expected = 1.5 * 0.125 + 1.0 * 4 + 0.0001 * (2 + 20**0.5) / 2
    assert terms.total().item() == pytest.approx(expected)
    other = Margins(variance=2.0, distance=0.0, regular=1.0)
    assert terms.total(other).item() == pytest.approx(2 * 0.125 + (2 + 20**0.5) / 2)


def test_one_instance_has_no_distance_and_none_has_nothing() -> None:
    one = discriminative_terms(points((1.0, 0.0), (1.0, 0.0)), torch.tensor([4, 4]))
    assert (one.variance.item(), one.distance.item(), one.regular.item()) == (0.0, 0.0, 1.0)
    none = discriminative_terms(torch.zeros((0, 2)), torch.zeros(0, dtype=torch.int16))
    assert [term.item() for term in none] == [0.0, 0.0, 0.0]


def test_points_that_coincide_have_a_finite_gradient() -> None:
    x = points((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    discriminative_terms(x, torch.tensor([1, 1, 2])).total().backward()
    assert torch.isfinite(x.grad).all()


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 25), instances=st.integers(1, 6))
def test_the_terms_are_the_sums_of_the_paper(seed: int, count: int, instances: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn((count, 3), generator=generator, dtype=torch.float64)
    member = torch.randint(-3, instances, (count,), generator=generator)
    clusters = [x[member == number] for number in member.unique()]
    means = [cluster.mean(0) for cluster in clusters]
    variance = distance = regular = 0.0
    for cluster, mean in zip(clusters, means, strict=True):
        pulls = [max(0.0, float((mean - point).norm()) - 1.5) ** 2 for point in cluster]
        variance += sum(pulls) / len(cluster) / len(clusters)
        regular += float(mean.norm()) / len(clusters)
    for a, one in enumerate(means):
        for b, other in enumerate(means):
            if a != b:
                lack = max(0.0, 6.0 - float((one - other).norm()))
                distance += lack**2 / (len(means) * (len(means) - 1))
    terms = discriminative_terms(x, member)
    assert [term.item() for term in terms] == pytest.approx([variance, distance, regular], rel=1e-4, abs=1e-4)


def test_groups_are_averaged_and_other_voxels_left_out() -> None:
    embeddings = torch.tensor([[0.0, 1.0, 10.0, 14.0, 50.0, 60.0]], requires_grad=True)
    classes = torch.tensor([1, 1, 2, 2, 3, 2])
    instances = torch.tensor([1, 2, 3, 3, 4, 0])
    shaped = [tensor.reshape(1, 1, 1, 6) for tensor in (classes, instances)]
    loss = discriminative_loss(embeddings.reshape(1, 1, 1, 1, 6), *shaped, [1, 2, 4])
    first = 1.0 * 25 + 1e-4 * 0.5
    second = 1.5 * 0.25 + 1e-4 * 12
    assert loss.item() == pytest.approx((first + second) / 2)
    loss.backward()
    assert embeddings.grad[0, :4].all()
    # The fifth is of no group, the sixth of a group but of no instance.
    assert not embeddings.grad[0, 4:].any()


def test_jointly_the_instances_of_all_groups_repel_each_other() -> None:
    embeddings = torch.tensor([[0.0, 2.0]]).reshape(1, 1, 1, 1, 2)
    classes = torch.tensor([1, 2]).reshape(1, 1, 1, 2)
    instances = torch.tensor([1, 2]).reshape(1, 1, 1, 2)
    apart = discriminative_loss(embeddings, classes, instances, [1, 2])
    together = discriminative_loss(embeddings, classes, instances, [1, 2], joint=True)
    assert apart.item() == pytest.approx(1e-4)
    assert together.item() == pytest.approx(16 + 1e-4)


def test_instances_of_two_cases_do_not_meet_and_a_case_without_any_counts_zero() -> None:
    embeddings = torch.tensor([0.0, 0.0, 0.0, 1.0]).reshape(2, 1, 1, 1, 2).requires_grad_()
    classes = torch.ones((2, 1, 1, 2), dtype=torch.uint8)
    instances = torch.tensor([1, 1, 1, 2], dtype=torch.int16).reshape(2, 1, 1, 2)
    loss = discriminative_loss(embeddings, classes, instances, [1])
    assert loss.item() == pytest.approx((0.0 + 25 + 0.5e-4) / 2)
    loss = discriminative_loss(embeddings, classes, instances, [2])
    assert loss.item() == 0.0
    loss.backward()
    assert not embeddings.grad.any()


def test_half_precision_is_summed_in_single() -> None:
    half = torch.full((1, 2, 1, 1, 70_000), 8.0, dtype=torch.float16)
    ones = torch.ones((1, 1, 1, 70_000), dtype=torch.uint8)
    loss = discriminative_loss(half, ones, ones.short(), [1])
    assert loss.item() == pytest.approx(1e-4 * 128**0.5, rel=1e-4)
