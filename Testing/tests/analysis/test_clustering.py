from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.analysis import cluster_embeddings
from medseg.errors import Cancelled
from medseg.progress import Progress


def blobs(centres: np.ndarray, each: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(centres)), each)
    direction = rng.normal(size=(len(truth), centres.shape[1]))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = centres[truth] + direction * rng.uniform(0, spread, (len(truth), 1))
    order = rng.permutation(len(truth))
    return points[order].astype(np.float32), truth[order]


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    return len({*zip(first, second, strict=True)}) == len(set(first)) == len(set(second))


def plain_clusters(points: np.ndarray, delta: float, *, seed: int, iterations: int = 50) -> np.ndarray:
    """The loop of the paper with nothing clever in it, for the same order of random points."""
    labels = np.zeros(len(points), int)
    found = 0
    rng = np.random.default_rng(seed)
    waiting = np.arange(len(points))
    while waiting.size:
        for start in rng.permutation(waiting):
            if labels[start]:
                continue
            centre = points[start]
            for _ in range(iterations):
                inside = (labels == 0) & (np.linalg.norm(points - centre, axis=1) < delta)
                if not inside.any():
                    break
                moved = points[inside].mean(axis=0)
                step = np.linalg.norm(moved - centre)
                centre = moved
                if step < 1e-3:
                    break
            inside = (labels == 0) & (np.linalg.norm(points - centre, axis=1) < delta)
            found += 1
            labels[inside if inside.any() else start] = found
        waiting = waiting[labels[waiting] == 0]
    return labels


def test_points_closer_than_delta_to_their_mean_are_one_cluster() -> None:
    # The mean of 0 and 2 is 1, and both are at 1 from it; 10 is far away.
    found = cluster_embeddings(np.array([[0.0], [2.0], [10.0]]), delta=3.0)
    assert found[0] == found[1] != found[2]


def test_a_point_at_exactly_delta_is_outside() -> None:
    # From 0 the ball sees only 0, from 3 only 3: "below" 3, not "at most".
    assert len(set(cluster_embeddings(np.array([[0.0], [3.0]]), delta=3.0))) == 2
    assert len(set(cluster_embeddings(np.array([[0.0], [2.999]]), delta=3.0))) == 1


def test_the_ball_moves_to_the_mean_and_takes_what_it_finds_there() -> None:
    # Whichever of 0, 1, ... 4 is first: balls of radius 2.6 come to rest in the middle, at 2, and see all five.
    points = np.arange(5.0)[:, None]
    for seed in range(5):
        assert set(cluster_embeddings(points, delta=2.6, seed=seed)) == {1}


def test_clusters_six_apart_with_members_within_one_and_a_half_are_told_apart_exactly() -> None:
    # The margins of the training loss: no random member can see a voxel of another cluster.
    centres = 6.0 * np.eye(8)[:, :8] * np.sqrt(0.5) * 1.01
    points, truth = blobs(centres, 60, 1.49)
    assert same_partition(cluster_embeddings(points), truth)


def test_the_same_seed_gives_the_same_clusters() -> None:
    points = np.random.default_rng(3).normal(size=(300, 4)) * 4
    first = cluster_embeddings(points, seed=5)
    assert np.array_equal(first, cluster_embeddings(points, seed=5))
    assert not np.array_equal(first, cluster_embeddings(points, seed=6))


def test_a_mean_outside_every_ball_leaves_the_point_alone_and_ends() -> None:
    # Radius 1 around any of these sees the point itself only.
    points = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [5.0, 5.0]])
    assert sorted(cluster_embeddings(points, delta=1.0)) == [1, 2, 3, 4]


def test_no_point_and_one_point_are_clustered() -> None:
    assert cluster_embeddings(np.zeros((0, 32))).shape == (0,)
    assert cluster_embeddings(np.zeros((1, 32))).tolist() == [1]


def test_more_clusters_than_asked_for_are_left_at_zero() -> None:
    points = 10.0 * np.arange(7)[:, None]
    found = cluster_embeddings(points, most=3)
    assert sorted(found) == [0, 0, 0, 0, 1, 2, 3]


def test_clustering_can_be_cancelled() -> None:
    with pytest.raises(Cancelled):
        cluster_embeddings(np.zeros((4, 2)), progress=Progress(cancelled=lambda: True))


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="table"):
        cluster_embeddings(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="delta"):
        cluster_embeddings(np.zeros((2, 2)), delta=0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(1, 5), st.floats(0.5, 8.0))
def test_the_sorted_search_gives_what_the_plain_loop_gives(seed: int, count: int, width: int, spread: float) -> None:
    # Whole numbers over 16 are exact in float64, so that "<" falls the same way in both.
    points = np.round(np.random.default_rng(seed).normal(size=(count, width)) * spread * 16) / 16
    found = cluster_embeddings(points, delta=3.0, seed=seed)
    assert np.array_equal(found, plain_clusters(points, 3.0, seed=seed))


def test_many_voxels_are_clustered_in_a_moment() -> None:
    # Not a timing: with distances from every point to every other this would need 40 GB.
    centres = np.random.default_rng(1).normal(size=(12, 32)) * 4
    points, truth = blobs(centres, 4000, 1.4)
    assert same_partition(cluster_embeddings(points), truth)
