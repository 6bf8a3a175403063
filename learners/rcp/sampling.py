"""What is learned from: steps for the policy, states for the value network."""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp

from learners.agent import Batch
from learners.rcp import losses
from learners.rcp.config import RCPConfig
from replay import hindsight

# `(value_params, state [..., S]) -> [...]`.
Value = Callable[[Any, jax.Array], jax.Array]


class Rows(NamedTuple):
  """Steps the policy learns from, one a row.

  Attributes:
    state: `[B, S]`.
    action: `[B]` int32.
    to_go: `[B]` discounted return from there.
    total: `[B]` plain return of the whole episode.
  """
  state: jax.Array
  action: jax.Array
  to_go: jax.Array
  total: jax.Array


class Values(NamedTuple):
  """States the value network learns from, one a row.

  Attributes:
    state: `[N, S]`.
    target: `[N]`.
    weight: `[N]`, 0 for rows that are none.
  """
  state: jax.Array
  target: jax.Array
  weight: jax.Array


def row_sampler(config: RCPConfig,
                episodes: Batch) -> Callable[[jax.Array], Rows]:
  """Returns `key -> Rows`, which draws steps of `episodes`."""
  length = episodes['length']
  to_go = hindsight.returns_to_go(
      episodes['reward'], length, config.discount)

  def draw(key):
    row, t = hindsight.sample_steps(
        key, length, jnp.ones(length.shape), config.batch_size,
        config.pair_sampling)
    return Rows(
        state=episodes['observation'][row, t],
        action=episodes['action'][row, t],
        to_go=to_go[row, t],
        total=episodes['episode_return'][row])

  return draw


def value_sampler(
    config: RCPConfig, value: Value, episodes: Batch, value_params: Any,
) -> Callable[[jax.Array, Rows, Any], Values]:
  """Returns `(key, rows, value_params) -> Values`.

  It draws from `episodes` by the rule of the settings. Where states are drawn
  alone, their targets are computed here, once, with the parameters given.
  """
  if not config.use_lambda_td:
    return lambda key, rows, params: Values(
        rows.state, rows.to_go, jnp.ones(rows.to_go.shape))
  if config.value_states == 'paths':
    return lambda key, rows, params: _paths(
        config, value, key, episodes, params)
  return _alone(config, value, episodes, value_params)


def _alone(config: RCPConfig, value: Value, episodes: Batch,
           value_params: Any) -> Callable[[jax.Array, Rows, Any], Values]:
  """Returns a sampler of states, each with a target computed beforehand."""
  # Replay drew the episodes, so the first of them are as good as any.
  few = {name: episodes[name][:config.value_episodes]
         for name in ('observation', 'reward', 'length')}
  length = few['length']
  targets = losses.td_lambda(
      few['reward'], value(value_params, few['observation'][:, 1:]), length,
      config.discount, config.gae_lambda)

  def draw(key, rows, params):
    del rows, params
    row, t = hindsight.sample_steps(
        key, length, jnp.ones(length.shape), config.batch_size,
        config.pair_sampling)
    return Values(few['observation'][row, t], targets[row, t],
                  jnp.ones(config.batch_size))

  return draw


def _paths(config: RCPConfig, value: Value, key: jax.Array, episodes: Batch,
           value_params: Any) -> Values:
  """Draws paths from steps to the ends of their episodes, as rows."""
  length = episodes['length']
  row, start = hindsight.sample_steps(
      key, length, jnp.ones(length.shape), config.value_paths,
      config.pair_sampling)
  observation, reward = episodes['observation'][row], episodes['reward'][row]
  targets = losses.td_lambda(
      reward, value(value_params, observation[:, 1:]), length[row],
      config.discount, config.gae_lambda)
  weights = losses.path_weights(length, row, start, reward.shape[1])
  return Values(observation[:, :-1].reshape(-1, observation.shape[-1]),
                targets.reshape(-1), weights.reshape(-1))
