"""Films one episode of a run: its newest policy, greedy, without a display.

python launch/video.py RUN_DIR

Writes figures/episode.gif in the run's folder. `launch/lp_run.py
--film_minutes=N` films while the run goes on, by the same command.
"""

import argparse
import os
import subprocess
import sys
from typing import Any, List, Optional, Sequence, Tuple

import imageio.v3 as imageio
import jax
import numpy as np

from actors.loop import EnvironmentLoop, Metrics, run_episodes, Step
from actors.observers import EpisodeObserver
from envs import registry as env_registry
from envs.vector import Drawable
from launch import factory, report, run_folder
from launch.report import Missing, Run
from learners import checkpoint

# A Sawyer episode of 150 steps takes 1.9 s; this is two thirds of its speed.
STEPS_PER_FRAME = 3
FRAMES_PER_SECOND = 18
# What MuJoCo can draw with when there is no display, the best first.
_BACKENDS = ('egl', 'osmesa')
_PROBE = 'import mujoco; mujoco.GLContext(8, 8).make_current()'


class FrameObserver:
  """Draws the environment every few steps."""

  def __init__(self, environment: Drawable):
    """Draws `environment`, which the loop steps."""
    self.frames: List[np.ndarray] = []
    self._environment = environment
    self._steps = 0

  def observe_first(self, step: Step) -> None:
    """Draws the beginning."""
    del step
    self.frames.append(self._environment.render())

  def observe(self, step: Step) -> None:
    """Draws what it is time for, and the end."""
    self._steps += 1
    if self._steps % STEPS_PER_FRAME == 0 or step.last[0]:
      self.frames.append(self._environment.render())

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Contributes no metric; see `frames`."""
    del finished
    return {}


def newest(run: Run) -> Any:
  """Returns what the newest checkpoint's policy acts with.

  Raises:
    Missing: if there is no checkpoint.
  """
  agent = factory.make_agent(run.experiment)
  return agent.variables_for_evaluation(report.load_checkpoint(run).state)


def stored(run: Run, path: str) -> Any:
  """Returns what a policy acts with, from where it was saved on its own.

  Raises:
    Missing: if nothing that fits the run is there.
  """
  agent = factory.make_agent(run.experiment)
  template = agent.variables_for_evaluation(agent.init(jax.random.key(0)))
  return report.read_checkpoint(path, template).state


def film(run: Run, variables: Any, seed: int) -> Tuple[np.ndarray, str]:
  """Runs one greedy episode.

  Args:
    run: what to film.
    variables: what its policy acts with.
    seed: chooses the episode.

  Returns:
    Frames `[T, H, W, 3]` uint8, and what came of the episode.

  Raises:
    Missing: if there is nothing to film, or nothing to film with.
  """
  if run.spec.has_goals:
    # MuJoCo draws those; the others need nothing.
    choose_backend()
  environment = env_registry.make(
      run.experiment.env, 1, seed, goal=run.experiment.fixed_goal)
  if not isinstance(environment, Drawable):
    raise Missing(f'{run.experiment.env} cannot be filmed; launch/report.py '
                  'draws the paths of its episodes')
  agent = factory.make_agent(run.experiment)
  camera = FrameObserver(environment)
  episode = EpisodeObserver(1, run.spec.has_goals)
  loop = EnvironmentLoop(environment, jax.random.key(seed), [episode, camera])
  (metrics,) = run_episodes(loop, agent.eval_policy, variables)
  if 'success' in metrics:
    outcome = 'a success' if metrics['success'][0] else 'no success'
  else:
    outcome = f'a return of {metrics["episode_return"][0]:.1f}'
  return np.stack(camera.frames), outcome


def write_gif(path: str, frames: np.ndarray) -> None:
  """Writes frames `[T, H, W, 3]` uint8 as a film that repeats."""
  imageio.imwrite(path, frames, duration=1000 / FRAMES_PER_SECOND, loop=0)


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


def main(argv: Optional[Sequence[str]] = None) -> int:
  """Films the run named on the command line; returns an exit status."""
  parser = argparse.ArgumentParser(description='Films an episode of a run.')
  parser.add_argument('run_dir', help='folder of a run')
  parser.add_argument('--seed', type=int, default=0,
                      help='chooses the episode (default: 0)')
  parser.add_argument('--variables', metavar='FOLDER', help='film these, saved '
                      "apart, instead of the newest checkpoint's")
  args = parser.parse_args(argv)
  try:
    run = report.load(os.path.abspath(args.run_dir))
  except ValueError as e:
    print(e, file=sys.stderr)
    return 2
  try:
    if args.variables:
      variables = stored(run, args.variables)
      name = f'episode_{checkpoint.read_meta(args.variables)["step"]}.gif'
    else:
      variables, name = newest(run), 'episode.gif'
    frames, outcome = film(run, variables, args.seed)
    path = os.path.join(run_folder.figures_dir(run.path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_gif(path, frames)
  except (Missing, OSError) as e:
    print(f'{run.path}: {e}; no film', file=sys.stderr)
    return 1
  print(f'{path}: {outcome}')
  return 0


if __name__ == '__main__':
  # A run that is still going keeps the GPU to itself.
  jax.config.update('jax_platforms', 'cpu')
  sys.exit(main())
