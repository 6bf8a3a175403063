"""Absorbing regions: an agent that enters one stays there to the time limit.

The environment's own answer to a region, beside masking and enforcement. No
termination is signalled, so trajectories that end there never hold the goal,
and what leads there becomes dissimilar to it.
"""

from typing import Optional

import dm_env
from dm_env import specs
import numpy as np

from envs.vector import Drawable, VectorEnvironment
from safety import regions as region_lib
from safety.regions import Regions


class AbsorbingRegions:
  """A vector environment that freezes what ends a step inside a region.

  It is `Drawable` if what it wraps is.
  """

  def __init__(self, environment: VectorEnvironment, regions: Regions):
    """Wraps `environment`.

    Args:
      environment: what is stepped.
      regions: at least one box in its position space.
    """
    self._environment = environment
    self._regions = regions
    self.spec = environment.spec
    self.num_envs = environment.num_envs
    self._indices = list(self.spec.position_indices)
    self._absorbed = np.zeros(self.num_envs, bool)
    self._frozen = np.zeros((self.num_envs, self.spec.observation_dim),
                            np.float32)
    self._picture: Optional[np.ndarray] = None
    if isinstance(environment, Drawable):
      self._drawable = environment
      self.render = self._draw

  @property
  def absorbed(self) -> np.ndarray:
    """`[E]` bool, environments whose agent is held in a region."""
    return self._absorbed.copy()

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode in every environment."""
    self._absorbed[:] = False
    self._picture = None
    return self._environment.reset()

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps every environment; a held agent neither moves nor is rewarded."""
    timestep = self._environment.step(action)
    self._absorbed &= timestep.step_type != dm_env.StepType.FIRST
    if not self._absorbed[0]:
      self._picture = None
    held = self._absorbed[:, np.newaxis]
    observation = np.where(held, self._frozen, timestep.observation)
    inside = region_lib.contains(
        self._regions, observation[:, self._indices], np)
    inside &= timestep.step_type != dm_env.StepType.FIRST
    # The goal may lie near a region, but what is held earns nothing.
    self._absorbed |= inside
    reward = np.where(self._absorbed, 0.0, timestep.reward)
    self._frozen = observation.copy()
    return timestep._replace(
        reward=reward.astype(np.float32), observation=observation)

  def observation_spec(self) -> specs.Array:
    """Spec of one environment's observation."""
    return self._environment.observation_spec()

  def action_spec(self) -> specs.BoundedArray:
    """Spec of one environment's action."""
    return self._environment.action_spec()

  def _draw(self) -> np.ndarray:
    """Draws the first environment; a held agent as it was first seen held."""
    if not self._absorbed[0]:
      return self._drawable.render()
    if self._picture is None:
      self._picture = self._drawable.render()
    return self._picture
