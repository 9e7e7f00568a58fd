"""Who is nearest by genes, beside comparing all with all."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from viz import neighbours


def drawn(members, kinds, steps, seed=0):
    """Two continuous coordinates and two shared ones of so many values."""
    random = np.random.default_rng(seed)
    shared = random.integers(0, kinds, (members, 2)) * steps
    return np.concatenate([random.random((members, 2)) / 3, shared], axis=1)


@pytest.mark.parametrize(
    ("members", "kinds", "steps"), [(400, 3, 1.0), (400, 9, 0.05), (40, 30, 1.0), (300, 2, 0.004)]
)
def test_the_nearest_are_as_near_as_those_of_all(monkeypatch, members, kinds, steps):
    monkeypatch.setattr(neighbours, "NOISE", 1e-9)
    points = drawn(members, kinds, steps)
    away = cdist(points, points, "cityblock")
    np.fill_diagonal(away, np.inf)
    wished = np.sort(away, axis=1)[:, :3]
    for few in (1500, 5):
        monkeypatch.setattr(neighbours, "FEW", few)
        found = neighbours.nearest(points, np.array([False, False, True, True]), 3)
        got = np.sort(np.take_along_axis(away, found, axis=1), axis=1)
        np.testing.assert_allclose(got, wished, atol=1e-7)


def test_equals_are_joined_to_each_other_at_random():
    points = np.repeat([[0.0, 0.0], [1.0, 0.0]], 50, axis=0)
    found = neighbours.nearest(points, np.array([True, True]), 3)
    assert (found // 50 == (np.arange(100) // 50)[:, None]).all()
    assert (found != np.arange(100)[:, None]).all()
    assert len(np.unique(found)) > 80


@pytest.mark.parametrize(("members", "wanted"), [(1, 0), (2, 1), (4, 3)])
def test_few_members_have_as_many_neighbours_as_there_are(members, wanted):
    none = np.zeros(2, bool)
    found = neighbours.nearest(np.zeros((members, 2)), none, 3)
    assert found.shape == (members, wanted)
    assert all(set(row) == set(range(members)) - {i} for i, row in enumerate(found.tolist()))


@pytest.mark.parametrize(("shared", "kinds"), [(True, 3), (True, 60), (False, 3)])
def test_of_many_members_those_found_are_nearly_the_nearest(monkeypatch, shared, kinds):
    monkeypatch.setattr(neighbours, "MANY", 300)
    monkeypatch.setattr(neighbours, "DIMENSIONS", 1)
    points = drawn(800, kinds, 1.0)
    found = neighbours.nearest(points, np.array([False, False, shared, shared]), 3)
    away = cdist(points, points, "cityblock")
    np.fill_diagonal(away, np.inf)
    got = np.take_along_axis(away, found, axis=1)
    assert all(len(set(row)) == 3 for row in found.tolist())
    assert got.mean() < 1.2 * np.sort(away, axis=1)[:, :3].mean()
