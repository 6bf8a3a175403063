"""What a trained critic says of places, for figures."""

import jax.numpy as jnp
import numpy as np

from envs.spec import EnvSpec
from learners.agent import Representations
from learners.contrastive import networks as networks_lib
from learners.contrastive.agent import (
  evaluated_policy,
  make_networks,
  TrainingState,
)
from learners.contrastive.config import ContrastiveConfig
from safety.masking import SafetyMask


def representations(config: ContrastiveConfig, spec: EnvSpec, mask: SafetyMask,
                    state: TrainingState,
                    points: np.ndarray) -> Representations:
  """Represents points as goals, and as states under the greedy action.

  Psi is the one goals are represented with in learning: under the mask, and
  normalised if it is there. With several critics it is the first one's. Entries
  of a state or goal that are no position are those of g*.

  Args:
    config: of the agent.
    spec: of an environment with a fixed goal.
    mask: how goals in regions are represented.
    state: of the agent.
    points: `[K, P]` positions.

  Raises:
    ValueError: if there is no fixed goal, or nothing is represented.
  """
  if spec.goal is None:
    raise ValueError(f'{spec.name} has no fixed goal to compare with')
  if config.monolithic_critic:
    raise ValueError('a monolithic critic has no representations to compare')
  networks = make_networks(config, spec, mask)
  commanded = np.asarray(spec.goal, np.float32)
  states = np.zeros((len(points), spec.obs_dim), np.float32)
  states[:, list(spec.goal_indices)] = commanded
  states[:, list(spec.position_indices)] = points
  action = networks_lib.mode(networks.actor(
      evaluated_policy(config, state), jnp.asarray(states),
      jnp.asarray(np.tile(commanded, (len(points), 1)))))

  def psi(goals):
    encoded = networks.encode_goal(state.critic_params, jnp.asarray(goals))
    return np.asarray(encoded[..., 0])

  phi = networks.encode_state(state.critic_params, jnp.asarray(states), action)
  return Representations(
      of_points=psi(states[:, list(spec.goal_indices)]),
      of_goal=psi(commanded[np.newaxis])[0],
      of_actions=np.asarray(phi[..., 0]))
