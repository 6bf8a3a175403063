"""Policies and rollouts by hand, what a run records, and that it learns."""

import dataclasses

import numpy as np
import pytest

from learners.tabular import config as config_lib
from learners.tabular import training
from learners.tabular.environments import ENVIRONMENTS


def config_of(env='four_rooms', **settings):
  config = config_lib.from_settings(env, None, settings)
  assert config_lib.problems(config) == []
  return config


TINY = config_of(episodes=12, max_steps=6, batch_size=8, eval_interval=4)


def test_softmax_prefers_where_scores_are_high():
  next_state = np.array([[0, 1], [1, 1]])
  policy = training.softmax_policy(next_state, np.array([0.1, 0.3]), 0.1)
  high = 1.0 / (1.0 + np.exp(-2.0))
  np.testing.assert_allclose(policy, [[1 - high, high], [0.5, 0.5]])


def test_greedy_takes_the_first_of_equals():
  next_state = np.array([[0, 1, 2, 1], [1, 0, 0, 2], [2, 2, 2, 2]])
  policy = training.greedy_policy(next_state, np.array([0.0, 0.5, 0.5]))
  np.testing.assert_array_equal(policy.argmax(axis=-1), [1, 0, 0])
  np.testing.assert_array_equal(policy.sum(axis=-1), 1.0)


def test_a_rollout_follows_the_policy():
  next_state = ENVIRONMENTS['empty']().next_state
  policy = np.tile([0.0, 0.25, 0.0, 0.75, 0.0], (25, 1))
  paths = np.stack([training.rollout(
      next_state, policy, 0, 4, np.random.default_rng(seed))
                    for seed in range(2000)])
  assert (paths[:, 0] == 0).all()
  downs = (paths // 5)[:, -1]
  # Four steps of a coin, none of which meets the border.
  np.testing.assert_allclose(
      np.bincount(downs, minlength=5) / 2000,
      [0.3164, 0.4219, 0.2109, 0.0469, 0.0039], atol=0.03)


def test_what_a_run_records():
  result = training.train(TINY, 3, keep_snapshots=True)
  assert result.learned.shape == result.initial.shape == (100, 16)
  # No update before two trajectories are stored.
  assert result.losses.shape == (11,)
  assert result.losses[0] == pytest.approx(np.log(8), abs=0.2)
  assert result.success.shape == (12,)
  np.testing.assert_array_equal(result.eval_episodes, [0, 4, 8, 12])
  assert result.eval_success.shape == (4,)
  assert result.visited_counts.sum() == 12 * 7
  assert result.visited_counts[0] >= 12
  assert [s.episode for s in result.snapshots] == [0, 4, 8, 12]
  last = result.snapshots[-1]
  np.testing.assert_allclose(
      last.similarity, result.learned @ result.learned[99])
  np.testing.assert_array_equal(last.visited_counts, result.visited_counts)
  assert last.eval_path.shape == (7,) and last.recent_paths.shape == (4, 7)
  np.testing.assert_allclose(
      np.linalg.norm(result.learned, axis=-1), 1.0, atol=1e-6)


def test_success_is_the_share_of_steps_at_the_goal():
  config = config_of('empty', episodes=1, max_steps=400, eval_interval=1)
  result = training.train(config, 0, keep_snapshots=True)
  (path,) = result.snapshots[-1].recent_paths
  near = np.isin(path[1:], [24, 23, 19])
  assert result.success[0] == pytest.approx(near.mean())
  assert near.any()


def assert_same(first, second):
  for name in ('learned', 'initial', 'visited_counts', 'losses', 'success'):
    np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_the_same_seed_gives_the_same_numbers():
  np.random.seed(0)
  first = training.train(TINY, 1)
  np.random.seed(1)
  assert_same(first, training.train(TINY, 1))
  other = training.train(TINY, 2)
  assert not np.array_equal(first.learned, other.learned)


def test_looking_more_often_changes_nothing():
  often = dataclasses.replace(TINY, eval_interval=1)
  assert_same(training.train(TINY, 1),
              training.train(often, 1, keep_snapshots=True))


def test_updates_come_every_so_many_episodes():
  config = dataclasses.replace(TINY, episodes_per_update=5)
  # Episode 0 alone is too few; then 5 and 10.
  assert len(training.train(config, 0).losses) == 2


def test_an_absorbing_region_begins_with_the_same_rows_and_is_not_left():
  config = dataclasses.replace(
      TINY, absorbing='0,1:4,4', init='distance_aware')
  result = training.train(config, 0, keep_snapshots=True)
  baseline = training.train(dataclasses.replace(config, absorbing=None), 0)
  np.testing.assert_array_equal(result.initial, baseline.initial)
  for path in result.snapshots[-1].recent_paths:
    inside = (path // 10 <= 4) & (path % 10 >= 1) & (path % 10 <= 4)
    assert (np.diff(path)[inside[:-1]] == 0).all()


@pytest.mark.parametrize('settings', [
    dict(goal='two'), dict(goal='imaginary'), dict(goal='random'),
    dict(representation='none'), dict(representation='none', goal='random'),
    dict(env_noise=0.5), dict(continuing=True), dict(offset_zero=False),
    dict(loss='forward'), dict(loss='both')])
def test_every_variant_runs_and_differs(settings):
  result = training.train(dataclasses.replace(TINY, **settings), 1)
  assert np.isfinite(result.learned).all()
  plain = training.train(TINY, 1)
  assert not (np.array_equal(result.learned, plain.learned)
              and np.array_equal(result.success, plain.success))


def test_a_continuing_episode_begins_where_the_last_ended():
  config = dataclasses.replace(TINY, continuing=True, eval_interval=1)
  snapshots = training.train(config, 0, keep_snapshots=True).snapshots
  for before, after in zip(snapshots[1:], snapshots[2:]):
    assert before.recent_paths[-1][-1] == after.recent_paths[-1][0]


def success_of(config, seeds):
  return np.stack([training.train(config, s).success > 0 for s in seeds])


def test_the_maze_is_explored_and_solved():
  success = success_of(config_of(eval_interval=500), range(10))
  assert success[:, :200].any(axis=-1).sum() >= 8
  assert success[:, -100:].mean() > 0.15


@pytest.mark.parametrize('settings', [
    dict(init='fully_random'), dict(representation='none')])
def test_the_controls_do_not_solve_the_maze(settings):
  success = success_of(config_of(eval_interval=500, **settings), range(4))
  assert success[:, -100:].mean() < 0.05


def test_three_discs_are_moved():
  success = success_of(config_of('hanoi_3', eval_interval=2000), range(5))
  assert success[:, -100:].mean() > 0.3
