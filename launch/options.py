"""Draws the representation and the options of a DCEO run in grid rooms.

python launch/options.py RUN_DIR

Writes in the run's figures folder
  eigenfunctions.png  what each dimension of the representation is, cell by cell
  options.png         what each option does in each cell, and where it leads
"""

import argparse
import os
import sys
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import jax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from envs import grid_rooms
from launch import report, run_folder
from launch.report import Missing, Run
from learners.dceo import agent as agent_lib
from learners.dceo import analysis
from learners.dceo import config as config_lib

# Options are followed for so many mean lengths, to where they would end up.
LENGTHS_FOLLOWED = 4
_PREFIX = 'grid_'


class Cells(NamedTuple):
  """The free cells of a map, in reading order.

  Attributes:
    rows_columns: `[N, 2]`.
    frames: `[N, H, W]` what is seen there.
    next_cell: `[N, A]` where moves lead.
    shape: (H, W).
  """
  rows_columns: np.ndarray
  frames: np.ndarray
  next_cell: np.ndarray
  shape: Any


def cells_of(layout: grid_rooms.Rooms) -> Cells:
  """Returns the free cells of a map before any change."""
  walls = layout.walls
  where = np.argwhere(~walls)
  wanted = where[:, np.newaxis] + grid_rooms.MOVES            # [N, A, 2]
  blocked = walls[wanted[..., 0], wanted[..., 1]]
  next_cell = np.where(blocked, np.arange(len(where))[:, np.newaxis],
                       layout.numbers[wanted[..., 0], wanted[..., 1]])
  return Cells(where, grid_rooms.frames(layout.empty_frame, where), next_cell,
               walls.shape)


def eigenfunctions_figure(run: Run, state: Any, cells: Cells) -> Figure:
  """Draws phi over the cells, one map a dimension."""
  config = run.experiment.agent
  phi = analysis.representation(
      config, agent_lib.make_networks(config, run.spec), state, cells.frames)
  figure, maps = _maps(phi.shape[1])
  for dim, axes in enumerate(maps):
    limit = float(np.abs(phi[:, dim]).max())
    image = axes.imshow(_image(cells, phi[:, dim]), cmap='coolwarm',
                        vmin=-limit, vmax=limit)
    axes.set_title(f'dimension {dim}')
    figure.colorbar(image, ax=axes, shrink=0.7)
  figure.suptitle(f'{run.experiment.run_name}: representation')
  return figure


def options_figure(run: Run, state: Any, cells: Cells) -> Figure:
  """Draws the likeliest move of each option, and where it leads."""
  config = run.experiment.agent
  actions = analysis.option_actions(
      config, agent_lib.make_networks(config, run.spec), state, cells.frames)
  num_steps = round(LENGTHS_FOLLOWED * config.option_duration)
  ends = analysis.follow(cells.next_cell, actions, num_steps)
  figure, maps = _maps(len(actions))
  for o, axes in enumerate(maps):
    share = np.bincount(ends[o], minlength=len(cells.frames)) / len(ends[o])
    image = axes.imshow(_image(cells, share), cmap='YlOrRd', vmin=0.0)
    figure.colorbar(image, ax=axes, shrink=0.7)
    move = grid_rooms.MOVES[actions[o]]
    axes.quiver(cells.rows_columns[:, 1], cells.rows_columns[:, 0],
                move[:, 1], -move[:, 0], scale=40, width=0.004)
    sign = '+' if config_lib.option_directions(config)[o] > 0 else '-'
    axes.set_title(
        f'option {o}: {sign} dimension {config_lib.option_dims(config)[o]}')
  figure.suptitle(
      f'{run.experiment.run_name}: the move each option prefers (arrows), and '
      f'the share of\nall cells from which {num_steps} such moves end here')
  return figure


def _maps(num: int) -> Tuple[Figure, List[Axes]]:
  """Returns a figure of `num` maps, at most three in a row."""
  columns = min(num, 3)
  rows = -(-num // columns)
  figure = Figure(figsize=(4.6 * columns, 4.4 * rows + 0.6),
                  layout='constrained')
  maps = list(figure.subplots(rows, columns, squeeze=False).ravel())
  for axes in maps:
    axes.set(xticks=[], yticks=[], facecolor=report.WALL_COLOR)
  for axes in maps[num:]:
    axes.remove()
  return figure, maps[:num]


def _image(cells: Cells, values: np.ndarray) -> np.ndarray:
  image = np.full(cells.shape, np.nan)
  image[tuple(cells.rows_columns.T)] = values
  return image


def draw(run: Run) -> List[str]:
  """Writes the figures of a run; returns their paths.

  Raises:
    Missing: if the run has no options or is not in grid rooms.
  """
  experiment = run.experiment
  if not experiment.env.startswith(_PREFIX):
    raise Missing(f'{experiment.env} has no cells to draw, grid rooms have')
  if experiment.alg != 'dceo':
    raise Missing(f'{experiment.alg} has no options, dceo has')
  state = report.load_checkpoint(run).state
  cells = cells_of(grid_rooms.LAYOUTS[experiment.env[len(_PREFIX):]])
  folder = run_folder.figures_dir(run.path)
  os.makedirs(folder, exist_ok=True)
  paths = []
  for name, figure in (
      ('eigenfunctions', eigenfunctions_figure(run, state, cells)),
      ('options', options_figure(run, state, cells))):
    paths.append(os.path.join(folder, f'{name}.png'))
    figure.savefig(paths[-1], dpi=100)
  return paths


def main(argv: Optional[Sequence[str]] = None) -> int:
  """Draws the runs named on the command line; returns an exit status."""
  parser = argparse.ArgumentParser(
      description='Draws the options of runs of DCEO in grid rooms.')
  parser.add_argument('run_dirs', nargs='+', help='folders of runs')
  status = 0
  for path in parser.parse_args(argv).run_dirs:
    try:
      print('\n'.join(draw(report.load(os.path.abspath(path)))))
    except ValueError as e:
      print(e, file=sys.stderr)
      status = 2
    except (Missing, OSError) as e:
      print(f'{path}: {e}', file=sys.stderr)
      status = max(status, 1)
  return status


if __name__ == '__main__':
  # A run that is still going keeps the GPU to itself.
  jax.config.update('jax_platforms', 'cpu')
  sys.exit(main())
