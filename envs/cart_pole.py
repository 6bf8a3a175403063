"""CartPole, E of them stepped by one array operation.

The dynamics are those of Gymnasium's CartPole-v1 (Barto, Sutton and Anderson
1983): a cart pushed left or right at every step balances a pole. An episode
terminates when the pole or the cart leaves its bounds; every step until then,
the last one included, has a reward of 1.
"""

import numpy as np

from envs.lockstep import LockstepEnvironment, Outcome
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


class CartPole(LockstepEnvironment):
  """E carts; implements `VectorEnvironment`."""

  def __init__(self, num_envs: int = 1, seed: int = 0):
    """Builds the carts.

    Args:
      num_envs: how many environments step together.
      seed: seeds this instance's own generator.
    """
    super().__init__(cart_pole_spec(), num_envs)
    self._rng = np.random.default_rng(seed)
    self._state = np.zeros((num_envs, 4))

  def _begin(self, mask: np.ndarray) -> None:
    # Drawn for all, so that what one environment gets does not depend on when
    # another one ends.
    starts = self._rng.uniform(
        -START_BOUND, START_BOUND, (self.num_envs, 4))
    self._state[mask] = starts[mask]

  def _advance(self, action: np.ndarray, mask: np.ndarray) -> None:
    self._state = np.where(
        mask[:, np.newaxis], advance(self._state, action), self._state)

  def _outcome(self) -> Outcome:
    fallen = (np.abs(self._state[:, 0]) > POSITION_BOUND) | (
        np.abs(self._state[:, 2]) > ANGLE_BOUND)
    return Outcome(self._state, np.ones(self.num_envs), fallen)
