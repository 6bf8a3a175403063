"""Commands in hindsight: what an episode did achieve, from every step on."""

from typing import Dict, NamedTuple

import jax
import jax.numpy as jnp

from envs.spec import EnvSpec
from learners.agent import Column

# How steps are drawn: every step alike, or first an episode and then a step.
STEP_UNIFORM, EPISODE_UNIFORM = 'step_uniform', 'episode_uniform'
RULES = (STEP_UNIFORM, EPISODE_UNIFORM)


class Steps(NamedTuple):
  """Where steps were drawn from.

  Attributes:
    row: `[B]` int32, the episode.
    t: `[B]` int32, the time in it, below its length.
  """
  row: jax.Array
  t: jax.Array


def columns(spec: EnvSpec) -> Dict[str, Column]:
  """Returns the layout of a whole episode of discrete actions."""
  limit = spec.step_limit
  return {
      'observation': Column((limit + 1, spec.observation_dim)),
      'action': Column((limit,), 'int32'),
      'reward': Column((limit,)),
      'length': Column((), 'int32'),
      'episode_return': Column(()),
  }


def within(length: jax.Array, limit: int) -> jax.Array:
  """Returns which steps belong to episodes, `[M]` lengths to `[M, T]` bool."""
  return jnp.arange(limit) < length[:, jnp.newaxis]


def returns_to_go(reward: jax.Array, length: jax.Array,
                  discount: float = 1.0) -> jax.Array:
  """Adds up rewards from every step to the end of its episode.

  The reward of the step itself counts; R_t = r_t + discount * R_{t+1}.

  Args:
    reward: `[M, T]`, r_t follows the action at time t.
    length: `[M]` int, steps of each episode; later rewards are left out.
    discount: in [0, 1].

  Returns:
    `[M, T]`, 0 beyond an episode's end.
  """
  if reward.ndim != 2 or length.shape != reward.shape[:1]:
    raise ValueError('expected reward [M, T] and length [M], got '
                     f'{reward.shape} and {length.shape}')
  reward = jnp.where(within(length, reward.shape[1]), reward, 0.0)

  def add(later, r_t):
    total = r_t + discount * later
    return total, total

  _, totals = jax.lax.scan(
      add, jnp.zeros(reward.shape[0]), reward.T, reverse=True)
  return totals.T


def horizons(length: jax.Array, t: jax.Array) -> jax.Array:
  """Returns the steps left from time `t` on, that of `t` included: T - t."""
  return length - t


def sample_steps(key: jax.Array, length: jax.Array, weight: jax.Array,
                 num: int, rule: str) -> Steps:
  """Draws steps of episodes.

  Args:
    key: consumed.
    length: `[M]` int, at least 1.
    weight: `[M]`, 0 for episodes that are not to be drawn from, else 1; if all
      are 0, none is left out.
    num: steps to draw, B.
    rule: one of `RULES`.
  """
  if length.ndim != 1 or weight.shape != length.shape:
    raise ValueError(f'expected length [M] and weight [M], got {length.shape} '
                     f'and {weight.shape}')
  weight = jnp.where(jnp.any(weight > 0), weight, 1.0)
  key_row, key_t = jax.random.split(key)
  share = weight * length if rule == STEP_UNIFORM else weight
  # Integers, because sums of many lengths are not exact in float32.
  ends = jnp.cumsum(share.astype(jnp.int32))
  place = jax.random.randint(key_row, (num,), 0, ends[-1])
  row = jnp.searchsorted(ends, place, side='right').astype(jnp.int32)
  drawn = length[row]
  t = jnp.floor(jax.random.uniform(key_t, (num,)) * drawn).astype(jnp.int32)
  return Steps(row, jnp.minimum(t, drawn - 1))
