"""Every registered environment, and what happens to a mistyped name."""

import dataclasses

import numpy as np
import pytest

from envs import registry
from tests import contracts

# Emulators of games have a test of their own.
NAMES = sorted(name for name in registry.ENVIRONMENTS
               if not name.startswith(registry.ATARI))


def facts(spec):
  """Returns the spec's fields that can be compared."""
  values = dataclasses.asdict(spec)
  values['position_path'] = spec.position_path is not None
  return values


@pytest.mark.parametrize('name', NAMES)
def test_every_entry_keeps_the_rules(name):
  contracts.check_vector_environment(
      lambda seed, num_envs: registry.make(name, num_envs, seed),
      terminates=not registry.spec(name).has_goals,
      seeded=not name.startswith('grid_'))


@pytest.mark.parametrize(
    'name', ['point_Impossible', 'point_U', 'random_point_FourRooms'])
def test_an_entry_keeps_the_rules_with_sampled_goals(name):
  contracts.check_vector_environment(
      lambda seed, num_envs: registry.make(
          name, num_envs, seed, sample_goals=True))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('sample_goals', [False, True])
def test_spec_needs_no_environment(name, sample_goals):
  env = registry.make(name, 1, seed=0, sample_goals=sample_goals)
  assert facts(registry.spec(name, sample_goals)) == facts(env.spec)
  assert env.spec.name == name


@pytest.mark.parametrize('name', [n for n in NAMES if 'point_' in n])
def test_walls_cover_the_bounds(name):
  walls = registry.lookup(name).walls
  bounds = registry.spec(name).bounds
  assert walls.dtype == bool
  np.testing.assert_array_equal(bounds, [(0.0, 0.0), walls.shape])


def test_the_goal_can_be_chosen():
  goal = (1.5, 2.5)
  env = registry.make('point_Small', 2, seed=0, goal=goal)
  assert env.spec.goal == goal
  assert registry.spec('point_Small', goal=goal).goal == goal
  np.testing.assert_array_equal(env.reset().observation[:, 2:], [goal, goal])
  assert registry.spec('point_Small').goal != goal


@pytest.mark.parametrize('wrong, right', [
    ('point_FourRoom', 'point_FourRooms'),
    ('FourRooms', 'point_FourRooms'),
    ('point_fourrooms', 'point_FourRooms'),
    ('point_spiral', 'point_Spiral11x11'),
    ('point_Maze', 'point_Maze11x11'),
    ('lunarlander_sparse', 'lunarlander-sparse'),
    ('cartpol', 'cartpole'),
    ('grid_fourrooms', 'grid_FourRooms'),
    ('atari_MontezumasRevenge', 'atari_MontezumaRevenge'),
    ('atari_pong', 'atari_Pong'),
])
def test_an_unknown_name_lists_the_nearest(wrong, right):
  with pytest.raises(ValueError) as error:
    registry.make(wrong, 1, seed=0)
  assert f"'{wrong}'" in str(error.value)
  assert right in str(error.value)


def test_the_nearest_name_comes_first():
  assert registry.nearest_names('point_FourRoom', NAMES)[0] == (
      'point_FourRooms')


def test_a_name_like_none_lists_all():
  with pytest.raises(ValueError) as error:
    registry.spec('~~~~')
  for name in NAMES:
    assert name in str(error.value)
