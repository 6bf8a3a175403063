"""Many runs from one command: seeds and grids of settings.

python launch/sweep.py --seeds 0 1 2 --grid learning_rate=3e-4,1e-3 -- \
    --env=point_FourRooms --num_steps=100000
python launch/sweep.py --file sweep.json --slurm --sbatch='--time=4:00:00'

A file holds the same: {"flags": ["--env=..."], "seeds": [0, 1], "grid":
{"learning_rate": [3e-4, 1e-3]}}. Runs are local processes, as many at a time as
cores allow, or the tasks of a SLURM array. The same command again runs what is
missing and resumes what was cut off; --dry_run prints the commands. It ends
with one table, the figures over seeds, and status 1 if a run has failed.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from typing import Any, Dict, List, Mapping, Optional, Sequence

import jax
import numpy as np

from launch import report, run_folder, slurm, summary
from launch.errors import ConfigError
from launch.tables import LP_RUN, print_table

# Cores one run keeps busy: its learner and its actors.
CORES_PER_RUN = 2
# Settings that the launcher of the sweep gives every run itself.
_RESERVED = ('seed', 'log_dir_path', 'add_uid', 'launcher', 'submit')
_FIGURES = ('environment steps', 'success, last 100 evaluation episodes',
            'success, last 100 training episodes')


@dataclasses.dataclass(frozen=True)
class Sweep:
  """What is to be run.

  Attributes:
    flags: of every run.
    seeds: each setting is run with each of them.
    grid: values to try of each flag, all combinations.
  """
  flags: Sequence[str]
  seeds: Sequence[int]
  grid: Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Task:
  """One run of a sweep.

  Attributes:
    setting: its point in the grid, such as 'learning_rate=0.001'.
    seed: its seed.
    folder: holds the run's folder, its output, and nothing else.
    command: starts it, or resumes it.
  """
  setting: str
  seed: int
  folder: str
  command: List[str]


def tasks(sweep: Sweep, folder: str) -> List[Task]:
  """Lists the runs of a sweep; each has a folder that says what it is.

  Raises:
    ConfigError: if the sweep sets what it cannot.
  """
  given = [f.lstrip('-').split('=')[0] for f in [*sweep.flags, *sweep.grid]]
  found = [f'{name}: a sweep sets it itself; use --seeds or --folder'
           for name in given if name in _RESERVED]
  found += [f"'{f}': flags of runs are written --name=value"
            for f in sweep.flags if not re.match(r'--\w+(=.*)?$', f, re.S)]
  if not sweep.seeds:
    found.append('seeds: there are none; give some, such as --seeds 0 1 2')
  found += [f'{name}: the grid gives it no values; use --grid {name}=a,b'
            for name, values in sweep.grid.items() if not values]
  if found:
    raise ConfigError(found)
  made = []
  for values in itertools.product(*sweep.grid.values()):
    setting = ' '.join(f'{n}={v}' for n, v in zip(sweep.grid, values))
    name = re.sub(r'[^\w.=+,-]+', '_', setting.replace(' ', ',')) or 'default'
    for seed in sweep.seeds:
      where = os.path.join(folder, name, str(seed))
      made.append(Task(setting or 'default', seed, where, [
          sys.executable, LP_RUN, *sweep.flags,
          *(f'--{n}={v}' for n, v in zip(sweep.grid, values)),
          f'--seed={seed}', '--log_dir_path=logs']))
  if len({task.folder for task in made}) < len(made):
    raise ConfigError(['two runs of the sweep are the same, or their settings '
                       'differ in signs that folder names cannot have'])
  return made


def run_dir(task: Task) -> Optional[str]:
  """Returns the folder of a task's run, None before it was started."""
  logs = os.path.join(task.folder, 'logs')
  found = [] if not os.path.isdir(logs) else [
      os.path.join(logs, name) for name in sorted(os.listdir(logs))
      if os.path.exists(os.path.join(logs, name, 'config.json'))
      and '.until-' not in name]
  return found[0] if found else None


def is_complete(task: Task) -> bool:
  """Whether a task's run has all the environment steps now asked for."""
  folder = run_dir(task)
  if folder is None:
    return False
  counter = run_folder.saved_counter(folder)
  steps = _asked_steps(task.command)
  if steps is None:
    steps = run_folder.load(folder).num_steps
  return counter is not None and counter['counts']['actor_steps'] >= steps


def _asked_steps(command: Sequence[str]) -> Optional[int]:
  """Returns what --num_steps says; None if it is not given, or no number."""
  asked = None
  for flag, following in zip(command, [*command[1:], '']):
    name, equals, text = flag.partition('=')
    if name in ('--num_steps', '-num_steps'):
      asked = text if equals else following
  # What is no number is refused by the run.
  return int(asked) if asked is not None and asked.isdecimal() else None


class LocalRuns:
  """Runs tasks as processes of this machine, some at a time."""

  def __init__(self, at_a_time: int):
    """Runs `at_a_time` of them side by side."""
    self._at_a_time = at_a_time
    self._lock = threading.Lock()
    self._running: List[subprocess.Popen] = []
    self._stopped = False

  def run(self, todo: Sequence[Task]) -> Dict[str, int]:
    """Returns the exit status of each task, by its folder."""
    before = {s: signal.signal(s, self._stop)
              for s in (signal.SIGINT, signal.SIGTERM)}
    try:
      with concurrent.futures.ThreadPoolExecutor(self._at_a_time) as pool:
        return dict(zip([t.folder for t in todo], pool.map(self._one, todo)))
    finally:
      for signum, handler in before.items():
        signal.signal(signum, handler)

  def _one(self, task: Task) -> int:
    os.makedirs(task.folder, exist_ok=True)
    path = os.path.join(task.folder, 'output.txt')
    with open(path, 'a', encoding='utf-8') as output:
      with self._lock:
        if self._stopped:
          return 130
        # Out of Ctrl-C's reach: it is passed on once, by _stop.
        process = subprocess.Popen(
            task.command, cwd=task.folder, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        self._running.append(process)
      if self._stopped:
        process.send_signal(signal.SIGTERM)
      status = process.wait()
    with self._lock:
      self._running.remove(process)
    word = 'done' if status == 0 else f'FAILED with status {status}'
    print(f'{task.setting} seed {task.seed}: {word}, output in {path}',
          flush=True)
    return status

  def _stop(self, signum: int, frame: Any) -> None:
    """Lets the running ones save and end, and starts no more."""
    del signum, frame
    # No lock: the main thread, which runs this, never holds it.
    self._stopped = True
    for process in list(self._running):
      process.send_signal(signal.SIGTERM)


def array_script(todo: Sequence[Task], folder: str,
                 options: Sequence[str]) -> str:
  """Returns the batch script of a SLURM array with one task a run."""
  cases = ''.join(
      f'{i}) mkdir -p {shlex.quote(os.path.abspath(task.folder))}; '
      f'cd {shlex.quote(os.path.abspath(task.folder))} || exit 1; '
      f'exec {shlex.join(task.command)} >> output.txt 2>&1;;\n'
      for i, task in enumerate(todo))
  settings = [f'--array=0-{len(todo) - 1}', '--job-name=sweep',
              f'--output={os.path.join(folder, "slurm-%A_%a.out")}',
              f'--signal=B:TERM@{slurm.NOTICE_SECONDS}', *options]
  lines = ''.join(f'#SBATCH {shlex.quote(s)}\n' for s in settings)
  return f'#!/bin/bash\n{lines}case $SLURM_ARRAY_TASK_ID in\n{cases}esac\n'


def table(all_tasks: Sequence[Task]) -> None:
  """Prints a row a run, and a row of means over seeds for each setting."""
  rows: List[List[Any]] = []
  by_setting: Dict[str, List[List[float]]] = {}
  for task in all_tasks:
    folder = run_dir(task)
    if folder is None:
      rows.append([task.setting, task.seed, 'not started',
                   *('-' for _ in _FIGURES)])
      continue
    figures = summary.figures(folder)
    values = [figures[name] for name in _FIGURES]
    by_setting.setdefault(task.setting, []).append(values)
    state = 'complete' if is_complete(task) else 'cut off'
    rows.append([task.setting, task.seed, state, *(f'{v:.4g}' for v in values)])
  for setting, members in by_setting.items():
    rows.append([setting, f'mean of {len(members)}', '', *(
        f'{v:.4g}' for v in np.mean(members, axis=0))])
  print_table(['setting', 'seed', 'state', *_FIGURES], rows)


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--file', help='JSON file with flags, seeds and grid')
  parser.add_argument('--seeds', nargs='+', type=int, default=[])
  parser.add_argument('--grid', nargs='+', default=[], metavar='FLAG=A,B',
                      help='values to try; values with commas need a --file')
  parser.add_argument('--folder', default='logs/sweep', help='of all its runs')
  parser.add_argument('--at_a_time', type=int, help='local runs side by side '
                      f'(default: one for {CORES_PER_RUN} cores)')
  parser.add_argument('--slurm', action='store_true',
                      help='submit a SLURM array and return')
  parser.add_argument('--sbatch', default='', help='options for it')
  parser.add_argument('--dry_run', action='store_true',
                      help='print the commands that would run')
  parser.add_argument('lp_run_flags', nargs='*', help='of every run, after --')
  return parser.parse_args(argv)


def read_sweep(args: argparse.Namespace) -> Sweep:
  """Returns what file and flags together ask for.

  Raises:
    ConfigError: if the file cannot be read, or a grid is not written so.
  """
  stored: Dict[str, Any] = {}
  if args.file is not None:
    try:
      with open(args.file, encoding='utf-8') as f:
        stored = json.load(f)
    except (OSError, ValueError) as e:
      raise ConfigError([f'file: {args.file} cannot be read: {e}']) from e
    kinds = {'flags': list, 'seeds': list, 'grid': dict}
    if not isinstance(stored, dict) or any(
        not isinstance(v, kinds.get(k, ())) for k, v in stored.items()):
      raise ConfigError([f"file: {args.file} needs to hold some of 'flags', a "
                         "list; 'seeds', a list; and 'grid', an object"])
  grid: Dict[str, Sequence[Any]] = {
      n: v if isinstance(v, list) else [v]
      for n, v in stored.get('grid', {}).items()}
  for text in args.grid:
    name, equals, values = text.partition('=')
    if not equals or not values:
      raise ConfigError([f"grid: got '{text}', needs FLAG=value,value"])
    grid[name.lstrip('-')] = values.split(',')
  return Sweep([*stored.get('flags', []), *args.lp_run_flags],
               args.seeds or stored.get('seeds', []), grid)


def main(argv: Optional[Sequence[str]] = None) -> int:
  """Runs what is missing, and says what came of all."""
  args = parse(sys.argv[1:] if argv is None else argv)
  try:
    all_tasks = tasks(read_sweep(args), args.folder)
    todo = [task for task in all_tasks if not is_complete(task)]
    if args.dry_run:
      for task in todo:
        print(f'cd {shlex.quote(task.folder)} && {shlex.join(task.command)}')
      return 0
    if args.slurm and todo:
      path = os.path.join(args.folder, 'sweep.sh')
      job = slurm.submit(path, array_script(
          todo, os.path.abspath(args.folder), shlex.split(args.sbatch)))
      print(f'{len(todo)} of {len(all_tasks)} runs submitted as job {job}; the '
            'same command tells how they stand, and submits what failed')
      return 0
  except ConfigError as e:
    print(e, file=sys.stderr)
    return 2
  print(f'{len(todo)} of {len(all_tasks)} runs to do', flush=True)
  at_a_time = args.at_a_time or max(
      1, len(os.sched_getaffinity(0)) // CORES_PER_RUN)
  statuses = LocalRuns(at_a_time).run(todo)
  table(all_tasks)
  folders = [f for f in map(run_dir, all_tasks) if f is not None]
  if len(folders) > 1:
    report.main([
        *folders, '--output_dir', os.path.join(args.folder, 'figures')])
  return int(any(statuses.values()))


if __name__ == '__main__':
  # The runs keep the GPU to themselves.
  jax.config.update('jax_platforms', 'cpu')
  sys.exit(main())
