"""The one environment loop: act, step, tell the observers."""

from typing import (
  Any,
  Callable,
  Dict,
  List,
  NamedTuple,
  Optional,
  Protocol,
  Sequence,
  Tuple,
)

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from actors.policy import Policy
from envs.vector import Changing, VectorEnvironment

Metrics = Dict[str, np.ndarray]


class Step(NamedTuple):
  """One vectorised step, as observers see it.

  Attributes:
    timestep: what the environments returned, `[E, ...]`.
    action: `[E, ...]` what led to it; None right after `reset`.
    policy_state: the policy's memory after acting.
    first: `[E]` bool, environments that have just reset.
    last: `[E]` bool, environments whose episode ended with this step.
  """
  timestep: dm_env.TimeStep
  action: Optional[np.ndarray]
  policy_state: Any
  first: np.ndarray
  last: np.ndarray


class Observer(Protocol):
  """Watches the loop; the loop knows nothing of what it measures."""

  def observe_first(self, step: Step) -> None:
    """Sees the environments in `step.first` begin an episode."""
    ...

  def observe(self, step: Step) -> None:
    """Sees every vectorised step after `reset`."""
    ...

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `[n, ...]` metrics of the episodes of environments `finished`."""
    ...


class EnvironmentLoop:
  """Steps E environments with one batched, jitted policy call."""

  def __init__(self, environment: VectorEnvironment, key: jax.Array,
               observers: Sequence[Observer] = (),
               rank: Optional[np.ndarray] = None):
    """Takes over `environment`.

    Args:
      environment: E environments.
      key: source of the policy's randomness.
      observers: told of every step.
      rank: `[E]` where each environment stands among all of the run, from 0 to
        1; None where that means nothing.
    """
    self._environment = environment
    self._rank = rank
    self._observers = list(observers)
    self._key = key
    self._policy: Optional[Policy] = None
    self._policy_state: Any = None
    self._fresh_policy = False
    self._act: Dict[int, Tuple[Policy, Callable[..., Any]]] = {}
    self._step: Optional[Step] = None

  @property
  def num_envs(self) -> int:
    """Number of environments."""
    return self._environment.num_envs

  def tell_steps(self, run_steps: int) -> None:
    """Tells environments that change how many steps the run has made."""
    if isinstance(self._environment, Changing):
      self._environment.at_step(run_steps)

  def reset(self) -> Step:
    """Starts a new episode everywhere."""
    timestep = self._environment.reset()
    self._policy = None
    return self._announce(timestep, None)

  def step(self, policy: Policy, params: Any) -> Step:
    """Acts with `policy` and steps every environment.

    A policy other than the last one starts with fresh memory and is told that
    every environment has just reset.

    Args:
      policy: decides the actions.
      params: its parameters.

    Returns:
      The step.
    """
    if self._step is None:
      return self.reset()
    if policy is not self._policy:
      self._key, key_init = jax.random.split(self._key)
      self._policy, self._fresh_policy = policy, True
      self._policy_state = policy.init(key_init, self.num_envs)
      if self._rank is not None:
        self._policy_state = policy.place(
            self._policy_state, jnp.asarray(self._rank))
    is_first = self._step.first | self._fresh_policy
    self._fresh_policy = False
    action, self._policy_state, self._key = self._jitted(policy)(
        params, self._step.timestep.observation, self._step.timestep.reward,
        self._policy_state, self._key, is_first)
    action = np.asarray(action)
    return self._announce(self._environment.step(action), action)

  def metrics(self, step: Step) -> Metrics:
    """Returns the observers' metrics of the episodes that `step` ended."""
    finished = np.flatnonzero(step.last)
    merged: Metrics = {}
    for observer in self._observers:
      merged.update(observer.get_metrics(finished))
    return merged

  def _announce(self, timestep: dm_env.TimeStep,
                action: Optional[np.ndarray]) -> Step:
    self._step = step = Step(
        timestep, action, self._policy_state,
        first=timestep.step_type == dm_env.StepType.FIRST,
        last=timestep.step_type == dm_env.StepType.LAST)
    for observer in self._observers:
      if step.first.any():
        observer.observe_first(step)
      if action is not None:
        observer.observe(step)
    return step

  def _jitted(self, policy: Policy) -> Callable[..., Any]:
    """Returns `policy.act` jitted together with the split of its key."""
    if id(policy) not in self._act:
      def act(params, observation, reward, policy_state, key, is_first):
        key, key_act = jax.random.split(key)
        policy_state = policy.observe(policy_state, reward, is_first)
        action, policy_state = policy.act(
            policy.select(params), observation, policy_state, key_act, is_first)
        return action, policy_state, key
      # The policy is kept beside its function, so that its id stays taken.
      self._act[id(policy)] = (policy, jax.jit(act))
    return self._act[id(policy)][1]


def run_episodes(loop: EnvironmentLoop, policy: Policy,
                 params: Any) -> List[Metrics]:
  """Runs one whole episode, from a reset, in every environment.

  What comes after it, in environments whose episode is short, does not count:
  short episodes would be measured more often than long ones.

  Args:
    loop: the environments.
    policy: decides the actions.
    params: its parameters.

  Returns:
    One dict of `[n, ...]` metrics for each step that ended such episodes.
  """
  results: List[Metrics] = []
  running = np.ones(loop.num_envs, bool)
  loop.reset()
  while running.any():
    step = loop.step(policy, params)
    ended = step.last & running
    if ended.any():
      results.append(loop.metrics(step._replace(last=ended)))
      running &= ~ended
  return results
