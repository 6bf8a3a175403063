"""Offsets against their closed form; what is kept, and what is drawn."""

import numpy as np
import pytest
from scipy import stats

from learners.tabular.trajectories import sample_offsets, Trajectories


@pytest.mark.parametrize('num, discount', [(2, 0.5), (8, 0.9), (50, 0.99)])
def test_offsets_are_truncated_geometric(num, discount):
  draws = sample_offsets(
      np.full(40_000, num), discount, np.random.default_rng(0))
  chances = discount ** np.arange(num)
  expected = len(draws) * chances / chances.sum()
  result = stats.chisquare(np.bincount(draws, minlength=num), expected)
  assert result.pvalue > 1e-3


@pytest.mark.parametrize('offset_zero', [True, False])
def test_pairs_have_the_joint_distribution_of_time_and_offset(offset_zero):
  length, discount = 5, 0.7
  replay = Trajectories(3, length)
  # States say which trajectory and which time.
  for k in range(3):
    replay.add(10 * k + np.arange(length))
  anchors, futures = replay.sample(
      60_000, discount, offset_zero, np.random.default_rng(1))
  np.testing.assert_array_equal(anchors // 10, futures // 10)
  expected = np.zeros((3, length, length))
  for i in range(length - 1):
    offsets = np.arange(0 if offset_zero else 1, length - i)
    chances = discount**offsets / np.sum(discount**offsets)
    expected[:, i, i + offsets] = chances / (3 * (length - 1))
  counts = np.zeros_like(expected)
  np.add.at(counts, (anchors // 10, anchors % 10, futures % 10), 1)
  possible = expected > 0
  assert not counts[~possible].any()
  result = stats.chisquare(
      counts[possible], expected[possible] * len(anchors))
  assert result.pvalue > 1e-3


def test_one_option_leaves_no_choice():
  draws = sample_offsets(np.ones(100, int), 0.99, np.random.default_rng(0))
  assert not draws.any()


def test_the_oldest_trajectory_makes_room():
  replay = Trajectories(2, 3)
  assert len(replay) == 0 and replay.newest(4).shape == (0, 3)
  for k in range(5):
    replay.add(np.full(3, k))
  assert len(replay) == 2
  np.testing.assert_array_equal(replay.newest(4)[:, 0], [3, 4])
  np.testing.assert_array_equal(replay.newest(1)[:, 0], [4])
  anchors, _ = replay.sample(100, 0.9, True, np.random.default_rng(0))
  assert set(anchors) == {3, 4}


def test_shapes_are_checked():
  with pytest.raises(ValueError, match=r'\[B\]'):
    sample_offsets(np.ones((2, 2), int), 0.9, np.random.default_rng(0))
