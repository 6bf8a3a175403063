"""The learner shell: update, log, checkpoint, serve. It knows no algorithm."""

import dataclasses
import time
from typing import (
  Any,
  Callable,
  Dict,
  Mapping,
  Optional,
  Protocol,
  Sequence,
  Tuple,
)

from absl import logging
import jax
import numpy as np

from learners import checkpoint
from learners.agent import Agent, Batch, Metrics, UNCHANGED

# Who fetches variables.
_ACTOR, _EVALUATOR = 'actor', 'evaluator'
# Episodes an agent is told of at once, so that this compiles once.
_REPORTS_PER_CALL = 64


class SavedLater(RuntimeError):
  """A checkpoint took too long; the one before stands until the next."""


# `(table, key [n] uint64, priority [n])`
SetPriorities = Callable[[str, np.ndarray, np.ndarray], None]


class Counts(Protocol):
  """The run's counter, as far as the learner needs it."""

  def increment(self, **counts: float) -> Dict[str, float]:
    """Adds to counts and returns all of them."""
    ...

  def get_episodes(
      self, since: int, names: Sequence[str]
  ) -> Tuple[int, Dict[str, np.ndarray]]:
    """Returns finished episodes after the first `since`.

    Args:
      since: episodes known already.
      names: of the metrics asked for.

    Returns:
      The number of episodes there are, and `[n]` metrics of the newest, in the
      order they were reported; n is less than what is new where that is more
      than the counter keeps.
    """
    ...

  def get_snapshot(self) -> Dict[str, Any]:
    """Returns what a checkpoint must keep of the counter."""
    ...

  def record_learner(self, metrics: Dict[str, float]) -> None:
    """Takes the learner's figures of one interval."""
    ...


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
  """How the shell behaves.

  Attributes:
    checkpoint_dir: folder of all checkpoints.
    checkpoint_interval: seconds between checkpoints.
    log_interval: seconds between log rows.
    keep: newest checkpoints kept; the best is kept beside them.
  """
  checkpoint_dir: str
  checkpoint_interval: float
  log_interval: float
  keep: int = 3


class Learner:
  """Drives any `Agent`; hands its variables to whoever asks."""

  def __init__(self, agent: Agent, config: LearnerConfig, key: jax.Array,
               counts: Counts, save_replay: Callable[[], Any],
               set_priorities: Optional[SetPriorities] = None,
               on_start: Callable[[Any], Any] = lambda state: state):
    """Starts from the newest checkpoint, or anew.

    Args:
      agent: the algorithm.
      config: how the shell behaves.
      key: the agent's source of randomness.
      counts: the run's counter.
      save_replay: called with each checkpoint; what it returns, JSON data, is
        kept in it.
      set_priorities: takes the agent's new priorities, one call late.
      on_start: `state -> state`, called where there is no checkpoint.
    """
    self._agent = agent
    self._config = config
    self._counts = counts
    self._save_replay = save_replay
    self._set_priorities = set_priorities
    self._update = jax.jit(self._update_and_serve, donate_argnums=0)
    self._hear = jax.jit(agent.hear, donate_argnums=0) if agent.hear else None
    state = agent.init(key)
    restored = checkpoint.load_latest(config.checkpoint_dir, state)
    self.restored_meta = restored.meta if restored else None
    self._updates = int(restored.meta['step']) if restored else 0
    self._heard = int(restored.meta.get('heard', 0)) if restored else 0
    self._state = jax.device_put(
        restored.state if restored else on_start(state))
    self._pending: Optional[Dict[str, jax.Array]] = None
    # By table, the keys and new priorities of what the last call drew.
    self._pending_priorities: Dict[str, Tuple[Any, Any]] = {}
    # Replaced as one by the thread that trains, read by those that serve.
    self._published = (
        self._updates, jax.device_get(self._served(self._state)))
    self._log = _IntervalLog(config.log_interval)
    self._last_checkpoint = time.monotonic()

  @property
  def agent(self) -> Agent:
    """The algorithm."""
    return self._agent

  @property
  def updates(self) -> int:
    """SGD steps done."""
    return self._updates

  @property
  def state(self) -> Any:
    """The agent's training state."""
    return self._state

  def get_variables(self, have: int, for_evaluation: bool = False,
                    portion: Optional[int] = None
                    ) -> Optional[Tuple[int, Any]]:
    """Returns `(updates, variables)`, or None if `have` is the newest.

    Args:
      have: the updates of those the caller has.
      for_evaluation: asks for those of the evaluation policy.
      portion: asks for a piece with this portion (see `Agent.portions`).
    """
    updates, served = self._published
    if updates == have:
      return None
    whose = _EVALUATOR if for_evaluation and _EVALUATOR in served else _ACTOR
    variables = served[whose]
    if portion is not None:
      assert self._agent.portions is not None, 'the agent has no portions'
      variables = self._agent.portions.take(variables, portion)
    # JAX keeps the copy of each array for the next who asks.
    return updates, jax.device_get(variables)

  def hear(self, num_episodes: int) -> None:
    """Tells the agent of the episodes it has not heard of yet, if it listens.

    Args:
      num_episodes: finished episodes there are by now, at least.
    """
    if self._hear is None or num_episodes <= self._heard:
      return
    total, reports = self._counts.get_episodes(
        self._heard, self._agent.reports)
    rows = len(next(iter(reports.values())))
    for begin in range(0, rows, _REPORTS_PER_CALL):
      num = min(rows - begin, _REPORTS_PER_CALL)
      padded = {
          name: np.pad(np.asarray(values[begin:begin + num], np.float32),
                       (0, _REPORTS_PER_CALL - num))
          for name, values in reports.items()}
      self._state = self._hear(
          self._state, padded, np.arange(_REPORTS_PER_CALL) < num)
    self._heard = total

  def step(self, batch: Batch, waited: float) -> Dict[str, float]:
    """Makes one call of the agent's update.

    Args:
      batch: on the device.
      waited: seconds the learner waited for it.

    Returns:
      The run's counts.
    """
    self._state, metrics, served, priorities = self._update(
        self._state, batch)
    if self._pending is not None:
      # Bounds how far the device may lag behind this loop to one call.
      jax.block_until_ready(self._pending)
    self._send_priorities()
    self._pending = metrics
    self._pending_priorities = {
        table: (batch[table]['key'], values)
        for table, values in priorities.items()}
    self._updates += self._agent.updates_per_call
    self._published = (self._updates, served)
    counts = self._counts.increment(
        learner_steps=1, learner_updates=self._agent.updates_per_call)
    row = self._log.add(self._agent.updates_per_call, waited, metrics)
    if row is not None:
      self._counts.record_learner(row)
    if (time.monotonic() - self._last_checkpoint
        > self._config.checkpoint_interval):
      try:
        self.save()
      except SavedLater as e:
        # Going on without loses less than ending here.
        logging.warning('%s; the run goes on', e)
        self._last_checkpoint = time.monotonic()
    return counts

  def save(self) -> str:
    """Writes a checkpoint of learner, counters and replay; returns its path.

    Raises:
      SavedLater: if replay took too long; nothing was written.
    """
    counter = self._counts.get_snapshot()
    replay = self._save_replay()
    path = checkpoint.save(
        self._config.checkpoint_dir, self._updates, self._state,
        {'counter': counter, 'replay': replay, 'heard': self._heard},
        self._config.keep, counter.get('score'))
    self._last_checkpoint = time.monotonic()
    return path

  def finish(self) -> None:
    """Saves for the last time, and logs what was not logged yet."""
    row = self._log.last()
    if row is not None:
      self._counts.record_learner(row)
    self.save()

  def _send_priorities(self) -> None:
    """Hands on the priorities of the last call, which is done by now."""
    if self._set_priorities is None:
      return
    for table, (key, values) in self._pending_priorities.items():
      values = np.asarray(values)
      changed = values != UNCHANGED
      number = np.ascontiguousarray(key).view(np.uint64)[:, 0]
      self._set_priorities(table, number[changed], values[changed])

  def _update_and_serve(
      self, state: Any, batch: Batch
  ) -> Tuple[Any, Metrics, Dict[str, Any], Mapping[str, jax.Array]]:
    state, metrics = self._agent.update(state, batch)
    return (state, metrics, self._served(state),
            self._agent.priorities(state))

  def _served(self, state: Any) -> Dict[str, Any]:
    """Returns what each kind of caller gets."""
    served = {_ACTOR: self._agent.variables(state)}
    if self._agent.eval_variables is not None:
      served[_EVALUATOR] = self._agent.eval_variables(state)
    return served


class _IntervalLog:
  """Turns calls into one row per interval."""

  def __init__(self, interval: float):
    self._interval = interval
    # The first call compiles; rates are counted from its end.
    self._since: Optional[float] = None
    self._updates = 0
    self._waited = 0.0
    self._metrics: Dict[str, jax.Array] = {}

  def add(self, updates: int, waited: float,
          metrics: Dict[str, jax.Array]) -> Optional[Dict[str, float]]:
    """Adds one call; returns a row when the interval is over."""
    now = time.monotonic()
    if self._since is None:
      jax.block_until_ready(metrics)
      self._since = time.monotonic()
      return None
    self._updates += updates
    self._waited += waited
    self._metrics = metrics
    return self._row(now) if now - self._since >= self._interval else None

  def last(self) -> Optional[Dict[str, float]]:
    """Returns a row of what came since the last one, if anything did."""
    return self._row(time.monotonic()) if self._updates else None

  def _row(self, now: float) -> Dict[str, float]:
    assert self._since is not None, 'add() comes first'
    elapsed, metrics = now - self._since, self._metrics
    row = {name: float(np.asarray(v)) for name, v in metrics.items()}
    row['updates_per_second'] = self._updates / elapsed
    row['wait_fraction'] = min(1.0, self._waited / elapsed)
    self._since, self._updates, self._waited = now, 0, 0.0
    return row
