"""Where RCP's commands come from."""

import jax.numpy as jnp
import numpy as np
import pytest

from learners.rcp import commands
from learners.rcp import config as config_lib

RETURN, ADVANTAGE = (
    config_lib.from_settings(alg, 'reference', {}) for alg in (
        'rcp_r', 'rcp_a'))


def config(**settings):
  return config_lib.from_settings('rcp_a', 'reference', settings)


def test_commanded_returns_are_the_best_of_the_newest():
  latest, told = commands.empty_latest(4), []
  assert not commands.return_statistics(
      latest, commands.empty_running(), RETURN).known
  for reported in ([3.0, 1.0], [9.0], [], [2.0, 4.0, -1.0]):
    padded = np.full(3, 1e6)
    padded[:len(reported)] = reported
    latest = commands.append(
        latest, jnp.array(padded, jnp.float32), np.arange(3) < len(reported))
    told += reported
    stats = commands.return_statistics(
        latest, commands.empty_running(), RETURN)
    newest = told[-4:]
    np.testing.assert_allclose(
        [stats.mean, stats.std], [max(newest), np.std(newest)], rtol=1e-6)
    assert bool(stats.known)
    assert (float(stats.offset), float(stats.scale)) == (0.0, 1.0)


def followed(batches, settings):
  running = commands.empty_running()
  for batch in batches:
    running = commands.follow_batch(
        running, jnp.array(batch, jnp.float32), settings)
  return running


def test_the_largest_advantage_is_looked_for_in_windows():
  settings = config(command_window=2)
  batches = [[1.0, 5.0], [3.0, -1.0], [0.0, 2.0], [4.0, 2.0], [9.0, 9.5]]
  expected = [None, (5.0, 0, 4.0), (5.0, 0, 4.0), (4.0, 3, 2.0), (4.0, 3, 2.0)]
  for num, known in enumerate(expected, 1):
    stats = commands.advantage_statistics(
        followed(batches[:num], settings), settings)
    assert bool(stats.known) == (known is not None)
    if known:
      best, _, gap = known
      np.testing.assert_allclose(
          [stats.mean, stats.std], [best, gap / np.sqrt(2)], rtol=1e-6)


@pytest.mark.parametrize('statistic', ['quantile', 'mean_plus_std'])
def test_running_statistics_follow_the_batches(statistic):
  settings = config(command_statistic=statistic, normalizer_rate=0.3,
                    normalize_command=True, command_quantile=0.75)
  rng = np.random.default_rng(0)
  batches = rng.normal(3.0, 2.0, (6, 50))
  weights = 0.3 * 0.7**np.arange(5, -1, -1.0)
  weights /= weights.sum()
  high = (np.quantile(batches, 0.75, axis=1) if statistic == 'quantile'
          else batches.mean(axis=1) + batches.std(axis=1, ddof=1))
  mean = weights @ batches.mean(axis=1)
  std = np.sqrt(weights @ (batches**2).mean(axis=1) - mean**2)
  stats = commands.advantage_statistics(followed(batches, settings), settings)
  np.testing.assert_allclose(
      [stats.mean, stats.std, stats.offset, stats.scale],
      [weights @ high, weights @ batches.std(axis=1, ddof=1), mean, 1 / std],
      rtol=1e-4)
  np.testing.assert_allclose(
      commands.seen(jnp.array([mean + 2 * std]), stats.offset, stats.scale),
      [2.0], rtol=1e-3)


def test_without_normalisation_the_network_sees_commands_as_they_are():
  stats = commands.advantage_statistics(
      followed([[1.0, 2.0]] * 3, ADVANTAGE), ADVANTAGE)
  assert commands.seen(
      jnp.array([37.0]), stats.offset, stats.scale).tolist() == [37.0]
