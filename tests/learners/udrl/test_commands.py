"""The record of the best episodes and the commands drawn from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.udrl import commands
from learners.udrl.commands import Statistics
from tests.learners.udrl.reference import Buffer


def record_of(returns, lengths, num_episodes=20, chunk=4):
  """Returns the record after episodes that were reported a few at a time."""
  record = commands.empty_record(num_episodes)
  for begin in range(0, len(returns), chunk):
    num = len(returns[begin:begin + chunk])
    padded = np.full(chunk, 1e6)
    padded[:num] = returns[begin:begin + chunk]
    steps = np.zeros(chunk, int)
    steps[:num] = lengths[begin:begin + chunk]
    record = commands.insert(
        record, jnp.array(padded, jnp.float32), jnp.array(steps),
        np.arange(chunk) < num)
  return record


@pytest.mark.parametrize('max_steps', [0, 100, 400])
@pytest.mark.parametrize('seed', range(3))
def test_record_and_statistics_are_those_of_the_sorted_buffer(seed, max_steps):
  rng = np.random.default_rng(seed)
  # Many equal returns, some negative.
  returns = rng.integers(-15, 15, 60).astype(float).tolist()
  lengths = rng.integers(1, 50, 60).tolist()
  for num in (1, 7, 60):
    buffer = Buffer(20, max_steps)
    for r, length in zip(returns[:num], lengths[:num]):
      buffer.insert(r, length)
    record = record_of(returns[:num], lengths[:num])
    held = [(r, n) for r, n in zip(record.returns.tolist(),
                                   record.lengths.tolist()) if np.isfinite(r)]
    assert held == buffer.episodes
    inside = np.asarray(commands.within_capacity(record, max_steps))
    assert inside.sum() == len(buffer.learned_from)
    assert commands.least_return(record, max_steps) == (
        buffer.learned_from[-1][0])
    for last_few in (1, 5, 75):
      stats = commands.statistics(record, last_few, max_steps)
      mean, std, horizon = buffer.statistics(last_few)
      np.testing.assert_allclose(
          [stats.mean, stats.std, stats.horizon], [mean, std, horizon],
          rtol=1e-5, atol=1e-5)
      assert bool(stats.known)


def test_nothing_is_known_before_the_first_episode():
  stats = commands.statistics(commands.empty_record(5), 3, 0)
  assert [float(v) for v in stats] == [0.0, 0.0, 0.0, 0.0]
  # Everything is learned from.
  assert commands.least_return(commands.empty_record(5), 0) == np.inf


def test_equal_returns_count_once():
  record = record_of([5.0, 5.0, 5.0, 1.0, 1.0, 3.0], [10, 20, 30, 4, 6, 9])
  stats = commands.statistics(record, last_few=2, max_steps=0)
  # 5 and 3; of the fives the newest, which lasted 30 steps, is the one.
  assert (float(stats.mean), float(stats.std)) == (4.0, 1.0)
  assert float(stats.horizon) == round((30 + 9) / 2)


@pytest.mark.parametrize('lower, spread, bounds', [
    (False, 1.0, (10.0, 14.0)), (True, 1.0, (6.0, 10.0)),
    (False, 3.0, (10.0, 22.0))])
def test_commands_are_uniform_above_the_mean(lower, spread, bounds):
  stats = Statistics(*map(jnp.float32, (10.0, 4.0, 33.0)), jnp.array(True))
  drawn = np.asarray(commands.draw(
      jax.random.key(0), stats, 4000, None, lower, spread))
  returns = drawn[:, 0]
  assert bounds[0] <= returns.min() and returns.max() <= bounds[1]
  quarters = np.histogram(returns, bins=4, range=bounds)[0]
  np.testing.assert_allclose(quarters, 1000, atol=150)
  assert np.all(drawn[:, 1] == 33.0)
  capped = commands.draw(jax.random.key(0), stats, 4000, 11.0, lower, spread)
  np.testing.assert_allclose(capped[:, 0], np.minimum(returns, 11.0))
  expected = commands.expected(stats, 2, 9.0)
  assert expected.tolist() == [[9.0, 33.0]] * 2


def test_what_is_left_of_a_command():
  command = jnp.array([[310.0, 3.0], [5.0, 1.0], [-2.0, 2.0], [7.0, 9.0]])
  reward = jnp.array([-20.0, 10.0, 0.0, 3.0])
  # At most 320; at least one step; returns may become negative.
  assert commands.follow(command, reward, 320.0).tolist() == [
      [320.0, 2.0], [-5.0, 1.0], [-2.0, 1.0], [4.0, 8.0]]
  assert commands.follow(command, reward, None)[0].tolist() == [330.0, 2.0]
  assert commands.follow(command, reward, 320.0, keep_return=True).tolist() == [
      [310.0, 2.0], [5.0, 1.0], [-2.0, 1.0], [7.0, 8.0]]
