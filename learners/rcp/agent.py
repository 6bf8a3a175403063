"""Both agents: networks, losses and commands assembled into an `Agent`."""

from typing import Any, NamedTuple, Tuple

import jax
import jax.numpy as jnp
import optax

from actors import policy as policy_lib
from actors.commands import commanded_policy
from envs.spec import EnvSpec
from learners.agent import (
  Agent,
  Batch,
  Column,
  EpisodePacing,
  HELD_OUT,
  Metrics,
  ReplaySpec,
)
from learners.rcp import commands, losses
from learners.rcp import networks as networks_lib
from learners.rcp.config import RCPConfig, uses_advantage
from learners.rcp.networks import Networks
from replay import hindsight
from safety.masking import SafetyMask

# Held-out episodes in a batch.
NUM_HELD_OUT = 8


class Params(NamedTuple):
  """Parameters that gradients are taken of; the value's are () for returns."""
  policy: Any
  value: Any


class TrainingState(NamedTuple):
  """Everything that changes in learning.

  Attributes:
    params: of policy and value network.
    opt: state of the optimizer, or of both.
    latest: newest returns, which commanded returns follow from.
    running: figures of the batches, which the rest follows from.
    key: source of all randomness in learning.
  """
  params: Params
  opt: Any
  latest: commands.Latest
  running: commands.Running
  key: jax.Array


class Rows(NamedTuple):
  """Steps to learn from, one a row.

  Attributes:
    state: `[B, S]`.
    action: `[B]` int32.
    to_go: `[B]` discounted return from there.
    total: `[B]` plain return of the whole episode.
    target: `[B]` of the value network.
  """
  state: jax.Array
  action: jax.Array
  to_go: jax.Array
  total: jax.Array
  target: jax.Array


def make_optimizer(config: RCPConfig) -> optax.GradientTransformation:
  """Returns one optimizer of both networks, or one of each."""

  def adam(rate):
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adam(rate))

  if not config.separate_value_optimizer:
    return adam(config.learning_rate)
  return optax.multi_transform(
      {'policy': adam(config.learning_rate),
       'value': adam(config.value_learning_rate)},
      Params('policy', 'value'))


def make_agent(config: RCPConfig, spec: EnvSpec,
               mask: SafetyMask = SafetyMask()) -> Agent:
  """Builds the agent for one environment; it knows no regions."""
  del mask
  networks = networks_lib.make_networks(
      spec.observation_dim, spec.num_actions, config.hidden_sizes)
  optimizer = make_optimizer(config)
  advantage = uses_advantage(config)

  def init(key):
    key_policy, key_value, key_state = jax.random.split(key, 3)
    params = Params(
        networks.init_policy(key_policy),
        networks.init_value(key_value) if advantage else ())
    return TrainingState(
        params, optimizer.init(params),
        commands.empty_latest(config.latest_episodes),
        commands.empty_running(), key_state)

  def hear(state, reports, valid):
    return state._replace(latest=commands.append(
        state.latest, reports['discounted_return'], valid))

  def statistics(state):
    if advantage:
      return commands.advantage_statistics(state.running, config)
    return commands.return_statistics(state.latest, state.running, config)

  def policy_loss(params, rows, achieved, running):
    stats = commands.Statistics(
        jnp.zeros(()), jnp.zeros(()), jnp.ones((), bool),
        *commands.normalizer(running, config))
    command = commands.seen(stats, achieved)[:, jnp.newaxis]
    loss = optax.softmax_cross_entropy_with_integer_labels(
        networks.logits(params.policy, rows.state, command), rows.action)
    if not config.expo_weighting:
      return jnp.mean(loss)
    weights = losses.exponential_weights(
        achieved if advantage else rows.total, config.beta, config.max_weight)
    return jnp.mean(loss * weights)

  def achieved_by(params, rows):
    """Returns what each row achieved, `[B]`; no gradient flows through it."""
    if not advantage:
      return rows.to_go
    gain = jax.lax.stop_gradient(
        rows.to_go - networks.value(params.value, rows.state))
    if config.max_advantage is not None:
      gain = jnp.minimum(gain, config.max_advantage)
    return gain

  def objective(params, rows, paths, achieved, running, value_due):
    loss = policy_loss(params, rows, achieved, running)
    if not advantage:
      return loss, (loss, jnp.zeros(()))
    value_loss = value_objective(networks, params.value, rows, paths)
    return loss + value_due * value_loss, (loss, value_loss)

  def sgd_step(carry, keys, episodes, draw):
    params, opt, running = carry
    key_rows, key_paths = keys
    rows = draw(key_rows, params)
    achieved = achieved_by(params, rows)
    value_due = (running.updates % config.value_interval == 0).astype(
        jnp.float32)
    running = commands.follow_batch(running, achieved, config)
    paths = draw_paths(config, networks, key_paths, episodes, params.value)
    grads, (loss, value_loss) = jax.grad(objective, has_aux=True)(
        params, rows, paths, achieved, running, value_due)
    updates, opt = optimizer.update(grads, opt, params)
    metrics = {'policy_loss': loss, 'advantage_loss': value_loss}
    return (optax.apply_updates(params, updates), opt, running), metrics

  def update(state: TrainingState,
             batch: Batch) -> Tuple[TrainingState, Metrics]:
    key, key_steps, key_held_out = jax.random.split(state.key, 3)
    draw = sampler(config, networks, batch, state.params.value)

    def body(carry, keys):
      return sgd_step(carry, keys, batch, draw)

    keys = jax.random.split(key_steps, (config.num_sgd_steps_per_step, 2))
    (params, opt, running), metrics = jax.lax.scan(
        body, (state.params, state.opt, state.running), keys)
    metrics = jax.tree.map(jnp.mean, metrics)
    held_out = sampler(config, networks, batch[HELD_OUT], params.value)(
        key_held_out, params)
    state = TrainingState(params, opt, state.latest, running, key)
    stats = statistics(state)
    metrics.update(
        val_loss=policy_loss(
            params, held_out, achieved_by(params, held_out), running),
        command_mean=stats.mean, command_std=stats.std)
    return state, metrics

  def drawn(key, params, num):
    _, stats = params
    noise = jax.random.normal(key, (num, 1))
    return stats.mean + stats.std * noise, stats.known

  def expected(key, params, num):
    del key
    _, stats = params
    return jnp.broadcast_to(stats.mean, (num, 1)), stats.known

  def commanded(lowest, highest, horizon, greedy):
    # There is no horizon to command.
    del horizon
    return make_policy(lambda key, params, num: (
        jnp.linspace(lowest, highest, num)[:, jnp.newaxis], True), greedy)

  def make_policy(draw, greedy=False):
    return commanded_policy(
        logits=lambda params, observation, command: networks.logits(
            params[0], observation, commands.seen(params[1], command)),
        draw=draw,
        follow=follower(config),
        num_commands=1, num_actions=spec.num_actions, greedy=greedy,
        every_step=advantage and config.redraw_command)

  return Agent(
      init=init,
      update=update,
      variables=lambda state: (state.params.policy, statistics(state)),
      policy=make_policy(drawn),
      eval_policy=make_policy(expected),
      eval_policies={'greedy': make_policy(expected, greedy=True),
                     'reference': make_policy(drawn, greedy=True)},
      warmup_policy=policy_lib.uniform_discrete_policy(spec.num_actions),
      replay=replay_spec(config, spec),
      updates_per_call=config.num_sgd_steps_per_step,
      reports=('discounted_return',),
      hear=hear,
      command_names=('advantage',) if advantage else ('return',),
      commanded=commanded,
      discount=config.discount)


def follower(config: RCPConfig) -> Any:
  """Returns what is left of a command after a step."""
  if not config.decrement_command:
    return lambda command, reward: command
  return lambda command, reward: (
      command - reward[:, jnp.newaxis]) / config.discount


def sampler(config: RCPConfig, networks: Networks, episodes: Batch,
            value_params: Any) -> Any:
  """Returns `(key, params) -> Rows`, which draws steps of `episodes`.

  The targets of a value network that learns from steps alone are computed here,
  once, with the parameters given.
  """
  length, reward = episodes['length'], episodes['reward']
  to_go = hindsight.returns_to_go(reward, length, config.discount)
  targets = to_go
  alone = uses_advantage(config) and config.value_states == 'uniform'
  if alone and config.use_lambda_td:
    next_value = networks.value(value_params, episodes['observation'][:, 1:])
    targets = losses.td_lambda(
        reward, next_value, length, config.discount, config.gae_lambda)

  def draw(key, params):
    del params
    row, t = hindsight.sample_steps(
        key, length, jnp.ones(length.shape), config.batch_size,
        config.pair_sampling)
    return Rows(
        state=episodes['observation'][row, t],
        action=episodes['action'][row, t],
        to_go=to_go[row, t],
        total=episodes['episode_return'][row],
        target=targets[row, t])

  return draw


class Paths(NamedTuple):
  """Paths the value network learns from.

  Attributes:
    states: `[P, T, S]`.
    targets: `[P, T]`.
    weights: `[P, T]`, 0 where the path is not.
  """
  states: jax.Array
  targets: jax.Array
  weights: jax.Array


def draw_paths(config: RCPConfig, networks: Networks, key: jax.Array,
               episodes: Batch, value_params: Any) -> Any:
  """Draws paths and their targets; None where the rows are learned from."""
  if not uses_advantage(config) or config.value_states != 'paths' or (
      not config.use_lambda_td):
    return None
  length = episodes['length']
  row, start = hindsight.sample_steps(
      key, length, jnp.ones(length.shape), config.value_paths,
      config.pair_sampling)
  observation, reward = episodes['observation'][row], episodes['reward'][row]
  targets = losses.td_lambda(
      reward, networks.value(value_params, observation[:, 1:]), length[row],
      config.discount, config.gae_lambda)
  return Paths(observation[:, :-1], targets, losses.path_weights(
      length, row, start, reward.shape[1]))


def value_objective(networks: Networks, value_params: Any, rows: Rows,
                    paths: Any) -> jax.Array:
  """Returns the mean squared error of the value network."""
  if paths is None:
    return jnp.mean((networks.value(value_params, rows.state) - rows.target)**2)
  error = networks.value(value_params, paths.states) - paths.targets
  return jnp.sum(paths.weights * error**2) / jnp.sum(paths.weights)


def replay_spec(config: RCPConfig, spec: EnvSpec) -> ReplaySpec:
  """Returns what the agent needs of replay: the newest episodes."""
  limit = spec.step_limit
  return ReplaySpec(
      columns={
          'observation': Column((limit + 1, spec.observation_dim)),
          'action': Column((limit,), 'int32'),
          'reward': Column((limit,)),
          'length': Column((), 'int32'),
          'episode_return': Column(()),
      },
      episodes_per_batch=config.episodes_per_call,
      pacing=EpisodePacing(
          config.warmup_episodes, config.updates_per_episode),
      max_items=config.max_replay_episodes,
      held_out_every=config.held_out_every,
      held_out_per_batch=NUM_HELD_OUT)
