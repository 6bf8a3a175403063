"""Point mazes against a slow reference that moves one number at a time."""

import itertools
import math

from jax.experimental import enable_x64
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from envs import point_maze
from envs.point_maze import PointMaze
from safety import regions
from tests import contracts

pytestmark = pytest.mark.usefixtures('quick_compile')

# Rows '/'-separated, 1 is wall.
MAPS = {
    'Small': '0000/0000/0000/0000',
    'Cross':
        '0000000/0001000/0001000/0111110/0001000/0001000/0000000',
    'Impossible':
        '010000000/010111110/010000100/011110101/010000100/010111110/000100010/'
        '010101011/010001010',
    'FourRooms':
        '00000100000/00000100000/00000000000/00000100000/00000100000/'
        '10111100000/00000111011/00000100000/00000100000/00000000011/'
        '00000100010',
    'U': '000/010/010/010/110/010/010/010/000',
    'Spiral11x11':
        '11111111111/10000000000/10111111110/10100000010/10101111010/'
        '10101001010/10101101010/10100001010/10111111010/10000000010/'
        '11111111110',
    'Wall11x11':
        '00000000000/11111111110/' + '00000000010/' * 8 + '00000000000',
    'Maze11x11':
        '01000100010/01010101010/01010101010/01010101010/00010001010/'
        '11111111010/11100010010/11101010110/00001000110/01111111110/'
        '00000000000',
}
LIMITS = {name: 100 if '11x11' in name else 50 for name in MAPS}
# (start, goal), each (row, column).
FIXED = {
    'Spiral11x11': ((5, 5), (10, 10)),
    'FourRooms': ((0, 0), (10, 8)),
    'Impossible': ((9, 0), (7, 9)),
    'Maze11x11': ((0, 0), (5, 4)),
    'Wall11x11': ((2, 0), (0, 0)),
}


class ReferenceMazes:
  """E mazes in scalar loops, drawing the numbers in the same order."""

  def __init__(self, name, num_envs, seed, start, goal):
    self._rows = MAPS[name].split('/')
    self._limit = LIMITS[name]
    self._num_envs = num_envs
    self._start, self._goal = start, goal
    self._rng = np.random.default_rng(seed)

  def is_free(self, row, col):
    height, width = len(self._rows), len(self._rows[0])
    if row < 0 or col < 0 or row > height or col > width:
      return False
    i = min(math.floor(row), height - 1)
    j = min(math.floor(col), width - 1)
    return self._rows[i][j] == '0'

  def substeps(self, row, col, action):
    """Returns the positions after each of the ten substeps."""
    drow, dcol = (0.1 * max(-1.0, min(1.0, a)) for a in action)
    positions = []
    for _ in range(10):
      if self.is_free(row + drow, col):
        row += drow
      if self.is_free(row, col + dcol):
        col += dcol
      positions.append((row, col))
    return positions

  def reset(self):
    self._elapsed = 0
    self._positions = [self._start] * self._num_envs
    pending = set(range(self._num_envs))
    for _ in range(100):
      for i in range(self._num_envs):
        row = self._start[0] + self._rng.uniform(-0.1, 0.1)
        col = self._start[1] + self._rng.uniform(-0.1, 0.1)
        if i in pending and self.is_free(row, col):
          self._positions[i] = (row, col)
          pending.remove(i)
      if not pending:
        break
    return 0, [0.0] * self._num_envs, self._positions

  def step(self, actions):
    """Returns step type, rewards and positions."""
    noisy = [[float(a) + self._rng.normal(0.0, 0.01) for a in action]
             for action in actions]
    if self._elapsed == self._limit:
      return self.reset()
    self._elapsed += 1
    self._positions = [
        self.substeps(row, col, action)[-1]
        for (row, col), action in zip(self._positions, noisy, strict=True)]
    rewards = [1.0 if math.dist(p, self._goal) < 1.0 else 0.0
               for p in self._positions]
    return 2 if self._elapsed == self._limit else 1, rewards, self._positions


def still(monkeypatch):
  """Removes the noise of actions and starts."""
  monkeypatch.setattr(point_maze, 'ACTION_NOISE', 0.0)
  monkeypatch.setattr(point_maze, 'START_JITTER', 0.0)


def free_points(name, num, seed=0):
  """Returns `[num, 2]` points drawn from the free cells, by rejection."""
  reference = ReferenceMazes(name, 1, 0, None, None)
  rng = np.random.default_rng(seed)
  rows = MAPS[name].split('/')
  points = []
  while len(points) < num:
    point = rng.uniform(0.0, (len(rows), len(rows[0])))
    if reference.is_free(*point):
      points.append(point)
  return np.array(points)


def test_the_maps_are_those_of_the_reference():
  assert set(point_maze.LAYOUTS) == set(MAPS)
  for name, grid in MAPS.items():
    assert '/'.join(point_maze.LAYOUTS[name].rows) == grid
    walls = point_maze.LAYOUTS[name].walls
    for i, row in enumerate(grid.split('/')):
      for j, cell in enumerate(row):
        assert walls[i, j] == (cell == '1')


@pytest.mark.parametrize('name', sorted(MAPS))
def test_the_step_limit_is_100_in_the_large_maps_and_50_in_others(name):
  assert PointMaze(name).spec.step_limit == LIMITS[name]


@pytest.mark.parametrize('name', sorted(FIXED))
def test_start_and_goal_are_those_of_the_reference(name):
  spec = PointMaze(name).spec
  assert (spec.start, spec.goal) == FIXED[name]


@pytest.mark.parametrize('name', sorted(MAPS))
def test_start_and_goal_are_free(name):
  spec = PointMaze(name).spec
  reference = ReferenceMazes(name, 1, 0, spec.start, spec.goal)
  assert reference.is_free(*spec.start)
  # A goal may lie on the border of a wall, if it can be come close to.
  assert any(
      reference.is_free(spec.goal[0] + dr, spec.goal[1] + dc)
      for dr, dc in itertools.product((-0.5, 0.0, 0.5), repeat=2))


def test_the_facts_of_a_maze():
  spec = PointMaze('FourRooms').spec
  assert (spec.obs_dim, spec.goal_dim, spec.action_dim) == (2, 2, 2)
  assert spec.goal_indices == spec.position_indices == (0, 1)
  assert spec.success_radius == 1.0
  assert spec.start_jitter == 0.1
  # One draw of deviation 0.01 moves ten substeps of 0.1.
  assert spec.position_noise == pytest.approx(0.01)
  assert spec.bounds == ((0.0, 0.0), (11.0, 11.0))


@pytest.mark.parametrize('name', sorted(MAPS))
@pytest.mark.parametrize('elsewhere', [False, True])
def test_steps_equal_the_scalar_reference(name, elsewhere):
  num_envs, seed = 12, 17
  start = tuple(free_points(name, 1)[0]) if elsewhere else None
  env = PointMaze(name, num_envs, seed, start=start)
  reference = ReferenceMazes(
      name, num_envs, seed, env.spec.start, env.spec.goal)
  rng = np.random.default_rng(0)
  got, expected = env.reset(), reference.reset()
  for step in range(LIMITS[name] + 15):
    if step % 6 == 0:
      # Beyond [-1, 1] too: actions are clipped.
      action = rng.uniform(-1.6, 1.6, (num_envs, 2)).astype(np.float32)
    step_type, rewards, positions = expected
    assert np.all(got.step_type == step_type)
    np.testing.assert_array_equal(got.reward, rewards)
    np.testing.assert_array_equal(got.discount, np.ones(num_envs))
    np.testing.assert_array_equal(
        got.observation[:, :2], np.array(positions, np.float32))
    np.testing.assert_array_equal(
        got.observation[:, 2:], [env.spec.goal] * num_envs)
    got, expected = env.step(action), reference.step(action)


def test_a_coordinate_equal_to_the_size_is_on_the_map():
  walls = np.zeros((4, 5), bool)
  size = np.array([4.0, 5.0])
  over = np.nextafter(size, 100.0)
  for row, col, is_blocked in [
      (size[0], 2.0, False), (2.0, size[1], False), (size[0], size[1], False),
      (over[0], 2.0, True), (2.0, over[1], True),
      (0.0, 0.0, False), (-1e-12, 2.0, True), (2.0, -1e-12, True)]:
    assert point_maze.blocked(
        np, walls, np.array(row), np.array(col)) == is_blocked, (row, col)


def test_the_far_border_belongs_to_the_last_cell():
  walls = np.zeros((4, 4), bool)
  walls[3, 1] = True
  row, col = np.array([4.0, 4.0, 3.0]), np.array([1.5, 2.5, 1.0])
  np.testing.assert_array_equal(
      point_maze.blocked(np, walls, row, col), [True, False, True])


@pytest.mark.parametrize('corner, push', [
    ((4.0, 4.0), (1.0, 1.0)), ((0.0, 0.0), (-1.0, -1.0)),
    ((4.0, 0.0), (1.0, -1.0))])
def test_the_border_holds_whatever_pushes(monkeypatch, corner, push):
  still(monkeypatch)
  env = PointMaze('Small', start=corner)
  env.reset()
  for _ in range(3):
    observation = env.step(np.array([push])).observation
    np.testing.assert_array_equal(observation[0, :2], corner)


def test_a_blocked_axis_does_not_stop_the_other(monkeypatch):
  still(monkeypatch)
  # The wall of FourRooms in column 5 reaches from row 3 to row 4.
  env = PointMaze('FourRooms', start=(3.05, 4.85))
  env.reset()
  observation = env.step(np.array([[0.5, 1.0]])).observation
  np.testing.assert_allclose(observation[0, :2], (3.55, 4.95), atol=1e-6)


def test_the_row_moves_before_the_column(monkeypatch):
  still(monkeypatch)
  # Row first enters the doorway's row, then the column may pass the wall.
  env = PointMaze('FourRooms', start=(1.95, 4.95))
  env.reset()
  observation = env.step(np.array([[1.0, 1.0]])).observation
  np.testing.assert_allclose(observation[0, :2], (2.95, 5.95), atol=1e-6)


@pytest.mark.parametrize('name', sorted(MAPS))
def test_starts_jitter_within_a_tenth_and_outside_walls(name):
  env = PointMaze(name, num_envs=2000, seed=1)
  reference = ReferenceMazes(name, 1, 0, None, None)
  starts = env.reset().observation[:, :2]
  offset = starts - np.array(env.spec.start, np.float32)
  assert np.all(np.abs(offset) <= 0.1 + 1e-6)
  assert np.all(np.ptp(offset, axis=0) > 0.09)
  assert all(reference.is_free(*point) for point in starts.tolist())


def test_jitter_is_uniform():
  env = PointMaze('FourRooms', num_envs=4000, seed=2, start=(2.5, 2.5))
  offset = env.reset().observation[:, :2] - 2.5
  for axis in range(2):
    assert stats.kstest(offset[:, axis], stats.uniform(-0.1, 0.2).cdf
                        ).pvalue > 1e-3


def test_a_start_inside_a_wall_is_used_as_it_is():
  env = PointMaze('FourRooms', num_envs=3, start=(0.5, 5.5))
  np.testing.assert_array_equal(
      env.reset().observation[:, :2], [(0.5, 5.5)] * 3)


def test_action_noise_has_deviation_one_hundredth():
  env = PointMaze('FourRooms', num_envs=4000, seed=3, start=(2.5, 2.5))
  before = env.reset().observation[:, :2].astype(float)
  after = env.step(np.full((4000, 2), 0.1)).observation[:, :2]
  for axis in range(2):
    moved = (after - before)[:, axis]
    assert stats.kstest(moved, stats.norm(0.1, 0.01).cdf).pvalue > 1e-3


@pytest.mark.parametrize('distance, reward', [
    (1.0, 0.0), (np.nextafter(1.0, 0.0), 1.0), (0.0, 1.0), (1.5, 0.0)])
def test_the_success_radius_is_one_and_strict(monkeypatch, distance, reward):
  still(monkeypatch)
  env = PointMaze('Small', start=(0.0, 0.0), goal=(distance, 0.0))
  assert env.reset().reward[0] == 0.0
  for _ in range(3):
    assert env.step(np.zeros((1, 2))).reward[0] == reward


def test_never_terminates_and_truncates_at_the_limit(monkeypatch):
  still(monkeypatch)
  env = PointMaze('Wall11x11', num_envs=2, start=(0.0, 0.0))
  env.reset()
  for step in range(1, 101):
    timestep = env.step(np.zeros((2, 2)))
    np.testing.assert_array_equal(timestep.reward, [1.0, 1.0])
    np.testing.assert_array_equal(timestep.discount, [1.0, 1.0])
    assert np.all(timestep.step_type == (2 if step == 100 else 1))
  timestep = env.step(np.zeros((2, 2)))
  assert np.all(timestep.step_type == 0)
  np.testing.assert_array_equal(timestep.reward, [0.0, 0.0])


def test_reset_cuts_an_episode_short():
  env = PointMaze('Small', num_envs=2)
  env.reset()
  for _ in range(10):
    env.step(np.ones((2, 2)))
  assert np.all(env.reset().step_type == 0)
  for step in range(1, 51):
    timestep = env.step(np.ones((2, 2)))
    assert np.all(timestep.step_type == (2 if step == 50 else 1))


@pytest.mark.parametrize('name', ['FourRooms', 'Impossible'])
def test_sampled_starts_and_goals_cover_the_free_cells(name):
  env = PointMaze(name, num_envs=6000, seed=4, sample_goals=True)
  assert env.spec.start is None and env.spec.goal is None
  rows = MAPS[name].split('/')
  free = {(i, j) for i, row in enumerate(rows) for j, c in enumerate(row)
          if c == '0'}
  observation = env.reset().observation
  for points in (observation[:, :2], observation[:, 2:]):
    cells, counts = np.unique(
        np.floor(points).astype(int), axis=0, return_counts=True)
    assert set(map(tuple, cells.tolist())) == free
    assert stats.chisquare(counts).pvalue > 1e-3
    within = (points - np.floor(points)).ravel()
    assert stats.kstest(within, 'uniform').pvalue > 1e-3


def test_sampled_goals_change_between_episodes_and_not_within():
  env = PointMaze('Small', seed=5, sample_goals=True)
  goals = [env.reset().observation[0, 2:]]
  goals += [env.step(np.zeros((1, 2))).observation[0, 2:] for _ in range(51)]
  assert all(np.array_equal(goal, goals[0]) for goal in goals[:51])
  assert not np.array_equal(goals[51], goals[0])


def test_the_position_model_equals_the_noise_free_reference():
  rng = np.random.default_rng(6)
  for name in MAPS:
    reference = ReferenceMazes(name, 1, 0, None, None)
    positions = free_points(name, 60)
    actions = rng.uniform(-1.3, 1.3, (60, 2))
    expected = np.array([
        reference.substeps(*position, action)
        for position, action in zip(positions.tolist(), actions.tolist(),
                                    strict=True)])               # [60, 10, 2]
    # In double precision, so that both sides fall into the same cells.
    with enable_x64():
      path = PointMaze(name).spec.position_path(
          jnp.asarray(positions), jnp.asarray(actions))          # [10, 60, 2]
    assert path.shape == (10, 60, 2)
    np.testing.assert_allclose(
        path, expected.transpose(1, 0, 2), rtol=0, atol=1e-12)


def test_the_position_model_ends_where_a_noise_free_step_does(monkeypatch):
  still(monkeypatch)
  env = PointMaze('Cross', start=(3.5, 0.5))
  observation = env.reset().observation
  for action in contracts.actions_for(env, 12):
    predicted = env.spec.position_path(
        jnp.asarray(observation[:, :2]), jnp.asarray(action))[-1]
    observation = env.step(action).observation
    np.testing.assert_allclose(predicted, observation[:, :2], atol=1e-5)


def test_the_position_model_takes_leading_dimensions():
  path = PointMaze('Small').spec.position_path
  position = jnp.full((3, 4, 2), 1.5)
  action = jnp.linspace(-1.0, 1.0, 24).reshape(3, 4, 2)
  result = path(position, action)
  assert result.shape == (10, 3, 4, 2)
  np.testing.assert_allclose(result[-1], position + action, atol=1e-5)
  np.testing.assert_allclose(result[0], position + 0.1 * action, atol=1e-6)


def test_the_global_generator_is_neither_read_nor_seeded():
  before = np.random.get_state()
  for sample_goals in (False, True):
    env = PointMaze('FourRooms', num_envs=2, sample_goals=sample_goals)
    env.reset()
    env.step(np.zeros((2, 2)))
  np.testing.assert_equal(np.random.get_state(), before)


def test_every_instance_has_its_own_generator():
  first, second = PointMaze('Small', seed=9), PointMaze('Small', seed=9)
  expected = [first.reset().observation for _ in range(4)]
  for observation in expected:
    np.testing.assert_array_equal(second.reset().observation, observation)


@pytest.mark.parametrize('shape', [(2,), (1, 2), (3, 2), (2, 3)])
def test_refuses_actions_of_the_wrong_shape(shape):
  env = PointMaze('Small', num_envs=2)
  env.reset()
  with pytest.raises(ValueError, match='action shape'):
    env.step(np.zeros(shape))


def test_x_is_the_row():
  # The box 0,5:5,11 of FourRooms is the room of rows 0-5, columns 5-11: the
  # one written top right, past the wall that stands in column 5.
  box = regions.parse_region_bounds('0,5:5,11')
  env = PointMaze('FourRooms')
  assert MAPS['FourRooms'].split('/')[0][5] == '1'
  observation = env.reset().observation
  for action in [(1.0, 0.0)] * 2 + [(0.5, 0.0)] + [(0.0, 1.0)] * 8:
    observation = env.step(np.array([action])).observation
  row, col = observation[0, :2]
  assert 2.0 < row < 3.0 and 7.0 < col < 9.0
  assert regions.contains(box, observation[:, :2], np)[0]
  assert not regions.contains(box, observation[:, 1::-1], np)[0]
