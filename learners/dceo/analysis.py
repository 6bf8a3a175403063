"""What the representation and the options have become, frame by frame."""

import jax
import jax.numpy as jnp
import numpy as np

from learners.dceo import config as config_lib
from learners.dceo import losses
from learners.dceo.config import DCEOConfig
from learners.dceo.learning import TrainingState
from learners.dceo.networks import Networks


def still_states(frames: np.ndarray, stack: int) -> jax.Array:
  """Returns the states `[N, H, W, S]` of staying at frames `[N, H, W]`."""
  if frames.ndim != 3:
    raise ValueError(f'frames: expected [N, H, W], got {frames.shape}')
  return jnp.repeat(jnp.asarray(frames)[..., jnp.newaxis], stack, axis=-1)


def representation(config: DCEOConfig, networks: Networks,
                   state: TrainingState, frames: np.ndarray) -> np.ndarray:
  """Returns phi of staying at frames, `[N, d]`."""
  return np.asarray(networks.phi(
      state.representation.params, still_states(frames, config.stack)))


def option_actions(config: DCEOConfig, networks: Networks,
                   state: TrainingState, frames: np.ndarray) -> np.ndarray:
  """Returns each option's best action at frames `[N, H, W]`, `[K, N]`."""
  head = losses.make_head(
      config.option_vmax, config.num_atoms, config.distributional)
  states = still_states(frames, config.stack)

  def best(params):
    return jnp.argmax(head.q(networks.q_logits(params, states, None)), -1)

  return np.stack([
      np.asarray(best(jax.tree.map(lambda x: x[o], state.options.params)))  # pylint: disable=cell-var-from-loop
      for o in range(config_lib.num_options(config))])


def follow(next_state: np.ndarray, actions: np.ndarray,
           num_steps: int) -> np.ndarray:
  """Follows options from every state.

  Args:
    next_state: `[N, A]` where actions lead.
    actions: `[K, N]` of each option.
    num_steps: how long.

  Returns:
    Where each option is after `num_steps` from each state, `[K, N]`.
  """
  if next_state.ndim != 2 or actions.shape[1:] != next_state.shape[:1]:
    raise ValueError('expected next_state [N, A] and actions [K, N], got '
                     f'{next_state.shape} and {actions.shape}')
  num_options, num_states = actions.shape
  at = np.tile(np.arange(num_states), (num_options, 1))
  options = np.arange(num_options)[:, np.newaxis]
  for _ in range(num_steps):
    at = next_state[at, actions[options, at]]
  return at
