"""What a trained critic says of places, for figures."""

import jax.numpy as jnp
import numpy as np

from envs.spec import EnvSpec
from learners.agent import GoalSimilarity
from learners.contrastive.agent import make_networks, TrainingState
from learners.contrastive.config import ContrastiveConfig
from safety.masking import SafetyMask


def goal_similarity(config: ContrastiveConfig, spec: EnvSpec, mask: SafetyMask,
                    state: TrainingState, points: np.ndarray) -> GoalSimilarity:
  """Compares psi of each point, taken as a goal, with psi(g*).

  Psi is the one goals are represented with in learning: under the mask, and
  normalised if it is there. With several critics it is the first one's.

  Args:
    config: of the agent.
    spec: of an environment with a fixed goal.
    mask: how goals in regions are represented.
    state: of the agent.
    points: `[K, P]` positions.
  """
  if spec.goal is None:
    raise ValueError(f'{spec.name} has no fixed goal to compare with')
  if config.monolithic_critic:
    raise ValueError('a monolithic critic has no representations to compare')
  encode = make_networks(config, spec, mask).encode_goal

  def psi(goals):
    goals = jnp.asarray(goals, jnp.float32)
    return np.asarray(encode(state.critic_params, goals)[..., 0])

  position_in_goal = [
      spec.goal_indices.index(i) for i in spec.position_indices]
  # Entries of a goal that are no position stay those of g*.
  goals = np.tile(np.asarray(spec.goal), (len(points), 1))
  goals[:, position_in_goal] = points
  of_points, of_goal = psi(goals), psi([spec.goal])[0]
  inner_product = of_points @ of_goal
  lengths = np.linalg.norm(of_points, axis=-1) * np.linalg.norm(of_goal)
  cosine = inner_product / np.maximum(lengths, np.finfo(np.float32).tiny)
  return GoalSimilarity(np.clip(cosine, -1.0, 1.0), inner_product)
