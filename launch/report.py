"""Draws what came of runs, from the files they left.

python launch/report.py RUN_DIR...

Each run gets maze.png, curves.png and similarity.png in its figures folder, an
agent under commands also command_grid.png; several runs get one more curves.png
together, with means over seeds.
"""

import argparse
import os
import sys
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import jax
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
import numpy as np

from actors.commands import GRID
from envs import registry as env_registry
from envs.spec import EnvSpec
from launch import command_grid, curves, embeddings, run_folder, summary
from launch import experiment as experiment_lib
from launch.errors import ConfigError
from launch.experiment import Experiment
from learners import checkpoint
from learners import registry as learner_registry
from learners.agent import Agent, Representations
from safety import regions as region_lib

# Squares of the heat map, and points of the similarity map, per cell and axis.
HEAT_RESOLUTION = 2
SIMILARITY_RESOLUTION = 8
WALL_COLOR = '0.35'


class Missing(Exception):
  """A figure needs what the run does not have, or not yet."""


class Run(NamedTuple):
  """A run to draw.

  Attributes:
    path: its folder, wherever that is now.
    experiment: what it was asked to do.
    spec: of the environment as evaluated, with fixed start and goal.
  """
  path: str
  experiment: Experiment
  spec: EnvSpec


def load(path: str) -> Run:
  """Reads what a run folder says of its run.

  Raises:
    ValueError: if it is no run folder, or its settings cannot be read.
  """
  try:
    experiment = run_folder.load(path)
    spec = env_registry.spec(experiment.env, goal=experiment.fixed_goal)
  except ConfigError as e:
    raise ValueError('; '.join(e.problems)) from e
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise ValueError(f'{path}/config.json cannot be read: {e!r}') from e
  return Run(path, experiment, spec)


def maze_figure(run: Run) -> Figure:
  """Draws the maze, with the paths of the last evaluation if there was one."""
  walls = walls_of(run)
  figure = Figure(figsize=(8, 8), layout='constrained')
  axes = figure.add_subplot()
  title = run.experiment.run_name
  path = run_folder.eval_paths_path(run.path)
  if os.path.exists(path):
    with np.load(path, allow_pickle=False) as stored:
      paths, steps = stored['paths'], int(stored['actor_steps'])
    title += (f'\n{paths.shape[1]} evaluation episodes after {steps:,} '
              'environment steps')
    _draw_paths(axes, paths, walls)
  else:
    _note(run.path, 'no evaluation yet; maze.png has no paths')
  draw_maze(axes, run, walls)
  axes.set_title(title)
  figure.legend(loc='outside lower center', ncols=3, frameon=False)
  return figure


def curves_figure(runs: Sequence[Run]) -> Figure:
  """Draws success and region visits over environment steps."""
  figure = curves.figure_of({run.path: run.experiment for run in runs})
  if figure is None:
    raise Missing('no actor or evaluator log yet')
  for role in curves.ROLES:
    # Of several runs each has had this said already, with its own curves.
    if len(runs) == 1 and not summary.read_log(runs[0].path, role):
      _note(runs[0].path, f'no {role} log yet; curves.png goes without it')
  return figure


def similarity_figure(run: Run) -> Figure:
  """Draws psi(s).psi(g*) over the free space, from the newest checkpoint."""
  walls = walls_of(run)
  restored = load_checkpoint(run)
  similarity = similarity_map(run, restored.state)
  largest = float(np.nanmax(np.abs(similarity[1])))
  figure = Figure(figsize=(14, 7.2), layout='constrained')
  for axes, title, values, limit in zip(
      figure.subplots(1, 2),
      (r'cosine similarity of $\psi(s)$ and $\psi(g^*)$, from -1 to 1',
       r'inner product $\psi(s) \cdot \psi(g^*)$'), similarity, (1.0, largest)):
    image = axes.imshow(
        values, origin='lower', cmap='coolwarm', extent=extent_of(walls),
        norm=Normalize(-limit, limit), zorder=1)
    figure.colorbar(image, ax=axes, shrink=0.8)
    # Or the two images could leave a gap between them.
    axes.set_facecolor(WALL_COLOR)
    draw_maze(axes, run, walls)
    axes.set_title(title)
  figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center',
                ncols=5, frameon=False)
  title = f'{run.experiment.run_name} after {restored.meta["step"]:,} updates'
  if experiment_lib.regions(run.experiment):
    title += '\nin the regions, $\\psi(s)$ is set by the mask, not learned'
  figure.suptitle(title)
  return figure


def command_grid_figure(run: Run, agent: Agent) -> Figure:
  """Draws what came of each command in the last round of evaluation."""
  path = run_folder.evaluation_path(run.path)
  if not os.path.exists(path):
    raise Missing('no evaluation yet')
  name = agent.command_names[0]
  with np.load(path, allow_pickle=False) as stored:
    return command_grid.figure(
        stored[f'{GRID}_commanded_{name}'], stored[f'{GRID}_episode_return'],
        name, f'{run.experiment.run_name}\nafter '
        f'{int(stored["actor_steps"]):,} environment steps')


def similarity_map(run: Run, state: Any) -> Tuple[np.ndarray, np.ndarray]:
  """Returns how alike psi(s) and psi(g*) are: cosine and inner product.

  Both are images `[H, W]`, row 0 first, NaN in walls.
  """
  size = SIMILARITY_RESOLUTION
  free = ~walls_of(run).repeat(size, axis=0).repeat(size, axis=1)
  # Pixel centres, so that none lies on the border of a wall or a region.
  found = representations(run, state, (np.argwhere(free) + 0.5) / size)
  return (image_of(free, embeddings.cosines(found.of_points, found.of_goal)),
          image_of(free, found.of_points @ found.of_goal))


def image_of(free: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Puts values `[K]` where `free`, `[H, W]`, is true; NaN elsewhere."""
  image = np.full(free.shape, np.nan)
  image[free] = values
  return image


def representations(run: Run, state: Any,
                    points: np.ndarray) -> Representations:
  """Returns what the agent's critic makes of positions `[K, 2]`.

  Raises:
    Missing: if it represents no goals.
  """
  algorithm = learner_registry.ALGORITHMS[run.experiment.alg]
  if algorithm.representations is None:
    raise Missing(f'{run.experiment.alg} does not represent goals')
  try:
    return algorithm.representations(
        run.experiment.agent, run.spec,
        experiment_lib.safety_mask(run.experiment, run.spec), state, points)
  except ValueError as e:
    raise Missing(str(e)) from e


def agent_of(run: Run) -> Agent:
  """Returns the agent that the run trains."""
  algorithm = learner_registry.ALGORITHMS[run.experiment.alg]
  return algorithm.make_agent(
      run.experiment.agent, run.spec,
      experiment_lib.safety_mask(run.experiment, run.spec))


def template(run: Run) -> Any:
  """Returns a state like those in the run's checkpoints."""
  return agent_of(run).init(jax.random.key(0))


def load_checkpoint(run: Run) -> checkpoint.Restored:
  """Reads the newest checkpoint.

  Raises:
    Missing: if there is none that is readable and fits the run's agent.
  """
  try:
    restored = checkpoint.load_latest(
        run_folder.checkpoint_dir(run.path), template(run))
  except ValueError as e:
    raise Missing(str(e)) from e
  if restored is None:
    raise Missing('no checkpoint yet')
  return restored


def read_checkpoint(path: str, template: Any) -> checkpoint.Restored:
  """Reads the checkpoint in the folder `path`.

  Raises:
    Missing: if it cannot be read, or is not like the template.
  """
  try:
    restored = checkpoint.load(path, template)
  except ValueError as e:
    raise Missing(str(e)) from e
  if restored is None:
    raise Missing(f'{path} cannot be read')
  return restored


def visit_counts(paths: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
  """Counts positions `[..., 2]` in squares of a maze of `shape` cells."""
  rows, columns = paths.reshape(-1, 2).T
  counts, _, _ = np.histogram2d(
      rows, columns, bins=[n * HEAT_RESOLUTION for n in shape],
      range=[(0, n) for n in shape])
  return counts


def main(argv: Optional[Sequence[str]] = None) -> int:
  """Draws the runs named on the command line; returns an exit status."""
  parser = argparse.ArgumentParser(description='Draws figures of runs.')
  parser.add_argument('run_dir', nargs='+', help='folder of a run')
  parser.add_argument('--output_dir', help='where the curves of several runs '
                      'go; default: figures/ in the folder that holds the runs')
  args = parser.parse_args(argv)
  folders = list(dict.fromkeys(os.path.abspath(p) for p in args.run_dir))
  if args.output_dir and len(folders) == 1:
    parser.error('--output_dir is for several runs; one run has its figures in '
                 'its own folder')
  runs, problems = [], []
  for folder in folders:
    try:
      runs.append(load(folder))
    except ValueError as e:
      problems.append(str(e))
  if problems:
    print('\n'.join(problems), file=sys.stderr)
    return 2
  try:
    _report(runs, args.output_dir)
  except OSError as e:
    print(f'stopped: {e}', file=sys.stderr)
    return 1
  return 0


def _report(runs: List[Run], output_dir: Optional[str]) -> None:
  """Writes every figure there is something for."""
  for run in runs:
    folder = run_folder.figures_dir(run.path)
    write(run.path, folder, 'maze.png', lambda: maze_figure(run))
    write(run.path, folder, 'curves.png', lambda: curves_figure([run]))
    write(run.path, folder, 'similarity.png', lambda: similarity_figure(run))
    agent = agent_of(run)
    if GRID in agent.eval_policies:
      write(run.path, folder, 'command_grid.png',
            lambda: command_grid_figure(run, agent))
  if len(runs) > 1:
    parent = os.path.commonpath([os.path.dirname(run.path) for run in runs])
    write('all runs', output_dir or run_folder.figures_dir(parent),
           'curves.png', lambda: curves_figure(runs))


def write(whose: str, folder: str, name: str,
           draw: Callable[[], Figure]) -> None:
  """Writes one figure and prints its path, or says what is missing."""
  try:
    figure = draw()
  except Missing as e:
    _note(whose, f'{e}; no {name}')
    return
  os.makedirs(folder, exist_ok=True)
  path = os.path.join(folder, name)
  figure.savefig(path, dpi=110)
  print(path, flush=True)


def _note(whose: str, text: str) -> None:
  print(f'{whose}: {text}', file=sys.stderr, flush=True)


def walls_of(run: Run) -> np.ndarray:
  """Returns the wall grid `[H, W]`.

  Raises:
    Missing: if the environment is no maze.
  """
  walls = env_registry.lookup(run.experiment.env).walls
  if walls is None:
    raise Missing(f'{run.experiment.env} is no maze')
  return walls


def extent_of(walls: np.ndarray) -> Tuple[float, float, float, float]:
  """Returns where an image of the maze lies: left, right, bottom, top."""
  return 0.0, float(walls.shape[1]), 0.0, float(walls.shape[0])


def _draw_paths(axes: Axes, paths: np.ndarray, walls: np.ndarray) -> None:
  """Draws paths `[T, k, 2]` over the time they spend where."""
  heat = visit_counts(paths, walls.shape) / paths.shape[1]
  image = axes.imshow(
      np.where(heat > 0, heat, np.nan), origin='lower', cmap='YlGnBu',
      norm=LogNorm(), extent=extent_of(walls), zorder=1)
  axes.figure.colorbar(
      image, ax=axes, shrink=0.8, format='%g', label='steps per episode in a '
      f'square of side {1 / HEAT_RESOLUTION:g} (log scale)')
  lines = axes.plot(paths[..., 1], paths[..., 0], color='0.2', alpha=0.4,
                    lw=0.8, zorder=3)
  lines[0].set_label('evaluation path')


def draw_maze(axes: Axes, run: Run, walls: np.ndarray) -> None:
  """Draws walls, regions, start and goal, and labels the axes."""
  axes.imshow(np.where(walls, 1.0, np.nan), cmap=ListedColormap([WALL_COLOR]),
              origin='lower', extent=extent_of(walls), zorder=2)
  avoided = experiment_lib.regions(run.experiment)
  audited = experiment_lib.audited_regions(run.experiment)
  _draw_boxes(axes, avoided, label='region to avoid', hatch='//', ls='-')
  if audited != avoided:
    _draw_boxes(axes, audited, label='region whose visits are counted', ls=':')
  start, goal = run.spec.start, run.spec.goal
  assert start is not None and goal is not None
  axes.plot(start[1], start[0], 'o', color='lime', mec='black', ms=11, ls='',
            clip_on=False, zorder=5, label='start')
  axes.plot(goal[1], goal[0], '*', color='red', mec='black', ms=18, ls='',
            clip_on=False, zorder=5, label='goal $g^*$')
  axes.add_patch(Circle(
      (goal[1], goal[0]), run.spec.success_radius, fill=False, ec='black',
      ls=':', zorder=4, label='success radius'))
  axes.set(xlabel='column (y)', ylabel='row (x)', aspect='equal')


def _draw_boxes(axes: Axes, boxes: region_lib.Regions, label: str,
                **style: Any) -> None:
  for i, box in enumerate(boxes):
    # Columns are the horizontal axis.
    (bottom, left), (top, right) = box.lower, box.upper
    axes.add_patch(Rectangle(
        (left, bottom), right - left, top - bottom, fill=False, ec='red',
        lw=1.5, zorder=4, label=None if i else label, **style))


if __name__ == '__main__':
  # A run that is still going keeps the GPU to itself.
  jax.config.update('jax_platforms', 'cpu')
  sys.exit(main())
