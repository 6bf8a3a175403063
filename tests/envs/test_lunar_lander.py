"""LunarLander: rewards as they come or at the end, and how episodes end."""

import dataclasses

import dm_env
import numpy as np
import pytest

from envs import registry
from envs.lunar_lander import LunarLander
from envs.vector import Drawable


def episodes(name, seed, num=2):
  """Returns rewards and last discounts of `num` episodes of one lander."""
  env = registry.make(name, 1, seed)
  rng = np.random.default_rng(0)
  found = []
  for _ in range(num):
    timestep, rewards = env.reset(), []
    while timestep.step_type[0] != dm_env.StepType.LAST:
      timestep = env.step(rng.integers(4, size=1))
      rewards.append(float(timestep.reward[0]))
    found.append((rewards, float(timestep.discount[0])))
  return found


def test_sparse_rewards_are_the_same_sum_paid_at_the_end():
  dense, sparse = (episodes(name, 3) for name in (
      'lunarlander', 'lunarlander-sparse'))
  for (rewards, end), (withheld, sparse_end) in zip(dense, sparse, strict=True):
    assert len(rewards) == len(withheld) > 20
    assert withheld[:-1] == [0.0] * (len(rewards) - 1)
    assert withheld[-1] == pytest.approx(sum(rewards), abs=1e-3)
    # Acting at random crashes, which terminates.
    assert end == sparse_end == 0.0
    assert sum(rewards) < 0


@pytest.mark.parametrize('sparse', [False, True])
def test_the_step_limit_truncates(sparse):
  spec = dataclasses.replace(
      registry.spec('lunarlander'), step_limit=20)
  env = LunarLander(spec, sparse, seed=0)
  env.reset()
  timesteps = [env.step(np.int32(0)) for _ in range(20)]
  assert [t.discount for t in timesteps] == [1.0] * 20
  assert [t.last() for t in timesteps] == [False] * 19 + [True]
  assert [t.reward == 0.0 for t in timesteps[:-1]] == [sparse] * 19
  assert timesteps[-1].reward != 0.0
  assert env.step(np.int32(0)).first()


def test_a_lander_can_be_looked_at():
  env = registry.make('lunarlander', 2, 0)
  env.reset()
  assert isinstance(env, Drawable)
  image = env.render()
  assert image.dtype == np.uint8 and image.ndim == 3 and image.std() > 0
