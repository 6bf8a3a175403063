"""The UDRL agent: network, loss and commands assembled into an `Agent`."""

from typing import Any, NamedTuple, Tuple

import jax
import jax.numpy as jnp
import optax

from envs.spec import EnvSpec
from learners import commanded
from learners.agent import Agent, Batch, HELD_OUT, Metrics
from learners.udrl import commands, losses, policies
from learners.udrl import networks as networks_lib
from learners.udrl.config import UDRLConfig
from learners.udrl.networks import Networks
from replay import hindsight
from safety.masking import SafetyMask


class TrainingState(NamedTuple):
  """Everything that changes in learning.

  Attributes:
    params: of the behaviour function.
    opt: Adam state.
    record: the best episodes, which commands follow from.
    key: source of all randomness in learning.
  """
  params: Any
  opt: Any
  record: commands.Record
  key: jax.Array


def make_networks(config: UDRLConfig, spec: EnvSpec) -> Networks:
  """Returns the behaviour function for one environment."""
  return networks_lib.make_networks(
      spec.observation_dim, spec.num_actions, config.hidden_sizes,
      (config.return_scale, config.horizon_scale))


def make_agent(config: UDRLConfig, spec: EnvSpec,
               mask: SafetyMask = SafetyMask()) -> Agent:
  """Builds the agent for one environment; it knows no regions."""
  del mask
  networks = make_networks(config, spec)
  optimizer = optax.chain(
      optax.clip_by_global_norm(config.max_grad_norm),
      optax.adam(config.learning_rate))

  def init(key):
    key_network, key_state = jax.random.split(key)
    params = networks.init(key_network)
    return TrainingState(
        params, optimizer.init(params),
        commands.empty_record(config.max_replay_episodes), key_state)

  def hear(state, reports, valid):
    learned_from = valid & (reports[HELD_OUT] == 0.0)
    return state._replace(record=commands.insert(
        state.record, reports['episode_return'],
        jnp.round(reports['episode_length']).astype(jnp.int32), learned_from))

  def objective(params, batch):
    logits = networks.logits(params, batch.state, batch.command)
    return jnp.mean(losses.action_losses(logits, batch.action))

  def update(state: TrainingState,
             batch: Batch) -> Tuple[TrainingState, Metrics]:
    kept = batch['episode_return'] >= commands.least_return(
        state.record, config.max_replay_steps)
    draw = sampler(config, batch, kept.astype(jnp.float32))

    def sgd_step(carry, _):
      params, opt, key = carry
      key, key_batch = jax.random.split(key)
      loss, grads = jax.value_and_grad(objective)(params, draw(key_batch))
      updates, opt = optimizer.update(grads, opt)
      return (optax.apply_updates(params, updates), opt, key), loss

    (params, opt, key), loss = jax.lax.scan(
        sgd_step, (state.params, state.opt, state.key), None,
        length=config.num_sgd_steps_per_step)
    key, key_held_out = jax.random.split(key)
    held_out = batch[HELD_OUT]
    draw_held_out = sampler(
        config, held_out, jnp.ones(held_out['length'].shape))
    metrics = {'policy_loss': jnp.mean(loss),
               'val_loss': objective(params, draw_held_out(key_held_out)),
               **record_metrics(config, state.record)}
    return TrainingState(params, opt, state.record, key), metrics

  return commanded.make_agent(
      config, spec,
      init=init,
      update=update,
      variables=lambda state: (state.params, commands.statistics(
          state.record, config.last_few, config.max_replay_steps)),
      make_policy=lambda draw, greedy: policies.make_policy(
          networks, config, spec.num_actions, draw, greedy),
      drawn=policies.sampled_command(config),
      expected=policies.expected_command(config),
      given=policies.given_command,
      command_names=('return', 'horizon'),
      reports=('episode_return', 'episode_length', HELD_OUT),
      hear=hear,
      priority='episode_return')


class Rows(NamedTuple):
  """Steps to learn from, one a row.

  Attributes:
    state: `[B, S]`.
    command: `[B, 2]`, what the episode achieved from there, and in how many
      steps.
    action: `[B]` int32.
  """
  state: jax.Array
  command: jax.Array
  action: jax.Array


def sampler(config: UDRLConfig, episodes: Batch, weight: jax.Array) -> Any:
  """Returns `key -> Rows`, which draws from the episodes of weight 1.

  Args:
    config: of the agent.
    episodes: `[M, ...]` columns of whole episodes.
    weight: `[M]`, 0 or 1.
  """
  length = episodes['length']
  to_go = hindsight.returns_to_go(episodes['reward'], length)
  if config.command == 'cumulative_return':
    to_go = jnp.broadcast_to(to_go[:, :1], to_go.shape)

  def draw(key):
    row, t = hindsight.sample_steps(
        key, length, weight, config.batch_size, config.pair_sampling)
    horizon = hindsight.horizons(length[row], t)
    return Rows(
        state=episodes['observation'][row, t],
        command=jnp.stack(
            [to_go[row, t], horizon.astype(jnp.float32)], axis=-1),
        action=episodes['action'][row, t])

  return draw


def record_metrics(config: UDRLConfig, record: commands.Record) -> Metrics:
  """Returns what the log says of the record and of commands."""
  stats = commands.statistics(
      record, config.last_few, config.max_replay_steps)
  kept = commands.within_capacity(record, config.max_replay_steps)
  num = jnp.sum(kept)
  values = jnp.where(kept, record.returns, 0.0)
  return {
      'command_return': stats.mean,
      'command_return_std': stats.std,
      'command_horizon': stats.horizon,
      'record_episodes': num.astype(jnp.float32),
      'record_steps': jnp.sum(
          jnp.where(kept, record.lengths, 0)).astype(jnp.float32),
      'record_best': values[0],
      'record_median': values[num // 2],
      'record_least': values[jnp.maximum(num - 1, 0)],
  }
