"""Draws what representations did in training, from a run's checkpoints.

python launch/analysis.py RUN_DIR...

A run shows its course if it kept more than the newest checkpoints:

python launch/lp_run.py --env point_FourRooms --time_delta_minutes=0.05 \
  --checkpoints_kept=1000

Each run gets in its figures folder
  maps.png         how alike each place is to the goal, over training
  sphere.png       where each place lies on a sphere with the goal as its pole
  components.png   principal components of the places visited
  correlation.png  whether the agent goes where it is alike or unlike the goal
"""

import argparse
import functools
import os
import sys
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import jax
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
import numpy as np

from actors.commands import correlation
from launch import curves, embeddings, report, run_folder
from launch.report import Missing, Run
from learners import checkpoint
from learners.agent import Representations

# Checkpoints drawn side by side in maps.png.
NUM_MAPS = 6
# Points per cell and axis of the maps.
RESOLUTION = 6
TABLE = ('environment steps', 'updates', 'correlation')


class Moment(NamedTuple):
  """One checkpoint.

  Attributes:
    actor_steps: environment steps done.
    updates: SGD steps done.
    state: the agent's.
    cell_visits: `[H, W]` training steps in each cell up to now.
  """
  actor_steps: int
  updates: int
  state: Any
  cell_visits: np.ndarray


def load_moments(run: Run) -> List[Moment]:
  """Reads every readable checkpoint of a run, oldest first.

  Raises:
    Missing: if there is none, or one does not say where the agent has been.
    ValueError: if one does not fit the run's agent.
  """
  moments: List[Moment] = []
  template = report.template(run)
  for path in checkpoint.checkpoints(run_folder.checkpoint_dir(run.path)):
    restored = checkpoint.load(path, template)
    if restored is None:
      continue
    counter = restored.meta['counter']
    if counter.get('cell_visits') is None:
      raise Missing(f'{path} does not say where the agent has been')
    moments.append(Moment(
        int(counter['counts']['actor_steps']), int(restored.meta['step']),
        restored.state, np.array(counter['cell_visits'])))
  if not moments:
    raise Missing('no checkpoint yet')
  return moments


def maps_figure(run: Run, moments: Sequence[Moment]) -> Figure:
  """Draws similarity to the goal over training.

  The upper row is of places as goals, psi(s), the lower one of places as
  states, phi(s, pi(s)) with the greedy action.
  """
  walls = report.walls_of(run)
  free = ~walls.repeat(RESOLUTION, axis=0).repeat(RESOLUTION, axis=1)
  points = (np.argwhere(free) + 0.5) / RESOLUTION
  chosen = _spread(moments, NUM_MAPS)
  figure = Figure(figsize=(3.2 * len(chosen) + 1.2, 7.6), layout='constrained')
  rows = figure.subplots(2, len(chosen), squeeze=False)
  color = ScalarMappable(Normalize(-1, 1), 'coolwarm')
  for moment, upper, lower in zip(chosen, *rows):
    found = report.representations(run, moment.state, points)
    for axes, vectors in ((upper, found.of_points), (lower, found.of_actions)):
      axes.imshow(
          report.image_of(free, embeddings.cosines(vectors, found.of_goal)),
          origin='lower', cmap=color.cmap, norm=color.norm,
          extent=report.extent_of(walls), zorder=1)
      report.draw_maze(axes, run, walls)
      axes.set(xlabel='', ylabel='')
    upper.set_title(f'{moment.actor_steps:,} steps')
  rows[0][0].set_ylabel(r'$\cos(\psi(s), \psi(g^*))$')
  rows[1][0].set_ylabel(r'$\cos(\phi(s, \pi(s)), \psi(g^*))$')
  figure.colorbar(color, ax=rows, shrink=0.7, label='cosine')
  figure.legend(*rows[0][0].get_legend_handles_labels(), frameon=False,
                loc='outside lower center', ncols=5)
  figure.suptitle(f'{run.experiment.run_name}: similarity to the goal')
  return figure


def sphere_figure(run: Run, moments: Sequence[Moment]) -> Figure:
  """Draws psi of each free cell on a sphere with psi(g*) as its pole."""
  found, lengths = _of_cells(run, moments[-1])
  points = embeddings.goal_sphere(found.of_points, found.of_goal)
  figure = Figure(figsize=(8, 7.5), layout='constrained')
  axes = figure.add_subplot(projection='3d')
  _draw_sphere(axes)
  _scatter(axes, points, np.array([0.0, 0.0, 1.0]), lengths,
           np.full(len(points), 45.0))
  axes.set(xlabel='first direction', ylabel='second direction',
           zlabel='cosine with the goal', box_aspect=(1, 1, 1))
  # From the side where most cells lie.
  middle = points[:, :2].mean(axis=0)
  axes.view_init(elev=25, azim=np.degrees(np.arctan2(middle[1], middle[0])))
  axes.set_title(f'{run.experiment.run_name} after '
                 f'{moments[-1].actor_steps:,} steps\n'
                 r'$\psi$ of every free cell, seen from the goal')
  return figure


def components_figure(run: Run, moments: Sequence[Moment]) -> Figure:
  """Draws principal components of psi of the cells visited.

  Markers grow with the steps spent in a cell.
  """
  found, lengths = _of_cells(run, moments[-1])
  visits = moments[-1].cell_visits[~report.walls_of(run)]
  seen = visits > 0
  vectors = np.concatenate([found.of_points[seen], found.of_goal[np.newaxis]])
  projection = embeddings.principal_components(vectors, 3)
  *cells, goal = projection.points
  cells = np.stack(cells)
  figure = Figure(figsize=(8, 7.5), layout='constrained')
  axes = figure.add_subplot(projection='3d')
  _scatter(axes, cells, goal, lengths[seen],
           20 + 180 * np.sqrt(visits[seen] / visits.max()))
  for axis, share in zip('xyz', projection.shares):
    axes.set(**{f'{axis}label': f'{share:.0%} of the variance'})
  axes.set_title(f'{run.experiment.run_name} after '
                 f'{moments[-1].actor_steps:,} steps\n'
                 rf'$\psi$ of the {seen.sum()} cells visited; larger: more '
                 'often')
  return figure


def correlations(run: Run, moments: Sequence[Moment]) -> np.ndarray:
  """Returns Pearson's r of visits and similarity to the goal, `[M - 1]`.

  Over the free cells, between the steps spent in each since the checkpoint
  before, and the cosine of psi there and psi(g*) at the checkpoint.
  """
  free = ~report.walls_of(run)
  found = []
  for before, moment in zip(moments, moments[1:]):
    representations, _ = _of_cells(run, moment)
    similarity = embeddings.cosines(
        representations.of_points, representations.of_goal)
    visits = (moment.cell_visits - before.cell_visits)[free]
    found.append(correlation(visits, similarity))
  return np.array(found)


def correlation_figure(run: Run, moments: Sequence[Moment]) -> Figure:
  """Draws the correlation of visits and similarity, and success, over steps.

  Raises:
    Missing: if there are fewer than two checkpoints.
  """
  if len(moments) < 2:
    raise Missing('one checkpoint has no course; use --time_delta_minutes and '
                  '--checkpoints_kept')
  steps = np.array([m.actor_steps for m in moments])
  figure = Figure(figsize=(9, 5), layout='constrained')
  axes = figure.add_subplot()
  axes.plot(steps[1:], correlations(run, moments), 'o-', ms=4, color='C0',
            label="visits and similarity to the goal, Pearson's r over cells")
  success = curves.read_curve(run.path, 'actor', 'success_100')
  if success is not None:
    axes.plot(*success, color='C2', ls='--',
              label='success of the last 100 training episodes')
  first = first_success(run)
  if first is not None:
    axes.axvline(first, color='C3', ls=':', label=f'first success: {first:,}')
  axes.axhline(0, color='0.5', lw=0.8)
  axes.set(ylim=(-1.05, 1.05), xlabel='environment steps',
           title=f'{run.experiment.run_name}\n'
           'r > 0: the agent goes where it is alike the goal; r < 0: unlike')
  axes.xaxis.set_major_formatter('{x:,.0f}')
  axes.grid(alpha=0.3)
  figure.legend(loc='outside lower center', frameon=False)
  return figure


def first_success(run: Run) -> Optional[int]:
  """Returns the steps at the first log row with a success, None if none."""
  success = curves.read_curve(run.path, 'actor', 'success_1000')
  if success is None or not (success.values > 0).any():
    return None
  return int(success.steps[np.argmax(success.values > 0)])


def main(argv: Optional[Sequence[str]] = None) -> int:
  """Draws the runs named on the command line; returns an exit status."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('run_dir', nargs='+', help='folder of a run')
  args = parser.parse_args(argv)
  status = 0
  for path in args.run_dir:
    try:
      _analyse(report.load(os.path.abspath(path)))
    except (ValueError, Missing) as e:
      print(f'{path}: {e}', file=sys.stderr)
      status = 2
  return status


def _analyse(run: Run) -> None:
  moments = load_moments(run)
  folder = run_folder.figures_dir(run.path)
  for name, draw in (('maps.png', maps_figure),
                     ('sphere.png', sphere_figure),
                     ('components.png', components_figure),
                     ('correlation.png', correlation_figure)):
    report.write(run.path, folder, name,
                 functools.partial(draw, run, moments))
  print(' | '.join(TABLE))
  for moment, r in zip(moments[1:], correlations(run, moments)):
    print(f'{moment.actor_steps:,} | {moment.updates:,} | {r:+.2f}')
  print(f'first success: {first_success(run) or "none"}')


def _of_cells(run: Run,
              moment: Moment) -> Tuple[Representations, np.ndarray]:
  """Returns what the middles of free cells are, and their ways to the goal."""
  walls = report.walls_of(run)
  free = ~walls
  found = report.representations(run, moment.state, np.argwhere(free) + 0.5)
  goal = run.spec.goal_position
  assert goal is not None, 'representations() refuses this'
  cell = np.minimum(np.array(goal).astype(int), np.array(walls.shape) - 1)
  return found, embeddings.path_lengths(
      walls, (int(cell[0]), int(cell[1])))[free]


def _spread(moments: Sequence[Moment], num: int) -> List[Moment]:
  """Returns up to `num` moments, evenly spread over environment steps."""
  steps = np.array([m.actor_steps for m in moments])
  wanted = np.linspace(steps[0], steps[-1], num)
  nearest = np.abs(steps[:, np.newaxis] - wanted).argmin(axis=0)
  return [moments[i] for i in np.unique(nearest)]


def _scatter(axes: Any, points: np.ndarray, goal: np.ndarray,
             lengths: np.ndarray, sizes: np.ndarray) -> None:
  """Draws `[K, 3]` points coloured by their way to the goal, and the goal."""
  style = dict(edgecolor='black', lw=0.4, depthshade=False)
  # Or the goal hides behind what is close to it.
  axes.computed_zorder = False
  near = np.isfinite(lengths)
  if not near.all():
    axes.scatter(*points[~near].T, color='0.6', s=sizes[~near], **style,
                 label='no way to the goal')
  drawn = axes.scatter(*points[near].T, c=lengths[near], cmap='viridis_r',
                       s=sizes[near], **style)
  axes.scatter(*goal, marker='*', color='red', s=260, **style, zorder=5,
               label='goal $g^*$')
  axes.figure.colorbar(drawn, ax=axes, shrink=0.6,
                       label='cells to walk from there to the goal')
  axes.legend(frameon=False)


def _draw_sphere(axes: Any) -> None:
  """Draws lines of equal height and bearing."""
  bearing = np.linspace(0, 2 * np.pi, 60)
  for height in (-0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75):
    radius = np.sqrt(1 - height**2)
    axes.plot(radius * np.cos(bearing), radius * np.sin(bearing), height,
              color='0.8', lw=0.6)
  for angle in np.arange(0, np.pi, np.pi / 6):
    axes.plot(np.cos(angle) * np.cos(bearing), np.sin(angle) * np.cos(bearing),
              np.sin(bearing), color='0.8', lw=0.6)


if __name__ == '__main__':
  # A run that is still going keeps the GPU to itself.
  jax.config.update('jax_platforms', 'cpu')
  sys.exit(main())
