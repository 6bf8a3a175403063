"""What stands in for the representation of a goal inside a region."""

import jax
from jax.experimental import enable_x64
import jax.numpy as jnp
import numpy as np
import pytest

from envs.spec import EnvSpec
from learners.contrastive import networks as networks_lib
from learners.contrastive.agent import masked_goal_encoder
from safety import masking, regions
from safety.masking import SafetyMask

pytestmark = pytest.mark.usefixtures('quick_compile')
BOXES = regions.parse_region_bounds('0,0:2,1;4,3:5,7')
POSITIONS = np.array([
    [1.0, 0.5], [3.0, 3.0], [4.5, 5.0], [2.0, 1.0], [0.0, 3.0]], np.float32)
INSIDE = [True, False, True, True, False]
SIGNS = pytest.mark.parametrize(
    'negative, scale', [(True, -1.0), (False, 0.5)], ids=['avoid', 'attract'])


def representations(seed, num=5, size=3):
  return np.random.default_rng(seed).normal(size=(num, size)).astype(np.float32)


class TestSubstitute:

  @SIGNS
  @pytest.mark.parametrize('stop_gradient', [True, False])
  def test_is_a_multiple_of_the_commanded_goal(
      self, negative, scale, stop_gradient):
    psi = representations(0, num=1)
    np.testing.assert_allclose(
        masking.substitute(jnp.asarray(psi), negative, stop_gradient),
        scale * psi)

  @SIGNS
  def test_gradients_stop_or_flow(self, negative, scale):
    psi = jnp.asarray(representations(1, num=1))
    weight = jnp.asarray(representations(2, num=1))

    def value(psi, stop_gradient):
      return jnp.sum(weight * masking.substitute(psi, negative, stop_gradient))

    np.testing.assert_array_equal(
        jax.grad(value)(psi, True), np.zeros_like(psi))
    np.testing.assert_allclose(
        jax.grad(value)(psi, False), scale * weight, rtol=1e-6)


class TestMaskRepresentation:

  @SIGNS
  def test_replaces_the_rows_inside(self, negative, scale):
    psi, psi_goal = representations(3), representations(4, num=1)
    masked = masking.mask_representation(
        BOXES, jnp.asarray(POSITIONS), jnp.asarray(psi),
        masking.substitute(jnp.asarray(psi_goal), negative, True))
    for row, inside in enumerate(INSIDE):
      np.testing.assert_allclose(
          masked[row], scale * psi_goal[0] if inside else psi[row])

  def test_a_replacement_per_row_stays_in_its_row(self):
    psi, replacement = representations(5), representations(6)
    masked = masking.mask_representation(
        BOXES, jnp.asarray(POSITIONS), jnp.asarray(psi),
        jnp.asarray(replacement))
    expected = np.where(np.array(INSIDE)[:, None], replacement, psi)
    np.testing.assert_array_equal(masked, expected)

  def test_each_of_several_boxes_masks(self):
    psi = representations(7)
    for box, rows in zip(BOXES, ([0, 3], [2]), strict=True):
      masked = np.asarray(masking.mask_representation(
          (box,), jnp.asarray(POSITIONS), jnp.asarray(psi),
          jnp.full((1, 3), 9.0)))
      replaced = [i for i in range(5) if np.all(masked[i] == 9.0)]
      assert replaced == rows

  def test_no_region_changes_nothing(self):
    psi = jnp.asarray(representations(8))
    masked = masking.mask_representation(
        (), jnp.asarray(POSITIONS), psi, jnp.zeros((1, 3)))
    np.testing.assert_array_equal(masked, psi)

  @pytest.mark.parametrize('positions, psi', [
      ((5,), (5, 3)), ((5, 2), (5, 3, 1)), ((2, 5, 2), (5, 3))])
  def test_refuses_other_ranks(self, positions, psi):
    with pytest.raises(ValueError, match='expected positions'):
      masking.mask_representation(
          BOXES, jnp.zeros(positions), jnp.zeros(psi), jnp.zeros((1, 3)))

  @pytest.mark.parametrize('negative', [True, False])
  @pytest.mark.parametrize('stop_gradient', [True, False])
  def test_gradients_by_finite_differences(self, negative, stop_gradient):
    weight = np.random.default_rng(9).normal(size=(5, 3))
    with enable_x64():
      psi = jnp.asarray(representations(10), jnp.float64)
      psi_goal = jnp.asarray(representations(11, num=1), jnp.float64)

      def value(psi, psi_goal):
        masked = masking.mask_representation(
            BOXES, jnp.asarray(POSITIONS), psi,
            masking.substitute(psi_goal, negative, stop_gradient))
        return jnp.sum(jnp.asarray(weight) * jnp.tanh(masked))

      grad_psi, grad_goal = jax.jit(
          jax.grad(value, argnums=(0, 1)))(psi, psi_goal)
      compiled = jax.jit(value)
      by_psi = finite_differences(lambda x: compiled(x, psi_goal), psi)
      by_goal = finite_differences(lambda x: compiled(psi, x), psi_goal)
    np.testing.assert_allclose(grad_psi, by_psi, atol=1e-8)
    np.testing.assert_array_equal(np.asarray(grad_psi)[INSIDE], 0.0)
    # The value does depend on psi(g*); only its gradient may be withheld.
    assert np.all(np.abs(by_goal) > 1e-3)
    if stop_gradient:
      np.testing.assert_array_equal(grad_goal, np.zeros((1, 3)))
    else:
      np.testing.assert_allclose(grad_goal, by_goal, atol=1e-8)


def finite_differences(function, point, step=1e-5):
  """Returns the central differences of a scalar function, shaped as `point`."""
  point = np.asarray(point)
  result = np.zeros(point.shape)
  for index in np.ndindex(*point.shape):
    shift = np.zeros(point.shape)
    shift[index] = step
    result[index] = (function(jnp.asarray(point + shift))
                     - function(jnp.asarray(point - shift))) / (2 * step)
  return result


GOAL = (6.0, 6.0)


def maze_spec(goal_indices=(0, 1), position_indices=(0, 1), obs_dim=2):
  return EnvSpec(
      name='plane', obs_dim=obs_dim, action_dim=2, goal_indices=goal_indices,
      position_indices=position_indices, step_limit=10, success_radius=1.0)


def encoder_parts(num_critics, spec):
  networks = networks_lib.make_networks(
      spec.obs_dim, spec.goal_dim, spec.action_dim, (5,), 3, num_critics)
  return networks, networks.init(jax.random.key(0))[1]


class TestMaskedGoalEncoder:

  @SIGNS
  @pytest.mark.parametrize('num_critics', [1, 2])
  def test_every_critic_uses_its_own_commanded_goal(
      self, num_critics, negative, scale):
    spec = maze_spec()
    networks, params = encoder_parts(num_critics, spec)
    encode = masked_goal_encoder(
        networks, spec, SafetyMask(BOXES, GOAL, negative))
    result = encode(params, jnp.asarray(POSITIONS))
    assert result.shape == (5, 3, num_critics)
    plain = networks.encode_goal(params, jnp.asarray(POSITIONS))
    for critic in range(num_critics):
      alone = {'psi': [params['psi'][critic]]}
      psi_goal = networks.encode_goal(alone, jnp.array([GOAL]))[0, :, 0]
      for row, inside in enumerate(INSIDE):
        expected = scale * psi_goal if inside else plain[row, :, critic]
        np.testing.assert_allclose(
            result[row, :, critic], expected, rtol=1e-5, atol=1e-6)

  @pytest.mark.parametrize('stop_gradient', [True, False])
  def test_the_gradient_of_masked_rows(self, stop_gradient):
    spec = maze_spec()
    networks, params = encoder_parts(2, spec)
    encode = masked_goal_encoder(
        networks, spec, SafetyMask(BOXES, GOAL, True, stop_gradient))
    inside = jnp.asarray(POSITIONS[INSIDE])
    grads = jax.jit(jax.grad(
        lambda p: jnp.sum(encode(p, inside))))(params)
    goal_grads = jax.jit(jax.grad(lambda p: jnp.sum(
        networks.encode_goal(p, jnp.array([GOAL])))))(params)
    factor = 0.0 if stop_gradient else -3.0
    for got, of_goal in zip(jax.tree.leaves(grads), jax.tree.leaves(goal_grads),
                            strict=True):
      np.testing.assert_allclose(got, factor * of_goal, rtol=1e-4, atol=1e-6)
    assert any(np.any(g != 0) for g in jax.tree.leaves(goal_grads['psi']))

  def test_no_region_is_the_plain_encoder(self):
    spec = maze_spec()
    networks, params = encoder_parts(2, spec)
    encode = masked_goal_encoder(networks, spec, SafetyMask((), GOAL))
    np.testing.assert_array_equal(
        encode(params, jnp.asarray(POSITIONS)),
        networks.encode_goal(params, jnp.asarray(POSITIONS)))

  def test_finds_the_position_among_the_entries_of_a_goal(self):
    # A goal is (s3, s1, s0), a position (s0, s1): the goal's last, then middle.
    spec = maze_spec(goal_indices=(3, 1, 0), obs_dim=4)
    networks, params = encoder_parts(1, spec)
    encode = masked_goal_encoder(
        networks, spec, SafetyMask(BOXES, (1.0, 6.0, 6.0)))
    goals = np.concatenate(
        [np.full((5, 1), 0.5, np.float32), POSITIONS[:, ::-1]], axis=1)
    result = np.asarray(encode(params, jnp.asarray(goals)))
    plain = np.asarray(networks.encode_goal(params, jnp.asarray(goals)))
    changed = [not np.array_equal(a, b)
               for a, b in zip(result, plain, strict=True)]
    assert changed == INSIDE

  def test_refuses_a_region_without_a_fixed_goal(self):
    spec = maze_spec()
    networks, _ = encoder_parts(1, spec)
    with pytest.raises(ValueError, match='fixed goal'):
      masked_goal_encoder(networks, spec, SafetyMask(BOXES, None))
