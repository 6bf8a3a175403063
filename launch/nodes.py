"""The roles as Launchpad nodes: each fetches its parts and runs until stopped.

No call here is without a bound, which handles, writers and `within` give them:
courier and Reverb block for ever on a dead server, and Python handles no signal
meanwhile.
"""

from concurrent import futures
import threading
import time
from typing import Any, Callable, Optional, Tuple

import launchpad as lp
from launchpad import context

from actors.variables import Link, PatientSource
from launch import factory
from launch.counter import Counter
from launch.experiment import Experiment
from replay.dataset import Prefetcher
from replay.pacing import amount, update_due
from replay.stream_reverb import PrioritySender

# Seconds one remote call may take.
CALL_TIMEOUT = 30.0
# Seconds Reverb may take to write its checkpoint.
SAVE_TIMEOUT = 50.0
# Seconds between an actor's looks at counter and learner.
LINK_PERIOD = 0.1
# Seconds between the learner's looks at the counter while no update is due.
PACE_PERIOD = 0.02
# Seconds either may be out of an actor's reach before it gives up.
PATIENCE = 60.0
# Seconds the counter stays up for the learner's last checkpoint.
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


class CounterNode(Counter):
  """Counts, logs, and ends the program when the run is complete."""

  def __init__(self, experiment: Experiment):
    """Resumes from the newest checkpoint if there is one."""
    super().__init__(**factory.counter_arguments(experiment))
    self._learner_done = False

  def finish_learner(self) -> None:
    """Called by the learner once its last checkpoint is written."""
    self._learner_done = True

  def run(self) -> None:
    """Runs until the program stops; outlives the learner."""
    stop = lp.stop_event()
    self.watch(stop.is_set, stop.wait, context.get_context().program_stopper)
    stop.wait()
    # Threads of one process all stop at once; separate processes are stopped
    # in order, and the learner has gone before.
    threads = context.get_context().launch_type in (
        context.LaunchType.LOCAL_MULTI_THREADING,
        context.LaunchType.TEST_MULTI_THREADING)
    deadline = time.monotonic() + (LINGER if threads else 0.0)
    while not self._learner_done and time.monotonic() < deadline:
      time.sleep(0.1)
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
        experiment, counter,
        save_replay=lambda: within(SAVE_TIMEOUT, replay.checkpoint),
        set_priorities=self._priorities.set_priorities)
    self._pace = factory.make_pace(experiment, self._learner.agent)

  def get_variables(self, have: int) -> Optional[Tuple[int, Any]]:
    """Returns `(updates, variables)`, or None if `have` is the newest."""
    return self._learner.get_variables(have)

  def run(self) -> None:
    """Learns until the program stops, then saves."""
    stop = lp.stop_event()
    batches = Prefetcher(lambda: factory.make_batches(
        self._learner.agent, self._replay.server_address))
    batches.start()
    self._priorities.start()
    counts = self._counter.get_counts()
    waiting_since = time.monotonic()
    while not stop.is_set():
      self._learner.hear(int(counts['actor_episodes']))
      if not update_due(self._pace, amount(self._pace, counts),
                        self._learner.updates):
        stop.wait(PACE_PERIOD)
        counts = self._counter.get_counts()
        continue
      batch = batches.get(timeout=0.5)
      if batch is None:
        continue
      counts = self._learner.step(batch, time.monotonic() - waiting_since)
      waiting_since = time.monotonic()
    batches.stop()
    self._learner.finish()
    self._counter.finish_learner()


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
    stop = lp.stop_event()
    agent = factory.make_agent(self._experiment)
    writer = factory.make_reverb_writer(agent, self._replay, stop.is_set)
    generation = int(self._counter.get_counts()['actor_episodes'])
    link = Link(f'actor/{self._index} since {time.time_ns()}', self._counter,
                self._learner, LINK_PERIOD, PATIENCE)
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
    stop = lp.stop_event()
    generation = int(self._counter.get_counts()['actor_episodes'])
    evaluator = factory.make_evaluator(
        self._experiment, generation,
        PatientSource(self._learner, PATIENCE, should_stop=stop.is_set),
        self._counter)
    evaluator.run(stop.is_set, stop.wait)
