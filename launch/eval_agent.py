"""Evaluates a checkpoint: whole episodes, nothing is learned or stored.

python launch/eval_agent.py RUN_DIR_OR_CHECKPOINT
python launch/eval_agent.py RUN_DIR --commanded_return=300 --horizon=900
python launch/eval_agent.py RUN_DIR --grid=-200,300
python launch/lp_run.py --eval_agent=RUN_DIR_OR_CHECKPOINT

Prints the figures of the episodes; a grid of commands also writes
figures/command_grid.png in the run's folder: return asked for against obtained.
"""

import argparse
import os
import sys
from typing import Dict, List, Optional, Sequence, Tuple

import jax
import numpy as np

from actors.commands import correlation
from actors.policy import Policy
from launch import command_grid, episodes, factory, report, run_folder
from launch.episodes import Saved
from launch.errors import ConfigError
from launch.report import Missing
from launch.tables import print_table
from launch.video import write_gif
from learners import checkpoint


def load(path: str, best: bool = False) -> Saved:
  """Reads a checkpoint, or of a run the newest or the best.

  Raises:
    ValueError: if it is neither, or its settings cannot be read.
    Missing: if there is no checkpoint that fits the run's agent.
  """
  folder = os.path.abspath(path)
  parent = os.path.dirname(folder)
  of_run = os.path.basename(parent) != 'checkpoints'
  if best and not of_run:
    raise ConfigError([f'best: {path} is a checkpoint already; drop one'])
  run = report.load(folder if of_run else os.path.dirname(parent))
  agent = factory.make_agent(run.experiment)
  if of_run:
    found = checkpoint.checkpoints(run_folder.checkpoint_dir(folder))
    if not found:
      raise Missing('no checkpoint yet')
    folder = max(found, key=_score) if best else found[-1]
  restored = report.read_checkpoint(folder, agent.init(jax.random.key(0)))
  return episodes.saved(
      run, agent, agent.variables_for_evaluation(restored.state), restored.meta)


def _score(path: str) -> float:
  score = checkpoint.read_meta(path).get('score')
  return -np.inf if score is None else float(score)


def commanded(saved: Saved, lowest: float, highest: float,
              horizon: Optional[float], greedy: bool) -> Policy:
  """Returns the policy that follows given commands.

  Raises:
    Missing: if the agent follows none, or none of the kind.
  """
  if saved.agent.commanded is None:
    raise Missing(f'{saved.run.experiment.alg} follows no commands')
  if horizon is not None and 'horizon' not in saved.agent.command_names:
    raise Missing(f'{saved.run.experiment.alg} is commanded no horizon, but: '
                  + ', '.join(saved.agent.command_names))
  return saved.agent.commanded(lowest, highest, horizon, greedy)


def _policies(saved: Saved, args: argparse.Namespace) -> Dict[str, Policy]:
  """Returns what is evaluated, by name."""
  if args.commanded_return is not None:
    return {'as commanded': commanded(
        saved, args.commanded_return, args.commanded_return, args.horizon,
        args.greedy)}
  return {'evaluation': saved.agent.eval_policy, **saved.agent.eval_policies}


def _evaluate(saved: Saved, args: argparse.Namespace) -> None:
  """Prints a table, and writes what else was asked for."""
  figures = run_folder.figures_dir(saved.run.path)
  os.makedirs(figures, exist_ok=True)
  if args.grid:
    lowest, highest = args.grid
    metrics, _ = episodes.run(saved, commanded(
        saved, lowest, highest, args.horizon, args.greedy), args.episodes,
        args.seed)
    asked = metrics[f'commanded_{saved.agent.command_names[0]}']
    obtained = metrics['episode_return']
    path = os.path.join(figures, 'command_grid.png')
    command_grid.figure(
        asked, obtained, saved.agent.command_names[0],
        f'{saved.run.experiment.run_name} after {saved.updates:,} updates',
    ).savefig(path, dpi=100)
    print(f'{path}: correlation {correlation(asked, obtained):.3f} over '
          f'{args.episodes} commands from {lowest:g} to {highest:g}')
    return
  rows: List[List[str]] = []
  for name, policy in _policies(saved, args).items():
    film = args.gif and not rows
    metrics, frames = episodes.run(
        saved, policy, args.episodes, args.seed, film)
    returns = metrics['episode_return']
    rows.append([name, f'{returns.mean():.1f}', f'{returns.std():.1f}',
                 f'{returns.min():.1f}', f'{returns.max():.1f}',
                 f'{metrics["episode_length"].mean():.1f}'])
    if frames:
      path = os.path.join(figures, 'episode.gif')
      write_gif(path, np.stack(frames))
      print(path)
  print(f'{saved.run.experiment.run_name} after {saved.updates:,} updates, '
        f'{args.episodes} episodes each')
  print_table(['policy', 'return', 'sd', 'least', 'most', 'length'], rows)


def problems(args: argparse.Namespace) -> List[str]:
  """Lists what is wrong with the options, or would be of no use."""
  found = []
  if args.episodes < 1:
    found.append(f'episodes: got {args.episodes}, needs at least 1')
  if args.commanded_return is None and args.grid is None:
    found += [f'{name}: needs --commanded_return or --grid'
              for name, given in (('horizon', args.horizon is not None),
                                  ('greedy', args.greedy)) if given]
  if args.grid is not None:
    found += [f'{name}: means nothing to --grid; drop one'
              for name, given in (
                  ('commanded_return', args.commanded_return is not None),
                  ('gif', args.gif)) if given]
  return found


def _pair(text: str) -> Tuple[float, float]:
  lowest, highest = (float(t) for t in text.split(','))
  return lowest, highest


def main(argv: Optional[Sequence[str]] = None) -> int:
  """Evaluates what the command line names; returns an exit status."""
  parser = argparse.ArgumentParser(description='Evaluates a checkpoint.')
  parser.add_argument('path', help='folder of a run or of a checkpoint')
  parser.add_argument('--best', action='store_true',
                      help='of a run the best checkpoint, not the newest')
  parser.add_argument('--episodes', type=int, default=100,
                      help='episodes (default: 100)')
  parser.add_argument('--seed', type=int, default=0,
                      help='chooses the episodes (default: 0)')
  parser.add_argument('--commanded_return', type=float,
                      help='return (rcp_a: advantage) asked for; default: what '
                      'the agent has learned to ask for')
  parser.add_argument('--horizon', type=float, help='steps asked for (udrl); '
                      'default: those of the best episodes')
  parser.add_argument('--grid', type=_pair, help='ask for returns from LOW to '
                      'HIGH, "LOW,HIGH"; write --grid=-200,300')
  parser.add_argument('--greedy', action='store_true',
                      help='likeliest actions, with commands of your own')
  parser.add_argument('--gif', action='store_true',
                      help='film the first episode: figures/episode.gif')
  args = parser.parse_args(argv)
  try:
    found = problems(args)
    if found:
      raise ConfigError(found)
    _evaluate(load(args.path, args.best), args)
  except ValueError as e:
    print(e, file=sys.stderr)
    return 2
  except (Missing, OSError) as e:
    print(f'{args.path}: {e}', file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  # A run that is still going keeps the GPU to itself.
  jax.config.update('jax_platforms', 'cpu')
  sys.exit(main())
