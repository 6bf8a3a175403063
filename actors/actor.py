"""The actor: steps environments, writes episodes, keeps pace."""

import dataclasses
import time
from typing import Callable, Dict, List, Protocol

import numpy as np

from actors.loop import EnvironmentLoop
from actors.policy import Policy
from actors.variables import Counts, Link
from learners.agent import HELD_OUT
from replay.episodes import EpisodeBuffer, Episodes
from replay.pacing import amount, may_step, Pace


class EpisodeWriter(Protocol):
  """Stores episodes; False means the program stopped first."""

  def write(self, episodes: Episodes) -> bool:
    """Stores `[n, ...]` episodes."""
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
               policy: Policy, warmup_policy: Policy, buffer: EpisodeBuffer,
               writer: EpisodeWriter, link: Link):
    """Puts the parts together.

    Args:
      config: rules to keep.
      loop: the environments.
      policy: acts with the learner's parameters.
      warmup_policy: acts until replay holds its minimum; needs no parameters.
      buffer: collects episodes.
      writer: stores them.
      link: parameters and counts.
    """
    self._config = config
    self._loop = loop
    self._policy = policy
    self._warmup_policy = warmup_policy
    self._buffer = buffer
    self._writer = writer
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
    """Environment steps in episodes that have not ended."""
    return self._buffer.unstored_steps

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
      False if the program stopped while an episode was being stored.
    """
    counts, snapshot = self._link.latest()
    if self._warming_up(counts):
      step = self._loop.step(self._warmup_policy, None)
    else:
      assert snapshot is not None, 'ready() was not asked'
      step = self._loop.step(self._policy, snapshot.params)
    episodes = self._buffer.add(step.timestep, step.action)
    if episodes is None:
      return True
    if not self._writer.write(episodes):
      return False
    metrics = self._loop.metrics(step)
    if HELD_OUT in episodes:
      metrics[HELD_OUT] = episodes[HELD_OUT]
    self._link.record_episodes(
        metrics, self._stats.take(self._link.take_ages()))
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
