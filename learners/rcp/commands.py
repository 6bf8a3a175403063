"""Commands: what the next episodes are asked for, and how the network sees it.

Returns are asked for as the newest episodes achieved them, advantages as the
newest batches held them.
"""

from typing import NamedTuple, Tuple

import jax
import jax.numpy as jnp

from learners.rcp.config import RCPConfig
from learners.rcp.losses import EPSILON

# Below everything that is an advantage.
_NOTHING = -1e7


class Statistics(NamedTuple):
  """What commands are drawn from, and what the network sees of them.

  Attributes:
    mean: of the Normal that commands are drawn from.
    std: of it.
    known: bool, there was something to learn them from.
    offset: subtracted from a command before the network sees it.
    scale: then multiplied with it.
  """
  mean: jax.Array
  std: jax.Array
  known: jax.Array
  offset: jax.Array
  scale: jax.Array


class Latest(NamedTuple):
  """The newest episodes' discounted returns, oldest first.

  Attributes:
    returns: `[L]`.
    num: int32, how many of them there are; they are the last.
  """
  returns: jax.Array
  num: jax.Array


class Running(NamedTuple):
  """Figures of what batches achieved.

  Attributes:
    mean: running mean over batches.
    square: running mean of squares.
    high: running mean of the statistic that commands aim at.
    std: running mean of the batches' sample standard deviations.
    weight: share of what the running means have seen so far.
    best: largest of the current window.
    best_std: sample standard deviation of its batch.
    served: the `best` of the window before.
    served_std: its `best_std`.
    updates: int32, SGD steps seen.
  """
  mean: jax.Array
  square: jax.Array
  high: jax.Array
  std: jax.Array
  weight: jax.Array
  best: jax.Array
  best_std: jax.Array
  served: jax.Array
  served_std: jax.Array
  updates: jax.Array


def empty_latest(num_episodes: int) -> Latest:
  """Returns the record of no episode yet, with room for `num_episodes`."""
  return Latest(jnp.zeros(num_episodes), jnp.zeros((), jnp.int32))


def append(latest: Latest, returns: jax.Array, valid: jax.Array) -> Latest:
  """Adds episodes in the order they ended; the oldest go.

  Args:
    latest: of L episodes.
    returns: `[R]`.
    valid: `[R]` bool, the rows that are episodes; they come first.
  """
  if returns.ndim != 1 or returns.shape != valid.shape:
    raise ValueError('expected returns and valid [R], got '
                     f'{returns.shape} and {valid.shape}')
  size = latest.returns.shape[0]
  num_new = jnp.sum(valid)
  rows = jnp.concatenate([latest.returns, returns])
  return Latest(jax.lax.dynamic_slice(rows, (num_new,), (size,)),
                jnp.minimum(latest.num + num_new, size).astype(jnp.int32))


def empty_running() -> Running:
  """Returns figures of nothing yet."""
  zeros = {name: jnp.zeros(()) for name in (
      'mean', 'square', 'high', 'std', 'weight', 'best_std', 'served_std')}
  nothing = jnp.full((), _NOTHING, jnp.float32)
  return Running(best=nothing, served=jnp.copy(nothing),
                 updates=jnp.zeros((), jnp.int32), **zeros)


def follow_batch(running: Running, values: jax.Array,
                 config: RCPConfig) -> Running:
  """Takes in what the steps of one batch achieved, `[B]`."""
  if values.ndim != 1:
    raise ValueError(f'expected values [B], got {values.shape}')
  std = jnp.std(values, ddof=1)
  high = {'max': jnp.max(values),
          'quantile': jnp.quantile(values, config.command_quantile),
          'mean_plus_std': jnp.mean(values) + std}[config.command_statistic]
  rate = config.normalizer_rate

  def blend(old, new):
    return old + rate * (new - old)

  largest = jnp.max(values)
  better = largest >= running.best
  best = jnp.where(better, largest, running.best)
  best_std = jnp.where(better, std, running.best_std)
  updates = running.updates + 1
  over = updates % config.command_window == 0
  return Running(
      mean=blend(running.mean, jnp.mean(values)),
      square=blend(running.square, jnp.mean(values**2)),
      high=blend(running.high, high),
      std=blend(running.std, std),
      weight=blend(running.weight, 1.0),
      best=jnp.where(over, _NOTHING, best),
      best_std=jnp.where(over, 0.0, best_std),
      served=jnp.where(over, best, running.served),
      served_std=jnp.where(over, best_std, running.served_std),
      updates=updates)


def return_statistics(latest: Latest, running: Running,
                      config: RCPConfig) -> Statistics:
  """Asks for the largest of the newest returns, give or take their spread."""
  size = latest.returns.shape[0]
  there = jnp.arange(size) >= size - latest.num
  num = jnp.maximum(latest.num, 1)
  mean = jnp.sum(jnp.where(there, latest.returns, 0.0)) / num
  variance = jnp.sum(
      jnp.where(there, (latest.returns - mean)**2, 0.0)) / num
  largest = jnp.max(jnp.where(there, latest.returns, -jnp.inf))
  known = latest.num > 0
  return Statistics(jnp.where(known, largest, 0.0), jnp.sqrt(variance), known,
                    *normalizer(running, config))


def advantage_statistics(running: Running, config: RCPConfig) -> Statistics:
  """Asks for high advantages, as the settings understand that."""
  if config.command_statistic == 'max':
    known = running.served > _NOTHING
    mean = jnp.where(known, running.served, 0.0)
    std = running.served_std
  else:
    known = running.weight > 0
    weight = jnp.where(known, running.weight, 1.0)
    mean, std = running.high / weight, running.std / weight
  return Statistics(mean, std, known, *normalizer(running, config))


def normalizer(running: Running,
               config: RCPConfig) -> Tuple[jax.Array, jax.Array]:
  """Returns offset and scale that the network sees commands by."""
  known = running.weight > 0
  weight = jnp.where(known, running.weight, 1.0)
  mean = running.mean / weight
  variance = jnp.maximum(running.square / weight - mean**2, 0.0)
  use = known & config.normalize_command
  return (jnp.where(use, mean, 0.0),
          jnp.where(use, 1.0 / (jnp.sqrt(variance) + EPSILON), 1.0))


def seen(command: jax.Array, offset: jax.Array,
         scale: jax.Array) -> jax.Array:
  """Returns commands as the network sees them, by what `normalizer` returns."""
  return (command - offset) * scale
