"""Parameters and counts, kept fresh off the acting path."""

import threading
import time
from typing import (
  Any,
  Callable,
  Dict,
  List,
  NamedTuple,
  Optional,
  Protocol,
  Tuple,
)

from absl import logging
import jax
import numpy as np

Counts = Dict[str, float]


class Snapshot(NamedTuple):
  """Parameters and the number of SGD steps they have seen."""
  updates: int
  params: Any


class VariableSource(Protocol):
  """Serves parameters: the learner, or its courier client."""

  def get_variables(self, have: int) -> Optional[Tuple[int, Any]]:
    """Returns `(updates, params)`, or None if `have` is still the newest."""
    ...


class CountSource(Protocol):
  """Serves the counts of the whole run: the counter, or its client."""

  def get_counts(self) -> Counts:
    """Returns all counts."""
    ...

  def record_episodes(self, metrics: Dict[str, np.ndarray],
                      actor: Dict[str, float]) -> Counts:
    """Counts finished episodes stored in replay, and returns all counts."""
    ...


class Repeater:
  """Calls a function again and again in a thread, and outlives short outages.

  A failing call is tried again; when it has failed for `patience` seconds on
  end, `check` raises its error in the caller's thread.
  """

  def __init__(self, function: Callable[[], None], period: float,
               patience: float, name: str):
    """Prepares the thread; it starts with `start`.

    Args:
      function: what to call.
      period: seconds between calls.
      patience: seconds of failure before `check` raises.
      name: of the thread.
    """
    self._function = function
    self._period = period
    self._patience = patience
    self._name = name
    self._stop = threading.Event()
    self._error: Optional[Exception] = None
    self._thread = threading.Thread(target=self._run, name=name, daemon=True)

  def start(self) -> None:
    """Starts the thread."""
    self._thread.start()

  def check(self) -> None:
    """Raises the error that lasted too long, if there is one."""
    if self._error is not None:
      raise RuntimeError(f'{self._name}: gave up') from self._error

  def stop(self, timeout: float) -> None:
    """Ends the thread and waits up to `timeout` seconds for it."""
    self._stop.set()
    self._thread.join(timeout)

  def _run(self) -> None:
    failing_since = None
    while not self._stop.wait(self._period):
      try:
        self._function()
        failing_since = None
      except Exception as e:  # pylint: disable=broad-except
        now = time.monotonic()
        failing_since = failing_since or now
        logging.warning('%s: %s', self._name, e)
        if now - failing_since > self._patience:
          self._error = e
          return


class Link:
  """An actor's connection to counter and learner.

  A background thread reports finished episodes, reads the run's counts and
  fetches parameters; the acting thread only looks at the newest ones.
  """

  def __init__(self, counts: CountSource, variables: VariableSource,
               period: float, patience: float):
    """Prepares the connection; it lives from `start` to `stop`.

    Args:
      counts: the run's counter.
      variables: the learner.
      period: seconds between two looks at either.
      patience: seconds either may be out of reach.
    """
    self._count_source = counts
    self._variable_source = variables
    self._news = threading.Condition()
    self._counts: Counts = {}
    self._snapshot: Optional[Snapshot] = None
    self._ages: List[float] = []
    self._unreported: List[Tuple[Dict[str, np.ndarray], Dict[str, float]]] = []
    self._repeater = Repeater(self.refresh, period, patience, 'link')

  def start(self) -> None:
    """Starts the background thread."""
    self._repeater.start()

  def stop(self) -> None:
    """Ends the background thread and reports what is left."""
    self._repeater.stop(timeout=5.0)
    self._report()

  def refresh(self) -> None:
    """Does one round: report, read counts, fetch parameters."""
    counts = self._report() or self._count_source.get_counts()
    have = -1 if self._snapshot is None else self._snapshot.updates
    age = counts['learner_updates'] - have
    snapshot = None
    # Restarted learners serve again from their checkpoint: any change counts.
    if counts['learner_updates'] != have:
      reply = self._variable_source.get_variables(have)
      if reply is not None:
        snapshot = Snapshot(int(reply[0]), jax.device_put(reply[1]))
    with self._news:
      self._counts = counts
      if self._snapshot is not None:
        self._ages.append(max(0.0, age))
      self._snapshot = snapshot or self._snapshot
      self._news.notify_all()

  def record_episodes(self, metrics: Dict[str, np.ndarray],
                      actor: Dict[str, float]) -> None:
    """Hands over episodes to report; their steps count at once locally."""
    with self._news:
      self._unreported.append((metrics, actor))

  def latest(self) -> Tuple[Counts, Optional[Snapshot]]:
    """Returns the newest counts and parameters; the latter may be missing.

    Raises:
      RuntimeError: if counter or learner have been out of reach too long.
    """
    self._repeater.check()
    with self._news:
      counts = dict(self._counts)
      for metrics, _ in self._unreported:
        counts['actor_steps'] += int(metrics['episode_length'].sum())
      return counts, self._snapshot

  def take_ages(self) -> List[float]:
    """Returns the parameters' ages in SGD steps since the last call.

    An age is taken at each look at the learner, before newer parameters take
    over: the most that those in use have lagged behind.
    """
    with self._news:
      ages, self._ages = self._ages, []
      return ages

  def wait_for_news(self, timeout: float) -> None:
    """Waits until the background thread has brought something, or `timeout`."""
    with self._news:
      self._news.wait(timeout)

  def _report(self) -> Optional[Counts]:
    counts = None
    while True:
      with self._news:
        if not self._unreported:
          return counts
        metrics, actor = self._unreported[0]
      counts = self._count_source.record_episodes(metrics, actor)
      with self._news:
        self._unreported.pop(0)
        self._counts = counts
