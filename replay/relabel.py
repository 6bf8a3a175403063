"""Hindsight goals: which future state becomes the goal of a transition."""

import math
from typing import Mapping, NamedTuple, Sequence

import jax
import jax.numpy as jnp


class Transitions(NamedTuple):
  """Goal-relabelled transitions, one a row.

  Attributes:
    state: `[B, S]` state at time t.
    action: `[B, A]` action at time t.
    next_state: `[B, S]` state at time t + 1.
    goal: `[B, G]` goal entries of a state at a later time k > t.
  """
  state: jax.Array
  action: jax.Array
  next_state: jax.Array
  goal: jax.Array


def geometric_offset(uniform: jax.Array, steps_left: jax.Array,
                     discount: float) -> jax.Array:
  """Samples how far ahead the goal lies: P(o) proportional to discount^o.

  Inverts the distribution function of the geometric distribution truncated to
  1..steps_left.

  Args:
    uniform: `[...]` draws from [0, 1).
    steps_left: `[...]` int, steps until the episode's last state, at least 1.
    discount: in (0, 1).

  Returns:
    `[...]` int32 offsets in 1..steps_left.
  """
  steps = steps_left.astype(jnp.float32)
  # In float32 the logarithm of a discount close to 1 would round to 0.
  log_discount = math.log(discount)
  mass = -jnp.expm1(steps * log_discount)
  offset = 1.0 + jnp.floor(jnp.log1p(-uniform * mass) / log_discount)
  return jnp.clip(offset.astype(jnp.int32), 1, steps_left)


def sample_transitions(key: jax.Array,
                       episodes: Mapping[str, jax.Array],
                       batch_size: int,
                       discount: float,
                       obs_dim: int,
                       goal_indices: Sequence[int]) -> Transitions:
  """Draws transitions from whole episodes and relabels their goals.

  Every row comes from another episode when there are enough of them. The time
  is uniform over the episode's transitions; the goal never crosses its end.

  Args:
    key: consumed.
    episodes: `observation [M, T+1, D]`, `action [M, T, A]` and `length [M]`,
      the number of transitions of each episode, 1 <= length <= T.
    batch_size: rows to draw, B.
    discount: of the offset distribution.
    obs_dim: number of state entries at the front of an observation.
    goal_indices: state entries that make up a goal.

  Returns:
    B transitions.
  """
  observation, action = episodes['observation'], episodes['action']
  if observation.ndim != 3 or action.ndim != 3:
    raise ValueError('expected observation [M, T+1, D] and action [M, T, A], '
                     f'got {observation.shape} and {action.shape}')
  num_episodes = observation.shape[0]
  key_row, key_time, key_goal = jax.random.split(key, 3)
  if num_episodes >= batch_size:
    row = jax.random.permutation(key_row, num_episodes)[:batch_size]
  else:
    row = jax.random.randint(key_row, (batch_size,), 0, num_episodes)

  length = episodes['length'][row]
  t = jnp.floor(jax.random.uniform(key_time, (batch_size,)) * length)
  t = jnp.minimum(t.astype(jnp.int32), length - 1)
  offset = geometric_offset(
      jax.random.uniform(key_goal, (batch_size,)), length - t, discount)
  states = observation[:, :, :obs_dim]
  return Transitions(
      state=states[row, t],
      action=action[row, t],
      next_state=states[row, t + 1],
      goal=states[row, t + offset][:, jnp.array(goal_indices)])
