"""Mazes with features, against the scalar reference and a lookup by hand."""

import math

import numpy as np
import pytest

from envs import registry
from envs.point_features import cell_features, feature_spec, FeatureMaze
from tests import contracts
from tests.envs.test_point_maze import FIXED, LIMITS, MAPS, ReferenceMazes

MARKED = {(6, 1), (3, 5), (4, 2), (7, 8), (0, 6), (6, 0), (8, 2)}


class ReferenceFeatures(ReferenceMazes):
  """The scalar mazes with exact starts; features are looked up cell by cell."""

  def reset(self):
    self._elapsed = 0
    self._positions = [self._start] * self._num_envs
    self._rng.uniform(size=2 * self._num_envs)
    return 0, [0.0] * self._num_envs, self._positions

  def with_features(self, row, col, extra_dim=8):
    """Returns a position as observed, and the features of its cell."""
    row, col = np.float32(row), np.float32(col)
    i = min(math.floor(row), len(self._rows) - 1)
    j = min(math.floor(col), len(self._rows[0]) - 1)
    value = 10.0 if (i, j) in MARKED else 0.0
    return [row, col] + [value] * extra_dim


@pytest.mark.parametrize('name', sorted(MAPS))
def test_steps_equal_the_scalar_reference(name):
  num_envs, seed = 12, 11
  env = FeatureMaze(name, num_envs, seed)
  start, goal = env.spec.start, env.spec.goal[:2]
  reference = ReferenceFeatures(name, num_envs, seed, start, goal)
  rng = np.random.default_rng(1)
  got, expected = env.reset(), reference.reset()
  marked_seen = False
  for step in range(2 * LIMITS[name]):
    if step % 6 == 0:
      action = rng.uniform(-1.6, 1.6, (num_envs, 2)).astype(np.float32)
    step_type, rewards, positions = expected
    states = [reference.with_features(*p) for p in positions]
    goals = [reference.with_features(*goal)] * num_envs
    assert np.all(got.step_type == step_type)
    np.testing.assert_array_equal(got.reward, rewards)
    np.testing.assert_array_equal(
        got.observation, np.array([s + g for s, g in zip(states, goals)],
                                  np.float32))
    marked_seen |= bool(got.observation[:, 2].any())
    got, expected = env.step(action), reference.step(action)
  # The start of no map is marked; walking must have found some that is.
  assert marked_seen or name in ('Small', 'Spiral11x11', 'Wall11x11', 'U')


@pytest.mark.parametrize('name', sorted(MAPS))
def test_only_the_marked_cells_of_the_map_have_features(name):
  features = cell_features(name)
  height, width = len(MAPS[name].split('/')), MAPS[name].index('/')
  assert features.shape == (height, width, 8)
  for i in range(height):
    for j in range(width):
      assert np.all(features[i, j] == (10.0 if (i, j) in MARKED else 0.0))


@pytest.mark.parametrize('name', sorted(FIXED))
def test_start_and_goal_are_those_of_the_plain_maze(name):
  spec = feature_spec(name)
  assert (spec.start, spec.goal[:2]) == FIXED[name]
  assert spec.start_jitter == 0.0


def test_the_fixed_goal_has_its_cell_s_features():
  # The goals of these mazes lie in cells without, and these ends of a map in
  # one that is marked.
  assert feature_spec('FourRooms').goal == (10.0, 8.0) + (0.0,) * 8
  env = FeatureMaze('Impossible', num_envs=2, goal=(0.0, 6.5) + (10.0,) * 8)
  assert env.spec.goal_position == (0.0, 6.5)
  observation = env.reset().observation
  np.testing.assert_array_equal(
      observation[:, 10:], [(0.0, 6.5) + (10.0,) * 8] * 2)


def test_the_facts_of_a_maze_with_features():
  spec = registry.spec('random_point_FourRooms')
  assert (spec.obs_dim, spec.goal_dim, spec.observation_dim) == (10, 10, 20)
  assert len(spec.goal) == 10
  assert spec.goal_indices == tuple(range(10))
  assert spec.position_indices == spec.success_indices == (0, 1)
  assert spec.step_limit == 50 and spec.success_radius == 1.0


def test_the_number_of_features_can_be_chosen():
  env = FeatureMaze('Cross', num_envs=3, extra_dim=2)
  contracts.check_vector_environment(
      lambda seed, num_envs: FeatureMaze('Cross', num_envs, seed, extra_dim=2))
  assert env.reset().observation.shape == (3, 8)


def test_episodes_start_exactly_at_the_start():
  env = FeatureMaze('FourRooms', num_envs=50, seed=1)
  for _ in range(3):
    np.testing.assert_array_equal(env.reset().observation[:, :2], 0.0)


def test_sampled_goals_have_their_cell_s_features():
  env = FeatureMaze('FourRooms', num_envs=4000, seed=2, sample_goals=True)
  assert env.spec.goal is None and env.spec.start is None
  reference = ReferenceFeatures('FourRooms', 1, 0, None, None)
  observation = env.reset().observation
  for half in (observation[:, :10], observation[:, 10:]):
    np.testing.assert_array_equal(
        half, np.array([reference.with_features(*p[:2]) for p in half]))
    assert 0.0 < np.mean(half[:, 2] == 10.0) < 0.2


def test_success_is_about_the_position_alone():
  # Starts beside its goal, which is marked while the start is not.
  env = FeatureMaze('Cross', goal=(0.5, 0.5) + (10.0,) * 8)
  env.reset()
  assert env.step(np.zeros((1, 2))).reward[0] == 1.0
