"""Kills random processes of a real run and counts what that cost.

  python benchmarks/chaos.py --kills 20 --minutes 10 -- --env=point_FourRooms

At random moments it kills, stops or suspends an actor, all actors, the learner,
replay, the counter, the evaluator, the launcher, or everything at once. A run
that ends is resumed by the same command, as a user would. It hangs if it
neither goes on nor ends in time. After the last blow it runs to its end, and an
undisturbed run shows what the success should be. What follows `--` goes to
lp_run.
"""

import argparse
import dataclasses
import os
import signal
import sys
import tempfile
import time
from typing import Dict, List, Optional

import numpy as np
import psutil

from benchmarks.running import end_on_sigterm, WatchedRun
from launch import experiment as experiment_lib
from launch import run_folder, summary
from launch.tables import machine, print_metrics, print_table
from safety import visits

# A suspended process counts as dead after this; a run that has not ended by
# itself in so long, and some seconds more, hangs.
HANG_SECONDS = 60.0
# A crash ends the program within 15 s; a launcher's death within a grace more.
END_SECONDS = 90.0
# The learner, which saves, may outlive its launcher by a minute.
ORPHAN_SECONDS = 75.0
# Seconds a resumed run has to get going.
RECOVERY_SECONDS = 300.0
_FLAGS = ['--log_interval=1', '--time_delta_minutes=0.1', '--eval_interval=5',
          '--max_actor_restarts=1000', f'--hang_minutes={HANG_SECONDS / 60}']
_KILL, _SUSPEND = signal.SIGKILL, signal.SIGSTOP
# Whom a blow strikes, and with what.
BLOWS = (
    ('actor/0', _KILL), ('actor/0', _SUSPEND), ('all actors', _KILL),
    ('learner/0', _KILL), ('learner/0', signal.SIGTERM),
    ('learner/0', _SUSPEND),
    ('replay/0', _KILL), ('replay/0', _SUSPEND), ('counter/0', _KILL),
    ('evaluator/0', _KILL), ('launcher', _KILL), ('launcher', signal.SIGINT),
    ('everything', _KILL))


@dataclasses.dataclass
class Blow:
  """One blow and what came of it.

  Attributes:
    target: who was struck.
    signal: with what.
    steps: environment steps counted before.
    saved: environment steps of the newest checkpoint before.
    resumed: environment steps it went on from; `steps` if it never ended.
    seconds: until it made progress again; None if it never did.
    hung: it neither went on nor ended in time.
    orphans: processes that outlived the launcher by `ORPHAN_SECONDS`.
  """
  target: str
  signal: str
  steps: float
  saved: float
  resumed: float = 0.0
  seconds: Optional[float] = None
  hung: bool = False
  orphans: int = 0

  @property
  def lost(self) -> float:
    """Environment steps that have to be made again."""
    return max(0.0, self.steps - self.resumed)


def targets(run: WatchedRun, name: str) -> List[psutil.Process]:
  """Returns the processes a blow strikes."""
  nodes = run.nodes()
  if name == 'everything':
    return [run.launcher, *nodes.values()]
  if name == 'launcher':
    return [run.launcher]
  if name == 'all actors':
    return [p for label, p in nodes.items() if label.startswith('actor')]
  return [p for label, p in nodes.items() if label == name]


def strike(run: WatchedRun, name: str, signum: signal.Signals) -> Blow:
  """Strikes, has the run go on, and returns what came of it."""
  blow = Blow(name, signum.name, run.steps(), run.saved_steps())
  began = time.monotonic()
  for process in targets(run, name):
    try:
      process.send_signal(signum)
    except psutil.NoSuchProcess:
      continue  # It went by itself; the others still count.
  blow.resumed = blow.steps
  restarts = name in ('actor/0', 'all actors')
  if not restarts:
    limit = END_SECONDS + (HANG_SECONDS if signum == _SUSPEND else 0.0)
    blow.hung = not run.wait(limit)
    blow.orphans = len(run.survivors(ORPHAN_SECONDS))
    run.kill()
    blow.resumed = run.saved_steps()
    run.start()
  blow.seconds = _progress(run, blow, began)
  if blow.seconds is None and restarts:
    blow.hung = True
  return blow


def _progress(run: WatchedRun, blow: Blow, began: float) -> Optional[float]:
  """Waits for steps beyond those a run went on from; returns the seconds."""
  rows = len(run.log('actor').get('actor_steps', ()))
  deadline = time.monotonic() + RECOVERY_SECONDS
  while time.monotonic() < deadline and run.status is None:
    steps = run.log('actor').get('actor_steps', np.zeros(0))[rows:]
    if len(steps) and steps[-1] > blow.resumed:
      return time.monotonic() - began
    time.sleep(0.2)
  # It may have come to its end meanwhile.
  return time.monotonic() - began if run.status == 0 else None


def success(run: WatchedRun) -> float:
  """Returns the success of the last 100 evaluation episodes."""
  assert run.run_dir is not None
  return summary.figures(run.run_dir)['success, last 100 evaluation episodes']


def duplicates(run: WatchedRun) -> int:
  """Returns how many episodes the audit has twice or not at all."""
  assert run.run_dir is not None
  experiment = run_folder.load(run.run_dir)
  folder = os.path.join(run.folder, experiment_lib.visits_dir(experiment))
  episodes = visits.read_visits(folder)['episodes'].tolist()
  return len(set(episodes) ^ set(range(len(episodes)))) + (
      len(episodes) - len(set(episodes)))


def main() -> None:
  """Strikes, prints a row a blow, and what it all cost."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--minutes', type=float, default=10.0,
                      help='mean time between blows, times their number')
  parser.add_argument('--seed', type=int, default=0, help='of what is struck')
  parser.add_argument('--num_steps', type=int, default=500_000,
                      help='environment steps of either run')
  parser.add_argument('lp_run_flags', nargs='*', help='after --')
  args = parser.parse_args()
  end_on_sigterm()
  rng = np.random.default_rng(args.seed)
  print(f'machine: {machine()}', flush=True)
  with tempfile.TemporaryDirectory() as folder:
    flags = [*_FLAGS, *args.lp_run_flags, f'--num_steps={args.num_steps}']
    run = _folder_of(folder, 'struck', flags)
    calm = _folder_of(folder, 'undisturbed', flags)
    try:
      run.start()
      # Before the first checkpoint there is nothing to go on from.
      while not run.saved_steps():
        _check(run)
        time.sleep(0.5)
      blows = _blows(run, rng, args.kills, 60.0 * args.minutes / args.kills)
      for last in (run, calm):
        if last is calm:
          calm.start()
        while last.status is None:
          time.sleep(0.5)
        _check(last)
    finally:
      run.stop()
      calm.stop()
    _print(blows, {
        'duplicate_or_missing_episodes': duplicates(run),
        'environment_steps': run.saved_steps(),
        'final_success': success(run),
        'undisturbed_success': success(calm)})


def _folder_of(folder: str, name: str, flags: List[str]) -> WatchedRun:
  path = os.path.join(folder, name)
  os.makedirs(path)
  return WatchedRun(path, flags)


def _blows(run: WatchedRun, rng: np.random.Generator, kills: int,
           mean_seconds: float) -> List[Blow]:
  """Strikes again and again; every kind comes once before any comes twice."""
  blows: List[Blow] = []
  order: List[int] = []
  for _ in range(kills):
    time.sleep(rng.uniform(0.0, 2.0 * mean_seconds))
    order = order or rng.permutation(len(BLOWS)).tolist()
    if run.status == 0:
      print(f'  complete after {len(blows)} blows', flush=True)
      break
    _check(run)
    blows.append(strike(run, *BLOWS[order.pop()]))
    print('  ' + ' | '.join(_row(blows[-1])), flush=True)
    if blows[-1].seconds is None:
      # A run that does not come back is killed and given one more start.
      run.kill()
      run.start()
  return blows


def _row(blow: Blow) -> List[str]:
  after = 'not' if blow.seconds is None else f'{blow.seconds:.0f}'
  return [blow.target, blow.signal, f'{blow.steps:,.0f}', after,
          f'{blow.lost:,.0f}', str(blow.orphans), 'yes' if blow.hung else 'no']


def _print(blows: List[Blow], metrics: Dict[str, float]) -> None:
  print_table(['struck', 'with', 'at step', 'seconds to go on', 'steps lost',
               'orphans', 'hung'], [_row(blow) for blow in blows])
  seconds = [b.seconds for b in blows if b.seconds is not None]
  print_metrics({
      'kills': len(blows), 'hangs': sum(b.hung for b in blows),
      'recoveries': len(seconds), 'unrecovered': len(blows) - len(seconds),
      'median_seconds_to_recover': float(np.median(seconds)),
      'max_seconds_to_recover': max(seconds),
      'steps_lost': sum(b.lost for b in blows),
      'orphans': sum(b.orphans for b in blows),
      # What is resumed is never older than the newest checkpoint was.
      'backwards_beyond_a_checkpoint': sum(b.resumed < b.saved for b in blows),
      **metrics})


def _check(run: WatchedRun) -> None:
  """Leaves with what the run said if it failed by itself."""
  if run.status not in (None, 0):
    with open(run.output_path, encoding='utf-8') as f:
      sys.exit(f'the run failed by itself, and said:\n{f.read()[-3000:]}')


if __name__ == '__main__':
  main()
