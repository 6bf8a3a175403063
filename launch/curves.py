"""Success and region visits of runs over environment steps, from their logs."""

import textwrap
from typing import (
  Any,
  Dict,
  List,
  Mapping,
  NamedTuple,
  Optional,
  Sequence,
  Tuple,
)

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from envs import registry as env_registry
from launch import experiment as experiment_lib
from launch import summary
from launch.experiment import Experiment

# Runs by folder, wherever that is now.
Runs = Mapping[str, Experiment]

# In these, runs of one mean may differ.
SEED_SETTINGS = ('seed', 'run_name', 'log_dir_path')
# Rows of the figure: what is on the axis, and the column of each role's log.
PANELS = (
    ('success', {'actor': 'success_100', 'evaluator': 'success'}),
    ('steps in regions\nper episode',
     {'actor': 'region_visits_100', 'evaluator': 'region_visits'}),
)
# Instead, where nothing is a success.
RETURN_PANELS = (
    ('return', {'actor': 'episode_return_100', 'evaluator': 'episode_return'}),
    ('steps per episode',
     {'actor': 'episode_length_100', 'evaluator': 'episode_length'}),
)
ROLES = {'actor': 'training, last 100 episodes', 'evaluator': 'evaluation'}
_STYLES: Mapping[str, Mapping[str, Any]] = {
    'actor': dict(ls='--', lw=1.2, marker='.', ms=3),
    'evaluator': dict(ls='-', lw=1.6, marker='o', ms=3)}


class Curve(NamedTuple):
  """Values over environment steps, `[N]` each; the steps ascend."""
  steps: np.ndarray
  values: np.ndarray


def figure_of(runs: Runs) -> Optional[Figure]:
  """Draws one line per run, or per group of seeds; None without any log."""
  groups = grouped(runs)
  figure = Figure(figsize=(9, 7), layout='constrained')
  goals = any(env_registry.spec(experiment.env).has_goals
              for experiment in runs.values())
  panels = PANELS if goals else RETURN_PANELS
  rows = figure.subplots(len(panels), 1, sharex=True)
  for axes, (axis_label, columns) in zip(rows, panels):
    for g, (label, folders) in enumerate(groups):
      for k, (role, name) in enumerate(columns.items()):
        found = [read_curve(folder, role, name) for folder in folders]
        color = f'C{g if len(groups) > 1 else k}'
        _draw_mean(axes, [c for c in found if c], label, role, color)
    axes.set_ylabel(axis_label)
    axes.grid(alpha=0.3)
  handles, labels = rows[0].get_legend_handles_labels()
  if not handles:
    return None
  if goals:
    rows[0].set_ylim(-0.05, 1.05)
  # Visits are counts; a standard error may reach below none, they do not.
  most = max(1.0, rows[1].get_ylim()[1])
  rows[1].set_ylim(-0.05 * most, most)
  rows[1].set_xlim(left=0)
  rows[1].set_xlabel('environment steps')
  rows[1].xaxis.set_major_formatter('{x:,.0f}')
  figure.legend(handles, labels, loc='outside lower center', frameon=False,
                ncols=1 if len(groups) > 1 else 2)
  figure.suptitle(_title(runs))
  return figure


def grouped(runs: Runs) -> List[Tuple[str, List[str]]]:
  """Groups runs whose settings are the same apart from the seed.

  Returns:
    A label and the folders of each group, in the order given. The label names
    the settings in which groups differ; it is '' if there is one group.
  """
  groups: List[Tuple[Dict[str, Any], List[str]]] = []
  for folder, experiment in runs.items():
    settings = _settings(experiment)
    members = next((m for known, m in groups if known == settings), None)
    if members is None:
      groups.append((settings, [folder]))
    else:
      members.append(folder)
  names = dict.fromkeys(name for settings, _ in groups for name in settings)
  differing = [name for name in names
               if any(settings.get(name) != groups[0][0].get(name)
                      for settings, _ in groups)]
  return [(', '.join(f'{name}={settings.get(name)}' for name in differing),
           members) for settings, members in groups]


def read_curve(run_dir: str, role: str, name: str) -> Optional[Curve]:
  """Reads one column of a role's log; None if it holds no number.

  A run resumed from a checkpoint repeats the steps it had done since; the rows
  it writes then replace the earlier ones.
  """
  columns = summary.read_log(run_dir, role)
  if name not in columns:
    return None
  finite = np.isfinite(columns[name])
  steps, values = columns['actor_steps'][finite], columns[name][finite]
  least_after = np.append(
      np.minimum.accumulate(steps[::-1])[-2::-1], np.inf)[:len(steps)]
  keep = steps < least_after
  return Curve(steps[keep], values[keep]) if keep.any() else None


def mean_and_error(curves: Sequence[Curve]) -> Tuple[Curve, np.ndarray]:
  """Averages over the steps that all curves span, interpolating between rows.

  Returns:
    The mean, empty if no step is common to all, and at each of its steps the
    standard error of the mean, 0 for a single curve.
  """
  begin = max(c.steps[0] for c in curves)
  end = min(c.steps[-1] for c in curves)
  steps = np.unique(np.concatenate([c.steps for c in curves]))
  steps = steps[(begin <= steps) & (steps <= end)]
  values = np.stack([np.interp(steps, *c) for c in curves])
  return Curve(steps, values.mean(axis=0)), standard_error(values)


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Returns means over the last `window` values, fewer at the beginning.

  Args:
    values: `[..., N]`.
    window: at least 1.

  Returns:
    `[..., N]`.
  """
  total = np.cumsum(values, axis=-1, dtype=np.float64)
  total[..., window:] -= total[..., :-window].copy()
  return total / np.minimum(np.arange(1, values.shape[-1] + 1), window)


def standard_error(values: np.ndarray) -> np.ndarray:
  """Returns the standard error of the mean over axis 0, 0 for a single value.

  Args:
    values: `[n, ...]`.

  Returns:
    `[...]`.
  """
  if len(values) == 1:
    return np.zeros(values.shape[1:])
  return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _draw_mean(axes: Axes, curves: Sequence[Curve], label: str, role: str,
               color: str) -> None:
  """Draws the mean of `curves`, a band of one standard error if of several."""
  if not curves:
    return
  mean, error = mean_and_error(curves)
  name = ROLES[role]
  if len(curves) > 1:
    name += f', {len(curves)} runs'
    axes.fill_between(
        mean.steps, mean.values - error, mean.values + error, color=color,
        alpha=0.2, lw=0)
  if label:
    name = textwrap.fill(f'{label}: {name}', 90)
  axes.plot(*mean, color=color, label=name, **_STYLES[role])


def _title(runs: Runs) -> str:
  experiments = list(runs.values())
  if len(runs) == 1:
    return experiments[0].run_name
  names = dict.fromkeys(f'{e.alg} on {e.env}' for e in experiments)
  return (textwrap.fill(', '.join(names), 80)
          + '\nlines: means over seeds; bands: standard error')


def _settings(experiment: Experiment) -> Dict[str, Any]:
  """Returns the settings that tell groups of runs apart."""
  values = experiment_lib.flat_settings(experiment)
  return {n: v for n, v in values.items() if n not in SEED_SETTINGS}
