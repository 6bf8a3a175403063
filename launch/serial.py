"""Every role in one thread: for a debugger, and the same numbers each time.

The roles are those of a distributed run; only replay is in this process's
memory, and they take turns instead of running side by side.
"""

import json
import os
import signal
import time
from typing import Any, Dict, List, Optional

import jax
import numpy as np

from actors.actor import Actor
from actors.evaluator import Evaluator
from actors.variables import Link
from launch import experiment as experiment_lib
from launch import factory, run_folder
from launch.counter import Counter
from launch.experiment import Experiment
from learners.learner import Learner
from replay.pacing import amount, STEPS, update_due


class SerialProgram:
  """All roles of one run."""

  def __init__(self, experiment: Experiment):
    """Builds the roles; resumes if the run has a checkpoint."""
    self._experiment = experiment
    self._replay_path = run_folder.memory_replay_path(
        experiment_lib.run_dir(experiment))
    agent = factory.make_agent(experiment)
    self._pace = factory.make_pace(experiment, agent)
    self._replay = factory.make_memory_tables(experiment, agent)
    self.counter: Counter = factory.make_counter(experiment)
    self.learner: Learner = factory.make_learner(
        experiment, self.counter, save_replay=self._save_replay,
        set_priorities=self._replay.set_priorities)
    if self.learner.restored_meta is not None:
      _load_replay(self._replay, self._replay_path)
    generation = int(self.counter.get_counts()['actor_episodes'])
    self._links = [
        Link(f'actor/{i}', self.counter, self.learner, period=0.0, patience=0.0)
        for i in range(experiment.num_actors)]
    self._actors: List[Actor] = [
        factory.make_actor(
            experiment, agent, i, generation, self._replay, link)
        for i, link in enumerate(self._links)]
    self._evaluator: Evaluator = factory.make_evaluator(
        experiment, generation, self.learner, self.counter)
    self._evaluated = -1

  def run(self) -> int:
    """Runs to the end, or to the first SIGINT or SIGTERM; saves either way."""
    stop: Dict[str, bool] = {'asked': False}

    def handle(signum, frame):
      del signum, frame
      if stop['asked']:
        raise SystemExit(130)
      stop['asked'] = True

    before = {s: signal.signal(s, handle)
              for s in (signal.SIGINT, signal.SIGTERM)}
    try:
      next_log = time.monotonic() + self._experiment.log_interval
      while not self.counter.complete() and not stop['asked']:
        self.step()
        if time.monotonic() >= next_log:
          self.counter.log()
          next_log = time.monotonic() + self._experiment.log_interval
      self._evaluate()
      for link in self._links:
        link.refresh()
      self.learner.finish()
      self.counter.close()
    finally:
      self._evaluator.close()
      for signum, handler in before.items():
        signal.signal(signum, handler)
    return 0

  def step(self) -> None:
    """One vectorised step of every actor, then the updates it pays for."""
    for link, actor in zip(self._links, self._actors):
      link.refresh()
      if actor.ready():
        actor.step()
    self.learner.hear(int(self.counter.get_counts()['actor_episodes']))
    while self._replay.ready and self._update_due():
      batch = self._replay.sample()
      self.learner.step(jax.device_put(batch), waited=0.0)
    steps = int(self.counter.get_counts()['actor_steps'])
    # Counted, not timed, so that a run is the same on any machine.
    rounds = steps // self._experiment.eval_steps
    if rounds > self._evaluated:
      self._evaluated = rounds
      self._evaluate()

  def _update_due(self) -> bool:
    done = amount(self._pace, self.counter.get_counts())
    if self._pace.unit == STEPS:
      done += sum(actor.unstored_steps for actor in self._actors)
    return update_due(self._pace, done, self.learner.updates)

  def _evaluate(self) -> None:
    if self._evaluator.fetch():
      self._evaluator.evaluate()

  def _save_replay(self) -> str:
    saved = self._replay.save()
    arrays = saved.pop('arrays')
    with open(self._replay_path + '.tmp', 'wb') as f:
      np.savez(f, meta=json.dumps(saved), **arrays)
    os.replace(self._replay_path + '.tmp', self._replay_path)
    return self._replay_path


def _load_replay(replay: Any, path: str) -> None:
  with np.load(path, allow_pickle=False) as stored:
    saved: Dict[str, Any] = json.loads(str(stored['meta']))
    saved['arrays'] = {n: stored[n] for n in stored.files if n != 'meta'}
  replay.restore(saved)


def run(experiment: Experiment, program: Optional[SerialProgram] = None) -> int:
  """Runs an experiment in this thread and returns an exit status."""
  return (program or SerialProgram(experiment)).run()
