"""Losses of contrastive RL. Rows are (state, action) pairs, columns goals.

Eysenbach et al. 2022 (CPC, NCE, NCE + C-learning) and 2021 (C-learning);
single-goal use: Liu et al. 2024.
"""

from typing import Dict, Optional, Tuple

import jax
import jax.numpy as jnp
import optax

# Importance weights of C-learning are clipped here.
MAX_WEIGHT = 20.0


def _check_square(logits: jax.Array) -> None:
  if logits.ndim != 3 or logits.shape[0] != logits.shape[1]:
    raise ValueError(f'expected logits [B, B, C], got {logits.shape}')


def cpc_loss(logits: jax.Array, logsumexp_penalty: float,
             negatives: Optional[jax.Array] = None) -> jax.Array:
  """Forward InfoNCE: each row must pick its own column among all columns.

  Args:
    logits: `[B, B, C]`, C critics.
    logsumexp_penalty: weight of the squared log-partition of each row.
    negatives: `[B, K, C]`, K more columns that are no row's own. One of -inf
      counts for nothing.

  Returns:
    Scalar: mean over rows and critics.
  """
  _check_square(logits)
  columns = logits
  if negatives is not None:
    if negatives.ndim != 3 or negatives.shape[::2] != logits.shape[::2]:
      raise ValueError('expected negatives [B, K, C] for logits '
                       f'{logits.shape}, got {negatives.shape}')
    columns = jnp.concatenate([logits, negatives], axis=1)
  log_partition = jax.nn.logsumexp(columns, axis=1)          # [B, C]
  positive = jnp.diagonal(logits, axis1=0, axis2=1).T        # [B, C]
  return jnp.mean(
      log_partition - positive + logsumexp_penalty * log_partition**2)


def backward_cpc_loss(logits: jax.Array,
                      logsumexp_penalty: float) -> jax.Array:
  """Backward InfoNCE: each column must pick its own row among all rows.

  Args:
    logits: `[B, B, C]`.
    logsumexp_penalty: weight of the squared log-partition of each column.

  Returns:
    Scalar: mean over columns and critics.
  """
  return cpc_loss(jnp.swapaxes(logits, 0, 1), logsumexp_penalty)


def nce_loss(logits: jax.Array) -> jax.Array:
  """Binary NCE: every entry against the identity, mean over entries.

  Args:
    logits: `[B, B, C]`.

  Returns:
    Scalar.
  """
  _check_square(logits)
  labels = jnp.broadcast_to(
      jnp.eye(logits.shape[0])[:, :, jnp.newaxis], logits.shape)
  return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels))


def importance_weight(next_logits: jax.Array) -> jax.Array:
  """Returns the C-learning weight of each row, without gradient.

  Args:
    next_logits: `[B, C]` target critics at (s', a', g'), g' the negative goal.

  Returns:
    `[B]` clip(v / (1 - v), 0, 20) with v the lesser critic's probability.
  """
  if next_logits.ndim != 2:
    raise ValueError(f'expected next_logits [B, C], got {next_logits.shape}')
  # v / (1 - v) is exp(logit) for v = sigmoid(logit).
  weight = jnp.exp(jnp.min(next_logits, axis=-1))
  return jax.lax.stop_gradient(jnp.clip(weight, 0.0, MAX_WEIGHT))


def td_loss(positive: jax.Array, negative: jax.Array, weight: jax.Array,
            discount: float) -> jax.Array:
  """C-learning: bootstraps the chance of a random goal being a future state.

  Args:
    positive: `[B, C]` logits at the next state as goal.
    negative: `[B, C]` logits at another row's goal.
    weight: `[B]` from `importance_weight`.
    discount: gamma.

  Returns:
    Scalar: mean over rows and critics.
  """
  return _weighted_td(positive, negative, weight,
                      (1.0 - discount, discount, 1.0))


def td_mc_loss(positive: jax.Array, negative: jax.Array, weight: jax.Array,
               discount: float) -> jax.Array:
  """C-learning mixed with Monte-Carlo NCE; see `td_loss` for the arguments.

  The positives hold next states in the first `num_next_state_rows` rows and
  Monte-Carlo futures in the others.
  """
  return _weighted_td(positive, negative, weight,
                      (1.0 + (1.0 - discount), discount, 2.0))


def _weighted_td(positive: jax.Array, negative: jax.Array, weight: jax.Array,
                 scales: Tuple[float, float, float]) -> jax.Array:
  if positive.shape != negative.shape or weight.shape != positive.shape[:1]:
    raise ValueError('expected positive and negative [B, C] and weight [B], '
                     f'got {positive.shape}, {negative.shape}, {weight.shape}')
  scale_pos, scale_bootstrap, scale_neg = scales
  bce = optax.sigmoid_binary_cross_entropy
  return jnp.mean(
      scale_pos * bce(positive, jnp.ones_like(positive))
      + scale_bootstrap * weight[:, jnp.newaxis] * bce(
          negative, jnp.ones_like(negative))
      + scale_neg * bce(negative, jnp.zeros_like(negative)))


def num_next_state_rows(batch_size: int, discount: float) -> int:
  """Rows of `td_mc_loss` whose positive is the next state."""
  return int(batch_size * (1.0 - discount) / ((1.0 - discount) + 1.0))


def actor_loss(q_values: jax.Array) -> jax.Array:
  """Maximises similarity to the goal.

  Args:
    q_values: `[B, C]` phi(s, a) . psi(g) for a ~ pi(s, g).

  Returns:
    Scalar: minus the mean of the critics' minimum.
  """
  if q_values.ndim != 2:
    raise ValueError(f'expected q_values [B, C], got {q_values.shape}')
  return -jnp.mean(jnp.min(q_values, axis=-1))


def entropy_loss(log_probs: jax.Array, alpha: jax.Array) -> jax.Array:
  """Maximises weighted entropy, on top of `actor_loss`.

  Args:
    log_probs: `[B]` log pi(a | s, g).
    alpha: scalar weight.

  Returns:
    Scalar: alpha times the mean log-probability.
  """
  return alpha * jnp.mean(log_probs)


def alpha_loss(log_alpha: jax.Array, log_probs: jax.Array,
               target_entropy: float) -> jax.Array:
  """Moves alpha so that the policy's entropy meets its target.

  Args:
    log_alpha: scalar.
    log_probs: `[B]`, taken as constants.
    target_entropy: in nats.

  Returns:
    Scalar.
  """
  entropy_gap = jax.lax.stop_gradient(-log_probs - target_entropy)
  return jnp.exp(log_alpha) * jnp.mean(entropy_gap)


def critic_metrics(logits: jax.Array) -> Dict[str, jax.Array]:
  """Returns how well `[B, B, C]` logits tell the own column from the others."""
  _check_square(logits)
  batch_size = logits.shape[0]
  eye = jnp.eye(batch_size)[:, :, jnp.newaxis]
  positive = jnp.sum(logits * eye, axis=(0, 1)) / batch_size
  negative = jnp.sum(logits * (1.0 - eye), axis=(0, 1)) / (
      batch_size * (batch_size - 1))
  correct = jnp.argmax(logits, axis=1) == jnp.arange(batch_size)[:, jnp.newaxis]
  return {
      'binary_accuracy': jnp.mean((logits > 0) == (eye > 0)),
      'categorical_accuracy': jnp.mean(correct),
      'logits_pos': jnp.mean(positive),
      'logits_neg': jnp.mean(negative),
      'logsumexp': jnp.mean(jax.nn.logsumexp(logits, axis=1)**2),
  }
