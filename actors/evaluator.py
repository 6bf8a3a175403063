"""The evaluator: whole episodes with the greedy policy, then a rest."""

import time
from typing import Any, Callable, Mapping, Optional, Protocol

import jax
import numpy as np

from actors.loop import EnvironmentLoop, Metrics, run_episodes
from actors.observers import PathObserver
from actors.policy import Policy
from actors.variables import Snapshot, VariableSource

# A round may take this share of the time; the rest is for the learner.
BUSY_FRACTION = 0.1


class EvaluationSink(Protocol):
  """Takes the results of a round."""

  def record_evaluation(self, updates: int, metrics: Metrics,
                        paths: Optional[np.ndarray]) -> None:
    """Receives `[n, ...]` episode metrics and `[T, k, P]` example paths.

    There are no paths where there are no positions.
    """
    ...


class Films(Protocol):
  """Takes pictures of what is evaluated."""

  def show(self, updates: int, variables: Any) -> None:
    """Sees the parameters of a round, and the updates they have had."""
    ...

  def close(self) -> None:
    """Ends what is under way."""
    ...


class Evaluator:
  """Evaluates the newest parameters in rounds; writes nothing to replay."""

  def __init__(self, loop: EnvironmentLoop, policy: Policy,
               path_observer: Optional[PathObserver],
               variables: VariableSource, sink: EvaluationSink, interval: float,
               policies: Optional[Mapping[str, Policy]] = None,
               run_steps: Optional[Callable[[], int]] = None,
               films: Optional[Films] = None,
               figures: Optional[Callable[[Metrics], Metrics]] = None):
    """Puts the parts together.

    Args:
      loop: fixed-goal environments, one for each episode of a round.
      policy: the greedy policy.
      path_observer: one of the loop's observers, for example paths; None where
        there are no positions.
      variables: the learner.
      sink: where results go.
      interval: least seconds between two rounds.
      policies: further policies to evaluate, by the prefix of their metrics.
      run_steps: returns the environment steps of the run, where environments
        want to know.
      films: shown every round.
      figures: `metrics -> metrics` further ones, of all episodes of a round.
    """
    self._films = films
    self._figures = figures
    self._run_steps = run_steps
    self._policies = dict(policies or {})
    self._loop = loop
    self._policy = policy
    self._path_observer = path_observer
    self._variables = variables
    self._sink = sink
    self._interval = interval
    self._snapshot: Optional[Snapshot] = None

  def run(self, should_stop: Callable[[], bool],
          wait: Callable[[float], Any]) -> None:
    """Evaluates until `should_stop`, then once more.

    Args:
      should_stop: polled between rounds.
      wait: `wait(seconds)` returns early when the program stops.
    """
    compiled = False
    while not should_stop():
      began, rest = time.monotonic(), 0.0
      if self.fetch():
        self.evaluate()
        # The first round compiles; how long it takes says nothing of the next.
        if compiled:
          busy = time.monotonic() - began
          rest = busy * (1.0 - BUSY_FRACTION) / BUSY_FRACTION
        compiled = True
      wait(max(self._interval, rest))
    if self.fetch():
      self.evaluate()

  def close(self) -> None:
    """Ends the films; to be called when the last round is over."""
    if self._films is not None:
      self._films.close()

  def fetch(self) -> bool:
    """Fetches parameters; False if there are none newer than the last ones."""
    have = -1 if self._snapshot is None else self._snapshot.updates
    reply = self._variables.get_variables(have, for_evaluation=True)
    if reply is None:
      return False
    self._snapshot = Snapshot(int(reply[0]), jax.device_put(reply[1]))
    return True

  def evaluate(self) -> Metrics:
    """Runs one round, reports it and returns its metrics."""
    assert self._snapshot is not None, 'fetch() before evaluate()'
    if self._run_steps is not None:
      self._loop.tell_steps(self._run_steps())
    metrics = self._episodes(self._policy)
    paths = self._path_observer.paths() if self._path_observer else None
    for prefix, policy in self._policies.items():
      metrics.update({f'{prefix}_{name}': value
                      for name, value in self._episodes(policy).items()})
    if self._figures is not None:
      metrics.update(self._figures(metrics))
    self._sink.record_evaluation(self._snapshot.updates, metrics, paths)
    if self._films is not None:
      self._films.show(self._snapshot.updates, self._snapshot.params)
    return metrics

  def _episodes(self, policy: Policy) -> Metrics:
    """Returns `[n, ...]` metrics of one whole episode in each environment."""
    assert self._snapshot is not None, 'fetch() comes first'
    rounds = run_episodes(self._loop, policy, self._snapshot.params)
    return {name: np.concatenate([r[name] for r in rounds])
            for name in rounds[0]}
