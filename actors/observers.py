"""What is measured of an episode: success, return, distance, cells, paths."""

from typing import Any, Optional, Protocol, runtime_checkable

import numpy as np

from actors.loop import Metrics, Step
from envs.spec import EnvSpec
from envs.vector import Located


class EpisodeObserver:
  """Return and length, and success where there is a goal.

  An episode succeeds when its rewards add up to at least one.
  """

  def __init__(self, num_envs: int, has_goals: bool = True,
               discount: Optional[float] = None):
    """Starts counting.

    Args:
      num_envs: number of environments.
      has_goals: whether there is a success to measure.
      discount: of a further return, counted from the episode's start; None
        measures none.
    """
    self._has_goals = has_goals
    self._discount = discount
    self._return = np.zeros(num_envs)
    self._discounted_return = np.zeros(num_envs)
    self._length = np.zeros(num_envs, np.int64)

  def observe_first(self, step: Step) -> None:
    """Forgets the last episode."""
    self._return[step.first] = 0.0
    self._discounted_return[step.first] = 0.0
    self._length[step.first] = 0

  def observe(self, step: Step) -> None:
    """Adds up rewards and steps."""
    moved = ~step.first
    reward = step.timestep.reward[moved]
    self._return[moved] += reward
    if self._discount is not None:
      self._discounted_return[moved] += (
          self._discount**self._length[moved] * reward)
    self._length[moved] += 1

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `episode_return`, `episode_length` and what else was asked for.

    That is `success` and `discounted_return`; `[n]` each.
    """
    total = self._return[finished]
    metrics = {
        'episode_return': total.copy(),
        'episode_length': self._length[finished].copy(),
    }
    if self._has_goals:
      metrics['success'] = (total >= 1.0).astype(np.float64)
    if self._discount is not None:
      metrics['discounted_return'] = self._discounted_return[finished].copy()
    return metrics


class DistanceObserver:
  """Distance between goal and reached goal entries: first, last, least."""

  def __init__(self, spec: EnvSpec, num_envs: int):
    """Measures the goal entries that success in `spec` is about."""
    measured = spec.success_indices or range(spec.goal_dim)
    self._reached = [spec.goal_indices[i] for i in measured]
    self._wanted = [spec.obs_dim + i for i in measured]
    self._initial = np.zeros(num_envs)
    self._current = np.zeros(num_envs)
    self._least = np.zeros(num_envs)

  def observe_first(self, step: Step) -> None:
    """Takes the first distance."""
    distance = self._distance(step)[step.first]
    for array in (self._initial, self._current, self._least):
      array[step.first] = distance

  def observe(self, step: Step) -> None:
    """Follows the distance."""
    self._current = self._distance(step)
    self._least = np.where(
        step.first, self._least, np.minimum(self._least, self._current))

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `init_dist`, `final_dist`, `delta_dist`, `min_dist`, `[n]`."""
    initial, final = self._initial[finished], self._current[finished]
    return {
        'init_dist': initial,
        'final_dist': final,
        'delta_dist': initial - final,
        'min_dist': self._least[finished],
    }

  def _distance(self, step: Step) -> np.ndarray:
    observation = step.timestep.observation
    return np.linalg.norm(
        observation[:, self._reached] - observation[:, self._wanted], axis=-1)


class PlaceObserver:
  """How many places were seen: in an episode, and ever by this observer."""

  def __init__(self, environment: Located, num_places: int, num_envs: int):
    """Watches where `environment` is.

    Args:
      environment: what the loop steps.
      num_places: places it tells apart.
      num_envs: number of environments.
    """
    self._environment = environment
    self._seen = np.zeros((num_envs, num_places), bool)
    self._ever = np.zeros(num_places, bool)

  def observe_first(self, step: Step) -> None:
    """Forgets the last episode."""
    self._seen[step.first] = False
    self._mark()

  def observe(self, step: Step) -> None:
    """Marks where every environment is."""
    del step
    self._mark()

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `places` and `places_ever`, `[n]` each."""
    ever = np.full(len(finished), int(self._ever.sum()))
    return {'places': self._seen[finished].sum(axis=1), 'places_ever': ever}

  def _mark(self) -> None:
    places = self._environment.places()
    self._seen[np.arange(len(places)), places] = True
    self._ever[places] = True


class CellObserver:
  """Steps spent in each cell of a maze, whose cells have side 1."""

  def __init__(self, spec: EnvSpec, num_envs: int):
    """Starts from zero in every cell.

    Args:
      spec: of a maze; positions lie within its bounds.
      num_envs: how many environments are watched.
    """
    assert spec.bounds is not None, f'{spec.name} has no bounds'
    self._indices = list(spec.position_indices)
    lower, upper = np.array(spec.bounds)
    self._lower = lower
    self._shape = tuple((upper - lower).astype(int).tolist())
    self._visits = np.zeros((num_envs, *self._shape), np.int64)

  def observe_first(self, step: Step) -> None:
    """Starts from zero."""
    self._visits[step.first] = 0

  def observe(self, step: Step) -> None:
    """Counts the cell each environment is in now."""
    positions = step.timestep.observation[:, self._indices] - self._lower
    # Who stands on the far border belongs to the last cell.
    cells = np.minimum(positions.astype(int), np.array(self._shape) - 1)
    moved = np.flatnonzero(~step.first)
    rows, columns = cells[moved].T
    self._visits[moved, rows, columns] += 1

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `cell_visits`, `[n, H, W]` steps."""
    return {'cell_visits': self._visits[finished].copy()}


@runtime_checkable
class ActsByOptions(Protocol):
  """A policy state that says which option is under way.

  Attributes:
    option: `[E]` its number, negative where there is none.
  """
  option: Any


class OptionObserver:
  """Share of each episode's steps that an option decided."""

  def __init__(self, num_envs: int):
    """Starts from zero."""
    self._inside = np.zeros(num_envs)
    self._steps = np.zeros(num_envs)

  def observe_first(self, step: Step) -> None:
    """Starts from zero."""
    self._inside[step.first] = 0.0
    self._steps[step.first] = 0.0

  def observe(self, step: Step) -> None:
    """Counts the steps; those of a warm-up know no options."""
    moved = ~step.first
    self._steps += moved
    if isinstance(step.policy_state, ActsByOptions):
      self._inside += moved & (np.asarray(step.policy_state.option) >= 0)

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `inside_options`, `[n]` from 0 to 1."""
    return {'inside_options':
            self._inside[finished] / np.maximum(self._steps[finished], 1.0)}


class PathObserver:
  """Positions visited by the first few environments, for figures."""

  def __init__(self, spec: EnvSpec, num_paths: int):
    """Keeps the paths of environments 0..num_paths - 1."""
    self._indices = list(spec.position_indices)
    self._num_paths = num_paths
    self._paths: list = []

  def observe_first(self, step: Step) -> None:
    """Begins new paths when the first environment begins an episode."""
    if step.first[0]:
      self._paths = [self._positions(step)]

  def observe(self, step: Step) -> None:
    """Appends the positions."""
    if not step.first[0]:
      self._paths.append(self._positions(step))

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Contributes no metric; see `paths`."""
    del finished
    return {}

  def paths(self) -> np.ndarray:
    """Returns `[steps, num_paths, P]` positions of the last episodes."""
    return np.stack(self._paths)

  def _positions(self, step: Step) -> np.ndarray:
    return step.timestep.observation[:self._num_paths, self._indices].copy()
