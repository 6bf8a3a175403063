"""Figures and animations of tabular runs."""

from typing import List, Mapping, Optional, Sequence, Tuple

from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
import numpy as np

from launch.curves import rolling_mean, standard_error
from learners.tabular import environments
from learners.tabular.environments import Environment, NUM_PEGS
from learners.tabular.training import NUM_RECENT, Snapshot

# Training episodes that success is averaged over.
WINDOW = 100
MAZE_FPS = 5
HANOI_FPS = 10
# Frames the towers stand still at the end of an episode.
_HOLD = 5
SIMILARITY = r'$\psi(s) \cdot \psi(g)$'


def success_figure(runs: Mapping[str, np.ndarray], title: str) -> Figure:
  """Draws success over training episodes.

  Args:
    runs: by label, `[seeds, N]` share of each episode's steps at the goal.
    title: of the figure.

  Returns:
    A mean over seeds with a band of one standard error for each label, and the
    seeds themselves where there is one label.
  """
  figure = Figure(figsize=(8, 5), layout='constrained')
  axes = figure.add_subplot()
  for k, (label, success) in enumerate(runs.items()):
    averages = rolling_mean(success > 0, WINDOW)
    num_seeds, num_episodes = averages.shape
    episodes = np.arange(1, num_episodes + 1)
    mean = averages.mean(axis=0)
    if num_seeds > 1:
      error = standard_error(averages)
      # A share lies between 0 and 1, whatever the error.
      axes.fill_between(episodes, np.maximum(mean - error, 0.0),
                        np.minimum(mean + error, 1.0), color=f'C{k}',
                        alpha=0.3, lw=0)
      if len(runs) == 1:
        axes.plot(episodes, averages.T, color='0.6', lw=0.5, zorder=1)
    axes.plot(episodes, mean, color=f'C{k}', lw=2,
              label=f'{label}, {num_seeds} seed(s)')
  axes.set(xlabel='Training Episodes', ylim=(-0.02, 1.02), title=title,
           ylabel=f'success, mean of the last {WINDOW} episodes')
  axes.set_xlim(left=0)
  axes.grid(alpha=0.3)
  axes.legend(loc='upper left', frameon=False)
  return figure


def spaced(num: int, at_most: int) -> List[int]:
  """Returns up to `at_most` indices below `num`, the last one included."""
  return sorted(set(np.linspace(num - 1, 0, min(num, at_most)).astype(int)))


def animate(environment: Environment, snapshots: Sequence[Snapshot],
            max_frames: int, label: str = SIMILARITY,
            region: Optional[np.ndarray] = None) -> FuncAnimation:
  """Animates snapshots of one seed in whichever way suits the environment.

  Args:
    environment: a maze or the Towers of Hanoi.
    snapshots: in order.
    max_frames: frames at most; snapshots are left out evenly.
    label: what the similarity is called.
    region: `[S]` bool, cells of a maze to outline.

  Returns:
    An animation, which a notebook shows as HTML; see `save_gif`.
  """
  if environments.is_maze(environment):
    return _animate_maze(environment, snapshots, max_frames, label, region)
  return _animate_hanoi(environment, snapshots, max_frames, label)


def save_gif(animation: FuncAnimation, environment: Environment,
             path: str) -> None:
  """Writes an animation at the speed that suits the environment."""
  fps = MAZE_FPS if environments.is_maze(environment) else HANOI_FPS
  animation.save(path, writer=PillowWriter(fps=fps), dpi=80)


class MazePanel:
  """One maze: similarity, walls, greedy path, start and goal."""

  def __init__(self, axes: Axes, environment: Environment, label: str,
               region: Optional[np.ndarray] = None):
    self._environment = environment
    self._axes = axes
    walls = ~environment.free.reshape(environment.shape)
    self.image = axes.imshow(
        np.zeros(environment.shape), cmap='viridis', origin='lower', vmin=0.0,
        vmax=1.0)
    axes.figure.colorbar(self.image, ax=axes, label=label)
    axes.imshow(np.where(walls, 1.0, np.nan), cmap=ListedColormap(['black']),
                origin='lower', alpha=0.5)
    (self._path,) = axes.plot([], [], color='black', lw=2, label='greedy path')
    _mark(axes, environment, environment.start, 'o', 'lime', 'start')
    _mark(axes, environment, environment.goal, '*', 'red', 'goal')
    if region is not None:
      axes.add_patch(_outline(region.reshape(environment.shape)))
    axes.set(xlabel='column', ylabel='row')

  def show(self, snapshot: Snapshot) -> None:
    """Shows a snapshot."""
    shape = self._environment.shape
    # Walls have rows of psi too, which nothing is learned for.
    similarity = np.where(self._environment.free, snapshot.similarity, np.nan)
    self.image.set_data(similarity.reshape(shape))
    self.image.set_clim(min(0.0, float(np.nanmin(similarity))), 1.0)
    rows, columns = np.unravel_index(snapshot.eval_path, shape)
    self._path.set_data(columns, rows)
    self._axes.set_title(f'Trial {snapshot.episode:,}')


def _mark(axes: Axes, environment: Environment, state: int, marker: str,
          color: str, label: str) -> None:
  row, column = np.unravel_index(state, environment.shape)
  axes.plot(column, row, marker, color=color, mec='black', ls='', label=label,
            ms=16 if marker == '*' else 11, zorder=5)


def _outline(inside: np.ndarray) -> Rectangle:
  """Returns the rectangle around `[H, W]` cells."""
  cells = np.argwhere(inside)
  (bottom, left), (top, right) = cells.min(axis=0), cells.max(axis=0)
  return Rectangle(
      (left - 0.5, bottom - 0.5), right - left + 1, top - bottom + 1,
      fill=False, ec='red', hatch='/', lw=1.5, label='region')


def _animate_maze(environment: Environment, snapshots: Sequence[Snapshot],
                  max_frames: int, label: str,
                  region: Optional[np.ndarray]) -> FuncAnimation:
  """One frame per snapshot."""
  shown = [snapshots[i] for i in spaced(len(snapshots), max_frames)]
  figure = Figure(figsize=(6.4, 5.6))
  axes = figure.add_subplot()
  panel = MazePanel(axes, environment, label, region)
  axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.1), ncols=4,
              frameon=False)
  figure.subplots_adjust(left=0.08, right=0.98, top=0.93, bottom=0.15)

  def draw(i: int) -> List[Artist]:
    panel.show(shown[i])
    return []

  return FuncAnimation(figure, draw, frames=len(shown), init_func=lambda: [],
                       interval=1000 / MAZE_FPS)


def _animate_hanoi(environment: Environment, snapshots: Sequence[Snapshot],
                   max_frames: int, label: str) -> FuncAnimation:
  """One frame per step of each snapshot's greedy episode."""
  steps = [_shown_steps(environment, s.eval_path) for s in snapshots]
  kept = spaced(
      len(snapshots), max(1, max_frames // max(len(s) for s in steps)))
  frames = [(snapshots[i], t) for i in kept for t in steps[i]]
  # One episode alone may be longer.
  frames = [frames[i] for i in spaced(len(frames), max_frames)]
  figure = Figure(figsize=(11, 5.6))
  panels = HanoiPanels(figure, environment, label)

  def draw(i: int) -> List[Artist]:
    panels.show(*frames[i])
    return []

  return FuncAnimation(figure, draw, frames=len(frames), init_func=lambda: [],
                       interval=1000 / HANOI_FPS)


def _shown_steps(environment: Environment, path: np.ndarray) -> List[int]:
  """Returns the steps up to the goal or the last move; that one stays."""
  at_goal = np.flatnonzero(path == environment.goal)
  moves = np.flatnonzero(np.diff(path))
  last = int(at_goal[0] if at_goal.size else moves[-1] + 1 if moves.size else 0)
  return list(range(last)) + [last] * (1 + _HOLD)


class HanoiPanels:
  """Similarity of every state, visits to them, and the towers."""

  def __init__(self, figure: Figure, environment: Environment, label: str):
    self._environment = environment
    num_states = len(environment.next_state)
    self._edges = np.arange(num_states + 1) - 0.5
    grid = figure.add_gridspec(
        2, 2, width_ratios=(2, 1), left=0.07, right=0.98, top=0.93, bottom=0.14,
        hspace=0.25, wspace=0.08)
    self._similarity_axes = figure.add_subplot(grid[0, 0])
    self._visits_axes = figure.add_subplot(
        grid[1, 0], sharex=self._similarity_axes)
    towers_axes = figure.add_subplot(grid[:, 1])
    towers_axes.set_axis_off()
    zeros = np.zeros(num_states)
    self._similarity = self._similarity_axes.stairs(
        zeros, self._edges, baseline=0.0, fill=True, color='C0')
    self._visits = [
        self._visits_axes.stairs(
            zeros, self._edges, baseline=zeros, fill=True, color=color,
            label=name) for name, color in _visit_styles()]
    self._towers = towers_axes.text(
        0.5, 0.5, '', family='monospace', ha='center', va='center',
        fontsize=14 if len(environment.shape) < 5 else 10)
    self._title = towers_axes.text(
        0.5, 0.9, '', ha='center', fontsize=13)
    self._decorate(label)

  def _decorate(self, label: str) -> None:
    """Sets what no frame changes."""
    environment = self._environment
    self._similarity_axes.set(ylim=(-1.05, 1.05), ylabel=label)
    self._similarity_axes.axhline(0.0, color='black', lw=0.6)
    for axes in (self._similarity_axes, self._visits_axes):
      axes.axvline(environment.goal, color='red', ls=':', lw=1)
    self._visits_axes.set(
        xlabel='state: peg of each disc, smallest first', ylabel='visits',
        xlim=(self._edges[0], self._edges[-1]))
    num_states = len(environment.next_state)
    ticks = np.arange(0, num_states, max(1, num_states // 27))
    ticks = np.union1d(ticks, [environment.goal])
    self._visits_axes.set_xticks(ticks, [
        ''.join(map(str, np.unravel_index(s, environment.shape)))
        for s in ticks], rotation=90, fontsize=7)
    self._similarity_axes.tick_params(labelbottom=False)
    self._visits_axes.legend(ncols=3, fontsize=7, loc='upper center',
                             frameon=False)

  def show(self, snapshot: Snapshot, step: int) -> None:
    """Shows a snapshot at one step of its greedy episode."""
    self._similarity.set_data(snapshot.similarity)
    counts = visit_counts(snapshot, len(self._environment.next_state))
    below = np.zeros(counts.shape[1])
    for patch, row in zip(self._visits, counts):
      patch.set_data(below + row, baseline=below)  # type: ignore[arg-type]
      below = below + row
    # Room for the legend.
    self._visits_axes.set_ylim(0, 1.4 * max(1.0, below.max()))
    state = int(snapshot.eval_path[step])
    done = state == self._environment.goal
    pegs = np.unravel_index(state, self._environment.shape)
    self._towers.set_text(towers(tuple(int(p) for p in pegs)))
    self._towers.set_color('green' if done else 'black')
    self._title.set_text(f'Trial {snapshot.episode:,}, greedy step {step}')


def _visit_styles() -> List[Tuple[str, str]]:
  """Returns label and colour of each layer, from the bottom."""
  ages = range(NUM_RECENT, 0, -1)
  layers = [('last training episode' if age == 1 else f'{age} episodes ago',
             f'C{age}') for age in ages]
  return layers + [('greedy episode', 'black')]


def visit_counts(snapshot: Snapshot, num_states: int) -> np.ndarray:
  """Counts visits, `[NUM_RECENT + 1, S]`: training, then the greedy episode."""
  counts = np.zeros((NUM_RECENT + 1, num_states), int)
  paths = [*snapshot.recent_paths, snapshot.eval_path]
  for row, path in zip(counts[-len(paths):], paths):
    row += np.bincount(path, minlength=num_states)
  return counts


def towers(pegs: Tuple[int, ...]) -> str:
  """Draws the towers in text, given the peg of each disc, smallest first."""
  width = 2 * len(pegs) + 1
  lines = []
  stacks = [[disc for disc, peg in enumerate(pegs) if peg == p]
            for p in range(NUM_PEGS)]
  for level in range(len(pegs), -1, -1):
    cells = []
    for stack in stacks:
      # The largest disc lies at level 0.
      disc = stack[-1 - level] if level < len(stack) else None
      drawn = '|' if disc is None else '=' * (2 * disc + 3)
      cells.append(drawn.center(width))
    lines.append(' '.join(cells))
  return '\n'.join(lines + ['-' * (width * NUM_PEGS + NUM_PEGS - 1)])


def region_figure(environment: Environment, region: np.ndarray,
                  shown: Mapping[str, Snapshot]) -> Figure:
  """Draws mazes side by side on one colour scale.

  Args:
    environment: the maze.
    region: `[S]` bool, cells to outline.
    shown: what to draw, by title.
  """
  figure = Figure(figsize=(5.2 * len(shown), 5), layout='constrained')
  least = min(float(s.similarity[environment.free].min())
              for s in shown.values())
  for axes, (title, snapshot) in zip(
      figure.subplots(1, len(shown), squeeze=False)[0], shown.items()):
    panel = MazePanel(axes, environment, SIMILARITY, region)
    panel.show(snapshot)
    panel.image.set_clim(min(0.0, least), 1.0)
    axes.set_title(title)
  figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center',
                ncols=4, frameon=False)
  return figure
