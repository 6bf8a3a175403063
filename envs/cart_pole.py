"""CartPole, E of them stepped by one array operation.

The dynamics are those of Gymnasium's CartPole-v1 (Barto, Sutton and Anderson
1983): a cart pushed left or right at every step balances a pole. An episode
terminates when the pole or the cart leaves its bounds; every step until then,
the last one included, has a reward of 1.
"""

from typing import Tuple

import dm_env
from dm_env import specs
import numpy as np

from envs import vector
from envs.spec import EnvSpec

GRAVITY = 9.8  # m/s^2
CART_MASS = 1.0  # kg
POLE_MASS = 0.1  # kg
POLE_HALF_LENGTH = 0.5  # m
FORCE = 10.0  # N
STEP_SECONDS = 0.02
POSITION_BOUND = 2.4  # m
ANGLE_BOUND = 12.0 * 2.0 * np.pi / 360.0  # rad
START_BOUND = 0.05
STEP_LIMIT = 500


def cart_pole_spec() -> EnvSpec:
  """Returns the static facts of CartPole."""
  return EnvSpec(name='cartpole', obs_dim=4, action_dim=0, num_actions=2,
                 step_limit=STEP_LIMIT)


def advance(state: np.ndarray, action: np.ndarray) -> np.ndarray:
  """Returns the states one Euler step later.

  Args:
    state: `[E, 4]` cart position, cart velocity, pole angle, pole velocity.
    action: `[E]`, 0 pushes left, 1 right.
  """
  position, velocity, angle, spin = state.T
  force = np.where(action == 1, FORCE, -FORCE)
  total_mass = CART_MASS + POLE_MASS
  pole_moment = POLE_MASS * POLE_HALF_LENGTH
  sine, cosine = np.sin(angle), np.cos(angle)
  push = (force + pole_moment * spin**2 * sine) / total_mass
  turn = (GRAVITY * sine - cosine * push) / (
      POLE_HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * cosine**2 / total_mass))
  acceleration = push - pole_moment * turn * cosine / total_mass
  return np.stack([
      position + STEP_SECONDS * velocity,
      velocity + STEP_SECONDS * acceleration,
      angle + STEP_SECONDS * spin,
      spin + STEP_SECONDS * turn], axis=-1)


class CartPole:
  """E carts in lockstep arrays; implements `VectorEnvironment`."""

  def __init__(self, num_envs: int = 1, seed: int = 0):
    """Builds the carts.

    Args:
      num_envs: how many environments step together.
      seed: seeds this instance's own generator.
    """
    self.num_envs = num_envs
    self.spec = cart_pole_spec()
    self._rng = np.random.default_rng(seed)
    self._state = np.zeros((num_envs, 4))
    self._elapsed = np.zeros(num_envs, np.int32)
    self._done = np.ones(num_envs, bool)

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode in every environment."""
    everyone = np.ones(self.num_envs, bool)
    self._begin(everyone)
    return self._timestep(everyone)

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps every environment; finished ones start a new episode instead."""
    action = np.asarray(action)
    vector.check_actions(action, self.num_envs, self.spec)
    first = self._done
    self._state = np.where(
        first[:, np.newaxis], self._state, advance(self._state, action))
    self._elapsed += 1
    if first.any():
      self._begin(first)
    return self._timestep(first)

  def observation_spec(self) -> specs.Array:
    """Spec of one environment's observation."""
    return vector.default_observation_spec(self.spec)

  def action_spec(self) -> specs.BoundedArray:
    """Spec of one environment's action."""
    return vector.default_action_spec(self.spec)

  def _begin(self, mask: np.ndarray) -> None:
    """Puts the environments in `mask` at the start of an episode."""
    # Drawn for all, so that what one environment gets does not depend on when
    # another one ends.
    starts = self._rng.uniform(
        -START_BOUND, START_BOUND, (self.num_envs, 4))
    self._state[mask] = starts[mask]
    self._elapsed[mask] = 0

  def _ends(self) -> Tuple[np.ndarray, np.ndarray]:
    """Returns who is out of bounds, and who is at the step limit, `[E]`."""
    fallen = (np.abs(self._state[:, 0]) > POSITION_BOUND) | (
        np.abs(self._state[:, 2]) > ANGLE_BOUND)
    return fallen, self._elapsed >= self.spec.step_limit

  def _timestep(self, first: np.ndarray) -> dm_env.TimeStep:
    fallen, late = self._ends()
    last = (fallen | late) & ~first
    self._done = last
    step_type = vector.step_types(first, last)
    return dm_env.TimeStep(
        step_type=step_type,
        reward=(~first).astype(np.float32),
        # Falling terminates; the step limit only truncates.
        discount=(~(fallen & ~first)).astype(np.float32),
        observation=self._state.astype(np.float32))
