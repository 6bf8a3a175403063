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
  TypeVar,
)

from absl import logging
import jax
import numpy as np

from actors.portions import PortionChooser, Portions

Counts = Dict[str, float]
T = TypeVar('T')


class Snapshot(NamedTuple):
  """Parameters and the number of SGD steps they have seen."""
  updates: int
  params: Any


class VariableSource(Protocol):
  """Serves parameters: the learner, or its courier client."""

  def get_variables(self, have: int, for_evaluation: bool = False,
                    portion: Optional[int] = None
                    ) -> Optional[Tuple[int, Any]]:
    """Returns `(updates, params)`, or None if `have` is still the newest.

    Args:
      have: the updates of those the caller has.
      for_evaluation: asks for those of the evaluation policy.
      portion: asks for a piece with this portion, rather than for all.
    """
    ...


class CountSource(Protocol):
  """Serves the counts of the whole run: the counter, or its client."""

  def get_counts(self) -> Counts:
    """Returns all counts."""
    ...

  def record_steps(self, steps: int, report: Tuple[str, int]) -> Counts:
    """Counts environment steps stored in replay, and returns all counts."""
    ...

  def record_episodes(self, metrics: Dict[str, np.ndarray],
                      actor: Dict[str, float],
                      report: Tuple[str, int],
                      count_steps: bool = True) -> Counts:
    """Counts finished episodes stored in replay, and returns all counts.

    Args:
      metrics: `[n, ...]` per episode.
      actor: the reporting actor's own figures.
      report: who reports, and the number of the report. One that is sent again,
        because its reply was lost, is not counted again.
      count_steps: whether their steps count now; else they did before.
    """
    ...


def patiently(call: Callable[[], T], patience: float, pause: float = 1.0,
              should_stop: Callable[[], bool] = lambda: False) -> T:
  """Returns `call()`, tried again for a while when it fails.

  Args:
    call: asks a server.
    patience: seconds of failure before its error is raised.
    pause: seconds between two tries.
    should_stop: a server that is gone then does not come back.
  """
  began = time.monotonic()
  while True:
    try:
      return call()
    except Exception as e:  # pylint: disable=broad-except
      if should_stop() or time.monotonic() - began > patience:
        raise
      logging.warning('trying again: %s', e)
      time.sleep(pause)


class PatientSource:
  """Asks again when a learner does not answer, for a while."""

  def __init__(self, source: VariableSource, patience: float,
               pause: float = 1.0,
               should_stop: Callable[[], bool] = lambda: False):
    """Wraps `source`; the other arguments are those of `patiently`."""
    self._source = source
    self._patience = patience
    self._pause = pause
    self._should_stop = should_stop

  def get_variables(self, have: int, for_evaluation: bool = False,
                    portion: Optional[int] = None
                    ) -> Optional[Tuple[int, Any]]:
    """Returns what the learner serves, sooner or later."""
    return patiently(
        lambda: self._source.get_variables(have, for_evaluation, portion),
        self._patience, self._pause, self._should_stop)


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


class _Episodes(NamedTuple):
  """Finished episodes that wait to be reported."""
  metrics: Dict[str, np.ndarray]
  actor: Dict[str, float]
  count_steps: bool


class Link:
  """An actor's connection to counter and learner.

  One background thread reports finished episodes and reads the run's counts,
  another fetches parameters, so that the counts tell how old parameters are
  while newer ones are on their way. The acting thread only looks at the newest.
  """

  def __init__(self, name: str, counts: CountSource, variables: VariableSource,
               period: float, patience: float,
               portions: Optional[Portions] = None):
    """Prepares the connection; it lives from `start` to `stop`.

    Args:
      name: of this link alone, also among those of restarted actors.
      counts: the run's counter.
      variables: the learner.
      period: seconds between two looks at either.
      patience: seconds either may be out of reach.
      portions: of the parameters, where they are not all fetched each time.
    """
    self._portions = portions and PortionChooser(portions)
    self._name = name
    self._count_source = counts
    self._variable_source = variables
    self._news = threading.Condition()
    self._counts: Counts = {}
    self._snapshot: Optional[Snapshot] = None
    self._ages: List[float] = []
    self._unreported: List[_Episodes] = []
    # Steps stored before their episode has ended: not reported yet, and those
    # of the report that is under way.
    self._unreported_steps = 0
    self._steps_under_way = 0
    self._num_step_reports = 0
    self._num_reports = 0
    # Held while reporting, so that no report is sent by two threads.
    self._reporting = threading.Lock()
    self._repeaters = [
        Repeater(self._refresh_counts, period, patience, 'link to the counter'),
        Repeater(self._refresh_parameters, period, patience,
                 'link to the learner')]

  def start(self) -> None:
    """Starts the background threads."""
    for repeater in self._repeaters:
      repeater.start()

  def stop(self) -> None:
    """Ends the background threads and reports what is left."""
    for repeater in self._repeaters:
      repeater.stop(timeout=5.0)
    self._report()

  def refresh(self) -> None:
    """Does one round of each thread: report, read counts, fetch parameters."""
    self._refresh_counts()
    self._refresh_parameters()

  def record_steps(self, steps: int) -> None:
    """Hands over steps stored, to report; they count at once locally."""
    with self._news:
      self._unreported_steps += steps

  def record_episodes(self, metrics: Dict[str, np.ndarray],
                      actor: Dict[str, float],
                      count_steps: bool = True) -> None:
    """Hands over episodes to report; they count at once locally.

    Args:
      metrics: `[n, ...]` per episode.
      actor: the actor's own figures.
      count_steps: whether their steps count now; else `record_steps` did.
    """
    with self._news:
      self._unreported.append(_Episodes(metrics, actor, count_steps))

  def latest(self) -> Tuple[Counts, Optional[Snapshot]]:
    """Returns the newest counts and parameters; either may be missing.

    Raises:
      RuntimeError: if counter or learner have been out of reach too long.
    """
    for repeater in self._repeaters:
      repeater.check()
    with self._news:
      counts = dict(self._counts)
      if counts:
        counts['actor_steps'] += self._unreported_steps + self._steps_under_way
        for metrics, _, count_steps in self._unreported:
          length = metrics['episode_length']
          counts['actor_steps'] += int(length.sum()) if count_steps else 0
          counts['actor_episodes'] += len(length)
      return counts, self._snapshot

  def use(self, policy_state: Any) -> None:
    """Looks at which portion of the parameters is acted with."""
    if self._portions is not None:
      self._portions.use(policy_state)

  def take_ages(self) -> List[float]:
    """Returns the parameters' ages in SGD steps since the last call.

    An age is taken at each look at the learner, before newer parameters take
    over: the most that those in use have lagged behind.
    """
    with self._news:
      ages, self._ages = self._ages, []
      return ages

  def wait_for_news(self, timeout: float) -> None:
    """Waits until a background thread has brought something, or `timeout`."""
    with self._news:
      self._news.wait(timeout)

  def _refresh_counts(self) -> None:
    counts = self._report() or self._count_source.get_counts()
    with self._news:
      self._counts = counts
      self._news.notify_all()

  def _refresh_parameters(self) -> None:
    with self._news:
      updates = self._counts.get('learner_updates')
      have = -1 if self._snapshot is None else self._snapshot.updates
      if updates is not None and self._snapshot is not None:
        self._ages.append(max(0.0, updates - have))
    # Restarted learners serve again from their checkpoint: any change counts.
    if updates == have:
      return
    snapshot = self._fetch(have, updates)
    if snapshot is None:
      return
    with self._news:
      self._snapshot = snapshot
      self._news.notify_all()

  def _fetch(self, have: int, newest: Optional[float]) -> Optional[Snapshot]:
    """Returns newer parameters, if there are any.

    Of a learner that has made fewer updates than those at hand, which has
    started again from a checkpoint, everything is fetched.
    """
    source, portion = self._variable_source, None
    if self._portions is not None and newest is not None and newest > have >= 0:
      portion = self._portions.choose()
    reply = (source.get_variables(have) if portion is None
             else source.get_variables(have, False, portion))
    if reply is None:
      return None
    updates, params = int(reply[0]), jax.device_put(reply[1])
    if self._portions is not None:
      if portion is not None:
        assert self._snapshot is not None
        params = self._portions.put(self._snapshot.params, params)
      self._portions.fetched(portion, updates)
    return Snapshot(updates, params)

  def _report(self) -> Optional[Counts]:
    """Reports steps and finished episodes; returns the counts if any."""
    counts = None
    with self._reporting:
      with self._news:
        # What a failed report had is reported again, under its own number.
        if not self._steps_under_way:
          self._steps_under_way = self._unreported_steps
          self._unreported_steps = 0
      if self._steps_under_way:
        counts = self._count_source.record_steps(
            self._steps_under_way,
            (f'{self._name}, steps', self._num_step_reports))
        with self._news:
          self._num_step_reports += 1
          self._steps_under_way = 0
          self._counts = counts
      while True:
        with self._news:
          if not self._unreported:
            return counts
          metrics, actor, count_steps = self._unreported[0]
        counts = self._count_source.record_episodes(
            metrics, actor, (self._name, self._num_reports), count_steps)
        with self._news:
          self._num_reports += 1
          self._unreported.pop(0)
          self._counts = counts
