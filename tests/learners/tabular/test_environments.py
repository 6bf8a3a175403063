"""Tables against slow versions that move one piece at a time."""

import itertools

import numpy as np
import pytest

from envs import point_maze
from learners.tabular import environments
from learners.tabular.environments import ENVIRONMENTS

FOUR_ROOMS = (
    '.....#....', '.....#....', '..........', '..........', '.....#....',
    '##..###..#', '.....#....', '..........', '..........', '.....#....')
MAZES = [name for name in ENVIRONMENTS if not name.startswith('hanoi')]


def slow_maze_step(walls, row, column, action):
  moves = {0: (0, 0), 1: (1, 0), 2: (-1, 0), 3: (0, 1), 4: (0, -1)}
  new_row, new_column = row + moves[action][0], column + moves[action][1]
  if (0 <= new_row < len(walls) and 0 <= new_column < len(walls[0])
      and not walls[new_row][new_column]):
    return new_row, new_column
  return row, column


def slow_hanoi_step(pegs, action):
  moves = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
  source, target = moves[action]
  on_source = [disc for disc, peg in enumerate(pegs) if peg == source]
  on_target = [disc for disc, peg in enumerate(pegs) if peg == target]
  if not on_source or (on_target and on_target[0] < on_source[0]):
    return pegs
  moved = list(pegs)
  moved[on_source[0]] = target
  return tuple(moved)


def follow(environment, actions):
  state = environment.start
  for action in actions:
    state = environment.next_state[state, action]
  return state


@pytest.mark.parametrize('name', MAZES)
def test_mazes_step_like_the_slow_version(name):
  environment = ENVIRONMENTS[name]()
  height, width = environment.shape
  walls = ~environment.free.reshape(environment.shape)
  for row, column, action in itertools.product(
      range(height), range(width), range(5)):
    expected = slow_maze_step(walls.tolist(), row, column, action)
    assert environment.next_state[row * width + column, action] == (
        expected[0] * width + expected[1])


@pytest.mark.parametrize('discs', [3, 4, 5])
def test_hanoi_steps_like_the_slow_version(discs):
  environment = ENVIRONMENTS[f'hanoi_{discs}']()
  states = list(itertools.product(range(3), repeat=discs))
  assert len(environment.next_state) == 3**discs
  for index, pegs in enumerate(states):
    for action in range(6):
      assert states[environment.next_state[index, action]] == slow_hanoi_step(
          pegs, action)


def test_three_discs_take_these_seven_moves():
  environment = ENVIRONMENTS['hanoi_3']()
  assert follow(environment, [1, 0, 5, 1, 2, 3, 1]) == environment.goal == 26


@pytest.mark.parametrize('name, steps', [
    ('four_rooms', 18), ('four_rooms_20', 38), ('empty', 8), ('hanoi_3', 7),
    ('hanoi_4', 15), ('hanoi_5', 31)])
def test_distance_to_the_goal(name, steps):
  environment = ENVIRONMENTS[name]()
  found = environments.distances(environment.next_state, environment.goal)
  assert found[environment.start] == steps
  assert found[environment.goal] == 0


@pytest.mark.parametrize('name', MAZES)
def test_the_goal_of_a_maze_can_be_reached(name):
  environment = ENVIRONMENTS[name]()
  found = environments.distances(environment.next_state, environment.goal)
  assert np.isfinite(found[environment.start])
  assert environment.free[[environment.start, environment.goal]].all()


def test_walls_of_four_rooms():
  environment = ENVIRONMENTS['four_rooms']()
  assert environment.shape == (10, 10)
  drawn = [''.join('.' if free else '#' for free in row)
           for row in environment.free.reshape(10, 10)]
  assert tuple(drawn) == FOUR_ROOMS
  assert (environment.start, environment.goal) == (0, 99)
  assert environment.second_goal == 96


def test_the_larger_four_rooms_has_doors_two_cells_wide():
  free = ENVIRONMENTS['four_rooms_20']().free.reshape(20, 20)
  np.testing.assert_array_equal(np.flatnonzero(free[10]), [5, 6, 15, 16])
  np.testing.assert_array_equal(free, free.T)
  assert free.sum() == 400 - 39 + 8


@pytest.mark.parametrize('name, layout, scale', [
    ('spiral', 'Spiral11x11', 1), ('impossible', 'Impossible', 3)])
def test_maps_that_the_point_mazes_share(name, layout, scale):
  walls = point_maze.LAYOUTS[layout].walls
  environment = ENVIRONMENTS[name]()
  np.testing.assert_array_equal(
      ~environment.free.reshape(environment.shape),
      np.kron(walls, np.ones((scale, scale), bool)))


def test_starts_and_goals_of_the_other_mazes():
  def cells(name):
    environment = ENVIRONMENTS[name]()
    return [tuple(np.unravel_index(s, environment.shape))
            for s in (environment.start, environment.goal)]
  assert cells('spiral') == [(5, 5), (10, 10)]
  assert cells('impossible') == [(0, 0), (19, 25)]


def test_success_is_within_one_step_in_mazes_and_exact_for_towers():
  four_rooms, hanoi = ENVIRONMENTS['four_rooms'](), ENVIRONMENTS['hanoi_3']()
  np.testing.assert_array_equal(
      np.flatnonzero(four_rooms.reached[:, 99]), [89, 98, 99])
  np.testing.assert_array_equal(np.flatnonzero(hanoi.reached[:, 26]), [26])


def test_an_absorbing_region_keeps_what_enters():
  environment = ENVIRONMENTS['four_rooms']()
  inside = environments.region_mask(environment, '0,6:4,9')
  assert inside.sum() == 20
  absorbing = environments.absorbing(environment, inside)
  states = np.flatnonzero(inside)
  assert (absorbing.next_state[inside] == states[:, np.newaxis]).all()
  np.testing.assert_array_equal(
      absorbing.next_state[~inside], environment.next_state[~inside])


@pytest.mark.parametrize('text', [
    '', '1,2', '1,2:3', '1,2:3,4:5,6', 'a,0:1,1', '3,0:2,5', '-1,0:2,5'])
def test_unreadable_regions(text):
  with pytest.raises(ValueError, match='needs'):
    environments.parse_region(text)


def test_shapes_are_checked():
  environment = ENVIRONMENTS['empty']()
  with pytest.raises(ValueError, match=r'\[H, W\]'):
    environments.maze('flat', np.zeros(4, bool), (0, 0), (1, 1))
  with pytest.raises(ValueError, match=r'\[S, A\]'):
    environments.distances(np.zeros(3, int), 0)
  with pytest.raises(ValueError, match='inside'):
    environments.absorbing(environment, np.zeros(3, bool))
