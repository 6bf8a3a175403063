"""Changes to a batch or to its negatives, each of them off by default.

They belong to studies of why single-goal contrastive RL explores: g* is pushed
away, or pulled close, before it was ever reached.
"""

from typing import List, Optional, Sequence, Tuple

import jax
import jax.numpy as jnp

from envs.spec import EnvSpec
from learners.contrastive import config as config_lib
from learners.contrastive.config import ContrastiveConfig
from learners.contrastive.networks import Networks, Params
from replay.relabel import Transitions

# Perturbations are uniform in +-PERTURBATION, in the environment's own units.
PERTURBATION = 2.0


def give_goal(key: jax.Array, batch: Transitions, goal: Sequence[float],
              num_rows: int, active: jax.Array) -> Transitions:
  """Makes g* the future of some rows, and their action a random one.

  Rows of a batch are in no order, so the first ones are as good as any.

  Args:
    key: consumed.
    batch: B transitions.
    goal: g*, `[G]`.
    num_rows: how many rows are changed.
    active: bool scalar; the batch stays as it is if false.

  Returns:
    B transitions.
  """
  if len(goal) != batch.goal.shape[1] or num_rows > len(batch.goal):
    raise ValueError(f'expected a goal like {batch.goal.shape} and at most as '
                     f'many rows, got {len(goal)} entries, {num_rows} rows')
  action = jax.random.uniform(
      key, (num_rows, batch.action.shape[1]), minval=-1.0, maxval=1.0)
  goals = jnp.tile(jnp.array(goal), (num_rows, 1))
  changed = batch._replace(
      goal=jnp.concatenate([goals, batch.goal[num_rows:]]),
      action=jnp.concatenate([action, batch.action[num_rows:]]))
  return jax.tree.map(
      lambda new, old: jnp.where(active, new, old), changed, batch)


def extra_negatives(config: ContrastiveConfig, spec: EnvSpec,
                    networks: Networks, critic_params: Params,
                    batch: Transitions, steps: jax.Array,
                    key: jax.Array) -> Optional[jax.Array]:
  """Returns the negatives that the settings add to every row.

  Args:
    config: says which.
    spec: of the environment.
    networks: the critic.
    critic_params: its parameters.
    batch: B transitions.
    steps: SGD steps done.
    key: consumed.

  Returns:
    Columns `[B, K, C]`, or None if the settings add none.
  """
  if not config_lib.adds_negatives(config):
    return None
  key_goals, key_states = jax.random.split(key)
  columns: List[jax.Array] = []
  if config.goal_neg_actor_steps:
    last = config_lib.updates_before(config, config.goal_neg_actor_steps)
    column = goal_column(networks, critic_params, batch, fixed_goal(spec))
    columns.append(jnp.where(steps < last, column, -jnp.inf))
  if config.perturbed_negatives_num:
    columns.append(perturbed_goal_columns(
        networks, critic_params, batch, spec.goal_indices, perturbations(
            key_goals, batch, config.perturbed_negatives_num, spec.goal_dim)))
  if config.perturbed_negatives_goal_num:
    columns.append(perturbed_state_columns(
        networks, critic_params, batch, fixed_goal(spec), perturbations(
            key_states, batch, config.perturbed_negatives_goal_num,
            spec.obs_dim)))
  return jnp.concatenate(columns, axis=1)


def fixed_goal(spec: EnvSpec) -> Tuple[float, ...]:
  """Returns g*."""
  if spec.goal is None:
    raise ValueError(f'{spec.name} has no fixed goal')
  return spec.goal


def perturbations(key: jax.Array, batch: Transitions, num: int,
                  size: int) -> jax.Array:
  """Draws noise `[B, num, size]`; the key is consumed."""
  return jax.random.uniform(
      key, (len(batch.state), num, size), minval=-PERTURBATION,
      maxval=PERTURBATION)


def goal_column(networks: Networks, critic_params: Params, batch: Transitions,
                goal: Sequence[float]) -> jax.Array:
  """Returns Q(s, a, g*) of each row, `[B, 1, C]`."""
  phi = networks.encode_state(critic_params, batch.state, batch.action)
  psi = networks.encode_goal(critic_params, jnp.array([goal]))
  return networks.compare_all(critic_params, phi, psi)


def perturbed_goal_columns(networks: Networks, critic_params: Params,
                           batch: Transitions, goal_indices: Sequence[int],
                           noise: jax.Array) -> jax.Array:
  """Returns Q(s, a, g) at goals g near the row's own state.

  Args:
    networks: the critic.
    critic_params: its parameters.
    batch: B transitions.
    goal_indices: state entries that make up a goal.
    noise: `[B, K, G]`, added to the state as a goal.

  Returns:
    `[B, K, C]`.
  """
  batch_size, num, _ = noise.shape
  achieved = batch.state[:, jnp.array(goal_indices)]
  goals = achieved[:, jnp.newaxis] + noise
  phi = networks.encode_state(critic_params, batch.state, batch.action)
  psi = networks.encode_goal(critic_params, goals.reshape(batch_size * num, -1))
  values = networks.compare(critic_params, jnp.repeat(phi, num, axis=0), psi)
  return values.reshape(batch_size, num, -1)


def perturbed_state_columns(networks: Networks, critic_params: Params,
                            batch: Transitions, goal: Sequence[float],
                            noise: jax.Array) -> jax.Array:
  """Returns Q(s', a, g*) at states s' near the row's own.

  Args:
    networks: the critic.
    critic_params: its parameters.
    batch: B transitions.
    goal: g*.
    noise: `[B, K, S]`, added to the state.

  Returns:
    `[B, K, C]`.
  """
  batch_size, num, state_dim = noise.shape
  states = (batch.state[:, jnp.newaxis] + noise).reshape(-1, state_dim)
  phi = networks.encode_state(
      critic_params, states, jnp.repeat(batch.action, num, axis=0))
  psi = networks.encode_goal(critic_params, jnp.array([goal]))
  values = networks.compare_all(critic_params, phi, psi)
  return values.reshape(batch_size, num, -1)
