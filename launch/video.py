"""Films one episode of a run: its newest policy, greedy, without a display.

python launch/video.py RUN_DIR

Writes figures/episode.gif in the run's folder. `launch/lp_run.py
--film_minutes=N` films while the run goes on, by the same command.
"""

import argparse
import os
import sys
from typing import Optional, Sequence, Tuple

import imageio.v3 as imageio
import jax
import numpy as np

from launch import episodes, factory, report, run_folder
from launch.episodes import Saved
from launch.report import Missing, Run

# With a frame every three steps this is two thirds of a Sawyer arm's speed.
FRAMES_PER_SECOND = 18


def newest(run: Run) -> Saved:
  """Returns what the newest checkpoint's policy acts with.

  Raises:
    Missing: if there is no checkpoint.
  """
  agent = factory.make_agent(run.experiment)
  restored = report.load_checkpoint(run)
  return episodes.saved(
      run, agent, agent.variables_for_evaluation(restored.state), restored.meta)


def stored(run: Run, path: str) -> Saved:
  """Returns what a policy acts with, from where it was saved on its own.

  Raises:
    Missing: if nothing that fits the run is there.
  """
  agent = factory.make_agent(run.experiment)
  template = agent.variables_for_evaluation(agent.init(jax.random.key(0)))
  restored = report.read_checkpoint(path, template)
  return episodes.saved(run, agent, restored.state, restored.meta)


def film(saved: Saved, seed: int) -> Tuple[np.ndarray, str]:
  """Runs one greedy episode.

  Args:
    saved: what to film.
    seed: chooses the episode.

  Returns:
    Frames `[T, H, W, 3]` uint8, and what came of the episode.

  Raises:
    Missing: if there is nothing to film, or nothing to film with.
  """
  metrics, frames = episodes.run(
      saved, saved.agent.eval_policy, 1, seed, film=True)
  if 'success' in metrics:
    outcome = 'a success' if metrics['success'][0] else 'no success'
  else:
    outcome = f'a return of {metrics["episode_return"][0]:.1f}'
  return np.stack(frames), outcome


def write_gif(path: str, frames: np.ndarray) -> None:
  """Writes frames `[T, H, W, 3]` uint8 as a film that repeats."""
  imageio.imwrite(path, frames, duration=1000 / FRAMES_PER_SECOND, loop=0)


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
      saved = stored(run, args.variables)
      name = f'episode_{saved.updates}.gif'
    else:
      saved, name = newest(run), 'episode.gif'
    frames, outcome = film(saved, args.seed)
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
