"""The table a run ends with, read from the files it left."""

import csv
import os
from typing import Dict, List, Tuple

import numpy as np

from launch import experiment as experiment_lib
from launch import run_folder
from learners import checkpoint
from safety import visits as visits_lib

Columns = Dict[str, np.ndarray]


def read_log(run_dir: str, role: str) -> Columns:
  """Reads the log of one role; columns by name, empty if there is none."""
  path = os.path.join(run_dir, 'logs', role, 'logs.csv')
  if not os.path.exists(path):
    return {}
  with open(path, newline='', encoding='utf-8') as f:
    rows = list(csv.DictReader(f))
  if not rows:
    return {}
  return {name: np.array([float(row[name] or 'nan') for row in rows])
          for name in rows[0]}


def figures(run_dir: str) -> Dict[str, float]:
  """Returns the numbers a run is judged by; NaN where there is no record."""
  nan = float('nan')
  actor = read_log(run_dir, 'actor')
  learner = read_log(run_dir, 'learner')
  evaluator = read_log(run_dir, 'evaluator')

  def last(columns: Columns, name: str) -> float:
    return float(columns[name][-1]) if name in columns else nan

  def mean(columns: Columns, name: str) -> float:
    return float(np.nanmean(columns[name])) if name in columns else nan

  counter = run_folder.saved_counter(run_dir)
  counts = counter['counts'] if counter else {}
  return {
      'environment steps': counts.get(
          'actor_steps', last(actor, 'actor_steps')),
      'updates': counts.get(
          'learner_updates', last(learner, 'learner_updates')),
      'success, last 100 evaluation episodes': _last_episodes(
          evaluator, 'success', 100),
      'success, last 100 training episodes': last(actor, 'success_100'),
      'return, last 100 evaluation episodes': _last_episodes(
          evaluator, 'episode_return', 100),
      'return, last 100 training episodes': last(actor, 'episode_return_100'),
      'steps in region per training episode, all': _visits_per_episode(
          run_dir),
      'steps in region per evaluation episode, last 100': _last_episodes(
          evaluator, 'region_visits', 100),
      'interventions per training episode, last 100': last(
          actor, 'interventions_100'),
      'environment steps/s': mean(actor, 'steps_per_second'),
      'updates/s': mean(learner, 'updates_per_second'),
      'parameter age, updates': mean(actor, 'parameter_age'),
  }


def table(run_dir: str) -> str:
  """Returns the summary table and the paths of what was written."""
  rows = [(name, _format(value)) for name, value in figures(run_dir).items()]
  width = max(len(name) for name, _ in rows)
  lines = ['', f'{"run":<{width}}  {run_dir}']
  lines += [f'{name:<{width}}  {value}' for name, value in rows]
  lines += [f'{name:<{width}}  {path}' for name, path in paths(run_dir)]
  return '\n'.join(lines)


def paths(run_dir: str) -> List[Tuple[str, str]]:
  """Returns what the run wrote, named."""
  experiment = run_folder.load(run_dir)
  found = [('logs', os.path.join(run_dir, 'logs')),
           ('TensorBoard', os.path.join(run_dir, 'tensorboard')),
           ('region visits', experiment_lib.visits_dir(experiment))]
  latest = checkpoint.checkpoints(run_folder.checkpoint_dir(run_dir))
  if latest:
    found.append(('newest checkpoint', latest[-1]))
  return [(name, path) for name, path in found if os.path.exists(path)]


def _last_episodes(columns: Columns, name: str, num: int) -> float:
  """Means over the last rounds that together hold `num` episodes."""
  if name not in columns:
    return float('nan')
  episodes = columns['episodes']
  from_end = np.cumsum(episodes[::-1])[::-1]
  # Rounds after which `num` episodes still follow are not needed.
  needed = from_end - episodes < num
  return float(np.average(columns[name][needed], weights=episodes[needed]))


def _visits_per_episode(run_dir: str) -> float:
  directory = experiment_lib.visits_dir(run_folder.load(run_dir))
  if not os.path.isdir(directory):
    return float('nan')
  counts = visits_lib.read_visits(directory)['counts']
  return float(counts.sum(axis=1).mean()) if len(counts) else float('nan')


def _format(value: float) -> str:
  if np.isnan(value):
    return '-'
  return f'{value:,.0f}' if value >= 1000 else f'{value:.4g}'
