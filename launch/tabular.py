"""Trains tabular single-goal contrastive RL, several seeds side by side.

python launch/tabular.py --env maze --seeds 10
python launch/tabular.py --env hanoi --discs 3
python launch/tabular.py --env maze --representation=none      # control
python launch/tabular.py --absorbing_demo
python launch/tabular.py --suite      # the documented results, as a table

Leaves settings, success by episode, curves and an animation of the first seed
in a folder below logs/tabular/.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
import csv
import dataclasses
import difflib
import json
import multiprocessing
import os
import sys
import time
from typing import (
  Any,
  List,
  NamedTuple,
  Optional,
  Sequence,
  Tuple,
)

from matplotlib.figure import Figure
import numpy as np

from launch import tabular_figures as figures
from launch.errors import ConfigError
from launch.tables import markdown
from learners import settings
from learners.tabular import config as config_lib
from learners.tabular import environments, training
from learners.tabular.config import TabularConfig
from learners.tabular.training import Result

LAYOUTS = tuple(n for n in environments.ENVIRONMENTS if 'hanoi' not in n)
DEMO_REGION = '0,6:4,9'
WINDOW = figures.WINDOW
SOON = 200


class Request(NamedTuple):
  """What the command line asks for.

  Attributes:
    config: settings of the agent.
    name: of the folder of the results.
    seeds: first seed, and how many.
    processes: how many seeds train at once.
    log_dir_path: folder of all runs.
    max_frames: of an animation; 0 draws none.
  """
  config: TabularConfig
  name: str
  seeds: Tuple[int, int]
  processes: int
  log_dir_path: str
  max_frames: int


class Row(NamedTuple):
  """One line of the suite: a title, its flags, and the expected numbers."""
  title: str
  flags: str
  expected: str


SUITE = (
    Row('maze', '--env maze',
        'first success at 15 to 128, at least 8 of 10 within 200; last-100 '
        '.44 (.25 to .87), at least .15'),
    Row('maze, random initial rows', '--env maze --init=fully_random',
        'last-100 below .05'),
    Row('maze, no representation', '--env maze --representation=none',
        'last-100 about 0'),
    Row('maze, longer', '--env maze --episodes=5000 --eval_interval=50',
        'last-100 .73'),
    Row('maze, no representation, longer', '--env maze --representation=none '
        '--episodes=5000 --eval_interval=50', 'last-100 at most .011'),
    Row('Hanoi, 3 discs', '--env hanoi --discs 3',
        'first success at 1 to 222; last-100 .48, at least .3'),
    Row('Hanoi, 3 discs, no representation',
        '--env hanoi --discs 3 --representation=none', 'last-100 .02'),
    Row('Hanoi, 4 discs', '--env hanoi --discs 4',
        'first success at 3,400 to 3,900; last-1000 .155'),
)


def main(argv: Optional[Sequence[str]] = None) -> int:
  """Trains what the command line asks for; returns an exit status."""
  args = make_parser().parse_args(argv)
  try:
    request = parse(args)
  except ConfigError as e:
    print(e, file=sys.stderr)
    return 2
  # Many small products gain nothing from threads; workers inherit this.
  os.environ.setdefault('OMP_NUM_THREADS', '1')
  run = (run_suite if args.suite else
         run_demo if args.absorbing_demo else run_seeds)
  try:
    run(request)
  except OSError as e:
    print(f'stopped: {e}', file=sys.stderr)
    return 1
  return 0


def make_parser() -> argparse.ArgumentParser:
  """Builds the command line. Values stay text, to be checked all together."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--env', default='maze', help='maze or hanoi')
  parser.add_argument('--layout', help='maze: ' + ', '.join(LAYOUTS))
  parser.add_argument('--discs', help='hanoi: 3, 4 or 5')
  parser.add_argument('--preset', help='settings: ' + ', '.join(
      config_lib.PRESETS) + "; default: the environment's own")
  for name, default, text in (
      ('seed', 0, 'first seed'),
      ('seeds', 10, 'how many seeds; the demo trains one'),
      ('processes', 0, 'seeds trained at once; 0 is one per core'),
      ('max_frames', 200, 'frames of an animation; 0 draws none')):
    parser.add_argument(f'--{name}', default=str(default),
                        help=f'{text} (default: {default})')
  parser.add_argument('--log_dir_path', default='logs/tabular',
                      help='folder of all runs (default: logs/tabular)')
  parser.add_argument('--absorbing_demo', action='store_true', help='train one '
                      'seed with and without an absorbing region')
  parser.add_argument('--suite', action='store_true',
                      help='run the documented results and print them')
  for field in settings.fields(TabularConfig):
    parser.add_argument(f'--{field.name}', help=_help(field))
  return parser


def parse(args: argparse.Namespace) -> Request:
  """Reads the flags.

  Raises:
    ConfigError: listing every problem with them.
  """
  found: List[str] = []
  env = _environment_name(args, found)
  preset = args.preset
  if preset is None and args.absorbing_demo:
    preset = 'absorbing'
  if preset is not None and preset not in config_lib.PRESETS:
    found.append(_unknown('preset', preset, config_lib.PRESETS))
    preset = None
  overrides = settings.parse(TabularConfig, vars(args), found)
  if args.absorbing_demo:
    overrides.setdefault('absorbing', DEMO_REGION)
  config = config_lib.from_settings(env, preset, overrides)
  found += config_lib.problems(config)
  numbers = {}
  for name, least in (
      ('seed', 0), ('seeds', 1), ('processes', 0), ('max_frames', 0)):
    text = getattr(args, name)
    numbers[name] = int(text) if text.isdecimal() else -1
    if numbers[name] < least:
      found.append(f"{name}: got '{text}', needs a whole number, at least "
                   f'{least}')
  if args.absorbing_demo and config.representation != 'psi':
    found.append('absorbing_demo: needs representation psi')
  if args.suite and overrides:
    found.append('suite: has settings of its own; drop '
                 + ', '.join(sorted(overrides)))
  if found:
    raise ConfigError(found)
  seeds = (numbers['seed'], 1 if args.absorbing_demo else numbers['seeds'])
  named = {**({'preset': preset} if args.preset else {}), **overrides,
           'seeds': f'{seeds[0]}-{sum(seeds) - 1}'}
  name = '_'.join([
      *(['absorbing_demo'] if args.absorbing_demo else []), env,
      *(f'{n}={v}'.replace(':', '-') for n, v in named.items())])
  return Request(
      config, name, seeds,
      numbers['processes'] or len(os.sched_getaffinity(0)), args.log_dir_path,
      numbers['max_frames'])


def _help(field: 'dataclasses.Field[Any]') -> str:
  """Returns a setting's help, with its default in each preset that has one."""
  values = [f'{field.default}'] + [
      f'{name} {preset[field.name]}'
      for name, preset in config_lib.PRESETS.items() if field.name in preset]
  # Argparse formats its help texts.
  return f'{field.metadata["help"]} (default: {"; ".join(values)})'.replace(
      '%', '%%')


def _unknown(what: str, got: str, known: Any) -> str:
  near = difflib.get_close_matches(got, list(known), 1, 0.3)
  return (f"{what}: got '{got}', needs one of {', '.join(known)}"
          + (f"; nearest: '{near[0]}'" if near else ''))


def _environment_name(args: argparse.Namespace, found: List[str]) -> str:
  """Returns a name in the registry; problems are added to `found`."""
  if args.env == 'maze':
    if args.discs is not None:
      found.append('discs: a maze has none; use --env hanoi')
    if args.layout is None or args.layout in LAYOUTS:
      return args.layout or 'four_rooms'
    found.append(_unknown('layout', args.layout, LAYOUTS))
  elif args.env == 'hanoi':
    if args.layout is not None:
      found.append('layout: the Towers of Hanoi have none; use --env maze')
    name = f'hanoi_{args.discs or 3}'
    if name in environments.ENVIRONMENTS:
      return name
    found.append(f"discs: got '{args.discs}', needs 3, 4 or 5")
  else:
    found.append(_unknown('env', args.env, ('maze', 'hanoi')))
  # Any does to check the rest.
  return 'four_rooms'


def train_seeds(config: TabularConfig, seeds: Tuple[int, int], processes: int,
                keep_snapshots: bool) -> List[Result]:
  """Trains seeds side by side.

  Args:
    config: free of problems.
    seeds: first seed and their number.
    processes: how many train at once; with 1 they train in this process.
    keep_snapshots: whether the first seed's result has them.

  Returns:
    Their results, in order.
  """
  first, num = seeds
  calls = [(config, seed, keep_snapshots and seed == first)
           for seed in range(first, first + num)]
  if min(processes, num) == 1:
    return [training.train(*call) for call in calls]
  # A fork would share whatever threads the parent has running.
  context = multiprocessing.get_context('spawn')
  results = []
  with ProcessPoolExecutor(min(processes, num), mp_context=context) as pool:
    for result in pool.map(training.train, *zip(*calls)):
      results.append(result)
      print(f'{len(results)} of {num} seeds trained', file=sys.stderr,
            flush=True)
  return results


def first_success(success: np.ndarray) -> Optional[int]:
  """Returns the first episode, from 1, that reached its goal, if any did."""
  episodes = np.flatnonzero(success > 0)
  return int(episodes[0]) + 1 if episodes.size else None


def last_success(success: np.ndarray, window: int = WINDOW) -> float:
  """Returns the share of the last episodes that reached their goal."""
  return float(np.mean(success[-window:] > 0))


def summary(results: Sequence[Result]) -> str:
  """Returns a Markdown table of seeds, their mean and spread, and metrics."""
  rows = [[r.seed, first_success(r.success) or 'never',
           f'{last_success(r.success):.2f}',
           f'{np.mean(r.eval_success[-10:]):.2f}'] for r in results]
  firsts = [f for f in (first_success(r.success) for r in results) if f]
  lasts = [last_success(r.success) for r in results]
  greedy = [np.mean(r.eval_success[-10:]) for r in results]
  rows.append([
      'mean +- standard deviation',
      f'{_spread(firsts, 0)} ({len(firsts)} of {len(results)} seeds)',
      _spread(lasts, 2), _spread(greedy, 2)])
  soon = sum(f <= SOON for f in firsts)
  return '\n'.join([
      markdown(['seed', 'first success, episode', f'success, last {WINDOW}',
                'greedy success, last 10'], rows),
      f'seeds_with_success_within_{SOON}={soon}/{len(results)}',
      f'last_{WINDOW}_success={np.mean(lasts):.4g}'])


def _spread(values: Sequence[Any], digits: int) -> str:
  if not values:
    return 'never'
  return f'{np.mean(values):.{digits}f} +- {np.std(values):.{digits}f}'


def run_seeds(request: Request) -> None:
  """Trains all seeds, prints a table and writes everything down."""
  began = time.monotonic()
  print(f'{request.name}: {request.config.episodes:,} episodes a seed',
        flush=True)
  # Not after all the training, if there is no room.
  folder = make_folder(request)
  results = train_seeds(request.config, request.seeds, request.processes,
                        keep_snapshots=request.max_frames > 0)
  print(summary(results))
  print(f'trained in {time.monotonic() - began:.0f} s', flush=True)
  write_numbers(folder, results)
  label = score_label(request.config)
  figure = figures.success_figure(
      {request.config.env: np.stack([r.success for r in results])},
      request.name)
  _save(figure, os.path.join(folder, 'curves.png'))
  if request.max_frames:
    environment = training.make_environment(request.config)
    region = absorbing_region(request.config)
    _save_gif(
        os.path.join(folder, f'seed_{results[0].seed}.gif'), environment,
        results[0], request.max_frames, label, region)


def run_demo(request: Request) -> None:
  """Trains one seed with and without an absorbing region, on the same psi."""
  config, (seed, _) = request.config, request.seeds
  region = absorbing_region(config)
  assert region is not None
  runs = {
      'baseline': dataclasses.replace(config, absorbing=None),
      'absorbing': config}
  folder = make_folder(request)
  free = training.make_environment(config).free
  rows: List[List[str]] = []
  shown = {}
  for name, one in runs.items():
    result = training.train(one, seed, keep_snapshots=True)
    first, last = result.snapshots[0], result.snapshots[-1]
    # Of an absorbing region, only cells next to others can be entered.
    places = (region & (result.visited_counts > 0), region, free & ~region)
    for when, seen in (('before', first), (f'trial {last.episode:,}', last)):
      rows.append([f'{name}, {when}', *(
          f'{seen.similarity[cells].mean():.3f}' if cells.any() else '-'
          for cells in places)])
    shown[f'{name}, trial {last.episode:,}'] = last
    if request.max_frames:
      _save_gif(os.path.join(folder, f'{name}.gif'),
                training.make_environment(one), result, request.max_frames,
                score_label(one), region)
  figure = figures.region_figure(
      training.make_environment(config), region, shown)
  _save(figure, os.path.join(folder, 'side_by_side.png'))
  print(markdown(['mean similarity to the goal', 'cells entered in the region',
                  'the region', 'elsewhere'], rows))


def run_suite(request: Request) -> None:
  """Runs the documented settings and prints them with the expected numbers."""
  rows = []
  for title, flags, expected in SUITE:
    row = parse(make_parser().parse_args(flags.split()))
    began = time.monotonic()
    results = train_seeds(row.config, row.seeds, request.processes, False)
    seconds = time.monotonic() - began
    firsts = [f for f in (first_success(r.success) for r in results) if f]
    span = f'{min(firsts):,} to {max(firsts):,}' if firsts else 'never'
    soon = sum(f <= SOON for f in firsts)
    windows = [[last_success(r.success, n) for r in results]
               for n in (WINDOW, 10 * WINDOW) if n <= row.config.episodes]
    shares = [f'{np.mean(w):.3f} ({min(w):.2f} to {max(w):.2f})'
              for w in windows] + ['-']
    rows.append([
        title, f'`{flags}`', len(results), f'{row.config.episodes:,}',
        f'{span} ({len(firsts)} of {len(results)})', soon,
        *shares[:2], f'{seconds:.0f} s', expected])
    print(f'{title}: {seconds:.0f} s', file=sys.stderr, flush=True)
  print(markdown(
      ['run', 'flags', 'seeds', 'episodes', 'first success (seeds)',
       f'seeds by episode {SOON}', f'last {WINDOW}', f'last {10 * WINDOW:,}',
       'time', 'expected'], rows))


def score_label(config: TabularConfig) -> str:
  """Returns what similarity is called in figures."""
  return figures.SIMILARITY if config.representation == 'psi' else 'score'


def absorbing_region(config: TabularConfig) -> Optional[np.ndarray]:
  """Returns the absorbing cells, `[S]` bool, if there are any."""
  if config.absorbing is None:
    return None
  return environments.region_mask(
      environments.ENVIRONMENTS[config.env](), config.absorbing)


def make_folder(request: Request) -> str:
  """Makes the folder of the results, with the settings in it."""
  folder = os.path.join(request.log_dir_path, request.name)
  os.makedirs(folder, exist_ok=True)
  first, num = request.seeds
  values = {**dataclasses.asdict(request.config),
              'seeds': list(range(first, first + num))}
  with open(os.path.join(folder, 'config.json'), 'w', encoding='utf-8') as f:
    json.dump(values, f, indent=2, sort_keys=True)
  return folder


def write_numbers(folder: str, results: Sequence[Result]) -> None:
  """Writes success by episode as CSV, and the arrays behind the rest."""
  header = ['episode', *(f'seed_{r.seed}' for r in results)]
  success = np.stack([r.success for r in results], axis=-1)
  greedy = np.stack([r.eval_success for r in results], axis=-1).astype(int)
  episodes = range(1, len(success) + 1)
  for name, index, columns in (
      ('success.csv', episodes, success),
      ('greedy_success.csv', results[0].eval_episodes, greedy)):
    path = os.path.join(folder, name)
    with open(path, 'w', encoding='utf-8', newline='') as f:
      writer = csv.writer(f)
      writer.writerow(header)
      writer.writerows([i, *(f'{v:g}' for v in row)]
                       for i, row in zip(index, columns))
    print(path)
  path = os.path.join(folder, 'arrays.npz')
  np.savez_compressed(path, **{
      name: np.stack([getattr(r, name) for r in results])
      for name in ('initial', 'learned', 'visited_counts', 'losses')})
  print(path, flush=True)


def _save(figure: Figure, path: str) -> None:
  figure.savefig(path, dpi=110)
  print(path, flush=True)


def _save_gif(path: str, environment: environments.Environment, result: Result,
              max_frames: int, label: str,
              region: Optional[np.ndarray]) -> None:
  animation = figures.animate(
      environment, result.snapshots, max_frames, label, region)
  figures.save_gif(animation, environment, path)
  print(path, flush=True)


if __name__ == '__main__':
  sys.exit(main())
