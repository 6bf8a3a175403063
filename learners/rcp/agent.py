"""Both agents: networks, losses and commands assembled into an `Agent`."""

from typing import Any, NamedTuple, Tuple

import jax
import jax.numpy as jnp
import optax

from actors.commands import commanded_policy
from envs.spec import EnvSpec
from learners import commanded
from learners.agent import Agent, Batch, HELD_OUT, Metrics
from learners.rcp import commands, losses, sampling
from learners.rcp import networks as networks_lib
from learners.rcp.config import RCPConfig, uses_advantage
from safety.masking import SafetyMask


class Params(NamedTuple):
  """Parameters that gradients are taken of; the value's are () for returns."""
  policy: Any
  value: Any


class TrainingState(NamedTuple):
  """Everything that changes in learning.

  Attributes:
    params: of policy and value network.
    opt: state of the optimizer, or of both.
    latest: newest returns, which commanded returns follow from; () for
      advantages.
    running: figures of the batches, which the rest follows from.
    key: source of all randomness in learning.
  """
  params: Params
  opt: Any
  latest: Any
  running: commands.Running
  key: jax.Array


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
        () if advantage else commands.empty_latest(config.latest_episodes),
        commands.empty_running(), key_state)

  def hear(state, reports, valid):
    return state._replace(latest=commands.append(
        state.latest, reports['discounted_return'], valid))

  def statistics(state):
    if advantage:
      return commands.advantage_statistics(state.running, config)
    return commands.return_statistics(state.latest, state.running, config)

  def policy_loss(policy_params, rows, achieved, running):
    command = commands.seen(achieved, *commands.normalizer(running, config))
    loss = optax.softmax_cross_entropy_with_integer_labels(
        networks.logits(policy_params, rows.state, command[:, jnp.newaxis]),
        rows.action)
    if not config.expo_weighting:
      return jnp.mean(loss)
    weights = losses.exponential_weights(
        achieved if advantage else rows.total, config.beta, config.max_weight)
    return jnp.mean(loss * weights)

  def achieved_by(value_params, rows):
    """Returns what each row achieved, `[B]`; no gradient flows through it."""
    if not advantage:
      return rows.to_go
    gain = jax.lax.stop_gradient(
        rows.to_go - networks.value(value_params, rows.state))
    if config.max_advantage is not None:
      gain = jnp.minimum(gain, config.max_advantage)
    return gain

  def sgd_step(carry, keys, draw_rows, value_gradient):
    params, opt, running = carry
    key_rows, key_values = keys
    rows = draw_rows(key_rows)
    achieved = achieved_by(params.value, rows)
    value_due = running.updates % config.value_interval == 0
    running = commands.follow_batch(running, achieved, config)
    loss, policy_grads = jax.value_and_grad(policy_loss)(
        params.policy, rows, achieved, running)
    metrics = {'policy_loss': loss}
    value_grads = ()
    if advantage:
      value_loss, value_grads = jax.lax.cond(
          value_due, value_gradient,
          lambda key, rows, params: (
              jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)),
          key_values, rows, params.value)
      metrics.update(value_loss=value_loss, value_due=value_due)
    updates, opt = optimizer.update(
        Params(policy_grads, value_grads), opt, params)
    return (optax.apply_updates(params, updates), opt, running), metrics

  def value_gradient_of(batch, params):
    """Returns `(key, rows, value_params) -> loss, gradient`."""
    draw = sampling.value_sampler(config, networks.value, batch, params.value)

    def value_gradient(key, rows, value_params):
      states = draw(key, rows, value_params)
      return jax.value_and_grad(lambda p: losses.value_loss(
          networks.value(p, states.state), states.target, states.weight))(
              value_params)

    return value_gradient

  def update(state: TrainingState,
             batch: Batch) -> Tuple[TrainingState, Metrics]:
    key, key_steps, key_held_out = jax.random.split(state.key, 3)
    draw_rows = sampling.row_sampler(config, batch)
    value_gradient = (
        value_gradient_of(batch, state.params) if advantage else None)

    def body(carry, keys):
      return sgd_step(carry, keys, draw_rows, value_gradient)

    keys = jax.random.split(key_steps, (config.num_sgd_steps_per_step, 2))
    (params, opt, running), made = jax.lax.scan(
        body, (state.params, state.opt, state.running), keys)
    metrics = {'policy_loss': jnp.mean(made['policy_loss'])}
    if advantage:
      num_due = jnp.maximum(jnp.sum(made['value_due']), 1)
      metrics['advantage_loss'] = jnp.sum(made['value_loss']) / num_due
    held_out = sampling.row_sampler(config, batch[HELD_OUT])(key_held_out)
    state = TrainingState(params, opt, state.latest, running, key)
    stats = statistics(state)
    metrics.update(
        val_loss=policy_loss(
            params.policy, held_out, achieved_by(params.value, held_out),
            running),
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

  def given(lowest, highest, horizon):
    # There is no horizon to command.
    del horizon
    return lambda key, params, num: (
        jnp.linspace(lowest, highest, num)[:, jnp.newaxis], True)

  def logits(params, observation, command):
    policy_params, stats = params
    return networks.logits(
        policy_params, observation,
        commands.seen(command, stats.offset, stats.scale))

  def make_policy(draw, greedy):
    return commanded_policy(
        logits=logits,
        draw=draw,
        follow=follower(config),
        num_commands=1, num_actions=spec.num_actions, greedy=greedy,
        every_step=advantage and config.redraw_command)

  return commanded.make_agent(
      config, spec,
      init=init,
      update=update,
      variables=lambda state: (state.params.policy, statistics(state)),
      make_policy=make_policy,
      drawn=drawn,
      expected=expected,
      given=given,
      command_names=('advantage',) if advantage else ('return',),
      reports=() if advantage else ('discounted_return',),
      hear=None if advantage else hear,
      discount=config.discount)


def follower(config: RCPConfig) -> Any:
  """Returns what is left of a command after a step."""
  if not config.decrement_command:
    return lambda command, reward: command
  return lambda command, reward: (
      command - reward[:, jnp.newaxis]) / config.discount
