"""Weights, value targets and networks of RCP, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.rcp import losses
from learners.rcp.networks import make_networks


def test_numbers_of_parameters_on_lunar_lander():
  networks = make_networks(8, 4, (64, 64))
  sizes = [sum(x.size for x in jax.tree.leaves(params)) for params in (
      networks.init_policy(jax.random.key(0)),
      networks.init_value(jax.random.key(0)))]
  assert sizes == [5_252, 9_473]


def test_the_policy_is_gated_at_every_layer():
  networks = make_networks(3, 2, (4, 5))
  params = networks.init_policy(jax.random.key(2))
  rng = np.random.default_rng(0)
  state, command = rng.normal(size=(6, 3)), rng.normal(size=(6, 1)) * 3
  layer = {n: (np.asarray(p['w'], float), np.asarray(p['b'], float))
           for n, p in params.items()}
  h = state
  for i in range(2):
    gate = command @ layer[f'gate_{i}'][0] + layer[f'gate_{i}'][1]
    h = np.maximum(h @ layer[f'hidden_{i}'][0] + layer[f'hidden_{i}'][1], 0)
    h = h / (1 + np.exp(-gate))
  np.testing.assert_allclose(
      networks.logits(params, jnp.array(state, jnp.float32),
                      jnp.array(command, jnp.float32)),
      h @ layer['logits'][0] + layer['logits'][1], atol=1e-5)
  for name, (w, b) in layer.items():
    fan_in = len(w)
    assert max(np.abs(w).max(), np.abs(b).max()) <= 1 / np.sqrt(fan_in), name


@pytest.mark.parametrize('beta', [0.5, 1.0, 2.0])
def test_exponential_weights(beta):
  values = np.array([1.0, 2.0, 2.0, 90.0, -5.0, 3.0, 2.5, 1.5] * 4)
  z = (values - values.mean()) / (values.std(ddof=1) + 1e-5)
  np.testing.assert_allclose(
      losses.exponential_weights(jnp.array(values, jnp.float32), beta, 20.0),
      np.minimum(np.exp(z / beta), 20.0), rtol=1e-4)


def test_weights_of_equal_values_are_one_and_none_is_above_the_bound():
  np.testing.assert_array_equal(
      losses.exponential_weights(jnp.full(5, 3.0), 1.0, 20.0), np.ones(5))
  weights = losses.exponential_weights(
      jnp.zeros(1000).at[0].set(1e8), 0.01, 20.0)
  np.testing.assert_allclose(weights[0], 20.0, rtol=1e-5)
  with pytest.raises(ValueError, match='B >= 2'):
    losses.exponential_weights(jnp.zeros(1), 1.0, 20.0)


def by_hand(reward, next_value, length, discount, lambda_):
  """TD(lambda) targets, one episode and one step at a time."""
  targets = np.zeros_like(reward)
  for i, last in enumerate(length):
    later = 0.0
    for t in reversed(range(last)):
      later = reward[i, t] if t == last - 1 else reward[i, t] + discount * (
          (1 - lambda_) * next_value[i, t] + lambda_ * later)
      targets[i, t] = later
  return targets


@pytest.mark.parametrize('lambda_', [0.0, 0.3, 0.95, 1.0])
def test_value_targets(lambda_):
  rng = np.random.default_rng(0)
  reward, next_value = rng.normal(size=(2, 4, 7))
  length = np.array([7, 1, 4, 6])
  targets = losses.td_lambda(
      jnp.array(reward, jnp.float32), jnp.array(next_value, jnp.float32),
      jnp.array(length), 0.9, lambda_)
  np.testing.assert_allclose(
      targets, by_hand(reward, next_value, length, 0.9, lambda_), atol=1e-5)
  # The ends of the scale are the one-step target and the discounted return.
  inside = np.arange(7) < length[:, np.newaxis]
  if lambda_ == 0.0:
    bootstrap = np.where(np.arange(7) + 1 < length[:, np.newaxis],
                         0.9 * next_value, 0.0)
    np.testing.assert_allclose(
        targets, np.where(inside, reward + bootstrap, 0.0), atol=1e-5)
  if lambda_ == 1.0:
    to_go = [[sum(0.9**(k - t) * reward[i, k] for k in range(t, length[i]))
              for t in range(7)] for i in range(4)]
    np.testing.assert_allclose(targets, to_go, atol=1e-5)


def test_paths_lead_to_the_end_of_their_episodes():
  weights = losses.path_weights(
      jnp.array([3, 5]), jnp.array([1, 0, 1]), jnp.array([2, 0, 4]), 5)
  assert weights.tolist() == [
      [0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 1]]


def test_the_loss_of_values_leaves_out_rows_of_weight_0():
  loss = losses.value_loss(
      jnp.array([1.0, 2.0, 9.0]), jnp.array([0.0, 5.0, 0.0]),
      jnp.array([1.0, 1.0, 0.0]))
  assert loss == (1.0 + 9.0) / 2
  with pytest.raises(ValueError, match='expected value, target and weight'):
    losses.value_loss(jnp.zeros((2, 1)), jnp.zeros(2), jnp.zeros(2))
