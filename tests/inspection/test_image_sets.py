"""Distances of sets of images against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.errors import UserError
from rather.inspection import image_sets
from rather.inspection.image_sets import cmmd, features, frechet
from rather.worlds.shapes.render import render
from rather.worlds.shapes.scene import Scene, Thing


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def whitened(random: np.random.Generator, n: int, d: int) -> np.ndarray:
    """[n, d] whose sample mean is 0 and whose sample covariance is 1, exactly."""
    points = random.normal(size=(n, d))
    points -= points.mean(0)
    return np.linalg.qr(points)[0] * np.sqrt(n - 1)


def positive(random: np.random.Generator, d: int) -> np.ndarray:
    root = random.normal(size=(d, d))
    return root @ root.T + 0.1 * np.eye(d)


def root_of(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def gaussians(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """The distance of two normal distributions by its definition, with square roots of matrices."""
    root = root_of(cov_a)
    shared = root_of(root @ cov_b @ root)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * shared))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(8, 30), st.integers(8, 30))
def test_frechet_is_the_distance_of_normal_distributions(seed: int, d: int, n: int, m: int) -> None:
    random = np.random.default_rng(seed)
    covariances = positive(random, d), positive(random, d)
    means = random.normal(size=(2, d))
    a, b = (
        whitened(random, number, d) @ root_of(covariance) + mean
        for number, covariance, mean in zip((n, m), covariances, means, strict=True)
    )
    expected = gaussians(means[0], covariances[0], means[1], covariances[1])
    assert frechet(a, b) == pytest.approx(expected, rel=1e-8, abs=1e-9)
    assert frechet(b, a) == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_commuting_covariances_by_hand() -> None:
    """Diagonal: |m_a - m_b|^2 + sum (sigma_a - sigma_b)^2."""
    unit = whitened(np.random.default_rng(0), 40, 3)
    a, b = unit * [1.0, 2.0, 3.0], unit[::-1] * [2.0, 2.0, 0.5] + [1.0, 0.0, -2.0]
    assert frechet(a, b) == pytest.approx(5 + 1 + 0 + 6.25)


def test_equal_sets_are_at_zero_and_more_features_than_images_are_no_problem() -> None:
    random = np.random.default_rng(1)
    for shape in ((40, 5), (5, 40)):
        points = random.normal(size=shape) * 100
        assert frechet(points, random.permutation(points)) == pytest.approx(0, abs=1e-7)
        assert cmmd(points, random.permutation(points)) == pytest.approx(0, abs=1e-8)
    few, other = random.normal(size=(2, 4, 9))
    covariances = np.cov(few, rowvar=False), np.cov(other, rowvar=False)
    assert frechet(few, other) == pytest.approx(
        gaussians(few.mean(0), covariances[0], other.mean(0), covariances[1]), rel=1e-6
    )
    assert frechet(few, few + 2) == pytest.approx(4 * 9)


def test_cmmd_is_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sets, "_ROWS", 3)
    random = np.random.default_rng(2)
    a, b = random.normal(size=(7, 4)), random.normal(size=(5, 4)) + 1
    unit_a, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))

    def mean(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.mean([[np.exp(-((x - y) ** 2).sum() / 200) for y in other] for x in one]))

    expected = 1000 * (mean(unit_a, unit_a) + mean(unit_b, unit_b) - 2 * mean(unit_a, unit_b))
    assert cmmd(a, b) == pytest.approx(expected, rel=1e-9)
    assert cmmd(a, 3 * a) == pytest.approx(0, abs=1e-9)


def test_shapes_are_counted() -> None:
    from PIL import Image

    things = (
        Thing("red", "circle", "solid", "large", 0.25, 0.25),
        Thing("red", "cross", "dotted", "large", 0.75, 0.75),
    )
    (row,) = features("shapes").of([Image.fromarray(render(Scene("grey", things)))])
    assert row.shape == (24,)
    assert row[[0, 8, 11, 13, 15, 17]].tolist() == [2, 1, 1, 1, 1, 2]  # red, circle, cross, solid, dotted, large
    assert row.sum() == 2 * 4 + 1  # four looks of each object, and a background


def test_features_are_named_in_python_too() -> None:
    with pytest.raises(UserError, match="did you mean 'shapes'"):
        features("shape")
