"""The losses by hand, and what they find, against the true eigenvectors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learners.dceo import laplacian
from learners.dceo.config import DCEOConfig
from tests.learners.dceo import tabular


def ggdo_by_hand(start, end, weight, u, v, log_transform):
  """The objective with a loop over k, in NumPy."""
  num, dim = start.shape
  attract = sum(weight[n] * (dim - i) * (start[n, i] - end[n, i])**2
                for n in range(num) for i in range(dim)) / num

  def bonus(norm):
    return np.log(1.0 + norm) if log_transform else norm**2 / dim

  repel = 0.0
  for x, y in zip(u, v):
    for k in range(1, dim + 1):
      repel += (x[:k] @ y[:k])**2 - bonus(np.linalg.norm(x[:k])) - bonus(
          np.linalg.norm(y[:k]))
  return attract + repel / len(u)


def random_batch(dim, num=6, seed=0):
  rng = np.random.default_rng(seed)
  start, end, u, v = rng.normal(size=(4, num, dim)).astype(np.float32)
  return start, end, rng.uniform(size=num).astype(np.float32), u, v


@pytest.mark.parametrize('log_transform', [True, False])
@pytest.mark.parametrize('dim', [1, 5, 20])
def test_ggdo_is_the_sum_over_nested_dimensions(dim, log_transform):
  batch = random_batch(dim)
  np.testing.assert_allclose(
      laplacian.ggdo_loss(*batch, log_transform),
      ggdo_by_hand(*batch, log_transform), rtol=1e-5)


@pytest.mark.parametrize('log_transform', [True, False])
def test_ggdo_gradient_is_that_of_the_sum(log_transform):
  start, end, weight, u, v = random_batch(4)
  parts = {'start': start, 'end': end, 'u': u, 'v': v}

  def loss(parts):
    return laplacian.ggdo_loss(parts['start'], parts['end'], weight,
                               parts['u'], parts['v'], log_transform)

  gradient = jax.grad(loss)(parts)
  rng = np.random.default_rng(1)
  for name, value in parts.items():
    direction = rng.normal(size=value.shape)
    both = []
    for sign in (1.0, -1.0):
      moved = {n: p.astype(np.float64) for n, p in parts.items()}
      moved[name] = moved[name] + sign * 1e-5 * direction
      both.append(ggdo_by_hand(moved['start'], moved['end'], weight,
                               moved['u'], moved['v'], log_transform))
    np.testing.assert_allclose(np.sum(gradient[name] * direction),
                               (both[0] - both[1]) / 2e-5, rtol=2e-4)


def test_a_zero_representation_has_a_gradient():
  zeros = jnp.zeros((3, 4))
  gradient = jax.grad(
      lambda u: laplacian.ggdo_loss(zeros, zeros, jnp.ones(3), u, zeros, True))
  assert bool(jnp.all(jnp.isfinite(gradient(zeros))))


def test_pairs_without_weight_do_not_count():
  start, end, weight, u, v = random_batch(3)
  weight = np.array([1, 0, 1, 1, 0, 1], np.float32)
  moved = np.where(weight[:, None] > 0, end, 1e3).astype(np.float32)
  np.testing.assert_allclose(
      laplacian.ggdo_loss(start, end, weight, u, v, True),
      laplacian.ggdo_loss(start, moved, weight, u, v, True), rtol=1e-6)


@pytest.mark.parametrize('batch', [
    (np.zeros((3, 2)), np.zeros((3, 2)), np.ones(2)),
    (np.zeros((3, 2)), np.zeros((3, 1)), np.ones(3)),
    (np.zeros(3), np.zeros(3), np.ones(3))])
def test_misshapen_pairs_are_refused(batch):
  with pytest.raises(ValueError, match='expected start and end'):
    laplacian.graph_terms(*(jnp.asarray(x) for x in batch))


def ggdo_on_all_states(log_transform):
  start, end = tabular.transitions()

  def loss(table):
    u, v = tabular.all_pairs(table)
    return laplacian.ggdo_loss(table[start], table[end], jnp.ones(len(start)),
                               u, v, log_transform)

  return loss


def test_squared_ggdo_finds_ordered_eigenvectors():
  values, vectors = tabular.eigenvectors(5)
  np.testing.assert_allclose(
      values, [0.0, 0.0056, 0.0062, 0.0134, 0.0848], atol=5e-5)
  table = tabular.minimise(ggdo_on_all_states(False), 5, 1200)
  matches = tabular.cosines(table, vectors)
  assert np.all(matches[[0, 3, 4]] >= 0.99), matches
  # Those of .0056 and .0062 may be turned into each other.
  plane = tabular.principal_cosines(table[:, 1:3], vectors[:, 1:3])
  assert np.all(plane >= 0.99), plane
  # The amplitude^2 is 1/d - lambda.
  np.testing.assert_allclose(
      table[:, 1:].std(axis=0), [0.441, 0.440, 0.432, 0.339], atol=0.01)


def test_squared_ggdo_kills_dimensions_beyond_one_in_d():
  values, _ = tabular.eigenvectors(20)
  table = tabular.minimise(ggdo_on_all_states(False), 20, 600)
  size = np.sqrt(np.mean(table**2, axis=0))
  assert np.all(size[values >= 0.05] < 0.04), size
  assert np.all(size[values < 0.05] > 0.18), size


def test_log_ggdo_finds_the_space_of_the_first_eigenvectors():
  _, vectors = tabular.eigenvectors(5)
  table = tabular.minimise(ggdo_on_all_states(True), 5, 1200)
  assert tabular.principal_cosines(table, vectors).min() >= 0.8


def allo_run(num_steps=40_000, rep_dim=5):
  """Minimises over the table and ascends the duals, on all states at once."""
  start, end = tabular.transitions()
  weight = jnp.ones(len(start))
  table = 0.1 * jax.random.normal(jax.random.key(0), (104, rep_dim))
  optimizer = optax.adam(optax.exponential_decay(0.01, num_steps, 0.1))

  def loss(table, duals):
    return laplacian.allo_loss(
        table[start], table[end], weight, table, table, duals)

  def body(carry, _):
    table, opt, duals = carry
    gradient, errors = jax.grad(loss, has_aux=True)(table, duals)
    updates, opt = optimizer.update(gradient, opt)
    duals = laplacian.ascend(duals, errors, rate=1e-2, barrier_rate=1.0)
    return (optax.apply_updates(table, updates), opt, duals), None

  def run(table):
    carry = (table, optimizer.init(table), laplacian.initial_duals(rep_dim))
    return jax.lax.scan(body, carry, None, length=num_steps)[0]

  table, _, duals = jax.jit(run)(table)
  return np.asarray(table), duals


def test_allo_finds_every_eigenvector_with_its_scale_and_value():
  values, vectors = tabular.eigenvectors(5)
  table, duals = allo_run()
  matches = tabular.cosines(table, vectors)
  assert np.all(matches >= 0.99), matches
  np.testing.assert_allclose(np.mean(table**2, axis=0), 1.0, atol=0.02)
  np.testing.assert_allclose(
      np.diag(duals.beta)[1:] / (-4.0 * values[1:]), 1.0, atol=0.05)


def test_allo_with_the_gradient_on_the_wrong_side_does_not(monkeypatch):
  def transposed(phi):
    inner = jax.lax.stop_gradient(phi).T @ phi / phi.shape[0]
    return jnp.tril(inner - jnp.eye(phi.shape[1]))

  monkeypatch.setattr(laplacian, 'orthogonality_error', transposed)
  _, vectors = tabular.eigenvectors(5)
  table, _ = allo_run(num_steps=6000)
  assert tabular.cosines(table, vectors).min() < 0.5


def test_allo_errors_by_hand():
  rng = np.random.default_rng(0)
  start, end, a, b = rng.normal(size=(4, 8, 3)).astype(np.float32)
  duals = laplacian.initial_duals(3)._replace(
      beta=jnp.tril(jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)),
      barrier=jnp.asarray(1.5))
  weight = np.ones(8, np.float32)
  loss, errors = laplacian.allo_loss(start, end, weight, a, b, duals)
  wanted = sum(np.mean((start[:, i] - end[:, i])**2) for i in range(3))
  for j in range(3):
    for k in range(j + 1):
      of_a = np.mean(a[:, j] * a[:, k]) - (j == k)
      of_b = np.mean(b[:, j] * b[:, k]) - (j == k)
      np.testing.assert_allclose(errors.mean[j, k], (of_a + of_b) / 2,
                                 rtol=1e-5, atol=1e-6)
      np.testing.assert_allclose(errors.square[j, k], of_a * of_b, rtol=1e-5,
                                 atol=1e-6)
      wanted += duals.beta[j, k] * (of_a + of_b) / 2 + 1.5 * of_a * of_b
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_duals_ascend():
  errors = laplacian.AlloErrors(
      mean=jnp.array([[0.5, 9.0], [-0.5, 0.1]]),
      square=jnp.array([[0.4, 0.0], [-0.8, 0.2]]))
  once = laplacian.ascend(laplacian.initial_duals(2), errors, 0.1, 1.0)
  np.testing.assert_allclose(once.beta, [[0.05, 0.0], [-0.05, 0.01]], rtol=1e-6)
  # The first squared error is taken whole; negative ones do not count.
  np.testing.assert_allclose(once.squared_errors, errors.square)
  np.testing.assert_allclose(once.barrier, 2.0 + (0.4 + 0.2) / 4, rtol=1e-6)
  twice = laplacian.ascend(once, errors._replace(
      square=jnp.zeros((2, 2))), 1e9, 1e9)
  np.testing.assert_allclose(twice.beta, [[100, 0], [-100, 100]])
  np.testing.assert_allclose(twice.squared_errors, 0.9 * errors.square)
  assert float(twice.barrier) == laplacian.MAX_BARRIER


def test_what_options_gain_fits_their_distribution():
  config = DCEOConfig()
  _, end = tabular.transitions()
  end = end.reshape(-1, 4)
  _, vectors = tabular.eigenvectors(config.rep_dim)
  # What allo finds has a mean square of 1.
  phi = vectors * np.sqrt(len(vectors))
  moved = phi[end] - phi[:, np.newaxis]                       # [cell, move, d]
  gains = np.concatenate([moved, -moved], axis=-1)[..., 1:]
  value = np.zeros_like(gains)
  for _ in range(200):
    value = gains + config.option_discount * value.max(axis=1)[end]
  assert 2.0 < np.abs(value).max() < config.option_vmax
