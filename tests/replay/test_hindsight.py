"""Commands in hindsight, by hand and by counting draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from replay import hindsight
from replay.hindsight import EPISODE_UNIFORM, RULES, STEP_UNIFORM
from tests.learners.udrl.reference import pairs


def test_returns_and_horizons_of_an_episode_by_hand():
  rewards = [1.0, -2.0, 0.5, 4.0]
  reward = jnp.array([[*rewards, 99.0], [7.0, 99.0, 99.0, 99.0, 99.0]])
  length = jnp.array([4, 1])
  to_go = hindsight.returns_to_go(reward, length)
  horizon = hindsight.horizons(length[0], jnp.arange(4))
  assert list(zip(to_go[0, :4].tolist(), horizon.tolist())) == pairs(rewards)
  assert pairs(rewards)[0] == (3.5, 4) and pairs(rewards)[-1] == (4.0, 1)
  assert to_go[0, 4] == 0.0
  assert to_go[1].tolist() == [7.0, 0.0, 0.0, 0.0, 0.0]
  # 1 + (-2) / 2 + 0.5 / 4 + 4 / 8
  assert hindsight.returns_to_go(reward, length, 0.5)[0, 0] == 0.625


@pytest.mark.parametrize('rule', RULES)
def test_steps_are_drawn_as_the_rule_says(rule):
  length = np.array([1, 4, 10, 5])
  weight = np.array([1.0, 1.0, 1.0, 0.0])
  num = 30_000
  row, t = map(np.asarray, hindsight.sample_steps(
      jax.random.key(0), jnp.array(length), jnp.array(weight), num, rule))
  assert np.all(t < length[row]) and np.all(t >= 0)
  steps = [(i, k) for i in range(3) for k in range(length[i])]
  share = {STEP_UNIFORM: lambda i: 1 / 15,
           EPISODE_UNIFORM: lambda i: 1 / 3 / length[i]}[rule]
  expected = np.array([num * share(i) for i, _ in steps])
  observed = np.array([np.sum((row == i) & (t == k)) for i, k in steps])
  assert observed.sum() == num, 'an episode of weight 0 was drawn'
  statistic = np.sum((observed - expected)**2 / expected)
  assert statistic < stats.chi2.ppf(0.9999, len(steps) - 1)


def test_if_nothing_has_weight_everything_has():
  row, _ = hindsight.sample_steps(
      jax.random.key(0), jnp.array([3, 3]), jnp.zeros(2), 100, STEP_UNIFORM)
  assert set(row.tolist()) == {0, 1}


@pytest.mark.parametrize('call', [
    lambda: hindsight.returns_to_go(jnp.zeros(3), jnp.array([3])),
    lambda: hindsight.returns_to_go(jnp.zeros((2, 3)), jnp.array([3])),
    lambda: hindsight.sample_steps(
        jax.random.key(0), jnp.ones(3, int), jnp.ones(2), 4, STEP_UNIFORM)])
def test_arrays_of_other_shapes_are_refused(call):
  with pytest.raises(ValueError, match='expected'):
    call()
