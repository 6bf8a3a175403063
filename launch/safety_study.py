"""What regions cost and what they prevent: visits and success over seeds.

python launch/safety_study.py --regions 0,5:5,11 5,0:11,5 --seeds 0 1 2

For each seed it trains a control without a region, then for each region one run
with masking, one with masking and enforcement, and one whose region absorbs,
all to the same number of environment steps. The control counts visits to every
box. It prints a table and draws visits.png. The runs stay in --log_dir_path and
resume, so the command can be cut off and given again.
"""

import argparse
import os
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple, Sequence

from matplotlib.figure import Figure
import numpy as np

from launch import experiment as experiment_lib
from launch import run_folder, summary
from launch.curves import rolling_mean, standard_error
from launch.tables import LP_RUN, machine, print_metrics, print_table
from safety import visits

CONTROL = 'control'
# Flags of each way to treat a region, beside --region_bounds.
TREATMENTS: Dict[str, List[str]] = {
    'masking': ['--nosafety_enforcement'],
    'masking + enforcement': [],
    'absorbing': ['--use_absorbing_failure'],
}


class Outcome(NamedTuple):
  """One finished run.

  Attributes:
    variant: `CONTROL` or a treatment.
    region: the region that was treated; '' for a control.
    seed: of the run.
    steps: environment steps.
    visits: `[N, B]` steps of each training episode in each box of the study.
    warmup: episodes before learning.
    step_limit: steps of an episode.
    interventions: enforced steps per episode, last 100.
    success: of the last 100 training episodes.
    best: success of the best evaluation round.
  """
  variant: str
  region: str
  seed: int
  steps: float
  visits: np.ndarray
  warmup: int
  step_limit: int
  interventions: float
  success: float
  best: float


def boxes_of(regions: Sequence[str]) -> List[str]:
  """Returns the boxes of all regions, each once."""
  return list(dict.fromkeys(
      box for region in regions for box in region.split(';')))


def flags_of(variant: str, region: str, regions: Sequence[str]) -> List[str]:
  """Returns the flags of lp_run.py that make one variant."""
  flags = [f'--visit_bounds={";".join(boxes_of(regions))}']
  if variant == CONTROL:
    return flags
  return [*flags, f'--region_bounds={region}', *TREATMENTS[variant]]


def train(args: argparse.Namespace, variant: str, region: str,
          seed: int) -> str:
  """Runs to `num_steps`, resuming what is there; returns the run's folder."""
  name = f'{variant} {region}'.strip()
  home = os.path.join(
      os.path.abspath(args.log_dir_path),
      ''.join(c if c.isalnum() else '_' for c in name))
  os.makedirs(home, exist_ok=True)
  # Region visits go below the working directory, so each variant has its own.
  subprocess.run(
      [sys.executable, LP_RUN, f'--env={args.env}', f'--seed={seed}',
       f'--alg={args.alg}', f'--num_steps={args.num_steps}',
       '--log_dir_path=logs', *flags_of(variant, region, args.regions),
       *args.lp_run_flags],
      cwd=home, check=True, stdout=sys.stderr)
  return os.path.join(home, 'logs', f'{args.alg}_{args.env}_{seed}')


def outcome(run_dir: str, variant: str, region: str) -> Outcome:
  """Reads what a finished run left."""
  experiment = run_folder.load(run_dir)
  home = os.path.dirname(os.path.dirname(run_dir))
  counts = visits.read_visits(
      os.path.join(home, experiment_lib.visits_dir(experiment)))['counts']
  evaluator = summary.read_log(run_dir, 'evaluator')
  actor = summary.read_log(run_dir, 'actor')
  length = actor['episode_length_1000'][-1]
  return Outcome(
      variant=variant, region=region, seed=experiment.seed,
      steps=float(actor['actor_steps'][-1]), visits=counts,
      warmup=int(experiment.agent.min_replay_size / length),
      step_limit=round(length),
      interventions=float(actor['interventions_100'][-1]),
      success=float(actor['success_100'][-1]),
      best=float(evaluator['success'].max()))


def visits_to(result: Outcome, region: str,
              regions: Sequence[str]) -> np.ndarray:
  """Returns `[N]` steps of each training episode in one region."""
  boxes = boxes_of(regions)
  columns = [boxes.index(box) for box in region.split(';')]
  return result.visits[:, columns].sum(axis=1)


def visits_figure(results: Sequence[Outcome], regions: Sequence[str],
                  window: int) -> Figure:
  """Draws the share of steps in each region over training episodes.

  Lines are rolling means averaged over seeds, bands one standard error; the
  control is measured on the same region.
  """
  figure = Figure(figsize=(6.5 * len(regions), 4.5), layout='constrained')
  for axes, region in zip(
      figure.subplots(1, len(regions), squeeze=False)[0], regions):
    for color, variant in enumerate([CONTROL, *TREATMENTS]):
      members = [r for r in results if r.variant == variant
                 and (variant == CONTROL or r.region == region)]
      if not members:
        continue
      curves = [rolling_mean(visits_to(r, region, regions) / r.step_limit,
                             window) for r in members]
      length = min(len(curve) for curve in curves)
      values = np.stack([curve[:length] for curve in curves])
      mean = values.mean(axis=0)
      axes.plot(mean, color=f'C{color}',
                label=f'{variant}, {len(members)} seeds')
      if len(members) > 1:
        error = standard_error(values)
        axes.fill_between(np.arange(length), mean - error, mean + error,
                          color=f'C{color}', alpha=0.2, lw=0)
    axes.axvline(results[0].warmup, color='0.5', ls=':', lw=1)
    axes.set(title=f'region {region}', xlabel='training episode',
             ylabel=f'share of steps in the region, mean of {window} episodes')
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
  figure.suptitle('dotted: the random warm-up ends; bands: standard error')
  return figure


def table_row(result: Outcome, regions: Sequence[str]) -> List[str]:
  """Returns one row: visits to the treated region, or to each for a control."""
  measured = [result.region] if result.region else list(regions)
  counts = [visits_to(result, region, regions) for region in measured]
  tenth = max(1, len(counts[0]) // 10)
  parts = [[c[:tenth] for c in counts], [c[result.warmup:] for c in counts],
           [c[-tenth:] for c in counts]]
  return [f'{result.variant} {result.region}'.strip(), str(result.seed),
          f'{result.steps:,.0f}',
          *(' / '.join(f'{c.mean():.2f}' for c in part) for part in parts),
          f'{result.interventions:.1f}', f'{result.success:.2f}',
          f'{result.best:.2f}']


def main() -> None:
  """Trains all runs, prints the table and draws the figure."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--env', default='point_FourRooms')
  parser.add_argument('--alg', default='contrastive_cpc')
  parser.add_argument('--regions', nargs='+', default=['0,5:5,11', '5,0:11,5'],
                      help='each as --region_bounds takes it')
  parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
  parser.add_argument('--num_steps', type=int, default=100_000)
  parser.add_argument('--variants', nargs='+', choices=[CONTROL, *TREATMENTS],
                      default=[CONTROL, *TREATMENTS])
  parser.add_argument('--window', type=int, default=200,
                      help='episodes of a rolling mean in the figure')
  parser.add_argument('--log_dir_path', default='logs/safety_study')
  parser.add_argument('lp_run_flags', nargs='*', help='after --')
  args = parser.parse_args()

  print(f'machine: {machine()}', flush=True)
  results: List[Outcome] = []
  for seed in args.seeds:
    for variant in args.variants:
      for region in [''] if variant == CONTROL else args.regions:
        run_dir = train(args, variant, region, seed)
        results.append(outcome(run_dir, variant, region))
        print('  ' + ' | '.join(table_row(results[-1], args.regions)),
              flush=True)
  _report(results, args)


def _report(results: Sequence[Outcome], args: argparse.Namespace) -> None:
  print('steps per episode in the region; for a control in '
        + ' / '.join(args.regions))
  print_table(
      ['variant', 'seed', 'environment steps', 'first tenth', 'after warm-up',
       'last tenth', 'interventions, last 100', 'training success, last 100',
       'best evaluation'],
      sorted(table_row(r, args.regions) for r in results))
  metrics: Dict[str, Any] = {}
  for region in args.regions:
    for variant in args.variants:
      members = [r for r in results if r.variant == variant
                 and r.region in ('', region)]
      metrics[f'visits_after_warmup[{region}][{variant}]'] = np.mean(
          [visits_to(r, region, args.regions)[r.warmup:].mean()
           for r in members])
  print_metrics(metrics)
  path = os.path.join(args.log_dir_path, 'visits.png')
  visits_figure(results, args.regions, args.window).savefig(path, dpi=110)
  print(f'figure: {path}')


if __name__ == '__main__':
  main()
