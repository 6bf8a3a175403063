"""What is learned: unit rows psi, or a free score for every pair of states."""

from typing import Callable, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from learners.tabular import environments, losses
from learners.tabular.config import TabularConfig
from learners.tabular.environments import Environment

EPSILON = 1e-8
# Free scores are kept where inner products of unit rows lie.
MAX_SCORE = 1.0
# Rooms of four_rooms off the way to its goal.
ORTHOGONAL_ROOMS = ('7,0:9,3', '0,6:2,9')


class Goal(NamedTuple):
  """What acting pursues.

  Attributes:
    weights: `[S]`, how much each state counts; the sum is 1.
    direction: `[d]`, used instead of the states' rows if there is one.
  """
  weights: np.ndarray
  direction: Optional[np.ndarray] = None


class Representation(NamedTuple):
  """Pure functions of the learned array.

  Attributes:
    init: psi `[S, d]` to what is learned.
    scores: (learned, goal) to `[S]`, how close each state is to the goal.
    update: (learned, anchors `[B]`, futures `[B]`, learning rate, loss name) to
      what is learned after one gradient step, and the loss before it.
  """
  init: Callable[[np.ndarray], np.ndarray]
  scores: Callable[[np.ndarray, Goal], np.ndarray]
  update: Callable[[np.ndarray, np.ndarray, np.ndarray, float, str],
                   Tuple[np.ndarray, float]]


def normalise(rows: np.ndarray) -> np.ndarray:
  """Scales rows `[..., d]` to unit length."""
  return rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + EPSILON)


def _psi_scores(psi: np.ndarray, goal: Goal) -> np.ndarray:
  direction = goal.weights @ psi if goal.direction is None else goal.direction
  return psi @ direction


def _update_psi(psi: np.ndarray, anchors: np.ndarray, futures: np.ndarray,
                learning_rate: float, loss: str) -> Tuple[np.ndarray, float]:
  value, d_anchors, d_futures = losses.increments(
      psi[anchors], psi[futures], loss)
  moved = psi.copy()
  # Unlike +=, these accumulate where states repeat.
  np.add.at(moved, anchors, learning_rate * d_anchors)
  np.add.at(moved, futures, learning_rate * d_futures)
  return normalise(moved), value


def _table_scores(table: np.ndarray, goal: Goal) -> np.ndarray:
  return table @ goal.weights


def _update_table(table: np.ndarray, anchors: np.ndarray, futures: np.ndarray,
                  learning_rate: float, loss: str) -> Tuple[np.ndarray, float]:
  pairs = np.ix_(anchors, futures)
  value, direction = losses.score_increments(table[pairs], loss)
  moved = table.copy()
  np.add.at(moved, pairs, learning_rate * direction)
  return np.clip(moved, -MAX_SCORE, MAX_SCORE), value


REPRESENTATIONS: Mapping[str, Representation] = {
    'psi': Representation(lambda psi: psi, _psi_scores, _update_psi),
    # The same scores to begin with, so that only generalisation differs.
    'none': Representation(
        lambda psi: psi @ psi.T, _table_scores, _update_table),
}


def init_psi(config: TabularConfig, environment: Environment,
             rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
  """Draws the rows that learning begins with.

  Args:
    config: says how.
    environment: without an absorbing region, which must not change the rows.
    rng: consumed.

  Returns:
    psi `[S, d]` and the direction `[d]` it is arranged around: the goal's row,
    or that of no state if the goal is imaginary.
  """
  num_states = len(environment.next_state)
  goal = environment.goal
  noise = rng.standard_normal((num_states + 1, config.repr_dim))
  noise, centre = noise[:-1], normalise(config.init_scale * noise[-1])
  if config.init == 'fully_random':
    psi = normalise(noise)
  else:
    scale = config.init_scale * _noise_scale(config, environment)
    psi = normalise(centre + scale[:, np.newaxis] * noise)
  if config.init == 'orthogonal_rooms':
    for room in ORTHOGONAL_ROOMS:
      inside = environments.region_mask(environment, room)
      along = (noise[inside] @ centre)[:, np.newaxis] * centre
      psi[inside] = normalise(noise[inside] - along)
  if config.goal != 'imaginary':
    psi[goal] = centre
  return psi, centre


def _noise_scale(config: TabularConfig, environment: Environment) -> np.ndarray:
  """Returns `[S]`, what init_scale is multiplied by at each state."""
  num_states = len(environment.next_state)
  if config.init == 'uniform_around_goal':
    return np.full(num_states, config.near_var)
  if config.init != 'distance_aware':
    return np.ones(num_states)
  steps = environments.distances(environment.next_state, environment.goal)
  farthest = steps[np.isfinite(steps)].max()
  # What cannot reach the goal is as far as can be.
  relative = np.minimum(steps, farthest) / farthest
  return config.near_var + (
      config.far_var - config.near_var) * relative**config.distance_power
