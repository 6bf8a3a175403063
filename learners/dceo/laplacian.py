"""Losses whose minimum is the smoothest eigenfunctions of the state graph.

The generalised graph-drawing objective is that of Wang et al. 2021; `allo` is
the augmented Lagrangian of Gomez et al. 2024 (Proper Laplacian Representation
Learning), which alone fixes order and scale of the eigenfunctions.
"""

from typing import NamedTuple, Tuple

import jax
import jax.numpy as jnp

KINDS = ('ggdo_log', 'ggdo_sq', 'allo')

# Keeps the norm of a zero representation differentiable.
NORM_EPSILON = 1e-12
MAX_DUAL = 100.0
MAX_BARRIER = 1e4
INITIAL_BARRIER = 2.0
# How fast the running mean of squared errors forgets.
ERROR_RATE = 0.1


class Duals(NamedTuple):
  """What `allo` ascends.

  Attributes:
    beta: `[d, d]` lower triangular, the multipliers.
    barrier: `[]` weight of the squared errors.
    squared_errors: `[d, d]` running mean of the squared errors.
    steps: `[]` int32, ascents made.
  """
  beta: jax.Array
  barrier: jax.Array
  squared_errors: jax.Array
  steps: jax.Array


class AlloErrors(NamedTuple):
  """How far the representation is from orthonormal, `[d, d]` each.

  Attributes:
    mean: estimate of the error.
    square: unbiased estimate of its square.
  """
  mean: jax.Array
  square: jax.Array


def initial_duals(rep_dim: int) -> Duals:
  """Returns the multipliers that learning starts with."""
  zeros = jnp.zeros((rep_dim, rep_dim))
  return Duals(beta=zeros, barrier=jnp.asarray(INITIAL_BARRIER, jnp.float32),
               squared_errors=jnp.zeros_like(zeros),
               steps=jnp.zeros((), jnp.int32))


def graph_terms(start: jax.Array, end: jax.Array,
                weight: jax.Array) -> jax.Array:
  """Returns how much each dimension changes from state to state, `[d]`.

  Args:
    start: `[N, d]` representation of states.
    end: `[N, d]` of states that followed.
    weight: `[N]` of each pair.
  """
  if start.ndim != 2 or start.shape != end.shape or (
      weight.shape != start.shape[:1]):
    raise ValueError('expected start and end [N, d] and weight [N], got '
                     f'{start.shape}, {end.shape} and {weight.shape}')
  return jnp.mean(weight[:, jnp.newaxis] * (start - end) ** 2, axis=0)


def ggdo_loss(start: jax.Array, end: jax.Array, weight: jax.Array,
              u: jax.Array, v: jax.Array, log_transform: bool) -> jax.Array:
  """The generalised graph-drawing objective with coefficients d, d-1, ..., 1.

  Its sum over nested sets of dimensions 1..k is what orders them.

  Args:
    start: `[N, d]` representation of states.
    end: `[N, d]` of states that followed.
    weight: `[N]` of each pair.
    u: `[M, d]` of states drawn for themselves.
    v: `[M, d]` of other such states.
    log_transform: reward length by log(1 + r) rather than r^2 / d.

  Returns:
    Scalar.
  """
  if u.ndim != 2 or u.shape != v.shape or u.shape[1] != start.shape[1]:
    raise ValueError('expected u and v [M, d] like start [N, d], got '
                     f'{u.shape}, {v.shape} and {start.shape}')
  rep_dim = start.shape[1]
  coefficients = jnp.arange(rep_dim, 0, -1, dtype=start.dtype)
  attract = jnp.sum(coefficients * graph_terms(start, end, weight))
  products = jnp.cumsum(u * v, axis=1)                     # [M, k]

  def bonus(phi):
    squared = jnp.cumsum(phi ** 2, axis=1)
    if not log_transform:
      return squared / rep_dim
    return jnp.log1p(jnp.sqrt(squared + NORM_EPSILON))

  repel = jnp.sum(products ** 2 - bonus(u) - bonus(v), axis=1)
  return attract + jnp.mean(repel)


def allo_loss(start: jax.Array, end: jax.Array, weight: jax.Array,
              a: jax.Array, b: jax.Array,
              duals: Duals) -> Tuple[jax.Array, AlloErrors]:
  """The augmented Lagrangian, to be minimised in the representation alone.

  Args:
    start: `[N, d]` representation of states.
    end: `[N, d]` of states that followed.
    weight: `[N]` of each pair.
    a: `[M, d]` of states drawn for themselves.
    b: `[M, d]` of other such states; independent of `a`, so that the product
      of both errors is an unbiased square.
    duals: multipliers and barrier.

  Returns:
    Scalar, and the errors that `ascend` needs.
  """
  if a.ndim != 2 or a.shape != b.shape or a.shape[1] != start.shape[1]:
    raise ValueError('expected a and b [M, d] like start [N, d], got '
                     f'{a.shape}, {b.shape} and {start.shape}')
  error_a, error_b = orthogonality_error(a), orthogonality_error(b)
  errors = AlloErrors((error_a + error_b) / 2.0, error_a * error_b)
  loss = (jnp.sum(graph_terms(start, end, weight))
          + jnp.sum(jax.lax.stop_gradient(duals.beta) * errors.mean)
          + jax.lax.stop_gradient(duals.barrier) * jnp.sum(errors.square))
  return loss, jax.lax.stop_gradient(errors)


def orthogonality_error(phi: jax.Array) -> jax.Array:
  """Returns the lower triangle of `mean(phi phi^T) - 1`, `[M, d]` to `[d, d]`.

  Only the row's dimension is moved by its gradient: each dimension keeps clear
  of those before it, so that just the ordered eigenfunctions are stable.
  """
  inner = phi.T @ jax.lax.stop_gradient(phi) / phi.shape[0]
  return jnp.tril(inner - jnp.eye(phi.shape[1]))


def ascend(duals: Duals, errors: AlloErrors, rate: float,
           barrier_rate: float) -> Duals:
  """Moves the multipliers after a step of the representation.

  Args:
    duals: before.
    errors: of the batch of that step.
    rate: step size of `beta`.
    barrier_rate: step size of `barrier`.
  """
  beta = jnp.tril(jnp.clip(
      duals.beta + rate * errors.mean, -MAX_DUAL, MAX_DUAL))
  kept = jnp.where(duals.steps == 0, 0.0, 1.0 - ERROR_RATE)
  squared = kept * duals.squared_errors + (1.0 - kept) * errors.square
  barrier = jnp.clip(
      duals.barrier + barrier_rate * jnp.mean(jnp.maximum(squared, 0.0)),
      0.0, MAX_BARRIER)
  return Duals(beta, barrier, squared, duals.steps + 1)
