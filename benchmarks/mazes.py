"""How many environment steps the agent needs in each point maze.

python benchmarks/mazes.py --seeds 0 1 2

Each run is one thread of `launch/lp_run.py`, so how fast the machine is changes
nothing that is learned. Log rows and checkpoints fall by the clock, and with
them the steps of the first success. Runs stay in --log_dir_path and resume: the
command can be cut off and given again. What follows `--` goes to lp_run.
"""

import argparse
import os
import subprocess
import sys
from typing import Dict, List, NamedTuple, Optional

import numpy as np

from launch import curves, summary
from launch.tables import LP_RUN, machine, print_metrics, print_table

MAZES = ('point_FourRooms', 'point_Spiral11x11', 'point_Maze11x11',
         'point_Wall11x11', 'point_Impossible')
THRESHOLD = 0.9


class Outcome(NamedTuple):
  """One finished run; steps are environment steps, None means never.

  Attributes:
    steps: of the run.
    first_success: steps at the first log row after a training success.
    learned: steps at the first evaluation that reached the threshold.
    training: success of the last 100 training episodes.
    evaluation: success of the last 100 evaluation episodes.
  """
  steps: float
  first_success: Optional[float]
  learned: Optional[float]
  training: float
  evaluation: float


def train(env: str, seed: int, num_steps: int, log_dir: str,
          extra: List[str]) -> str:
  """Runs to `num_steps`, resuming what is there; returns the run's folder."""
  log_dir = os.path.abspath(log_dir)
  os.makedirs(log_dir, exist_ok=True)
  # Region visits go below the working directory.
  subprocess.run(
      [sys.executable, LP_RUN, f'--env={env}', f'--seed={seed}', '--serial',
       f'--num_steps={num_steps}', f'--log_dir_path={log_dir}',
       '--log_interval=1', *extra], cwd=log_dir, check=True, stdout=sys.stderr)
  return os.path.join(log_dir, f'contrastive_cpc_{env}_{seed}')


def outcome(run_dir: str) -> Outcome:
  """Reads what a finished run left."""
  training = curves.read_curve(run_dir, 'actor', 'success_1000')
  evaluation = curves.read_curve(run_dir, 'evaluator', 'success')
  assert training is not None and evaluation is not None, run_dir
  figures = summary.figures(run_dir)
  return Outcome(
      steps=figures['environment steps'],
      first_success=_first(training, training.values > 0),
      learned=_first(evaluation, evaluation.values >= THRESHOLD),
      training=figures['success, last 100 training episodes'],
      evaluation=figures['success, last 100 evaluation episodes'])


def main() -> None:
  """Trains every maze and seed, and prints the table."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--envs', nargs='+', default=list(MAZES))
  parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
  parser.add_argument('--num_steps', type=int, default=200_000)
  parser.add_argument('--log_dir_path', default='logs/mazes')
  parser.add_argument('lp_run_flags', nargs='*', help='after --')
  args = parser.parse_args()

  print(f'machine: {machine()}')
  print(f'lp_run flags: {" ".join(args.lp_run_flags) or "none"}', flush=True)
  rows: List[List[str]] = []
  metrics: Dict[str, float] = {}
  for env in args.envs:
    found = []
    for seed in args.seeds:
      found.append(outcome(train(
          env, seed, args.num_steps, args.log_dir_path, args.lp_run_flags)))
      rows.append([env, str(seed), *_cells(found[-1])])
      print('  ' + ' | '.join(rows[-1]), flush=True)
    name = env.removeprefix('point_')
    metrics[f'learned_{name}'] = float(np.mean(
        [o.learned is not None for o in found]))
    metrics[f'training_success_{name}'] = float(np.mean(
        [o.training for o in found]))
  print_table(['environment', 'seed', 'environment steps', 'first success',
               'first evaluation at 90 %', 'training success, last 100',
               'last evaluation'], rows)
  print_metrics(metrics)


def _first(curve: curves.Curve, holds: np.ndarray) -> Optional[float]:
  """Returns the steps where `holds` is first true, None if nowhere."""
  return float(curve.steps[np.argmax(holds)]) if holds.any() else None


def _cells(result: Outcome) -> List[str]:
  when = [f'{steps:,.0f}' if steps is not None else 'never'
          for steps in (result.first_success, result.learned)]
  return [f'{result.steps:,.0f}', *when, f'{result.training:.2f}',
          f'{result.evaluation:.2f}']


if __name__ == '__main__':
  main()
