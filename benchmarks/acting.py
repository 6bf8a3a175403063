"""Environment steps/s of one actor that writes to a real Reverb server.

The actor is the one of a distributed run, on one core, with fixed parameters
and no learner to wait for; the server runs in a process of its own.
"""

import argparse
import multiprocessing
import os
import time
from typing import Any, Dict, List, Optional, Tuple

from launch import native

native.preload()

import jax
import numpy as np
import portpicker

from actors.variables import Link
from launch import factory
from launch.experiment import Experiment
from launch.tables import machine, print_metrics, print_table
from learners.registry import ALGORITHMS
from replay import tables
from replay.episodes import ReverbWriter
from safety.regions import parse_region_bounds

_REGION = '0,5:5,11'
# Updates that pay for all the steps there will be.
_HORIZON = 10**12


class FixedVariables:
  """Serves the same parameters for ever."""

  def __init__(self, params: Any):
    """Serves `params`."""
    self._params = params

  def get_variables(self, have: int, for_evaluation: bool = False,
                    portion: Optional[int] = None
                    ) -> Optional[Tuple[int, Any]]:
    """Returns the parameters once."""
    del for_evaluation, portion
    return None if have == _HORIZON else (_HORIZON, self._params)


class StepCounts:
  """Counts steps, beyond the warm-up from the start."""

  def __init__(self, warmup_steps: int):
    """Starts at `warmup_steps`."""
    self.steps = 0
    self._warmup_steps = warmup_steps

  def get_counts(self) -> Dict[str, float]:
    """Returns counts under which nothing is ever waited for."""
    return {'actor_steps': self._warmup_steps + self.steps,
            'learner_updates': _HORIZON}

  def record_steps(self, steps: int,
                   report: Tuple[str, int]) -> Dict[str, float]:
    """Adds steps."""
    del report
    self.steps += steps
    return self.get_counts()

  def record_episodes(self, metrics: Dict[str, np.ndarray],
                      actor: Dict[str, float], report: Tuple[str, int],
                      count_steps: bool = True) -> Dict[str, float]:
    """Adds the episodes' steps, unless they were added before."""
    del actor, report
    if count_steps:
      self.steps += int(metrics['episode_length'].sum())
    return self.get_counts()


def serve(port: int, experiment: Experiment, cores: List[int]) -> None:
  """Runs a Reverb server."""
  import reverb
  os.sched_setaffinity(0, cores)
  agent = factory.make_agent(experiment)
  server = reverb.Server(
      tables.make_tables(agent.replay, factory.make_limits(experiment, agent)),
      port=port)
  server.wait()


def measure(experiment: Experiment, seconds: float) -> float:
  """Returns environment steps/s of one actor of `experiment`."""
  import reverb
  cores = sorted(os.sched_getaffinity(0))
  port = portpicker.pick_unused_port()
  context = multiprocessing.get_context('spawn')
  server = context.Process(
      target=serve, args=(port, experiment, cores[1:] or cores), daemon=True)
  server.start()
  try:
    os.sched_setaffinity(0, cores[:1])
    client = reverb.Client(f'127.0.0.1:{port}')
    client.server_info(timeout=60)
    agent = factory.make_agent(experiment)
    variables = agent.variables(agent.init(jax.random.key(0)))
    counts = StepCounts(factory.make_pace(experiment, agent).minimum)
    link = Link('actor', counts, FixedVariables(variables), period=0.05,
                patience=10.0)
    actor = factory.make_actor(
        experiment, agent, 0, 0,
        ReverbWriter(client, agent.replay.columns, lambda: False),
        link)
    timer = _Timer(counts, warmup=2.0, seconds=seconds)
    actor.run(timer.over)
    return timer.rate()
  finally:
    os.sched_setaffinity(0, cores)
    server.kill()
    server.join()


class _Timer:
  """Ends the run after a while; compilation is not counted."""

  def __init__(self, counts: StepCounts, warmup: float, seconds: float):
    self._counts = counts
    self._warmup = warmup
    self._seconds = seconds
    self._began: Optional[float] = None
    self._first: Optional[Tuple[float, int]] = None
    self._last: Tuple[float, int] = (0.0, 0)

  def over(self) -> bool:
    """Whether enough has been measured."""
    now = time.monotonic()
    if self._counts.steps and self._began is None:
      self._began = now
    if self._began is None or now - self._began < self._warmup:
      return False
    if self._counts.steps != self._last[1]:
      self._last = (now, self._counts.steps)
      self._first = self._first or self._last
    return now - self._began > self._warmup + self._seconds

  def rate(self) -> float:
    """Returns environment steps per second between two reports."""
    assert self._first is not None, 'no episode was reported'
    (began, first), (ended, last) = self._first, self._last
    return (last - first) / (ended - began)


def make_experiment(env: str, envs_per_actor: int,
                    enforced: bool) -> Experiment:
  """Returns the experiment whose actor is measured."""
  assert parse_region_bounds(_REGION)
  return Experiment(
      env=env, alg='contrastive_cpc', seed=0, preset='cpu',
      agent=ALGORITHMS['contrastive_cpc'].configure(
          'contrastive_cpc', 'cpu', {}),
      num_steps=_HORIZON, run_name='acting', num_actors=1,
      envs_per_actor=envs_per_actor, max_parameter_age=_HORIZON,
      region_bounds=_REGION if enforced else None, safety_enforcement=enforced)


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--env', default='point_FourRooms')
  parser.add_argument('--envs_per_actor', nargs='+', type=int,
                      default=[1, 4, 16, 64, 256])
  parser.add_argument('--seconds', type=float, default=5.0)
  args = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')

  print(f'machine: {machine()}; the actor has one core', flush=True)
  rates: Dict[Tuple[bool, int], float] = {}
  rows = []
  for num in args.envs_per_actor:
    for enforced in (False, True):
      experiment = make_experiment(args.env, num, enforced)
      rates[enforced, num] = measure(experiment, args.seconds)
    plain, safe = rates[False, num], rates[True, num]
    rows.append([num, f'{plain:,.0f}', f'{safe:,.0f}', f'{safe / plain:.2f}'])
  print_table(['environments', 'steps/s', 'steps/s enforced', 'ratio'], rows)
  best = max(rates[False, n] for n in args.envs_per_actor)
  print_metrics({
      'env_steps_per_second': best,
      'env_steps_per_second_enforced': max(
          rates[True, n] for n in args.envs_per_actor)})


if __name__ == '__main__':
  main()
