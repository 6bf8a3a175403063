"""One environment out of a vector, and a vector out of many."""

import dm_env
import numpy as np
import pytest

from envs.point_maze import PointMaze
from envs.vector import SingleEnvironment, StackedEnvironments
from tests import contracts
from tests.fakes import counting_spec, CountingEnvironment

FIRST, MID, LAST = 0, 1, 2
ACTION = np.zeros(2, np.float32)


def counters(num_envs, step_limit=6):
  """Stacks environments of which every other one terminates, at 3, 5, ..."""
  return StackedEnvironments(
      [CountingEnvironment(step_limit, 3 + i if i % 2 == 0 else None)
       for i in range(num_envs)],
      counting_spec(step_limit))


class TestSingleEnvironment:

  def test_keeps_the_rules_of_dm_env(self):
    contracts.check_dm_environment(
        SingleEnvironment(PointMaze('Small', seed=3)), num_steps=110)

  def test_keeps_the_rules_of_dm_env_when_episodes_terminate(self):
    env = SingleEnvironment(StackedEnvironments(
        [CountingEnvironment(9, terminate_at=4)], counting_spec(9)))
    contracts.check_dm_environment(env, num_steps=20)

  def test_is_row_zero_of_the_vector(self):
    vector = PointMaze('Cross', seed=5)
    single = SingleEnvironment(PointMaze('Cross', seed=5))
    expected, got = vector.reset(), single.reset()
    for action in contracts.actions_for(vector, 120):
      assert got.step_type == expected.step_type[0]
      np.testing.assert_array_equal(got.observation, expected.observation[0])
      if got.first():
        assert got.reward is None and got.discount is None
      else:
        assert got.reward == expected.reward[0]
        assert got.discount == expected.discount[0]
      expected, got = vector.step(action), single.step(action[0])

  def test_hands_on_the_spec(self):
    vector = PointMaze('Small')
    assert SingleEnvironment(vector).spec is vector.spec

  @pytest.mark.parametrize('num_envs', [2, 5])
  def test_refuses_more_than_one_environment(self, num_envs):
    with pytest.raises(ValueError, match=f'got: {num_envs}'):
      SingleEnvironment(PointMaze('Small', num_envs=num_envs))


class TestStackedEnvironments:

  def test_keeps_the_rules_of_a_vector_environment(self):
    contracts.check_vector_environment(
        lambda seed, num_envs: counters(num_envs),
        seeded=False, terminates=True)

  def test_each_environment_ends_and_resets_on_its_own(self):
    env = StackedEnvironments(
        [CountingEnvironment(4, terminate_at=2), CountingEnvironment(4)],
        counting_spec(4))
    steps = [env.reset()]
    steps += [env.step(np.stack([ACTION, ACTION])) for _ in range(6)]
    step_types = np.stack([t.step_type for t in steps])
    np.testing.assert_array_equal(
        step_types[:, 0], [FIRST, MID, LAST, FIRST, MID, LAST, FIRST])
    np.testing.assert_array_equal(
        step_types[:, 1], [FIRST, MID, MID, MID, LAST, FIRST, MID])

  def test_termination_has_discount_zero_and_truncation_one(self):
    env = StackedEnvironments(
        [CountingEnvironment(4, terminate_at=2), CountingEnvironment(4)],
        counting_spec(4))
    steps = [env.reset()]
    steps += [env.step(np.stack([ACTION, ACTION])) for _ in range(6)]
    discounts = np.stack([t.discount for t in steps])
    np.testing.assert_array_equal(discounts[:, 0], [1, 1, 0, 1, 1, 0, 1])
    np.testing.assert_array_equal(discounts[:, 1], np.ones(7))

  def test_rewards_and_observations_stay_in_their_rows(self):
    env = StackedEnvironments(
        [CountingEnvironment(4, terminate_at=2), CountingEnvironment(4)],
        counting_spec(4))
    steps = [env.reset()]
    steps += [env.step(np.stack([ACTION, ACTION])) for _ in range(4)]
    rewards = np.stack([t.reward for t in steps])
    np.testing.assert_array_equal(rewards[:, 0], [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(rewards[:, 1], [0, 1, 2, 3, 4])
    states = np.stack([t.observation[:, :2] for t in steps])
    np.testing.assert_array_equal(
        states[:, 0], [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])
    np.testing.assert_array_equal(
        states[:, 1], [[0, 0], [0, 1], [0, 2], [0, 3], [0, 4]])

  def test_each_environment_gets_its_own_action(self):
    class Recorder(CountingEnvironment):
      taken = None

      def step(self, action):
        self.taken = np.array(action)
        return super().step(action)

    environments = [Recorder(5) for _ in range(3)]
    env = StackedEnvironments(environments, counting_spec(5))
    env.reset()
    actions = np.arange(6, dtype=np.float32).reshape(3, 2)
    env.step(actions)
    for environment, action in zip(environments, actions, strict=True):
      np.testing.assert_array_equal(environment.taken, action)

  @pytest.mark.parametrize('num_actions', [1, 4])
  def test_refuses_the_wrong_number_of_actions(self, num_actions):
    env = counters(3)
    env.reset()
    with pytest.raises(ValueError):
      env.step(np.zeros((num_actions, 2), np.float32))

  def test_refuses_no_environments(self):
    with pytest.raises(ValueError, match='at least one'):
      StackedEnvironments([], counting_spec(4))

  def test_a_single_environment_survives_the_round_trip(self):
    env = SingleEnvironment(StackedEnvironments(
        [CountingEnvironment(4, terminate_at=2)], counting_spec(4)))
    plain = CountingEnvironment(4, terminate_at=2)
    for timestep, expected in [(env.reset(), plain.reset())] + [
        (env.step(ACTION), plain.step(ACTION)) for _ in range(5)]:
      assert isinstance(timestep, dm_env.TimeStep)
      assert timestep.step_type is expected.step_type
      assert timestep.reward == expected.reward
      assert timestep.discount == expected.discount
      np.testing.assert_array_equal(timestep.observation, expected.observation)
