"""The sum tree against a cumulative sum."""

import numpy as np
import pytest

from replay.sum_tree import SumTree


@pytest.mark.parametrize('capacity', [1, 5, 64])
def test_found_indices_are_those_of_the_cumulative_sum(capacity):
  rng = np.random.default_rng(0)
  tree, priority = SumTree(capacity), np.zeros(capacity)
  for _ in range(20):
    index = rng.integers(capacity, size=7)
    value = rng.uniform(size=7) * (rng.uniform(size=7) > 0.3)
    tree.set(index, value)
    for i, v in zip(index, value):
      priority[i] = v
    last = int(rng.integers(capacity))
    tree.set_one(last, 0.25)
    priority[last] = 0.25
    np.testing.assert_allclose(tree.get(np.arange(capacity)), priority)
    assert tree.total == pytest.approx(priority.sum())
    if not priority.any():
      continue
    uniform = rng.random(200)
    wanted = np.searchsorted(
        np.cumsum(priority), uniform * priority.sum(), side='right')
    found = tree.find(uniform)
    np.testing.assert_array_equal(found, wanted)
    assert np.all(priority[found] > 0)


def test_rounding_leads_to_no_empty_leaf():
  tree = SumTree(8)
  tree.set(np.array([2]), np.array([0.1]))
  np.testing.assert_array_equal(
      tree.find(np.array([0.0, 0.5, np.nextafter(1.0, 0.0)])), [2, 2, 2])
