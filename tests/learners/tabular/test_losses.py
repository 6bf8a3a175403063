"""Increments against finite differences of the loss, written out slowly."""

import numpy as np
import pytest

from learners.tabular import losses

B, D = 6, 3


def slow_loss(anchors, futures, loss):
  """Loops over pairs; backward asks for the anchor, forward for the future."""
  logits = np.array([[float(x @ y) for y in futures] for x in anchors])
  def nce(table):
    # Row k must pick its own column.
    return -np.mean([
        np.log(np.exp(table[k, k]) / sum(np.exp(v) for v in table[k]))
        for k in range(len(table))])
  return {'forward': nce(logits), 'backward': nce(logits.T),
          'both': (nce(logits) + nce(logits.T)) / 2}[loss]


def gradient(function, array, eps=1e-6):
  result = np.zeros_like(array)
  for index in np.ndindex(array.shape):
    up, down = array.copy(), array.copy()
    up[index] += eps
    down[index] -= eps
    result[index] = (function(up) - function(down)) / (2 * eps)
  return result


@pytest.fixture
def pairs():
  rng = np.random.default_rng(0)
  return rng.standard_normal((B, D)), rng.standard_normal((B, D))


@pytest.mark.parametrize('loss', losses.LOSSES)
def test_increments_are_minus_b_times_the_gradient(pairs, loss):
  anchors, futures = pairs
  value, d_anchors, d_futures = losses.increments(anchors, futures, loss)
  assert value == pytest.approx(slow_loss(anchors, futures, loss))
  np.testing.assert_allclose(d_anchors, -B * gradient(
      lambda x: slow_loss(x, futures, loss), anchors), atol=1e-7)
  np.testing.assert_allclose(d_futures, -B * gradient(
      lambda y: slow_loss(anchors, y, loss), futures), atol=1e-7)


@pytest.mark.parametrize('loss', losses.LOSSES)
def test_score_increments_are_minus_b_times_the_gradient(loss):
  logits = np.random.default_rng(1).standard_normal((B, B))
  _, direction = losses.score_increments(logits, loss)
  # The identity as futures makes the anchors the logits.
  np.testing.assert_allclose(direction, -B * gradient(
      lambda x: slow_loss(x, np.eye(B), loss), logits), atol=1e-7)


def test_backward_is_over_anchors_and_forward_over_futures():
  logits = np.random.default_rng(2).standard_normal((B, B))
  _, backward = losses.info_nce(logits, 'backward')
  _, forward = losses.info_nce(logits, 'forward')
  np.testing.assert_allclose(backward.sum(axis=0), 1.0)
  np.testing.assert_allclose(forward.sum(axis=1), 1.0)
  assert not np.allclose(backward.sum(axis=1), 1.0)


def test_large_logits_stay_finite():
  value, probabilities = losses.info_nce(1e4 * np.eye(B), 'both')
  assert value == pytest.approx(0.0)
  assert np.isfinite(probabilities).all()


def test_shapes_are_checked():
  with pytest.raises(ValueError, match=r'\[B, B\]'):
    losses.info_nce(np.zeros((2, 3)), 'backward')
  with pytest.raises(ValueError, match=r'\[B, d\]'):
    losses.increments(np.zeros((2, 3)), np.zeros((3, 3)), 'backward')
