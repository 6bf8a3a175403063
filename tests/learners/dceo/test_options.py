"""The option machine against its formula, and the schedules of epsilon."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.dceo import options

NUM_ENVS = 1000


def simulate(epsilon, option_prob, num_steps, num_options=5, duration=10.0,
             burn_in=100):
  """Returns `[steps, E]`: the option under way, and whether it began then."""
  epsilons = jnp.full((NUM_ENVS,), epsilon)

  def body(state, key):
    new = options.step(
        state, key, epsilons, option_prob, duration, num_options)
    # An ended machine that has an option now has just started it.
    key_end, _, _ = jax.random.split(key, 3)
    free = state.ended | (
        jax.random.uniform(key_end, (NUM_ENVS,)) < 1.0 / duration)
    return new, (new.option, free & (new.option != options.NONE))

  keys = jax.random.split(jax.random.key(3), burn_in + num_steps)
  _, (option, began) = jax.jit(lambda keys: jax.lax.scan(
      body, options.initial(NUM_ENVS), keys))(keys)
  return np.asarray(option)[burn_in:], np.asarray(began)[burn_in:]


@pytest.mark.parametrize('epsilon, share', [
    (1.0, 0.989), (0.4, 0.85), (0.1, 0.50), (0.01, 0.083)])
def test_options_act_their_share_of_the_steps(epsilon, share):
  option, began = simulate(epsilon, 0.9, 2000, burn_in=200)
  inside = option != options.NONE
  assert abs(inside.mean() - share) < 0.01
  if epsilon >= 0.1:
    assert abs(inside.sum() / began.sum() - 10.0) < 0.2
  drawn = np.bincount(option[began], minlength=5) / began.sum()
  np.testing.assert_allclose(drawn, 0.2, atol=0.01)


def test_no_option_starts_without_probability_or_options():
  assert np.all(simulate(1.0, 0.0, 20)[0] == options.NONE)
  assert np.all(simulate(1.0, 0.9, 20, num_options=0)[0] == options.NONE)


def test_an_option_that_ends_may_be_followed_in_the_same_step():
  state = options.OptionState(jnp.array([1, 1]), jnp.array([False, False]))
  one = jnp.ones(2)
  after = options.step(state, jax.random.key(0), one, 1.0, 1.0, 3)
  assert np.all(np.asarray(after.option) >= 0) and not after.ended.any()
  after = options.step(state, jax.random.key(0), one, 0.0, 1.0, 3)
  np.testing.assert_array_equal(after.option, options.NONE)
  assert bool(after.ended.all())


def test_an_option_goes_on_until_it_ends():
  state = options.OptionState(jnp.array([0, 2]), jnp.array([False, False]))
  after = options.step(state, jax.random.key(0), jnp.ones(2), 1.0, 1e9, 3)
  np.testing.assert_array_equal(after.option, [0, 2])


def test_restart_ends_options_where_it_is_asked():
  state = options.OptionState(jnp.array([0, 2]), jnp.array([False, False]))
  after = options.restart(state, jnp.array([True, False]))
  np.testing.assert_array_equal(after.option, [options.NONE, 2])
  np.testing.assert_array_equal(after.ended, [True, False])


def test_epsilon_greedy_explores_its_share_uniformly():
  q = jnp.tile(jnp.array([0.0, 3.0, 1.0, 2.0]), (40_000, 1))
  epsilon = jnp.where(jnp.arange(40_000) < 20_000, 0.4, 0.0)
  action = np.asarray(options.epsilon_greedy(jax.random.key(0), q, epsilon))
  assert action.dtype == np.int32
  assert np.all(action[20_000:] == 1)
  shares = np.bincount(action[:20_000], minlength=4) / 20_000
  np.testing.assert_allclose(shares, [0.1, 0.7, 0.1, 0.1], atol=0.01)


@pytest.mark.parametrize('steps, epsilon', [
    (0, 1.0), (20_000, 1.0), (145_000, 0.505), (270_000, 0.01), (1e8, 0.01)])
def test_annealed_epsilon(steps, epsilon):
  np.testing.assert_allclose(options.annealed_epsilon(
      steps, least=0.01, start=20_000, decay=250_000), epsilon, rtol=1e-6)


def test_the_ladder_goes_from_the_first_rank_to_the_last():
  # Four actors of two environments: 0.4^(1 + 7 i / 7).
  ranks = jnp.arange(8) / 7.0
  np.testing.assert_allclose(
      options.ladder_epsilons(ranks), [0.4**(1 + i) for i in range(8)],
      rtol=1e-5)
