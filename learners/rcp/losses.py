"""Exponential weights; targets and loss of the value network."""

import jax
import jax.numpy as jnp

# Added to standard deviations, which may be 0.
EPSILON = 1e-5


def exponential_weights(values: jax.Array, beta: float,
                        max_weight: float) -> jax.Array:
  """Returns what steps weigh in the loss, by what they achieved.

  That is exp(z / beta), at most `max_weight`, where z are the values less their
  mean, by their sample standard deviation.

  Args:
    values: `[B]`, B >= 2.
    beta: temperature.
    max_weight: bound from above.
  """
  if values.ndim != 1 or values.shape[0] < 2:
    raise ValueError(f'expected values [B], B >= 2, got {values.shape}')
  z = (values - jnp.mean(values)) / (jnp.std(values, ddof=1) + EPSILON)
  # The exponent is bounded, so that nothing overflows.
  return jnp.exp(jnp.minimum(z / beta, jnp.log(max_weight)))


def td_lambda(reward: jax.Array, next_value: jax.Array, length: jax.Array,
              discount: float, lambda_: float) -> jax.Array:
  """Returns the TD(lambda) targets of whole episodes.

  The last step's target is its reward, also where the episode was truncated;
  before it, y_t = r_t + discount ((1 - lambda) V(s_{t+1}) + lambda y_{t+1}).

  Args:
    reward: `[M, T]`, r_t follows the action at time t.
    next_value: `[M, T]`, V(s_{t+1}); no gradient flows through it.
    length: `[M]` int, steps of each episode.
    discount: in [0, 1].
    lambda_: in [0, 1].

  Returns:
    `[M, T]`, 0 beyond an episode's end.
  """
  if reward.ndim != 2 or next_value.shape != reward.shape or (
      length.shape != reward.shape[:1]):
    raise ValueError('expected reward and next_value [M, T] and length [M], '
                     f'got {reward.shape}, {next_value.shape}, {length.shape}')
  next_value = jax.lax.stop_gradient(next_value)
  times = jnp.arange(reward.shape[1])

  def step(later, inputs):
    t, r_t, v_next = inputs
    mixed = (1.0 - lambda_) * v_next + lambda_ * later
    target = r_t + jnp.where(t + 1 < length, discount * mixed, 0.0)
    target = jnp.where(t < length, target, 0.0)
    return target, target

  _, targets = jax.lax.scan(
      step, jnp.zeros(reward.shape[0]), (times, reward.T, next_value.T),
      reverse=True)
  return targets.T


def path_weights(length: jax.Array, row: jax.Array, start: jax.Array,
                 limit: int) -> jax.Array:
  """Returns how often paths pass each step.

  A path leads from a step to the end of its episode.

  Args:
    length: `[M]` int, steps of each episode.
    row: `[P]` int, the episode of each path.
    start: `[P]` int, where it begins.
    limit: T.

  Returns:
    `[P, T]`, 1 where the path is and 0 elsewhere.
  """
  times = jnp.arange(limit)
  return ((times >= start[:, jnp.newaxis])
          & (times < length[row][:, jnp.newaxis])).astype(jnp.float32)


def value_loss(value: jax.Array, target: jax.Array,
               weight: jax.Array) -> jax.Array:
  """Returns the weighted mean squared error of values, `[N]` each.

  Raises:
    ValueError: if the shapes differ.
  """
  if not value.shape == target.shape == weight.shape or value.ndim != 1:
    raise ValueError('expected value, target and weight [N], got '
                     f'{value.shape}, {target.shape} and {weight.shape}')
  return jnp.sum(weight * (value - target)**2) / jnp.sum(weight)
