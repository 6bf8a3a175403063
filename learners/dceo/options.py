"""When options start and end, and how random the acting is: pure functions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Stands for no option.
NONE = -1
# The ladder of epsilons of Horgan et al. 2018 (Ape-X).
LADDER_BASE = 0.4
LADDER_EXPONENT = 7.0


class OptionState(NamedTuple):
  """What each environment's option machine remembers, `[E]` each.

  Attributes:
    option: int32, the option under way, or `NONE`.
    ended: bool, whether it has ended.
  """
  option: jax.Array
  ended: jax.Array


def initial(num_envs: int) -> OptionState:
  """Returns machines in which no option is under way."""
  return OptionState(jnp.full((num_envs,), NONE, jnp.int32),
                     jnp.ones((num_envs,), bool))


def restart(state: OptionState, where: jax.Array) -> OptionState:
  """Ends the options of the environments in the mask `where`, `[E]` bool."""
  return OptionState(jnp.where(where, NONE, state.option), state.ended | where)


def step(state: OptionState, key: jax.Array, start_epsilon: jax.Array,
         option_prob: float, duration: float,
         num_options: int) -> OptionState:
  """Ends and starts options before one decision.

  In this order, as in Algorithm 1 of the DCEO paper: an option ends with
  probability 1 / duration; where none is under way, one may start at once, with
  probability `start_epsilon * option_prob`, uniformly among all.

  Args:
    state: the machines.
    key: consumed.
    start_epsilon: `[E]`.
    option_prob: mu.
    duration: mean length of an option in steps, at least 1.
    num_options: K; 0 means that none ever starts.

  Returns:
    The machines; `option` is what acts now.
  """
  if num_options == 0:
    return state
  key_end, key_start, key_option = jax.random.split(key, 3)
  shape = state.option.shape
  ended = state.ended | (jax.random.uniform(key_end, shape) < 1.0 / duration)
  starts = ended & (
      jax.random.uniform(key_start, shape) < start_epsilon * option_prob)
  drawn = jax.random.randint(key_option, shape, 0, num_options)
  option = jnp.where(starts, drawn, jnp.where(ended, NONE, state.option))
  return OptionState(option, ended & ~starts)


def epsilon_greedy(key: jax.Array, q_values: jax.Array,
                   epsilon: jax.Array) -> jax.Array:
  """Returns the best action or, with probability epsilon, a uniform one.

  Args:
    key: consumed.
    q_values: `[E, A]`.
    epsilon: `[E]`.

  Returns:
    `[E]` int32.
  """
  key_explore, key_action = jax.random.split(key)
  num_envs, num_actions = q_values.shape
  explore = jax.random.uniform(key_explore, (num_envs,)) < epsilon
  random = jax.random.randint(key_action, (num_envs,), 0, num_actions)
  return jnp.where(explore, random, jnp.argmax(q_values, axis=1)).astype(
      jnp.int32)


def annealed_epsilon(steps: jax.Array, least: float, start: float,
                     decay: float) -> jax.Array:
  """Returns epsilon after `steps` environment steps of the run.

  It is 1 until `start` and falls to `least` over the `decay` steps after it.
  """
  left = jnp.clip((start + decay - steps) / decay, 0.0, 1.0)
  return least + (1.0 - least) * left


def ladder_epsilons(rank: jax.Array) -> jax.Array:
  """Returns the epsilons 0.4^(1 + 7 rank) of ranks from 0 to 1, any shape."""
  return LADDER_BASE ** (1.0 + LADDER_EXPONENT * rank)
