"""What acts: the actor's samples, its mode, or the critic's best action."""

from typing import Tuple

import jax
import jax.numpy as jnp

from actors import policy as policy_lib
from actors.policy import Policy
from envs.spec import EnvSpec
from learners.contrastive import networks as networks_lib
from learners.contrastive.networks import Networks

# Values the critic's best action is looked for among, per action entry.
GRID_SIZE = 20
# Actions compared at once in every environment. A power of GRID_SIZE, so that
# it divides larger grids.
GRID_CHUNK = GRID_SIZE**2


def sampling_policy(networks: Networks, spec: EnvSpec) -> Policy:
  """Returns the policy that draws from the actor, whose params it needs."""

  def act(params, observation, key):
    return networks_lib.sample(key, networks.actor(
        params, *split_observation(spec, observation)))

  return policy_lib.stateless_policy(act)


def mode_policy(networks: Networks, spec: EnvSpec) -> Policy:
  """Returns the policy that takes the actor's mode; it needs its params."""

  def act(params, observation, key):
    del key
    return networks_lib.mode(networks.actor(
        params, *split_observation(spec, observation)))

  return policy_lib.stateless_policy(act)


def critic_policy(networks: Networks, spec: EnvSpec) -> Policy:
  """Returns the policy that takes the critic's best action on a grid.

  It needs the critic's params. With several critics the least counts, as for
  the actor; among equals the first action of the grid is taken.
  """
  num_actions = GRID_SIZE**spec.action_dim
  chunk = min(GRID_CHUNK, num_actions)

  def act(params, observation, key):
    del key
    state, goal = split_observation(spec, observation)
    num_envs = len(state)
    states = jnp.tile(state, (chunk, 1))                  # [chunk * E, S]
    psi = jnp.tile(networks.encode_goal(params, goal), (chunk, 1, 1))

    def best_from(first):
      indices = first + jnp.arange(chunk)
      actions = grid_actions(indices, spec.action_dim)
      phi = networks.encode_state(
          params, states, jnp.repeat(actions, num_envs, axis=0))
      values = jnp.min(networks.compare(params, phi, psi), axis=-1)
      values = values.reshape(chunk, num_envs)
      best = jnp.argmax(values, axis=0)
      return jnp.max(values, axis=0), indices[best]

    # Each is [chunks, E].
    values, indices = jax.lax.map(best_from, jnp.arange(0, num_actions, chunk))
    best = jnp.argmax(values, axis=0)[jnp.newaxis]
    return grid_actions(jnp.take_along_axis(indices, best, axis=0)[0],
                        spec.action_dim)

  return policy_lib.stateless_policy(act)


def grid_actions(indices: jax.Array, action_dim: int) -> jax.Array:
  """Returns actions of the grid over [-1, 1]^A, `[K]` indices to `[K, A]`."""
  if indices.ndim != 1:
    raise ValueError(f'expected indices [K], got {indices.shape}')
  places = GRID_SIZE ** jnp.arange(action_dim)
  digits = indices[:, jnp.newaxis] // places % GRID_SIZE
  return 2.0 * digits / (GRID_SIZE - 1) - 1.0


def split_observation(spec: EnvSpec,
                      observation: jax.Array) -> Tuple[jax.Array, jax.Array]:
  """Splits `[B, S + G]` into state `[B, S]` and goal `[B, G]`."""
  return observation[:, :spec.obs_dim], observation[:, spec.obs_dim:]
