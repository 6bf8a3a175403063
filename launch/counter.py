"""The counter: what the whole run has done, and what it says of itself.

Every role reports here, so this is where episodes get their global numbers,
where log rows of all roles get their step counts, and where the run ends.
"""

import collections
import math
import sys
import threading
import time
from typing import (
  Any,
  Callable,
  Deque,
  Dict,
  List,
  Mapping,
  Optional,
  Sequence,
  Tuple,
)

from acme.utils import counting, loggers
import numpy as np

from launch.progress import Figures, progress_line
from safety.visits import VisitLog

Metrics = Dict[str, np.ndarray]

COUNTS = ('actor_steps', 'actor_episodes', 'learner_steps', 'learner_updates')
# Running means are kept over these many episodes.
WINDOWS = (10, 100, 1000)
VISIT_FLUSH_INTERVAL = 30.0


class Counter:
  """Served by courier; all methods are safe to call from several threads."""

  def __init__(self, run_loggers: Mapping[str, loggers.Logger],
               visits: Optional[VisitLog], num_steps: int, log_interval: float,
               saved: Optional[Dict[str, Any]] = None,
               save_round: Optional[Callable[
                   [int, Metrics, Optional[np.ndarray]], None]] = None):
    """Starts from zero, or from what a checkpoint kept.

    Args:
      run_loggers: of `actor`, `learner` and `evaluator`.
      visits: log of region visits, or None.
      num_steps: environment steps after which the run is complete.
      log_interval: seconds between log rows and progress lines.
      saved: what `get_snapshot` returned for the checkpoint resumed from.
      save_round: `(actor_steps, metrics, paths)` keeps the episodes of a
        round of evaluation, and its example paths if it has any.
    """
    self._lock = threading.RLock()
    self._counter = counting.Counter()
    self._counter.increment(**dict.fromkeys(COUNTS, 0))
    self._loggers = run_loggers
    self._visits = visits
    self._num_steps = num_steps
    self._log_interval = log_interval
    self._save_round = save_round
    self._episodes = _EpisodeWindows()
    self._cell_visits: Optional[np.ndarray] = None
    self._actor_figures: List[Dict[str, float]] = []
    self._last_report: Dict[str, int] = {}
    self._score: Optional[float] = None
    self._wall_offset = 0.0
    self._figures = Figures(num_steps=num_steps)
    if saved is not None:
      self._counter.increment(**saved['counts'])
      self._episodes.restore(saved['episodes'])
      self._score = saved['score']
      if saved.get('cell_visits') is not None:
        self._cell_visits = np.array(saved['cell_visits'], np.int64)
      self._wall_offset = saved['seconds']
    self._began = time.monotonic()
    self._last_row = (self._began, self._counter.get_counts())

  def increment(self, **counts: float) -> Dict[str, float]:
    """Adds to counts and returns all of them."""
    return self._counter.increment(**counts)

  def get_counts(self) -> Dict[str, float]:
    """Returns all counts."""
    return self._counter.get_counts()

  def get_episodes(
      self, since: int, names: Sequence[str]
  ) -> Tuple[int, Dict[str, np.ndarray]]:
    """Returns finished training episodes after the first `since`.

    Args:
      since: episodes the caller knows already.
      names: of the metrics asked for; one that no episode has is 0.

    Returns:
      The number of episodes there are, and `[n]` metrics of those that are new,
      or of as many of the newest as are kept.
    """
    with self._lock:
      total = int(self._counter.get_counts()['actor_episodes'])
      return total, self._episodes.newest(total - since, names)

  def get_snapshot(self) -> Dict[str, Any]:
    """Returns what a checkpoint must keep, as JSON data."""
    with self._lock:
      if self._visits is not None:
        self._visits.flush()
      return {
          'counts': self._counter.get_counts(),
          'episodes': self._episodes.save(),
          'score': self._score,
          'cell_visits': (None if self._cell_visits is None
                          else self._cell_visits.tolist()),
          'seconds': self._seconds(),
      }

  def record_steps(self, steps: int,
                   report: Optional[Tuple[str, int]] = None
                   ) -> Dict[str, float]:
    """Counts training steps of episodes under way and returns all counts.

    Args:
      steps: stored in replay.
      report: see `record_episodes`.
    """
    with self._lock:
      if self._is_known(report):
        return self._counter.get_counts()
      return self._counter.increment(actor_steps=steps)

  def record_episodes(
      self, metrics: Metrics, actor: Dict[str, float],
      report: Optional[Tuple[str, int]] = None,
      count_steps: bool = True) -> Dict[str, float]:
    """Counts finished training episodes and returns all counts.

    Args:
      metrics: `[n, ...]` per episode; `cell_visits` are added up over the run
        and kept with its checkpoints, the others are logged.
      actor: the reporting actor's own figures.
      report: who reports, and the number of the report. One that is sent again,
        because its reply was lost, is not counted again.
      count_steps: whether their steps count now; else `record_steps` did.
    """
    with self._lock:
      if self._is_known(report):
        return self._counter.get_counts()
      metrics = dict(metrics)
      cell_visits = metrics.pop('cell_visits', None)
      if cell_visits is not None:
        total = 0 if self._cell_visits is None else self._cell_visits
        self._cell_visits = total + cell_visits.sum(axis=0)
      self._episodes.append(metrics)
      self._actor_figures.append(actor)
      if self._visits is not None and 'region_visits' in metrics:
        self._visits.append(metrics['region_visits'])
      return self._counter.increment(
          actor_steps=(int(metrics['episode_length'].sum())
                       if count_steps else 0),
          actor_episodes=len(metrics['episode_length']))

  def _is_known(self, report: Optional[Tuple[str, int]]) -> bool:
    """Tells whether a report came before, and remembers it."""
    if report is None:
      return False
    sender, number = report
    if number <= self._last_report.get(sender, -1):
      return True
    self._last_report[sender] = number
    return False

  def record_evaluation(self, updates: int, metrics: Metrics,
                        paths: Optional[np.ndarray]) -> None:
    """Logs one round of evaluation of the parameters after `updates`.

    What is best is told by success, or by the return where there is none.
    """
    with self._lock:
      row = {name: float(np.mean(_per_episode(v)))
             for name, v in metrics.items()}
      row['episodes'] = len(next(iter(metrics.values())))
      row['parameter_updates'] = updates
      self._figures.eval_return = row.get('episode_return', math.nan)
      self._figures.eval_success = row.get('success', math.nan)
      self._score = row.get('success', row.get('episode_return'))
      self._write('evaluator', row)
      if self._save_round is not None:
        self._save_round(int(self._counter.get_counts()['actor_steps']),
                         metrics, paths)

  def record_learner(self, metrics: Dict[str, float]) -> None:
    """Logs the learner's figures of one interval."""
    with self._lock:
      self._figures.updates_per_second = metrics['updates_per_second']
      self._figures.learner_wait = metrics['wait_fraction']
      self._write('learner', metrics)

  def complete(self) -> bool:
    """Whether the run has all its environment steps."""
    return self.get_counts()['actor_steps'] >= self._num_steps

  def watch(self, should_stop: Callable[[], bool],
            wait: Callable[[float], Any],
            stop_program: Callable[[], None]) -> None:
    """Logs at intervals; stops the program when the run is complete.

    Args:
      should_stop: whether the program is being stopped.
      wait: `wait(seconds)` returns early when it is.
      stop_program: asks for that.
    """
    next_log = time.monotonic() + self._log_interval
    next_flush = time.monotonic() + VISIT_FLUSH_INTERVAL
    while not should_stop():
      wait(0.2)
      now = time.monotonic()
      if now >= next_log:
        self.log()
        next_log = now + self._log_interval
      if now >= next_flush:
        self.flush()
        next_flush = now + VISIT_FLUSH_INTERVAL
      if self.complete():
        stop_program()
        break

  def log(self) -> None:
    """Writes the actors' log row and the progress line."""
    with self._lock:
      now, counts = time.monotonic(), self._counter.get_counts()
      then, before = self._last_row
      self._last_row = (now, counts)
      steps = counts['actor_steps'] - before['actor_steps']
      figures = self._figures
      figures.steps = int(counts['actor_steps'])
      figures.seconds = self._seconds()
      figures.steps_per_second = steps / max(now - then, 1e-9)
      row = self._episodes.row()
      if row:
        row.update(_mean_figures(self._actor_figures))
        row['steps_per_second'] = figures.steps_per_second
        figures.update(row)
        self._write('actor', row)
      self._actor_figures = []
      print(progress_line(figures, bar=sys.stdout.isatty()), flush=True)

  def flush(self) -> None:
    """Writes what is buffered."""
    with self._lock:
      if self._visits is not None:
        self._visits.flush()

  def close(self) -> None:
    """Writes the last row and closes the logs; call it last."""
    with self._lock:
      self.log()
      self.flush()
      for logger in self._loggers.values():
        logger.close()

  def _seconds(self) -> float:
    return self._wall_offset + time.monotonic() - self._began

  def _write(self, role: str, row: Dict[str, float]) -> None:
    counts = self._counter.get_counts()
    self._loggers[role].write({
        **row, **{n: counts[n] for n in COUNTS}, 'seconds': self._seconds()})


class _EpisodeWindows:
  """Means of episode metrics: over the interval and over the last N."""

  def __init__(self):
    self._recent: Dict[str, Deque[float]] = {}
    self._interval: Dict[str, List[float]] = {}

  def append(self, metrics: Metrics) -> None:
    """Adds `[n, ...]` metrics per episode."""
    for name, value in metrics.items():
      values = _per_episode(value).tolist()
      recent = self._recent.setdefault(
          name, collections.deque(maxlen=max(WINDOWS)))
      recent.extend(values)
      self._interval.setdefault(name, []).extend(values)

  def row(self) -> Dict[str, float]:
    """Returns the means and starts a new interval; empty at first."""
    row = {}
    for name, recent in self._recent.items():
      values = self._interval.get(name)
      row[name] = float(np.mean(values)) if values else float('nan')
      for window in WINDOWS:
        row[f'{name}_{window}'] = float(np.mean(list(recent)[-window:]))
    self._interval = {}
    return row

  def newest(self, num: int, names: Sequence[str]) -> Dict[str, np.ndarray]:
    """Returns `[n]` metrics of the newest episodes, n <= `num`."""
    kept = max((len(recent) for recent in self._recent.values()), default=0)
    num = max(0, min(num, kept))
    return {
        name: np.array(list(self._recent[name])[kept - num:]
                       if name in self._recent else [0.0] * num, np.float64)
        for name in names}

  def save(self) -> Dict[str, List[float]]:
    """Returns the recent episodes as JSON data."""
    return {name: list(recent) for name, recent in self._recent.items()}

  def restore(self, saved: Dict[str, List[float]]) -> None:
    """Takes over what `save` returned."""
    for name, values in saved.items():
      self._recent[name] = collections.deque(values, maxlen=max(WINDOWS))


def _per_episode(value: np.ndarray) -> np.ndarray:
  """Sums a metric's trailing axes (regions), `[n, ...]` to `[n]`."""
  value = np.asarray(value, np.float64)
  return value.reshape(len(value), -1).sum(axis=1)


def _mean_figures(figures: List[Dict[str, float]]) -> Dict[str, float]:
  """Averages the actors' own figures; the maximum age stays a maximum."""
  names = ('wait_fraction', 'parameter_age', 'max_parameter_age')
  row = {}
  for name in names:
    values = [f[name] for f in figures if np.isfinite(f.get(name, np.nan))]
    combine = max if name == 'max_parameter_age' else np.mean
    row[name] = float(combine(values)) if values else float('nan')
  return row
