"""Commands: what an agent is told to achieve in the episode it is in."""

from typing import Any, Callable, NamedTuple, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from actors.loop import Metrics, Step
from actors.policy import Policy

# Evaluates an agent whose commands climb from one environment to the next;
# also the prefix of what that measures.
GRID = 'grid'

# `(key, params, num) -> (commands [num, C], known)`; `known` is a bool scalar,
# False where there is nothing yet that a command could follow from.
Draw = Callable[[jax.Array, Any, int], Any]
# `(command [E, C], reward [E]) -> command [E, C]`, what is left after a step.
Follow = Callable[[jax.Array, jax.Array], jax.Array]
# `(params, observation [E, D], command [E, C]) -> logits [E, A]`.
Logits = Callable[[Any, jax.Array, jax.Array], jax.Array]


class CommandState(NamedTuple):
  """Policy state of an agent that acts under a command.

  Attributes:
    command: `[E, C]` what is still to be achieved.
    initial: `[E, C]` what was commanded as the episode began.
    known: `[E]` bool, there was something to base a command on.
  """
  command: jax.Array
  initial: jax.Array
  known: jax.Array


class CommandObserver:
  """Reads from the policy state what each episode was commanded."""

  def __init__(self, names: Sequence[str], num_envs: int):
    """Starts with no command.

    Args:
      names: of the C entries of a command.
      num_envs: number of environments.
    """
    self._names = list(names)
    self._initial = np.zeros((num_envs, len(self._names)))

  def observe_first(self, step: Step) -> None:
    """Forgets the last command."""
    self._initial[step.first] = 0.0

  def observe(self, step: Step) -> None:
    """Takes over the commands of the episodes under way."""
    state = step.policy_state
    if isinstance(state, CommandState):
      drawn = np.asarray(state.known) & ~step.first
      self._initial[drawn] = np.asarray(state.initial)[drawn]

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `commanded_<name>`, `[n]` each; 0 where nothing was."""
    return {f'commanded_{name}': self._initial[finished, i].copy()
            for i, name in enumerate(self._names)}


def correlation(a: np.ndarray, b: np.ndarray) -> float:
  """Returns Pearson's r of `[n]` and `[n]`; NaN if either does not vary."""
  # Not the standard deviation, which rounding keeps from 0.
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return float('nan')
  return float(np.corrcoef(a, b)[0, 1])


def grid_figures(metrics: Metrics, name: str) -> Metrics:
  """Returns how well a round of evaluation followed a grid of commands.

  Args:
    metrics: `[n]` each, of whole episodes.
    name: of the entry of the command that the grid is of.

  Returns:
    `grid_correlation`, `[1]`, of what was asked for and the return obtained.
  """
  asked = metrics[f'{GRID}_commanded_{name}']
  return {f'{GRID}_correlation': np.array(
      [correlation(asked, metrics[f'{GRID}_episode_return'])])}


def commanded_policy(logits: Logits, draw: Draw, follow: Follow,
                     num_commands: int, num_actions: int, greedy: bool = False,
                     inverse_temperature: float = 1.0,
                     every_step: bool = False) -> Policy:
  """Returns a policy that draws a command for each episode and follows it.

  Parameters and what commands are drawn from are fetched together, so that they
  match. An episode that began when there was nothing to draw from acts at
  random until there is.

  Args:
    logits: of the actions.
    draw: makes commands.
    follow: what is left of them after a step.
    num_commands: entries of a command, C.
    num_actions: how many actions there are, A.
    greedy: take the likeliest action rather than a sample.
    inverse_temperature: factor on the logits that are sampled from.
    every_step: draw anew at every step.
  """

  def init(key, num_envs):
    del key
    nothing = jnp.zeros((num_envs, num_commands))
    return CommandState(nothing, nothing, jnp.zeros(num_envs, bool))

  def observe(state, reward, is_first):
    del is_first
    return state._replace(command=follow(state.command, reward))

  def act(params, observation, state, key, is_first):
    key_command, key_action, key_random = jax.random.split(key, 3)
    num_envs = observation.shape[0]
    drawn, known = draw(key_command, params, num_envs)
    begins = is_first | ~state.known
    redrawn = begins | every_step
    state = CommandState(
        command=jnp.where(redrawn[:, jnp.newaxis], drawn, state.command),
        initial=jnp.where(begins[:, jnp.newaxis], drawn, state.initial),
        known=jnp.where(begins, known, state.known))
    values = logits(params, observation, state.command)
    if greedy:
      action = jnp.argmax(values, axis=-1)
    else:
      action = jax.random.categorical(key_action, values * inverse_temperature)
    at_random = jax.random.randint(key_random, (num_envs,), 0, num_actions)
    action = jnp.where(state.known, action, at_random)
    return action.astype(jnp.int32), state

  return Policy(init=init, act=act, observe=observe)
