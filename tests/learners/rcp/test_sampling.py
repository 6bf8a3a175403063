"""What the value network learns from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.rcp import config as config_lib
from learners.rcp import sampling
from tests.learners.rcp.test_losses import by_hand

LIMIT, WEIGHT = 6, 0.7
LENGTH = np.array([6, 2, 4, 1, 5])


def value(params, state):
  """Of a state is a multiple of its only entry."""
  return params * state[..., 0]


def some_episodes():
  """Five episodes whose states all differ, so that each tells its place."""
  rng = np.random.default_rng(1)
  return {
      'observation': jnp.arange(5.0 * (LIMIT + 1)).reshape(5, LIMIT + 1, 1),
      'action': jnp.zeros((5, LIMIT), jnp.int32),
      'reward': jnp.array(rng.normal(size=(5, LIMIT)), jnp.float32),
      'length': jnp.array(LENGTH),
      'episode_return': jnp.zeros(5),
  }


def settings(**changes):
  config = config_lib.from_settings('rcp_a', 'cpu', dict(
      batch_size=64, discount=0.9, gae_lambda=0.8, value_episodes=3))
  return dataclasses.replace(config, **changes)


def targets_by_place():
  """TD(lambda) targets `[5, LIMIT]`, computed in NumPy."""
  episodes = some_episodes()
  next_value = WEIGHT * np.asarray(episodes['observation'])[:, 1:, 0]
  return by_hand(np.asarray(episodes['reward'], np.float64), next_value,
                 LENGTH, 0.9, 0.8)


def draw(config, seed=0):
  """Returns sampled values, and the episode and time of each row."""
  episodes = some_episodes()
  rows = sampling.row_sampler(config, episodes)(jax.random.key(9))
  values = sampling.value_sampler(
      config, value, episodes, jnp.array(WEIGHT))(
          jax.random.key(seed), rows, jnp.array(WEIGHT))
  place = np.asarray(values.state)[:, 0].round().astype(int)
  return rows, values, place // (LIMIT + 1), place % (LIMIT + 1)


def test_states_alone_are_drawn_evenly_from_a_few_episodes():
  _, values, row, t = draw(settings(batch_size=6000))
  np.testing.assert_allclose(
      values.target, targets_by_place()[row, t], atol=1e-4)
  assert np.all(np.asarray(values.weight) == 1.0)
  counts = np.zeros((5, LIMIT))
  np.add.at(counts, (row, t), 1)
  # 12 steps in the first three episodes; a deviation is about 22.
  expected = np.where(
      np.arange(LIMIT) < LENGTH[:, np.newaxis], 6000 / 12, 0.0)
  expected[3:] = 0.0
  np.testing.assert_allclose(counts, expected, atol=110)


def test_paths_lead_from_a_step_to_the_end():
  for seed in range(8):
    _, values, row, t = draw(
        settings(value_states='paths', value_paths=1), seed)
    there = np.asarray(values.weight) == 1.0
    np.testing.assert_allclose(
        np.asarray(values.target)[there],
        targets_by_place()[row, t.clip(max=LIMIT - 1)][there], atol=1e-4)
    times = t[there]
    assert len(set(row)) == 1
    assert times.tolist() == list(range(times[0], LENGTH[row[0]]))


def test_without_lambda_the_rows_of_the_policy_are_regressed_on_returns():
  rows, values, _, _ = draw(settings(use_lambda_td=False))
  assert np.array_equal(values.state, rows.state)
  assert np.array_equal(values.target, rows.to_go)


@pytest.mark.parametrize('episodes', [1, 5, 50])
def test_more_episodes_than_there_are_is_all_of_them(episodes):
  _, _, row, _ = draw(settings(value_episodes=episodes, batch_size=500))
  assert set(row) == set(range(min(episodes, 5)))
