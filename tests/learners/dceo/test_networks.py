"""Shapes and sizes of the networks, and what their heads compute."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.dceo import networks

# What is small takes longer to compile than to run.
pytestmark = pytest.mark.usefixtures('quick_compile')


def small(**kwargs):
  return networks.make_networks(
      (13, 13), 2, 4, 11, 6, 'small', **kwargs)


def frames(num, shape=(13, 13, 2)):
  return np.random.default_rng(0).integers(0, 256, (num, *shape), np.uint8)


def num_entries(params):
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def test_the_atari_networks_have_the_published_sizes():
  nets = networks.make_networks((84, 84), 4, 18, 51, 20, 'nature')
  key = jax.random.key(0)
  q_params = jax.eval_shape(nets.init_q, key)
  assert num_entries(q_params) == 4_540_521
  assert (7744, 512) in {leaf.shape for leaf in jax.tree.leaves(q_params)}
  phi_params = jax.eval_shape(nets.init_phi, key)
  assert num_entries(phi_params) == 77_984 - 64 + 64 + 7744 * 512 + 512 + (
      512 * 20 + 20)
  seen = jax.ShapeDtypeStruct((3, 84, 84, 4), np.uint8)
  logits = jax.eval_shape(lambda p, x: nets.q_logits(p, x, None), q_params,
                          seen)
  assert logits.shape == (3, 18, 51)
  assert jax.eval_shape(nets.phi, phi_params, seen).shape == (3, 20)


def test_weights_start_uniform_by_fan_in_and_fan_out():
  params = jax.jit(small().init_q)(jax.random.key(0))
  for name, module in params.items():
    w = np.asarray(module['w'])
    fan_in, fan_out = w[..., 0].size, w[..., 0, :].size
    if w.ndim == 4:
      fan_out = w.shape[0] * w.shape[1] * w.shape[3]
    bound = np.sqrt(6.0 / (fan_in + fan_out))
    assert 0.8 * bound < np.abs(w).max() <= bound, name
    assert not np.any(module['b']), name


def test_dueling_heads_add_up():
  nets = small()
  params = jax.jit(nets.init_q)(jax.random.key(0))
  logits = nets.q_logits(params, frames(3), None)
  # The mean over actions leaves the value, whatever the advantages.
  changed = jax.tree.map(jnp.copy, params)
  changed['linear_1']['b'] = params['linear_1']['b'] + 3.0
  np.testing.assert_allclose(
      nets.q_logits(changed, frames(3), None), logits, atol=1e-5)
  plain = small(dueling=False)
  assert set(jax.eval_shape(plain.init_q, jax.random.key(0))) == (
      set(params) - {'linear_2'})


def test_noise_comes_from_its_key_and_is_off_without_one():
  nets = small(noisy=True)
  params = jax.jit(nets.init_q)(jax.random.key(0))
  apply = jax.jit(nets.q_logits)
  noisy = [apply(params, frames(2), jax.random.key(k)) for k in (1, 1, 2)]
  np.testing.assert_array_equal(noisy[0], noisy[1])
  assert not np.allclose(noisy[0], noisy[2])
  quiet = apply(params, frames(2), None)
  for module in params.values():
    if 'w_scale' in module:
      fan_in = module['w'].shape[0]
      np.testing.assert_allclose(module['w_scale'], 0.1 / np.sqrt(fan_in),
                                 rtol=1e-6)
      module['w_scale'] *= 0.0
      module['b_scale'] *= 0.0
  np.testing.assert_allclose(
      apply(params, frames(2), jax.random.key(1)), quiet, atol=1e-6)


def test_frames_are_scaled_to_one():
  nets = small()
  params = jax.jit(nets.init_phi)(jax.random.key(0))
  dark, bright = np.zeros((1, 13, 13, 2), np.uint8), np.full(
      (1, 13, 13, 2), 255, np.uint8)
  assert not np.any(nets.phi(params, dark))
  assert 0 < np.abs(nets.phi(params, bright)).max() < 10


@pytest.mark.parametrize('given', [
    np.zeros((1, 13, 13, 2), np.float32), np.zeros((13, 13, 2), np.uint8)])
def test_other_frames_are_refused(given):
  nets = small()
  with pytest.raises(ValueError, match='frames: expected'):
    jax.eval_shape(
        lambda x: nets.phi(nets.init_phi(jax.random.key(0)), x), given)


def test_the_torso_follows_the_frames():
  assert networks.choose_torso((84, 84)) == 'nature'
  assert networks.choose_torso((19, 19)) == 'small'
  with pytest.raises(ValueError, match='torso'):
    networks.make_networks((13, 13), 1, 4, 51, 6, 'large')


@pytest.mark.parametrize('side, kernel, stride', [
    (13, 3, 2), (12, 3, 2), (84, 8, 4), (21, 4, 2), (11, 3, 1)])
def test_convolutions_are_those_of_haiku(side, kernel, stride):
  images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(
      np.float32)

  def theirs(x):
    return hk.Conv2D(5, kernel, stride, padding='SAME')(x)

  def ours(x):
    return networks._Convolution(5, kernel, stride)(x)

  theirs, ours = (hk.without_apply_rng(hk.transform(f)) for f in (theirs, ours))
  params = ours.init(jax.random.key(0), images)
  np.testing.assert_allclose(ours.apply(params, images),
                             theirs.apply(params, images), atol=1e-4)


@pytest.mark.parametrize('torso, num_params', [
    # Convolutions, the dense layer on what is left of 84 x 84, and the heads
    # of three actions and one value, with biases.
    ('nature', 4 * 64 * 32 + 32 + 32 * 16 * 64 + 64 + 64 * 9 * 64 + 64
     + 11 * 11 * 64 * 512 + 512 + 512 * 4 * 51 + 4 * 51),
    ('data_efficient', 4 * 25 * 32 + 32 + 32 * 25 * 64 + 64
     + 4 * 4 * 64 * 256 + 256 + 256 * 4 * 51 + 4 * 51)])
def test_sizes_for_atari(torso, num_params):
  nets = networks.make_networks((84, 84), 4, 3, 51, 6, torso)
  params = jax.eval_shape(nets.init_q, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(params)) == num_params
