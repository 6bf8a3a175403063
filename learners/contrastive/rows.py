"""The rows of a batch: which state is taught with which goal."""

from typing import Tuple

import jax
import jax.numpy as jnp

from envs.spec import EnvSpec
from learners.agent import Batch
from learners.contrastive import ablations, losses
from learners.contrastive import config as config_lib
from learners.contrastive.config import ContrastiveConfig
from replay import relabel


def sample(key: jax.Array, episodes: Batch, steps: jax.Array,
           config: ContrastiveConfig, spec: EnvSpec) -> relabel.Transitions:
  """Draws the transitions of one SGD step, each with a future as its goal.

  Args:
    key: consumed.
    episodes: what replay handed over.
    steps: SGD steps done.
    config: of the agent.
    spec: of the environment.
  """

  def draw(key):
    return relabel.sample_transitions(
        key, episodes, config.batch_size, config.discount, spec.obs_dim,
        spec.goal_indices)

  if not config.goal_pos_actor_steps:
    return draw(key)
  key_draw, key_goal = jax.random.split(key)
  last = config_lib.updates_before(config, config.goal_pos_actor_steps)
  return ablations.give_goal(
      key_goal, draw(key_draw), ablations.fixed_goal(spec),
      config_lib.num_goal_rows(config), active=steps < last)


def critic_goals(config: ContrastiveConfig, spec: EnvSpec,
                 batch: relabel.Transitions) -> jax.Array:
  """Returns each row's positive goal `[B, G]`: a future, or the next state."""
  if not config_lib.uses_td(config):
    return batch.goal
  next_goal = batch.next_state[:, jnp.array(spec.goal_indices)]
  if config.loss == 'td':
    return next_goal
  num = losses.num_next_state_rows(batch.goal.shape[0], config.discount)
  return jnp.concatenate([next_goal[:num], batch.goal[num:]])


def actor_rows(random_goals: float, state: jax.Array, goal: jax.Array,
               psi: jax.Array) -> Tuple[jax.Array, jax.Array, jax.Array]:
  """Pairs states with goals for the actor loss.

  Args:
    random_goals: 0 pairs each state with its own goal, 1 with the row before,
      0.5 does both and doubles the batch.
    state: `[B, S]`.
    goal: `[B, G]`.
    psi: `[B, N, C]`, representations of `goal`.

  Returns:
    States, goals and representations with B or 2B rows.
  """
  rolled_goal, rolled_psi = jnp.roll(goal, 1, axis=0), jnp.roll(psi, 1, axis=0)
  if random_goals == 0.0:
    return state, goal, psi
  if random_goals == 1.0:
    return state, rolled_goal, rolled_psi
  return (jnp.concatenate([state, state]),
          jnp.concatenate([goal, rolled_goal]),
          jnp.concatenate([psi, rolled_psi]))
