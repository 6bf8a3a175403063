"""What acts: epsilon-greedy value networks, with options in training."""

from typing import Callable, NamedTuple

import jax
import jax.numpy as jnp

from actors.policy import Policy
from learners.dceo import config as config_lib
from learners.dceo import losses, options
from learners.dceo.config import DCEOConfig
from learners.dceo.networks import Networks
from learners.stream_spec import StreamSpec


class ActingState(NamedTuple):
  """What a policy remembers of each environment.

  Attributes:
    frames: `[E, H, W, S]` uint8, the newest last.
    machine: option under way.
    epsilon: `[E]` the environment's own, if epsilons form a ladder.
  """
  frames: jax.Array
  machine: options.OptionState
  epsilon: jax.Array

  @property
  def option(self) -> jax.Array:
    """The option under way in each environment, `[E]`, or `options.NONE`."""
    return self.machine.option


def make_policy(config: DCEOConfig, networks: Networks, replay: StreamSpec,
                evaluation: bool) -> Policy:
  """Returns the policy of training or of evaluation.

  Its params are what `variables` serves: `main`, `options` (a tuple)
  and `updates`. In evaluation no option starts.

  Args:
    config: settings.
    networks: of values.
    replay: what a frame is.
    evaluation: whether it is for evaluation.
  """
  num_options = 0 if evaluation else config_lib.num_options(config)
  main_head, option_head = (
      losses.make_head(vmax, config.num_atoms, config.distributional)
      for vmax in (config.vmax, config.option_vmax))

  def init(key, num_envs):
    del key
    return ActingState(
        jnp.zeros((num_envs, *replay.frame.shape, replay.stack), jnp.uint8),
        options.initial(num_envs),
        options.ladder_epsilons(jnp.linspace(0.0, 1.0, num_envs)))

  def place(state, rank):
    return state._replace(epsilon=options.ladder_epsilons(rank))

  def base_epsilon(params, state):
    shape = state.epsilon.shape
    if evaluation:
      return jnp.full(shape, config.eps_eval)
    if config.noisy:
      return jnp.zeros(shape)
    if config.eps_mode == 'ladder':
      return state.epsilon
    steps = config_lib.environment_steps(
        config, params['updates'].astype(jnp.float32))
    return jnp.full(shape, options.annealed_epsilon(
        steps, config.eps_least, config.min_replay_size, config.eps_decay))

  def or_setting(value, epsilon):
    return epsilon if value is None else jnp.full_like(epsilon, value)

  def act(params, observation, state, key, is_first):
    key_options, key_noise, key_action = jax.random.split(key, 3)
    frames = push_frame(state.frames, observation, is_first)
    machine, epsilon = state.machine, base_epsilon(params, state)
    if num_options and not config.carry_options:
      machine = options.restart(machine, is_first)
    machine = options.step(
        machine, key_options, or_setting(config.option_start_eps, epsilon),
        config.option_prob, config.option_duration, num_options)
    noise = key_noise if config.noisy and not evaluation else None

    def values_of(net_params, head):
      return head.q(networks.q_logits(net_params, frames, noise))

    q = values_of(params['main'], main_head)
    if num_options:
      inside = machine.option != options.NONE
      q = option_values(
          lambda o: values_of(params['options'][o], option_head),
          machine.option, num_options, q)
      epsilon = jnp.where(
          inside, or_setting(config.option_action_eps, epsilon), epsilon)
    action = options.epsilon_greedy(key_action, q, epsilon)
    return action, ActingState(frames, machine, state.epsilon)

  return Policy(init=init, act=act, place=place)


def push_frame(frames: jax.Array, frame: jax.Array,
               is_first: jax.Array) -> jax.Array:
  """Adds the newest frame; a stack that just began has empty ones before it.

  Args:
    frames: `[E, H, W, S]` uint8.
    frame: `[E, H, W]` uint8.
    is_first: `[E]` bool.
  """
  kept = jnp.where(is_first[:, None, None, None], 0, frames[..., 1:])
  return jnp.concatenate(
      [kept, frame[..., jnp.newaxis]], axis=-1).astype(jnp.uint8)


def option_values(values_of: Callable[[int], jax.Array], option: jax.Array,
                  num_options: int, otherwise: jax.Array) -> jax.Array:
  """Returns the values under each environment's own option.

  Only options that are under way somewhere are computed.

  Args:
    values_of: `option -> [E, A]`.
    option: `[E]` int32.
    num_options: K.
    otherwise: `[E, A]` where none is under way.
  """
  q = otherwise
  for index in range(num_options):
    q = jax.lax.cond(
        jnp.any(option == index),
        lambda q, o=index: jnp.where((option == o)[:, None], values_of(o), q),
        lambda q: q, q)
  return q
