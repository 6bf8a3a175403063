"""The actor: steps environments, writes episodes, keeps pace."""

import dataclasses
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol

import dm_env
import numpy as np

from actors.loop import EnvironmentLoop
from actors.policy import Policy
from actors.variables import Counts, Link
from replay.pacing import amount, may_step, Pace


class Recorder(Protocol):
  """Stores steps in replay, one by one or when their episode has ended.

  Attributes:
    counts_steps: whether a step counts as soon as it is recorded.
    unstored_steps: environment steps that do not count yet.
  """
  counts_steps: bool

  @property
  def unstored_steps(self) -> int:
    """Environment steps that do not count yet."""
    ...

  def record(self, timestep: dm_env.TimeStep, action: Optional[np.ndarray],
             params: Any) -> Optional[Mapping[str, np.ndarray]]:
    """Stores one vectorised step.

    Args:
      timestep: batched, as a `VectorEnvironment` returns it.
      action: `[E, ...]` what led to it; None right after `reset`.
      params: what the step was acted with; None in the warm-up.

    Returns:
      `[n]` metrics to add to those of the episodes that ended with the step, or
      None if the program stopped before all was stored.
    """
    ...


@dataclasses.dataclass(frozen=True)
class ActorConfig:
  """Rules an actor keeps.

  Attributes:
    pace: how much acting the updates pay for.
    warmup: what all actors store, in the pace's unit, with the warm-up policy.
    max_parameter_age: SGD steps the parameters in use may lag behind.
  """
  pace: Pace
  warmup: int
  max_parameter_age: int


class Actor:
  """N of these run in a program, each with E environments."""

  def __init__(self, config: ActorConfig, loop: EnvironmentLoop,
               policy: Policy, warmup_policy: Policy, recorder: Recorder,
               link: Link):
    """Puts the parts together.

    Args:
      config: rules to keep.
      loop: the environments.
      policy: acts with the learner's parameters.
      warmup_policy: acts until replay holds its minimum; needs no parameters.
      recorder: stores what happens.
      link: parameters and counts.
    """
    self._config = config
    self._loop = loop
    self._policy = policy
    self._warmup_policy = warmup_policy
    self._recorder = recorder
    self._link = link
    self._stats = _Stats()

  def run(self, should_stop: Callable[[], bool]) -> None:
    """Acts until `should_stop`; what was not written by then is lost."""
    self._link.start()
    waiting_since = None
    while not should_stop():
      if not self.ready():
        waiting_since = waiting_since or time.monotonic()
        self._link.wait_for_news(timeout=0.5)
        continue
      if waiting_since is not None:
        self._stats.waited += time.monotonic() - waiting_since
        waiting_since = None
      if not self.step():
        break
    self._link.stop()

  @property
  def unstored_steps(self) -> int:
    """Environment steps that do not count as stored yet."""
    return self._recorder.unstored_steps

  def ready(self) -> bool:
    """Tells whether pace and parameter age allow the next step."""
    counts, snapshot = self._link.latest()
    if not counts or (snapshot is None and not self._warming_up(counts)):
      return False
    updates = int(counts['learner_updates'])
    if (snapshot is not None and not self._warming_up(counts)
        and updates - snapshot.updates > self._config.max_parameter_age):
      return False
    return may_step(self._config.pace, amount(self._config.pace, counts),
                    self.unstored_steps, updates)

  def step(self) -> bool:
    """Takes one vectorised step with the newest parameters.

    Returns:
      False if the program stopped while it was being stored.
    """
    counts, snapshot = self._link.latest()
    self._loop.tell_steps(int(counts['actor_steps']))
    policy, params = self._warmup_policy, None
    if not self._warming_up(counts):
      assert snapshot is not None, 'ready() was not asked'
      policy, params = self._policy, snapshot.params
    step = self._loop.step(policy, params)
    if params is not None and step.action is not None:
      self._link.use(step.policy_state)
    stored = self._recorder.record(step.timestep, step.action, params)
    if stored is None:
      return False
    if self._recorder.counts_steps:
      self._link.record_steps(int((~step.first).sum()))
    if step.last.any():
      self._link.record_episodes(
          {**self._loop.metrics(step), **stored},
          self._stats.take(self._link.take_ages()),
          count_steps=not self._recorder.counts_steps)
    return True

  def _warming_up(self, counts: Counts) -> bool:
    return amount(self._config.pace, counts) < self._config.warmup


class _Stats:
  """What the actor says of itself with each report."""

  def __init__(self):
    self.waited = 0.0
    self._since = time.monotonic()

  def take(self, ages: List[float]) -> Dict[str, float]:
    """Returns the figures since the last call and starts anew."""
    now = time.monotonic()
    elapsed = max(now - self._since, 1e-9)
    figures = {
        'wait_fraction': min(1.0, self.waited / elapsed),
        'parameter_age': float(np.mean(ages)) if ages else float('nan'),
        'max_parameter_age': max(ages) if ages else float('nan'),
    }
    self.waited, self._since = 0.0, now
    return figures
