"""Point mazes whose states and goals also hold features of their cell.

The features are zero but in a few cells, so that places which look alike can be
told apart; success is about the position alone.
"""

import dataclasses
from typing import Optional, Sequence

import dm_env
from dm_env import specs
import numpy as np

from envs import point_maze, vector
from envs.point_maze import PointMaze
from envs.spec import EnvSpec

EXTRA_DIM = 8
FEATURE_VALUE = 10.0
# (row, column); a map that is too small goes without some.
MARKED_CELLS = ((6, 1), (3, 5), (4, 2), (7, 8), (0, 6), (6, 0), (8, 2))


def cell_features(layout_name: str, extra_dim: int = EXTRA_DIM) -> np.ndarray:
  """Returns the features of every cell of a map, `[H, W, extra_dim]`."""
  height, width = point_maze.LAYOUTS[layout_name].walls.shape
  features = np.zeros((height, width, extra_dim), np.float32)
  for row, column in MARKED_CELLS:
    if row < height and column < width:
      features[row, column] = FEATURE_VALUE
  return features


def look_up(features: np.ndarray, position: np.ndarray) -> np.ndarray:
  """Returns the features `[..., N]` of the cells positions `[..., 2]` are in.

  The far border belongs to the last cell, as it does for walls.
  """
  cell = np.floor(position).astype(np.int32)
  row = np.clip(cell[..., 0], 0, features.shape[0] - 1)
  column = np.clip(cell[..., 1], 0, features.shape[1] - 1)
  return features[row, column]


class FeatureMaze:
  """E point mazes with features; implements `VectorEnvironment`.

  Episodes start exactly at the fixed start.
  """

  def __init__(self,
               layout_name: str,
               num_envs: int = 1,
               seed: int = 0,
               sample_goals: bool = False,
               goal: Optional[Sequence[float]] = None,
               extra_dim: int = EXTRA_DIM):
    """Builds the mazes.

    Args:
      layout_name: a key of `point_maze.LAYOUTS`.
      num_envs: how many environments step together.
      seed: seeds this instance's own generator.
      sample_goals: draw start and goal uniformly from free cells each episode.
      goal: overrides the layout's goal, features included.
      extra_dim: number of features.
    """
    self.num_envs = num_envs
    self.spec = feature_spec(layout_name, sample_goals, goal, extra_dim)
    self._features = cell_features(layout_name, extra_dim)
    self._maze = PointMaze(
        layout_name, num_envs, seed, sample_goals, self.spec.goal_position,
        jitter=False)

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode in every environment."""
    return self._with_features(self._maze.reset())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps every environment; finished ones start a new episode instead."""
    return self._with_features(self._maze.step(action))

  def observation_spec(self) -> specs.Array:
    """Spec of one environment's observation."""
    return vector.default_observation_spec(self.spec)

  def action_spec(self) -> specs.BoundedArray:
    """Spec of one environment's action."""
    return vector.default_action_spec(self.spec)

  def _with_features(self, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
    """Turns `[position, goal]` into states and goals with features."""
    position, goal = np.split(timestep.observation, 2, axis=-1)
    state = np.concatenate(
        [position, look_up(self._features, position)], axis=-1)
    if self.spec.goal is None:
      goal = np.concatenate([goal, look_up(self._features, goal)], axis=-1)
    else:
      goal = np.tile(np.array(self.spec.goal, np.float32), (self.num_envs, 1))
    return timestep._replace(
        observation=np.concatenate([state, goal], axis=-1))


def feature_spec(layout_name: str,
                 sample_goals: bool = False,
                 goal: Optional[Sequence[float]] = None,
                 extra_dim: int = EXTRA_DIM) -> EnvSpec:
  """Returns the static facts of one point maze with features.

  Args:
    layout_name: a key of `point_maze.LAYOUTS`.
    sample_goals: whether start and goal are drawn each episode.
    goal: overrides the layout's goal, features included.
    extra_dim: number of features.
  """
  plain = point_maze.maze_spec(
      layout_name, sample_goals, None if goal is None else goal[:2],
      jitter=False)
  whole = plain.goal
  if whole is not None and goal is not None:
    whole = tuple(float(v) for v in goal)
  elif whole is not None:
    features = look_up(cell_features(layout_name, extra_dim), np.array(whole))
    whole = (*whole, *features.tolist())
  obs_dim = plain.obs_dim + extra_dim
  return dataclasses.replace(
      plain,
      name=f'random_point_{layout_name}',
      obs_dim=obs_dim,
      goal_indices=tuple(range(obs_dim)),
      goal=whole,
      success_indices=plain.position_indices)
