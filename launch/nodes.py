"""The roles as Launchpad nodes: each fetches its parts and runs until stopped.

No call here is without a bound, which handles, writers and `within` give them:
courier and Reverb block for ever on a dead server, and Python handles no signal
meanwhile.
"""

from concurrent import futures
import contextlib
import threading
import time
from typing import Any, Callable, Iterator, Optional, Tuple

from absl import logging
import courier
import launchpad as lp
from launchpad import context

from actors.variables import Link, patiently, PatientSource
from launch import factory
from launch.counter import Counter
from launch.experiment import Experiment
from launch.heartbeat import WatchedStop
from learners.learner import SavedLater
from replay.dataset import Prefetcher
from replay.pacing import amount, update_due
from replay.stream_reverb import PrioritySender

# Seconds one remote call may take.
CALL_TIMEOUT = 30.0
# Seconds Reverb may take to write its checkpoint while the run goes on, and
# when it stops, for which the learner has a minute.
SAVE_TIMEOUT = 300.0
LAST_SAVE_TIMEOUT = 50.0
# Seconds between an actor's looks at counter and learner.
LINK_PERIOD = 0.1
# Seconds between the learner's looks at the counter while no update is due.
PACE_PERIOD = 0.02
# Seconds a server may be out of reach before its client gives up. A server that
# is dead ends the program sooner; one that starts on a busy machine takes long.
PATIENCE = 300.0
# Seconds a server stays up for those who still need it.
LINGER = 30.0


def within(seconds: float, function: Callable[[], Any]) -> Any:
  """Returns `function()`, or raises `futures.TimeoutError` if it takes longer.

  For calls whose library offers no bound, such as Reverb's checkpoint.
  """
  outcome: futures.Future[Any] = futures.Future()

  def call() -> None:
    try:
      outcome.set_result(function())
    except BaseException as e:  # pylint: disable=broad-except
      outcome.set_exception(e)

  # Left behind if it hangs: nothing can end it but the end of the process.
  threading.Thread(target=call, name='bounded-call', daemon=True).start()
  return outcome.result(seconds)


def save_replay(replay: Any, seconds: float) -> str:
  """Has Reverb write its checkpoint and returns where.

  Args:
    replay: its client.
    seconds: it may take.

  Raises:
    SavedLater: if it takes longer.
    RuntimeError: if it cannot; the checkpoint before is as it was.
  """
  try:
    return within(seconds, replay.checkpoint)
  except futures.TimeoutError as e:
    raise SavedLater(f'replay took more than {seconds:.0f} s to write its '
                     'checkpoint; the one before is kept') from e
  except Exception as e:  # pylint: disable=broad-except
    # Reverb's errors are of any kind.
    raise RuntimeError(
        f'replay could not write its checkpoint: {str(e).strip()}. The one '
        'before is kept. Make room, or make the folder writable, and run the '
        'same command again to go on') from e


def threads() -> bool:
  """Whether the nodes are threads of one process.

  Those are all told to stop at once, so servers wait for their clients; nodes
  that are processes are stopped in that order.
  """
  return context.get_context().launch_type in (
      context.LaunchType.LOCAL_MULTI_THREADING,
      context.LaunchType.TEST_MULTI_THREADING)


class Clients:
  """What a server that is a thread knows of the roles that still need it."""

  def __init__(self, *roles: str):
    """Expects `roles`."""
    self._left = set(roles)

  def leave(self, role: str) -> None:
    """Called by `role` when it needs the server no more, or has failed."""
    self._left.discard(role)

  def wait(self) -> None:
    """Waits for all of them, if nodes are threads; a while at most."""
    deadline = time.monotonic() + LINGER
    while threads() and self._left and time.monotonic() < deadline:
      time.sleep(0.1)


@contextlib.contextmanager
def _leaving(role: str, *servers: Any) -> Iterator[None]:
  """Tells servers when `role` is done, or has failed."""
  try:
    yield
  finally:
    for server in servers if threads() else ():
      try:
        server.leave(role)
      except Exception as e:  # pylint: disable=broad-except
        logging.warning('%s could not take leave: %s', role, e)


class CounterNode(Counter):
  """Counts, logs, and ends the program when the run is complete."""

  def __init__(self, experiment: Experiment):
    """Resumes from the newest checkpoint if there is one."""
    super().__init__(**factory.counter_arguments(experiment))
    self._clients = Clients('learner', 'evaluator')

  def leave(self, role: str) -> None:
    """Called by learner and evaluator when they need no counts any more."""
    self._clients.leave(role)

  def run(self) -> None:
    """Runs until the program stops; outlives the learner."""
    stop = WatchedStop(lp.stop_event())
    self.watch(stop.is_set, stop.wait, context.get_context().program_stopper)
    stop.wait()
    self._clients.wait()
    self.close()


class LearnerNode:
  """Updates the agent from replay and serves its variables."""

  def __init__(self, experiment: Experiment, replay: Any, counter: Any):
    """Builds the learner.

    Args:
      experiment: the run.
      replay: a `reverb.Client`.
      counter: client of the counter.
    """
    self._replay = replay
    self._counter = counter
    self._priorities = PrioritySender(replay)
    self._learner = factory.make_learner(
        experiment, counter, save_replay=self._save_replay,
        set_priorities=self._priorities.set_priorities)
    self._pace = factory.make_pace(experiment, self._learner.agent)
    self._clients = Clients('evaluator')

  def get_variables(self, have: int, for_evaluation: bool = False,
                    portion: Optional[int] = None
                    ) -> Optional[Tuple[int, Any]]:
    """Returns `(updates, variables)`, or None if `have` is the newest."""
    return self._learner.get_variables(have, for_evaluation, portion)

  def _save_replay(self) -> str:
    stopping = lp.stop_event().is_set()
    return save_replay(
        self._replay, LAST_SAVE_TIMEOUT if stopping else SAVE_TIMEOUT)

  def leave(self, role: str) -> None:
    """Called by the evaluator when it needs no parameters any more."""
    self._clients.leave(role)

  def run(self) -> None:
    """Learns until the program stops, then saves."""
    stop = WatchedStop(lp.stop_event())
    with _leaving('learner', self._counter):
      self._learn(stop)
      self._clients.wait()

  def _learn(self, stop: WatchedStop) -> None:
    batches = Prefetcher(lambda: factory.make_batches(
        self._learner.agent, self._replay.server_address))
    batches.start()
    self._priorities.start()
    counts = patiently(
        self._counter.get_counts, PATIENCE, should_stop=stop.is_set)
    waiting_since = starved_since = time.monotonic()
    while not stop.is_set():
      self._learner.hear(int(counts['actor_episodes']))
      if not update_due(self._pace, amount(self._pace, counts),
                        self._learner.updates):
        stop.wait(PACE_PERIOD)
        counts = self._counter.get_counts()
        starved_since = time.monotonic()
        continue
      batch = batches.get(timeout=0.5)
      if batch is None:
        if time.monotonic() - starved_since > PATIENCE:
          raise RuntimeError(
              f'replay gave no batch for {PATIENCE:.0f} s, with '
              f'{counts["actor_steps"]:.0f} environment steps stored')
        continue
      counts = self._learner.step(batch, time.monotonic() - waiting_since)
      waiting_since = starved_since = time.monotonic()
    batches.stop()
    self._learner.finish()


class ActorNode:
  """Steps environments and writes episodes to replay."""

  def __init__(self, experiment: Experiment, index: int, replay: Any,
               counter: Any, learner: Any):
    """Builds the actor.

    Args:
      experiment: the run.
      index: which actor this is.
      replay: a `reverb.Client`.
      counter: client of the counter.
      learner: client of the learner.
    """
    self._experiment = experiment
    self._index = index
    self._replay = replay
    self._counter = counter
    self._learner = learner

  def run(self) -> None:
    """Acts until the program stops."""
    stop = WatchedStop(lp.stop_event())
    agent = factory.make_agent(self._experiment)
    writer = factory.make_reverb_writer(agent, self._replay, stop.is_set)
    generation = _episodes(self._counter, stop.is_set)
    link = Link(f'actor/{self._index} since {time.time_ns()}', self._counter,
                self._learner, LINK_PERIOD, PATIENCE, agent.portions)
    actor = factory.make_actor(
        self._experiment, agent, self._index, generation, writer, link)
    actor.run(stop.is_set)


class EvaluatorNode:
  """Evaluates the greedy policy between rests."""

  def __init__(self, experiment: Experiment, counter: Any, learner: Any):
    """Builds the evaluator.

    Args:
      experiment: the run.
      counter: client of the counter.
      learner: client of the learner.
    """
    self._experiment = experiment
    self._counter = counter
    self._learner = learner

  def run(self) -> None:
    """Evaluates until the program stops, then once more."""
    stop = WatchedStop(lp.stop_event())
    # Calls to a learner that is gone fail at once instead of waiting for it.
    learner = courier.Client(
        self._learner.address, call_timeout=CALL_TIMEOUT, wait_for_ready=False)
    with _leaving('evaluator', learner, self._counter):
      generation = _episodes(self._counter, stop.is_set)
      evaluator = factory.make_evaluator(
          self._experiment, generation,
          PatientSource(learner, PATIENCE, should_stop=stop.is_set),
          self._counter)
      with contextlib.closing(evaluator):
        evaluator.run(stop.is_set, stop.wait)


def _episodes(counter: Any, should_stop: Callable[[], bool]) -> int:
  """Returns the run's episodes so far, once the counter is there."""
  return int(patiently(counter.get_counts, PATIENCE,
                       should_stop=should_stop)['actor_episodes'])
