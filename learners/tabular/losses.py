"""InfoNCE over a batch of (state, future state) pairs, and its increments.

Rows of the logits are anchors, columns futures; the pairs are on the diagonal.
Backward InfoNCE asks which anchor a future belongs to, forward InfoNCE which
future an anchor has; 'both' is their mean.
"""

from typing import Tuple

import numpy as np

LOSSES = ('backward', 'forward', 'both')


def info_nce(logits: np.ndarray, loss: str) -> Tuple[float, np.ndarray]:
  """Computes the loss and the probabilities its gradient is made of.

  Args:
    logits: `[B, B]`.
    loss: one of `LOSSES`.

  Returns:
    The mean over pairs, and `[B, B]` probabilities P: minus B times the
    gradient of the loss in the logits is I - P.
  """
  if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
    raise ValueError(f'expected logits [B, B], got {logits.shape}')
  if loss == 'both':
    backward, of_anchors = info_nce(logits, 'backward')
    forward, of_futures = info_nce(logits, 'forward')
    return (backward + forward) / 2, (of_anchors + of_futures) / 2
  axis = {'backward': 0, 'forward': 1}[loss]
  shifted = logits - logits.max(axis=axis, keepdims=True)
  weights = np.exp(shifted)
  total = weights.sum(axis=axis, keepdims=True)
  log_partition = np.log(total).ravel()
  value = float(np.mean(log_partition - np.diagonal(shifted)))
  return value, weights / total


def score_increments(logits: np.ndarray, loss: str) -> Tuple[float, np.ndarray]:
  """Returns the loss and the ascent direction of the logits themselves.

  Args:
    logits: `[B, B]`.
    loss: one of `LOSSES`.

  Returns:
    The loss, and `[B, B]` minus B times its gradient.
  """
  value, probabilities = info_nce(logits, loss)
  return value, np.eye(len(logits)) - probabilities


def increments(anchors: np.ndarray, futures: np.ndarray,
               loss: str) -> Tuple[float, np.ndarray, np.ndarray]:
  """Returns the loss and the ascent directions of both sides of the pairs.

  They are sums over the batch, not means: the published steps are.

  Args:
    anchors: `[B, d]` representations.
    futures: `[B, d]` representations.
    loss: one of `LOSSES`.

  Returns:
    The loss, and minus B times its gradient in the anchors and in the futures,
    each `[B, d]`, both at the representations given.
  """
  if anchors.ndim != 2 or anchors.shape != futures.shape:
    raise ValueError('expected anchors and futures [B, d], got '
                     f'{anchors.shape} and {futures.shape}')
  value, direction = score_increments(anchors @ futures.T, loss)
  return value, direction @ futures, direction.T @ anchors
