"""Grid rooms: walls, goals, frames, and what a change does."""

import dm_env
import numpy as np
import pytest

from envs import grid_rooms, registry
from envs.vector import Changing, Located, SingleEnvironment
from tests import contracts

FIRST, MID, LAST = (int(t) for t in dm_env.StepType)
UP, DOWN, LEFT, RIGHT = range(4)


def cell(env, i=0):
  return tuple(int(x) for x in env._cell[i])


def walk(env, moves):
  for move in moves:
    step = env.step(np.full(env.num_envs, move))
  return step


def distances(walls, start):
  """Returns steps from `start` to every cell that can be reached."""
  found, edge = {start: 0}, [start]
  while edge:
    row, column = edge.pop(0)
    for move in grid_rooms.MOVES:
      there = (row + int(move[0]), column + int(move[1]))
      if not walls[there] and there not in found:
        found[there] = found[(row, column)] + 1
        edge.append(there)
  return found


@pytest.mark.parametrize('name', sorted(grid_rooms.LAYOUTS))
def test_every_cell_can_be_reached_before_and_after_the_change(name):
  layout, env = grid_rooms.LAYOUTS[name], grid_rooms.GridRooms(name)
  assert env.spec.num_places == {'Fo': 104, 'Ni': 237}[name[:2]]
  for walls, goal in zip(env._walls, env._goals):
    reached = distances(walls, layout.start)
    assert len(reached) == (~walls).sum()
    assert 10 <= reached[tuple(goal)] < layout.step_limit / 4


def test_walls_stop_and_the_frame_shows_where_the_agent_is():
  env = grid_rooms.GridRooms('FourRooms', 2)
  step = env.reset()
  assert step.observation.shape == (2, 13, 13)
  walls = grid_rooms.LAYOUTS['FourRooms'].walls
  for move, there in [(UP, (1, 1)), (LEFT, (1, 1)), (DOWN, (2, 1)),
                      (RIGHT, (2, 2)), (UP, (1, 2))]:
    step = walk(env, [move])
    assert cell(env) == there
    for frame in step.observation:
      np.testing.assert_array_equal(frame == grid_rooms.WALL, walls)
      np.testing.assert_array_equal(
          np.argwhere(frame == grid_rooms.AGENT), [there])


def test_the_goal_ends_the_episode_for_good():
  env = grid_rooms.GridRooms('FourRooms', 2)
  env.reset()
  env._cell[0] = (11, 10)
  step = env.step(np.array([RIGHT, RIGHT]))
  assert step.step_type.tolist() == [LAST, MID]
  assert step.reward.tolist() == [1.0, 0.0]
  assert step.discount.tolist() == [0.0, 1.0]
  step = env.step(np.array([UP, RIGHT]))
  assert step.step_type.tolist() == [FIRST, MID]
  assert cell(env) == (1, 1) and cell(env, 1) == (1, 3)


def test_places_number_the_free_cells():
  env = grid_rooms.GridRooms('FourRooms', 1)
  env.reset()
  assert isinstance(env, Located)
  assert env.places().tolist() == [0]
  numbers = []
  for place in np.argwhere(~grid_rooms.LAYOUTS['FourRooms'].walls):
    env._cell[0] = place
    numbers += env.places().tolist()
  assert numbers == list(range(104))


def test_a_change_waits_for_the_next_episode_and_is_not_seen():
  env = grid_rooms.GridRooms('FourRoomsChanging', 1)
  assert isinstance(env, Changing)
  layout = grid_rooms.LAYOUTS['FourRoomsChanging']
  before = env.reset()
  env.at_step(layout.change_at - 1)
  env.at_step(layout.change_at)
  way = [DOWN] * 2 + [RIGHT] * 6
  walk(env, way)
  assert cell(env) == (3, 7)  # through the hallway, which is still open
  env._elapsed[:] = layout.step_limit
  walk(env, [UP])
  after = env.step(np.array([UP]))
  np.testing.assert_array_equal(before.observation, after.observation)
  walk(env, way)
  assert cell(env) == (3, 5)
  env._cell[0] = (11, 10)
  assert walk(env, [RIGHT]).reward[0] == 0.0
  env._cell[0] = (1, 10)
  assert walk(env, [RIGHT]).reward[0] == 1.0


def test_worlds_without_change_do_not_change():
  env = grid_rooms.GridRooms('NineRooms', 1)
  env.at_step(10**9)
  env.reset()
  env._cell[0] = (17, 16)
  assert walk(env, [RIGHT]).reward[0] == 1.0


def test_a_wrong_action_shape_is_refused():
  with pytest.raises(ValueError, match='action shape'):
    grid_rooms.GridRooms('FourRooms', 2).step(np.zeros((2, 1), int))


def test_single_grids_keep_the_rules_of_dm_env():
  contracts.check_dm_environment(
      SingleEnvironment(registry.make('grid_FourRooms', 1, 0)), num_steps=210)
