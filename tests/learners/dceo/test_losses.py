"""Rainbow's targets against NumPy, loop by loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.dceo import losses

pytestmark = pytest.mark.usefixtures('quick_compile')
ATOMS = losses.support(-10.0, 10.0, 51)


def random_probs(num, seed=0):
  return np.random.default_rng(seed).dirichlet(np.ones(51), num).astype(
      np.float32)


def project_by_hand(places, probs, atoms):
  """Splits each place's probability between the atoms on either side."""
  result = np.zeros_like(probs)
  gap = atoms[1] - atoms[0]
  for row in range(len(probs)):
    for place, prob in zip(places[row], probs[row]):
      index = (np.clip(place, atoms[0], atoms[-1]) - atoms[0]) / gap
      low = min(int(np.floor(index + 1e-6)), len(atoms) - 2)
      result[row, low] += prob * (low + 1 - index)
      result[row, low + 1] += prob * (index - low)
  return result


def test_projection_by_hand_and_its_mass():
  probs = random_probs(4)
  returns = np.array([0.0, 0.13, -9.9, 7.7], np.float32)
  places = returns[:, None] + 0.97 * np.asarray(ATOMS)
  projected = losses.project(places, probs, ATOMS)
  np.testing.assert_allclose(
      projected, project_by_hand(places, probs, np.asarray(ATOMS)), atol=2e-5)
  np.testing.assert_allclose(projected.sum(axis=1), 1.0, rtol=1e-5)


def test_projection_keeps_the_mean_inside_the_support():
  probs = random_probs(3)
  places = np.array([[0.3], [-1.1], [2.0]]) + 0.7 * np.asarray(ATOMS)
  np.testing.assert_allclose(
      losses.project(places, probs, ATOMS) @ ATOMS,
      np.sum(places * probs, axis=1), atol=1e-4)


@pytest.mark.parametrize('ending, low, share', [
    (1.0, 27, 0.5), (0.9, 27, 0.75), (0.0, 25, 1.0), (12.0, 50, 1.0)])
def test_a_termination_leaves_two_atoms_around_the_return(ending, low, share):
  logits = jax.random.normal(jax.random.key(0), (1, 3, 51))
  target = np.asarray(losses.target_distribution(
      jnp.array([ending]), jnp.array([0.0]), logits, jnp.array([1]), ATOMS))[0]
  assert target[low] == pytest.approx(share, abs=1e-4)
  if share < 1.0:
    assert target[low + 1] == pytest.approx(1.0 - share, abs=1e-4)
  assert np.sum(target > 1e-4) == (1 if share == 1.0 else 2)


def test_target_takes_the_distribution_of_the_given_action():
  logits = jax.random.normal(jax.random.key(0), (2, 3, 51))
  action = np.array([2, 0])
  target = losses.target_distribution(
      jnp.zeros(2), jnp.ones(2), logits, action, ATOMS)
  np.testing.assert_allclose(
      target, jax.nn.softmax(logits)[np.arange(2), action], atol=1e-5)


def test_target_has_no_gradient():
  def total(logits):
    return jnp.sum(ATOMS * losses.target_distribution(
        jnp.zeros(1), jnp.ones(1), logits, jnp.array([0]), ATOMS))
  logits = jax.random.normal(jax.random.key(0), (1, 2, 51))
  assert not jax.grad(total)(logits).any()


def test_n_step_return_by_hand():
  gamma = 0.9
  reward = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 99], [1, 2, 99], [5, 9, 9]],
                    np.float32)
  # Runs on; ends for good at step 3; at step 2; is cut at step 2; at step 1.
  discount = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 1, 1]],
                      np.float32)
  real = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]],
                  np.float32)
  returns, bootstrap = losses.n_step_return(reward, discount, real, gamma)
  np.testing.assert_allclose(
      returns, [1 + 1.8 + 2.43, 1 + 1.8 + 2.43, 2.8, 2.8, 5.0], rtol=1e-6)
  np.testing.assert_allclose(
      bootstrap, [0.729, 0.0, 0.0, 0.81, 0.0], rtol=1e-6)


def test_full_windows_count_gamma_to_the_n():
  ones = np.ones((1, 3), np.float32)
  _, bootstrap = losses.n_step_return(ones, ones, ones, 0.99)
  assert float(bootstrap[0]) == pytest.approx(0.970299, abs=1e-6)


def test_cross_entropy_by_hand():
  logits = np.asarray(jax.random.normal(jax.random.key(1), (3, 2, 51)))
  action, target = np.array([1, 0, 1]), random_probs(3)
  chosen = logits[np.arange(3), action].astype(np.float64)
  log_probs = chosen - np.log(np.exp(chosen).sum(axis=1, keepdims=True))
  np.testing.assert_allclose(
      losses.cross_entropy(logits, action, target),
      -np.sum(target * log_probs, axis=1), rtol=1e-5)


def test_q_values_are_expected_returns():
  logits = np.asarray(jax.random.normal(jax.random.key(1), (3, 2, 51)))
  probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  np.testing.assert_allclose(losses.q_values(logits, ATOMS),
                             probs @ np.asarray(ATOMS), atol=1e-5)


def test_misshapen_arguments_are_refused():
  with pytest.raises(ValueError, match='reward, discount and real'):
    losses.n_step_return(jnp.ones((2, 3)), jnp.ones((2, 2)), jnp.ones((2, 3)),
                         0.9)
  with pytest.raises(ValueError, match='places and probs'):
    losses.project(jnp.ones((2, 50)), jnp.ones((2, 51)), ATOMS)
  with pytest.raises(ValueError, match='logits'):
    losses.cross_entropy(jnp.ones((2, 51)), jnp.zeros(2, int), ATOMS)


def test_plain_values_by_hand():
  """Sums of logits as values; the Huber loss of the error, from 1 on linear."""
  head = losses.make_head(10.0, 3, distributional=False)
  rng = np.random.default_rng(5)
  logits, next_logits = rng.normal(size=(2, 4, 2, 3))
  action, next_action = np.array([0, 1, 1, 0]), np.array([1, 1, 0, 0])
  returns = np.array([0.5, -3.0, 9.0, 0.1])
  bootstrap = np.array([0.9, 0.0, 0.9, 0.9])
  np.testing.assert_allclose(head.q(jnp.array(logits)), logits.sum(-1),
                             rtol=1e-5, atol=1e-6)
  wanted = []
  for i in range(4):
    target = returns[i] + bootstrap[i] * next_logits[i, next_action[i]].sum()
    error = abs(target - logits[i, action[i]].sum())
    wanted.append(0.5 * error**2 if error < 1 else error - 0.5)
  found = head.loss(jnp.array(logits), action, returns, bootstrap,
                    jnp.array(next_logits), next_action)
  np.testing.assert_allclose(found, wanted, rtol=1e-4)
  assert min(wanted) < 0.5 < max(wanted)
  slope = jax.grad(lambda x: jnp.sum(head.loss(
      jnp.array(logits), action, returns, bootstrap, x, next_action)))(
          jnp.array(next_logits))
  assert not np.any(slope)
