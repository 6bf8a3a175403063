"""Rainbow's targets and losses, and the weights of prioritised replay.

Bellemare et al. 2017 (C51), Hessel et al. 2018 (Rainbow), Schaul et al. 2016
(prioritised replay).
"""

from typing import Callable, NamedTuple, Tuple

import jax
import jax.numpy as jnp
import optax

# Keeps roots of small losses away from an infinite slope.
PRIORITY_EPSILON = 1e-10


def support(vmin: float, vmax: float, num_atoms: int) -> jax.Array:
  """Returns the atoms `[Z]` of the return distribution."""
  return jnp.linspace(vmin, vmax, num_atoms)


def q_values(logits: jax.Array, atoms: jax.Array) -> jax.Array:
  """Returns the expected returns `[B, A]` of logits `[B, A, Z]`."""
  return jnp.sum(jax.nn.softmax(logits) * atoms, axis=-1)


def n_step_return(reward: jax.Array, discount: jax.Array, real: jax.Array,
                  gamma: float) -> Tuple[jax.Array, jax.Array]:
  """Sums up the rewards of windows that may end early.

  Args:
    reward: `[B, n]`, the reward of each step.
    discount: `[B, n]`, 0 where a step ended the episode for good, else 1.
    real: `[B, n]`, 1 for steps that were made, 0 for those past the end.
    gamma: discount per step.

  Returns:
    `[B]` discounted sum of rewards, and `[B]` what the value of the last state
    counts: gamma to the number of steps made, or 0 after a termination.
  """
  if not reward.ndim == 2 or not reward.shape == discount.shape == real.shape:
    raise ValueError('expected reward, discount and real [B, n], got '
                     f'{reward.shape}, {discount.shape} and {real.shape}')
  alive = jnp.cumprod(jnp.where(real > 0, gamma * discount, 1.0), axis=1)
  before = jnp.concatenate([jnp.ones_like(alive[:, :1]), alive[:, :-1]], axis=1)
  return jnp.sum(real * before * reward, axis=1), alive[:, -1]


def project(target_atoms: jax.Array, probs: jax.Array,
            atoms: jax.Array) -> jax.Array:
  """Moves probability from arbitrary places to the atoms next to them.

  Args:
    target_atoms: `[B, Z]` places; those outside the support count as its ends.
    probs: `[B, Z]` their probability.
    atoms: `[Z]` evenly spaced.

  Returns:
    `[B, Z]` probability of each atom.
  """
  if target_atoms.shape != probs.shape or atoms.shape != probs.shape[1:]:
    raise ValueError(
        f'expected places and probs [B, Z] and atoms [Z], got '
        f'{target_atoms.shape}, {probs.shape} and {atoms.shape}')
  gap = atoms[1] - atoms[0]
  clipped = jnp.clip(target_atoms, atoms[0], atoms[-1])
  # [B, to, from]
  distance = jnp.abs(clipped[:, jnp.newaxis, :] - atoms[:, jnp.newaxis]) / gap
  share = jnp.clip(1.0 - distance, 0.0, 1.0)
  return jnp.sum(share * probs[:, jnp.newaxis, :], axis=-1)


def target_distribution(returns: jax.Array, bootstrap: jax.Array,
                        next_logits: jax.Array, next_action: jax.Array,
                        atoms: jax.Array) -> jax.Array:
  """Returns the distribution `[B, Z]` that the online network is to match.

  Args:
    returns: `[B]` rewards up to the state that is bootstrapped from.
    bootstrap: `[B]` what the value of that state counts.
    next_logits: `[B, A, Z]` of the target network in that state.
    next_action: `[B]` the action whose distribution is taken.
    atoms: `[Z]`.
  """
  probs = jax.nn.softmax(_of_action(next_logits, next_action))
  places = returns[:, jnp.newaxis] + bootstrap[:, jnp.newaxis] * atoms
  return jax.lax.stop_gradient(project(places, probs, atoms))


def cross_entropy(logits: jax.Array, action: jax.Array,
                  target: jax.Array) -> jax.Array:
  """Returns the loss `[B]` of the actions taken.

  Args:
    logits: `[B, A, Z]` of the online network.
    action: `[B]` int.
    target: `[B, Z]`.
  """
  log_probs = jax.nn.log_softmax(_of_action(logits, action))
  return -jnp.sum(target * log_probs, axis=-1)


def huber_td(logits: jax.Array, action: jax.Array, returns: jax.Array,
             bootstrap: jax.Array, next_logits: jax.Array,
             next_action: jax.Array) -> jax.Array:
  """Returns the Huber loss `[B]` where values are the sums of logits.

  Args:
    logits: `[B, A, Z]` of the online network.
    action: `[B]` int.
    returns: `[B]` rewards up to the state that is bootstrapped from.
    bootstrap: `[B]` what the value of that state counts.
    next_logits: `[B, A, Z]` of the target network in that state.
    next_action: `[B]` the action whose value is taken.
  """
  next_value = jnp.sum(_of_action(next_logits, next_action), axis=-1)
  target = jax.lax.stop_gradient(returns + bootstrap * next_value)
  return optax.huber_loss(jnp.sum(_of_action(logits, action), axis=-1), target)


class Head(NamedTuple):
  """How the logits of a value network are read and taught.

  Attributes:
    q: `logits [B, A, Z] -> [B, A]`.
    loss: `(logits, action, returns, bootstrap, next_logits, next_action) ->
      [B]`, as `huber_td`.
  """
  q: Callable[[jax.Array], jax.Array]
  loss: Callable[..., jax.Array]


def make_head(vmax: float, num_atoms: int, distributional: bool) -> Head:
  """Returns the head of a distribution of returns, or of plain values."""
  if not distributional:
    return Head(q=lambda logits: jnp.sum(logits, axis=-1), loss=huber_td)
  atoms = support(-vmax, vmax, num_atoms)

  def loss(logits, action, returns, bootstrap, next_logits, next_action):
    return cross_entropy(logits, action, target_distribution(
        returns, bootstrap, next_logits, next_action, atoms))

  return Head(q=lambda logits: q_values(logits, atoms), loss=loss)


def priorities(item_losses: jax.Array) -> jax.Array:
  """Returns how often items are to be drawn, relative to each other, `[B]`."""
  return jnp.sqrt(item_losses + PRIORITY_EPSILON)


def importance_weights(probability: jax.Array, exponent: float) -> jax.Array:
  """Returns the weights `[B]` that make up for prioritised draws.

  Args:
    probability: `[B]` of each item drawn, up to a common factor.
    exponent: beta; 1 makes up for all of it.

  Returns:
    `probability^-exponent`, divided by its maximum over the batch.
  """
  weights = (probability + PRIORITY_EPSILON) ** -exponent
  return weights / jnp.max(weights)


def _of_action(logits: jax.Array, action: jax.Array) -> jax.Array:
  """Picks `[B, Z]` of one action per row."""
  if logits.ndim != 3 or action.shape != logits.shape[:1]:
    raise ValueError('expected logits [B, A, Z] and action [B], got '
                     f'{logits.shape} and {action.shape}')
  return jnp.take_along_axis(
      logits, action[:, jnp.newaxis, jnp.newaxis], axis=1)[:, 0]
