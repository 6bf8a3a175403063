"""The behaviour function: its size, its start, and its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.udrl import losses
from learners.udrl.networks import make_networks

LUNAR_LANDER = dict(state_dim=8, num_actions=4,
                    hidden_sizes=(32, 128, 128, 128), scale=(0.025, 0.01))


def test_number_of_parameters_on_lunar_lander():
  params = make_networks(**LUNAR_LANDER).init(jax.random.key(0))
  sizes = {layer: sum(x.size for x in values.values())
           for layer, values in params.items()}
  assert sorted(sizes.values()) == sorted([288, 96, 4224, 16512, 16512, 516])
  assert sum(sizes.values()) == 38_148


def test_how_parameters_start():
  params = make_networks(**LUNAR_LANDER).init(jax.random.key(1))
  for layer, gain, fan_in in [
      ('state', 1.0, 8), ('command', 1.0, 2), ('hidden_0', 2.0, 32),
      ('hidden_1', 2.0, 128), ('hidden_2', 2.0, 128)]:
    w = np.asarray(params[layer]['w'], np.float64)
    small = w.T if w.shape[0] > w.shape[1] else w
    np.testing.assert_allclose(
        small @ small.T, gain * np.eye(len(small)), atol=1e-5)
    b = np.asarray(params[layer]['b'])
    assert np.abs(b).max() <= 1 / np.sqrt(fan_in) and b.std() > 0
  w = np.asarray(params['logits']['w'])
  assert np.abs(w).max() <= 1 / np.sqrt(128)
  np.testing.assert_allclose(w.std(), 1 / np.sqrt(3 * 128), rtol=0.1)


def test_the_formula():
  networks = make_networks(3, 2, (4, 5), (0.5, 0.1))
  params = networks.init(jax.random.key(2))
  rng = np.random.default_rng(0)
  state, command = rng.normal(size=(6, 3)), rng.normal(size=(6, 2)) * 10
  layer = {n: (np.asarray(p['w'], float), np.asarray(p['b'], float))
           for n, p in params.items()}
  embedding = np.tanh(state @ layer['state'][0] + layer['state'][1])
  scaled = command * [0.5, 0.1]
  gate = 1 / (1 + np.exp(-(scaled @ layer['command'][0]
                           + layer['command'][1])))
  hidden = np.maximum(
      (embedding * gate) @ layer['hidden_0'][0] + layer['hidden_0'][1], 0)
  expected = hidden @ layer['logits'][0] + layer['logits'][1]
  np.testing.assert_allclose(
      networks.logits(params, jnp.array(state, jnp.float32),
                      jnp.array(command, jnp.float32)), expected, atol=1e-5)


def test_the_loss_is_the_cross_entropy():
  logits = np.random.default_rng(0).normal(size=(5, 3))
  action = np.array([0, 2, 1, 1, 0])
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  np.testing.assert_allclose(
      losses.action_losses(jnp.array(logits), jnp.array(action)),
      -np.log(p[np.arange(5), action]), rtol=1e-5)


def test_arrays_of_other_shapes_are_refused():
  networks = make_networks(3, 2, (4, 5), (0.5, 0.1))
  params = networks.init(jax.random.key(0))
  with pytest.raises(ValueError, match='expected state'):
    networks.logits(params, jnp.zeros((6, 3)), jnp.zeros((6, 1)))
  with pytest.raises(ValueError, match='expected logits'):
    losses.action_losses(jnp.zeros((3, 2)), jnp.zeros(2, int))
