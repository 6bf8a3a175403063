"""Commands: the record of the best episodes, and what is asked of the next.

The record follows every finished episode and holds what the replay table of the
best ones holds, which cannot be asked for it.
"""

from typing import NamedTuple, Optional

import jax
import jax.numpy as jnp


class Record(NamedTuple):
  """The best episodes, best first; among equals the newest first.

  Attributes:
    returns: `[K]`, minus infinity where there is no episode.
    lengths: `[K]` int32.
  """
  returns: jax.Array
  lengths: jax.Array


class Statistics(NamedTuple):
  """What commands are drawn from.

  Attributes:
    mean: of the best returns.
    std: of the best returns, of the population.
    horizon: mean length of these episodes, rounded.
    known: bool, there were episodes.
  """
  mean: jax.Array
  std: jax.Array
  horizon: jax.Array
  known: jax.Array


def empty_record(num_episodes: int) -> Record:
  """Returns a record of no episode yet, with room for `num_episodes`."""
  return Record(jnp.full(num_episodes, -jnp.inf),
                jnp.zeros(num_episodes, jnp.int32))


def insert(record: Record, returns: jax.Array, lengths: jax.Array,
           valid: jax.Array) -> Record:
  """Adds episodes; those of the lowest returns go.

  Args:
    record: of K episodes.
    returns: `[R]`, in the order the episodes were stored.
    lengths: `[R]` int.
    valid: `[R]` bool, the rows that are episodes.
  """
  if returns.ndim != 1 or not (
      returns.shape == lengths.shape == valid.shape):
    raise ValueError('expected returns, lengths and valid of one shape [R], '
                     f'got {returns.shape}, {lengths.shape}, {valid.shape}')
  new = jnp.where(valid, returns, -jnp.inf)
  # Newest first, so that a stable sort leaves them before their equals.
  returns = jnp.concatenate([new[::-1], record.returns])
  lengths = jnp.concatenate([lengths[::-1].astype(jnp.int32), record.lengths])
  order = jnp.argsort(-returns, stable=True)[:record.returns.shape[0]]
  kept = returns[order]
  return Record(kept, jnp.where(jnp.isfinite(kept), lengths[order], 0))


def within_capacity(record: Record, max_steps: int) -> jax.Array:
  """Returns which episodes are learned from, `[K]` bool.

  They are the best that begin within `max_steps`, when put end to end, best
  first; 0 is no bound.
  """
  present = jnp.isfinite(record.returns)
  if not max_steps:
    return present
  before = jnp.cumsum(record.lengths) - record.lengths
  return present & (before < max_steps)


def least_return(record: Record, max_steps: int) -> jax.Array:
  """Returns the lowest return that is still learned from."""
  return jnp.min(jnp.where(
      within_capacity(record, max_steps), record.returns, jnp.inf))


def statistics(record: Record, last_few: int, max_steps: int) -> Statistics:
  """Returns what commands are drawn from: the best few distinct returns.

  Args:
    record: of the best episodes.
    last_few: how many of them; episodes of equal return count once.
    max_steps: as for `within_capacity`.
  """
  first = jnp.concatenate([
      jnp.ones(1, bool), record.returns[1:] != record.returns[:-1]])
  distinct = first & within_capacity(record, max_steps)
  chosen = distinct & (jnp.cumsum(distinct) <= last_few)
  num = jnp.maximum(jnp.sum(chosen), 1)
  returns = jnp.where(chosen, record.returns, 0.0)
  mean = jnp.sum(returns) / num
  variance = jnp.sum(jnp.where(chosen, (returns - mean)**2, 0.0)) / num
  horizon = jnp.sum(jnp.where(chosen, record.lengths, 0)) / num
  return Statistics(mean, jnp.sqrt(variance), jnp.round(horizon),
                    jnp.any(chosen))


def draw(key: jax.Array, stats: Statistics, num: int,
         max_return: Optional[float], lower_by_std: bool = False,
         spread: float = 1.0) -> jax.Array:
  """Draws commands `[num, 2]` (return, horizon) for episodes that begin.

  Returns are uniform from the mean of the best to `spread` standard deviations
  above it; all are one standard deviation lower if `lower_by_std`.
  """
  lowest = stats.mean - (stats.std if lower_by_std else 0.0)
  returns = lowest + spread * stats.std * jax.random.uniform(key, (num,))
  return _command(returns, stats.horizon, max_return)


def expected(stats: Statistics, num: int,
             max_return: Optional[float]) -> jax.Array:
  """Returns `[num, 2]` commands of the mean return, for evaluation."""
  return _command(jnp.full(num, stats.mean), stats.horizon, max_return)


def _command(returns: jax.Array, horizon: jax.Array,
             max_return: Optional[float]) -> jax.Array:
  if max_return is not None:
    returns = jnp.minimum(returns, max_return)
  horizon = jnp.broadcast_to(jnp.maximum(horizon, 1.0), returns.shape)
  return jnp.stack([returns, horizon], axis=-1)


def follow(command: jax.Array, reward: jax.Array, max_return: Optional[float],
           keep_return: bool = False) -> jax.Array:
  """Returns what is left of commands after a step.

  Args:
    command: `[E, 2]` (return, horizon).
    reward: `[E]` of the step, as the agent sees it.
    max_return: bound on the return from above; None is none.
    keep_return: only the horizon shrinks.

  Returns:
    `[E, 2]`; a horizon is at least 1.
  """
  if command.ndim != 2 or reward.shape != command.shape[:1]:
    raise ValueError('expected command [E, 2] and reward [E], got '
                     f'{command.shape} and {reward.shape}')
  returns = command[:, 0] if keep_return else command[:, 0] - reward
  return _command(returns, command[:, 1] - 1.0, max_return)
