"""Rates of agents under commands, distributed, by the number of actors.

  python benchmarks/commands.py --algs udrl,rcp_a --actors 1,2 --seconds 60

Real runs: each is given until its first update to start and compile, then is
measured. SGD steps follow episodes (5 each for udrl, 50 for rcp), so whichever
of acting and learning is slower sets both rates.
"""

import argparse
import tempfile
import time
from typing import List, Tuple

from benchmarks.running import end_on_sigterm, WatchedRun
from launch.tables import machine, print_metrics, print_table

# Seconds a run has to get to its first update.
START_SECONDS = 300.0
_FLAGS = ['--num_steps=1000000000', '--log_interval=2',
          '--time_delta_minutes=60', '--eval_interval=1000000']


def counts(run: WatchedRun) -> Tuple[float, float, float]:
  """Returns seconds, environment steps and updates of the newest log row."""
  log = run.log('learner')
  if not len(log.get('learner_updates', ())):
    return 0.0, 0.0, 0.0
  return (float(log['seconds'][-1]), float(log['actor_steps'][-1]),
          float(log['learner_updates'][-1]))


def measure(flags: List[str], seconds: float) -> Tuple[float, float]:
  """Returns environment steps/s and updates/s of one run."""
  with tempfile.TemporaryDirectory() as folder:
    run = WatchedRun(folder, [*_FLAGS, *flags])
    try:
      run.start()
      deadline = time.monotonic() + START_SECONDS
      while counts(run)[2] == 0.0:
        if run.status is not None or time.monotonic() > deadline:
          with open(run.output_path, encoding='utf-8') as f:
            raise SystemExit(f'no update came:\n{f.read()[-3000:]}')
        time.sleep(0.5)
      before = counts(run)
      time.sleep(seconds)
      after = counts(run)
    finally:
      run.stop()
  elapsed = after[0] - before[0]
  return (after[1] - before[1]) / elapsed, (after[2] - before[2]) / elapsed


def main() -> None:
  """Measures every combination and prints the table."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--env', default='lunarlander')
  parser.add_argument('--algs', default='udrl,rcp_r,rcp_a')
  parser.add_argument('--actors', default='1,2')
  parser.add_argument('--envs_per_actor', type=int, default=8)
  parser.add_argument('--seconds', type=float, default=60.0)
  args = parser.parse_args()
  end_on_sigterm()
  print(f'{args.env}, {args.envs_per_actor} environments an actor, '
        f'{args.seconds:g} s from the first update on; {machine()}')
  rows, metrics = [], {}
  for alg in args.algs.split(','):
    for actors in args.actors.split(','):
      steps, updates = measure(
          [f'--alg={alg}', f'--env={args.env}', f'--num_actors={actors}',
           f'--envs_per_actor={args.envs_per_actor}'], args.seconds)
      rows.append([alg, actors, f'{steps:,.0f}', f'{updates:.1f}',
                   f'{1e7 / steps / 3600:.2f}'])
      metrics[f'{alg}_{actors}_steps_per_second'] = steps
      metrics[f'{alg}_{actors}_updates_per_second'] = updates
  print_table(['agent', 'actors', 'environment steps/s', 'SGD steps/s',
               'hours for 10M steps'], rows)
  print_metrics(metrics)


if __name__ == '__main__':
  main()
