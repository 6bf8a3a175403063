"""Absorbing regions against the same environment without them."""

import numpy as np

from envs.point_maze import PointMaze
from envs.vector import Drawable
from safety import regions
from safety.absorbing import AbsorbingRegions
from tests import contracts

FIRST, MID, LAST = 0, 1, 2
REGIONS = regions.parse_region_bounds('0,2:1,4;3,0:4,1.5')


def make(seed, num_envs):
  return AbsorbingRegions(PointMaze('Small', num_envs, seed), REGIONS)


def test_keeps_the_rules_of_vector_environments():
  contracts.check_vector_environment(make)


def inside(position):
  return (position[0] <= 1 and position[1] >= 2) or (
      position[0] >= 3 and position[1] <= 1.5)


def test_who_enters_is_held_to_the_end_of_the_episode():
  free, absorbing = PointMaze('Small', 6, 3), make(3, 6)
  free.reset()
  absorbing.reset()
  held = [None] * 6
  num_held = num_rewards_lost = 0
  for action in contracts.actions_for(free, 400, seed=1):
    expected, got = free.step(action), absorbing.step(action)
    np.testing.assert_array_equal(got.step_type, expected.step_type)
    np.testing.assert_array_equal(got.discount, expected.discount)
    for i in range(6):
      if got.step_type[i] == FIRST:
        held[i] = None
      row = expected.observation[i] if held[i] is None else held[i]
      np.testing.assert_array_equal(got.observation[i], row)
      if held[i] is None and got.step_type[i] != FIRST and inside(row[:2]):
        held[i] = row.copy()
      assert absorbing.absorbed[i] == (held[i] is not None)
      if held[i] is None:
        assert got.reward[i] == expected.reward[i]
      else:
        assert got.reward[i] == 0.0
        num_held += 1
        num_rewards_lost += int(expected.reward[i] > 0)
  assert num_held > 100 and num_rewards_lost > 5


class DrawnMaze(PointMaze):
  """A maze whose picture is where its first agent is."""

  def render(self):
    return self._position[0].copy()


def test_it_can_be_drawn_if_what_it_wraps_can():
  assert not isinstance(make(3, 2), Drawable)
  assert isinstance(
      AbsorbingRegions(DrawnMaze('Small', 2, 3), REGIONS), Drawable)


def test_a_held_agent_is_drawn_where_it_was_first_seen_held():
  maze = DrawnMaze('Small', 3, 3)
  absorbing = AbsorbingRegions(maze, REGIONS)
  absorbing.reset()
  held, num_held = None, 0
  for t, action in enumerate(contracts.actions_for(maze, 400, seed=1)):
    absorbing.step(action)
    if not absorbing.absorbed[0]:
      held = None
    if t % 3:
      continue
    expected = maze.render()
    if absorbing.absorbed[0]:
      held = expected if held is None else held
      num_held += np.any(held != expected)
      expected = held
    np.testing.assert_array_equal(absorbing.render(), expected)
  assert num_held > 20
