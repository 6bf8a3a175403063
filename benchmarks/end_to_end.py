"""How long the whole system takes to solve an environment.

Runs `launch/lp_run.py` as a user would and stops each run once a round of 100
evaluation episodes reaches 90 % success. What follows `--` goes to lp_run:

  python benchmarks/end_to_end.py --seeds 0 1 2 -- --preset=reference
"""

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import List, Optional

import numpy as np

from launch import summary
from launch.tables import LP_RUN, machine, print_metrics, print_table

_POLL_SECONDS = 0.5
_STOP_SECONDS = 90.0
THRESHOLD = 0.9


@dataclasses.dataclass(frozen=True)
class Outcome:
  """One run.

  Attributes:
    seconds: wall-clock seconds from the command to the round that reached the
      threshold; None if none did.
    steps: environment steps at that round.
    updates: SGD steps of the parameters it evaluated.
    final_success: of the last round.
    final_steps: environment steps at the last round.
    wall: seconds the run was given.
  """
  seconds: Optional[float]
  steps: Optional[float]
  updates: Optional[float]
  final_success: float
  final_steps: float
  wall: float


def run(env: str, seed: int, minutes: float, num_steps: int,
        extra: List[str]) -> Outcome:
  """Runs until the threshold is reached, or time or steps are over."""
  with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, LP_RUN, f'--env={env}', f'--seed={seed}',
               f'--num_steps={num_steps}', '--eval_interval=3',
               f'--log_dir_path={folder}', *extra]
    output = os.path.join(folder, 'output.txt')
    with open(output, 'w+', encoding='utf-8') as out:
      began = time.monotonic()
      process = subprocess.Popen(
          command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
      try:
        outcome = _watch(process, folder, began, minutes)
      finally:
        _end(process)
      if process.returncode != 0:
        out.seek(0)
        raise RuntimeError(f'{command} failed:\n{out.read()}')
    return outcome


def _watch(process: 'subprocess.Popen[bytes]', folder: str, began: float,
           minutes: float) -> Outcome:
  log: summary.Columns = {}
  while True:
    over = (process.poll() is not None
            or time.monotonic() - began > 60 * minutes)
    runs = [n for n in os.listdir(folder)
            if os.path.isdir(os.path.join(folder, n, 'logs'))]
    if runs:
      log = summary.read_log(os.path.join(folder, runs[0]), 'evaluator')
    reached = (np.flatnonzero(log['success'] >= THRESHOLD) if log
               else np.array([], int))
    if len(reached) or over:
      wall = time.monotonic() - began
      first = reached[0] if len(reached) else None
      return Outcome(
          seconds=wall if first is not None else None,
          steps=log['actor_steps'][first] if first is not None else None,
          updates=(log['parameter_updates'][first] if first is not None
                   else None),
          final_success=log['success'][-1] if log else float('nan'),
          final_steps=log['actor_steps'][-1] if log else 0.0,
          wall=wall)
    time.sleep(_POLL_SECONDS)


def _end(process: 'subprocess.Popen[bytes]') -> None:
  if process.poll() is None:
    process.send_signal(signal.SIGTERM)
    try:
      process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def main() -> None:
  """Runs every environment and seed, and prints the table."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--envs', nargs='+', default=[
      'point_FourRooms', 'point_Spiral11x11'])
  parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
  parser.add_argument('--minutes', type=float, default=10.0,
                      help='time limit of one run')
  parser.add_argument('--num_steps', type=int, default=1_000_000)
  parser.add_argument('lp_run_flags', nargs='*')
  args = parser.parse_args()

  print(f'machine: {machine()}')
  print(f'lp_run flags: {" ".join(args.lp_run_flags) or "none"}', flush=True)
  rows, metrics = [], {}
  for env in args.envs:
    outcomes = []
    for seed in args.seeds:
      outcome = run(env, seed, args.minutes, args.num_steps, args.lp_run_flags)
      outcomes.append(outcome)
      rows.append(_row(env, seed, outcome))
      print(f'  {" ".join(str(cell) for cell in rows[-1])}', flush=True)
    solved = [o.seconds for o in outcomes if o.seconds is not None]
    # A run that was cut off counts as endless, so the median stays honest.
    times = [o.seconds if o.seconds is not None else np.inf for o in outcomes]
    name = env.removeprefix('point_')
    metrics[f'seconds_to_90_{name}'] = float(np.median(times))
    metrics[f'solved_{name}'] = len(solved) / len(outcomes)
  metrics['seconds_to_90'] = metrics[
      f'seconds_to_90_{args.envs[0].removeprefix("point_")}']
  print_table(['environment', 'seed', 'seconds to 90 %', 'environment steps',
               'updates', 'last round'], rows)
  print_metrics(metrics)


def _row(env: str, seed: int, outcome: Outcome) -> List[str]:
  if outcome.seconds is None:
    return [env, str(seed), f'not in {outcome.wall:.0f} s', '-', '-',
            f'{outcome.final_success:.2f} at {outcome.final_steps:,.0f}']
  return [env, str(seed), f'{outcome.seconds:.0f}', f'{outcome.steps:,.0f}',
          f'{outcome.updates:,.0f}', f'{outcome.final_success:.2f}']


if __name__ == '__main__':
  main()
