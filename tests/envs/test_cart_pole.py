"""CartPole against Gymnasium's, and where its episodes end."""

import dm_env
import gymnasium
import numpy as np
import pytest

from envs import cart_pole
from envs.cart_pole import CartPole


@pytest.mark.parametrize('seed', range(5))
def test_episodes_are_those_of_gymnasium(seed):
  theirs = gymnasium.make('CartPole-v1')
  first, _ = theirs.reset(seed=seed)
  ours = CartPole(2, seed)
  ours.reset()
  ours._state[:] = theirs.unwrapped.state
  np.testing.assert_allclose(ours._state[1], first, atol=1e-7)
  rng = np.random.default_rng(seed)
  for t in range(1, 501):
    # Mostly balancing, so that some episodes are long.
    lean = ours._state[0, 2] + 0.3 * ours._state[0, 3]
    action = int(lean > 0) if rng.random() < 0.8 + 0.05 * seed else 0
    expected, reward, terminated, truncated, _ = theirs.step(action)
    step = ours.step(np.array([action, action]))
    np.testing.assert_allclose(step.observation[0], expected, rtol=1e-5,
                               atol=1e-6)
    assert step.reward.tolist() == [reward, reward]
    assert (step.step_type[0] == dm_env.StepType.LAST) == (
        terminated or truncated), t
    assert step.discount[0] == (0.0 if terminated else 1.0)
    if terminated or truncated:
      break
  assert terminated or t == 500
  theirs.close()


def test_the_step_limit_truncates_whoever_still_stands():
  env = CartPole(1, 0)
  timestep = env.reset()
  steps = 0
  while timestep.step_type[0] != dm_env.StepType.LAST:
    position, velocity, angle, spin = timestep.observation[0]
    push = angle + 0.3 * spin + 0.05 * position + 0.1 * velocity > 0
    timestep = env.step(np.array([int(push)]))
    steps += 1
  assert (steps, timestep.discount[0]) == (cart_pole.STEP_LIMIT, 1.0)
  timestep = env.step(np.array([0]))
  assert timestep.step_type[0] == dm_env.StepType.FIRST
  assert np.all(np.abs(timestep.observation) <= cart_pole.START_BOUND)


def test_an_action_of_the_wrong_shape_is_refused():
  with pytest.raises(ValueError, match='action shape'):
    CartPole(2, 0).step(np.zeros((2, 1), np.int32))
