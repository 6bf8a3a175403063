"""Lets a run go on for long and shows what it takes of the machine.

  python benchmarks/soak.py --minutes 60 -- --env=point_FourRooms

Prints memory, open files and threads of each role over time, their growth after
warm-up, the rates of acting and learning, calls that failed, and episodes that
were counted but not audited. What follows `--` goes to lp_run.
"""

import argparse
import glob
import os
import tempfile
import time
from typing import Dict, List, NamedTuple

import numpy as np
import psutil

from benchmarks.running import end_on_sigterm, WatchedRun
from launch import experiment as experiment_lib
from launch import run_folder
from launch.tables import machine, print_metrics, print_table
from safety import visits

_FLAGS = ['--num_steps=1000000000', '--log_interval=5',
          '--time_delta_minutes=1']


class Sample(NamedTuple):
  """What one role took at one moment, all its processes together.

  Attributes:
    minute: since the start.
    megabytes: resident memory.
    files: open file descriptors.
    threads: threads.
  """
  minute: float
  megabytes: float
  files: int
  threads: int


def sample(run: WatchedRun, minute: float) -> Dict[str, Sample]:
  """Measures every role now."""
  taken: Dict[str, List[float]] = {}
  processes = {'launcher': run.launcher, **run.nodes()}
  for label, process in processes.items():
    try:
      numbers = (process.memory_info().rss / 1e6, process.num_fds(),
                 process.num_threads())
    except psutil.NoSuchProcess:
      continue
    total = taken.setdefault(label.split('/')[0], [0.0, 0.0, 0.0])
    for i, number in enumerate(numbers):
      total[i] += number
  return {role: Sample(minute, total[0], int(total[1]), int(total[2]))
          for role, total in taken.items()}


def growth(samples: List[Sample], warmup: float) -> float:
  """Returns the megabytes per hour of the line fitted after warm-up."""
  minutes = np.array([s.minute for s in samples])
  after = minutes >= warmup
  if after.sum() < 2:
    return float('nan')
  megabytes = np.array([s.megabytes for s in samples])[after]
  return float(60.0 * np.polyfit(minutes[after], megabytes, 1)[0])


def failed_calls(run_dir: str) -> int:
  """Counts calls between nodes that had to be made again."""
  found = 0
  for path in glob.glob(os.path.join(run_folder.nodes_dir(run_dir), '*.log')):
    with open(path, encoding='utf-8', errors='replace') as f:
      found += sum('link to the ' in line or 'trying again' in line
                   for line in f)
  return found


def unaudited(run: WatchedRun) -> float:
  """Returns the episodes counted in the checkpoint but not audited."""
  assert run.run_dir is not None
  saved = run_folder.saved_counter(run.run_dir)
  experiment = run_folder.load(run.run_dir)
  folder = os.path.join(run.folder, experiment_lib.visits_dir(experiment))
  audited = len(visits.read_visits(folder)['episodes'])
  return (saved['counts']['actor_episodes'] if saved else 0.0) - audited


def main() -> None:
  """Runs, measures, and prints the table."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--minutes', type=float, default=60.0)
  parser.add_argument('--interval', type=float, default=10.0,
                      help='seconds between measurements')
  parser.add_argument('--warmup', type=float, help='minutes that do not count '
                      'for growth (default: a third)')
  parser.add_argument('--rows', type=int, default=8, help='of the table')
  parser.add_argument('lp_run_flags', nargs='*', help='after --')
  args = parser.parse_args()
  end_on_sigterm()
  warmup = args.minutes / 3 if args.warmup is None else args.warmup
  print(f'machine: {machine()}', flush=True)
  samples: Dict[str, List[Sample]] = {}
  ended = ''
  with tempfile.TemporaryDirectory() as folder:
    run = WatchedRun(folder, [*_FLAGS, *args.lp_run_flags])
    try:
      run.start()
      began = time.monotonic()
      while time.monotonic() - began < 60.0 * args.minutes:
        time.sleep(args.interval)
        if run.status is not None:
          with open(run.output_path, encoding='utf-8') as f:
            ended = f'the run ended by itself:\n{f.read()[-3000:]}'
          break
        for role, taken in sample(
            run, (time.monotonic() - began) / 60.0).items():
          samples.setdefault(role, []).append(taken)
    finally:
      run.stop()
    assert run.run_dir is not None, 'it ran'
    _print(samples, warmup, args.rows)
    rates = {}
    for role, name in (('actor', 'steps_per_second'),
                       ('learner', 'updates_per_second')):
      thirds = np.array_split(run.log(role)[name], 3)
      rates.update({f'{name}_third_{i + 1}': float(np.mean(part))
                    for i, part in enumerate(thirds) if len(part)})
    print_metrics({**rates, 'failed_calls': failed_calls(run.run_dir),
                   'unaudited_episodes': unaudited(run)})
  if ended:
    raise SystemExit(ended)


def _print(samples: Dict[str, List[Sample]], warmup: float, rows: int) -> None:
  roles = list(samples)
  num = min(len(taken) for taken in samples.values())
  chosen = np.unique(np.linspace(0, num - 1, rows).round().astype(int))
  print_table(
      ['minute', *(f'{role}: MB, files, threads' for role in roles)],
      [[f'{samples[roles[0]][i].minute:.1f}', *(
          f'{s.megabytes:.0f}, {s.files}, {s.threads}'
          for s in (samples[role][i] for role in roles))] for i in chosen])
  print_metrics({f'growth_{role}_mb_per_hour': growth(taken, warmup)
                 for role, taken in samples.items()})


if __name__ == '__main__':
  main()
