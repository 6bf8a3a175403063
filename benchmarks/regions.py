"""What regions cost and what they prevent: visits and success over seeds.

For each seed it trains without a region, then with each box masked, and with
`--enforce` also enforced, all to the same number of environment steps, and
counts visits to every box in every run. The runs stay in `--log_dir_path` and
resume, so the command can be cut off and given again.
"""

import argparse
import os
import subprocess
import sys
from typing import Any, Dict, List

import numpy as np

from benchmarks.report import LP_RUN, machine, print_metrics, print_table
from launch import experiment as experiment_lib
from launch import run_folder, summary
from safety import visits


def variants(boxes: List[str], enforce: bool) -> Dict[str, List[str]]:
  """Returns the flags of each variant by its name."""
  count = f'--visit_bounds={";".join(boxes)}'
  found = {'no region': [count]}
  for box in boxes:
    region = f'--region_bounds={box}'
    found[f'mask {box}'] = [count, region, '--nosafety_enforcement']
    if enforce:
      found[f'enforce {box}'] = [count, region]
  return found


def train(name: str, flags: List[str], env: str, seed: int, num_steps: int,
          folder: str) -> str:
  """Runs to `num_steps`, resuming what is there; returns the run's folder."""
  home = os.path.join(
      folder, ''.join(c if c.isalnum() else '_' for c in name))
  os.makedirs(home, exist_ok=True)
  # Region visits go below the working directory, so each variant has its own.
  subprocess.run(
      [sys.executable, LP_RUN, f'--env={env}', f'--seed={seed}',
       f'--num_steps={num_steps}', '--log_dir_path=logs', *flags],
      cwd=home, check=True, stdout=sys.stderr)
  return os.path.join(home, 'logs', f'contrastive_cpc_{env}_{seed}')


def outcome(run_dir: str) -> Dict[str, Any]:
  """Returns visits per episode `[R]` and success of one finished run.

  The first and last tenth are of the episodes of the whole run, warm-up
  included.
  """
  experiment = run_folder.load(run_dir)
  home = os.path.dirname(os.path.dirname(run_dir))
  counts = visits.read_visits(
      os.path.join(home, experiment_lib.visits_dir(experiment)))['counts']
  evaluator = summary.read_log(run_dir, 'evaluator')
  actor = summary.read_log(run_dir, 'actor')
  tenth = max(1, len(counts) // 10)
  warmup = int(experiment.agent.min_replay_size
               / actor['episode_length_1000'][-1])
  return {
      'steps': float(actor['actor_steps'][-1]),
      'early': counts[:tenth].mean(axis=0),
      'late': counts[-tenth:].mean(axis=0),
      'learning': counts[warmup:].mean(axis=0),
      'best': float(evaluator['success'].max()),
      'training': float(actor['success_100'][-1]),
  }


def main() -> None:
  """Trains all runs and prints the table."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--env', default='point_FourRooms')
  parser.add_argument('--boxes', nargs='+', default=['0,5:5,11', '5,0:11,5'])
  parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
  parser.add_argument('--num_steps', type=int, default=30_000)
  parser.add_argument('--enforce', action='store_true',
                      help='also train with each box enforced')
  parser.add_argument('--only', nargs='+', metavar='VARIANT',
                      help="variants to train, such as 'mask 0,5:5,11'")
  parser.add_argument('--log_dir_path', default='logs/regions')
  parser.add_argument('lp_run_flags', nargs='*')
  args = parser.parse_args()

  print(f'machine: {machine()}', flush=True)
  rows: List[List[Any]] = []
  results: Dict[str, List[Dict[str, Any]]] = {}
  for seed in args.seeds:
    for name, flags in variants(args.boxes, args.enforce).items():
      if args.only and name not in args.only:
        continue
      run_dir = train(name, flags + args.lp_run_flags, args.env, seed,
                      args.num_steps, os.path.abspath(args.log_dir_path))
      result = outcome(run_dir)
      results.setdefault(name, []).append(result)
      rows.append([
          name, seed, f'{result["steps"]:,.0f}',
          *[' / '.join(f'{v:.2f}' for v in result[part])
            for part in ('early', 'learning', 'late')],
          f'{result["training"]:.2f}', f'{result["best"]:.2f}'])
      print('  ' + ' '.join(str(cell) for cell in rows[-1]), flush=True)
  print(f'steps per episode in boxes {" / ".join(args.boxes)}:')
  print_table(['variant', 'seed', 'environment steps', 'first tenth',
               'after warm-up', 'last tenth', 'training success, last 100',
               'best evaluation'], sorted(rows, key=lambda row: row[0]))
  print_metrics({
      f'visits_after_warmup[{box}][{name}]': float(np.mean(
          [result['learning'][i] for result in members]))
      for name, members in results.items()
      for i, box in enumerate(args.boxes)})


if __name__ == '__main__':
  main()
