"""Whole episodes of a policy that was saved, and films of the first of them."""

import os
import subprocess
import sys
from typing import Any, List, Mapping, NamedTuple, Optional, Tuple

import jax
import numpy as np

from actors.loop import EnvironmentLoop, Metrics, Observer, run_episodes, Step
from actors.policy import Policy
from envs.vector import Drawable
from launch import factory
from launch.report import Missing, Run
from learners.agent import Agent

# A Sawyer episode of 150 steps takes 1.9 s; at 18 frames a second it is shown
# at two thirds of its speed.
STEPS_PER_FRAME = 3
# What MuJoCo can draw with when there is no display, the best first.
_BACKENDS = ('egl', 'osmesa')
_PROBE = 'import mujoco; mujoco.GLContext(8, 8).make_current()'


class Saved(NamedTuple):
  """What policies act with, as it was at some moment of a run.

  Attributes:
    run: what it belongs to.
    agent: of the run.
    variables: what the evaluator would fetch.
    updates: SGD steps it has seen.
    steps: environment steps that the run had made.
  """
  run: Run
  agent: Agent
  variables: Any
  updates: int
  steps: int


def saved(run: Run, agent: Agent, variables: Any,
          meta: Mapping[str, Any]) -> Saved:
  """Returns variables with what was saved beside them."""
  counts = (meta.get('counter') or {}).get('counts', {})
  return Saved(run, agent, variables, int(meta['step']),
               int(counts.get('actor_steps', 0)))


class FrameObserver:
  """Draws the first episode of the first environment, every few steps."""

  def __init__(self, environment: Drawable):
    """Draws `environment`, which the loop steps."""
    self.frames: List[np.ndarray] = []
    self._environment = environment
    self._steps = 0
    self._over = False

  def observe_first(self, step: Step) -> None:
    """Draws the beginning."""
    if step.first[0] and not self._over:
      self.frames.append(self._environment.render())

  def observe(self, step: Step) -> None:
    """Draws what it is time for, and the end."""
    if self._over:
      return
    self._steps += 1
    self._over = bool(step.last[0])
    if self._steps % STEPS_PER_FRAME == 0 or self._over:
      self.frames.append(self._environment.render())

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Contributes no metric; see `frames`."""
    del finished
    return {}


def run(what: Saved, policy: Policy, num: int, seed: int,
        film: bool = False) -> Tuple[Metrics, List[np.ndarray]]:
  """Runs `num` whole episodes.

  Args:
    what: what is run, in the environments as they were when it was saved.
    policy: one of its agent.
    num: episodes, all at the same time.
    seed: of environments and policy.
    film: draw the first one.

  Returns:
    `[num]` metrics, and frames `[H, W, 3]` uint8 of the first episode if asked
    for.

  Raises:
    Missing: if it is to be filmed, and there is nothing to film, or nothing to
      film with.
  """
  experiment = what.run.experiment
  if film and what.run.spec.has_goals:
    # MuJoCo draws those; the others need nothing.
    choose_backend()
  environment = factory.make_environment(
      experiment, num, seed, sample_goals=False)
  camera: Optional[FrameObserver] = None
  if film:
    if not isinstance(environment, Drawable):
      raise Missing(f'{experiment.env} cannot be filmed; launch/report.py '
                    'draws the paths of its episodes')
    camera = FrameObserver(environment)
  observers: List[Observer] = factory.make_observers(
      experiment, what.agent, environment)
  if camera is not None:
    observers.append(camera)
  loop = EnvironmentLoop(environment, jax.random.key(seed), observers)
  loop.tell_steps(what.steps)
  rounds = run_episodes(loop, policy, what.variables)
  metrics = {name: np.concatenate([r[name] for r in rounds])
             for name in rounds[0]}
  return metrics, camera.frames if camera is not None else []


def choose_backend() -> None:
  """Sets MUJOCO_GL, unless it is set, to what works on this machine.

  Raises:
    Missing: if nothing does.
  """
  given = os.environ.get('MUJOCO_GL')
  problems = []
  for backend in (given,) if given else _BACKENDS:
    # Not here: MuJoCo reads it once, and a driver may take the process along.
    probe = subprocess.run(
        [sys.executable, '-c', _PROBE], capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, 'MUJOCO_GL': backend})
    if probe.returncode == 0:
      os.environ['MUJOCO_GL'] = backend
      return
    last = (probe.stderr.strip().splitlines() or ['it crashed'])[-1]
    problems.append(f'MUJOCO_GL={backend}: {last}')
  raise Missing("nothing here draws without a display; 'apt install libegl1 "
                "libgl1-mesa-dri' or 'apt install libosmesa6' may help ("
                + '; '.join(problems) + ')')
