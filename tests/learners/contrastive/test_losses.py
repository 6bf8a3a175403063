"""Losses against scalar loops, and their gradients against differences."""

import math

import jax
from jax.experimental import enable_x64
import jax.numpy as jnp
import numpy as np
import pytest

from learners.contrastive import losses

pytestmark = pytest.mark.usefixtures('quick_compile')
CRITICS = pytest.mark.parametrize('num_critics', [1, 2])


def numbers(*shape, seed=0, scale=2.0):
  return np.random.default_rng(seed).normal(scale=scale, size=shape)


def sigmoid(x):
  return 1.0 / (1.0 + math.exp(-x))


def cross_entropy(logit, label):
  """Returns the binary cross entropy of one logit."""
  return -(label * math.log(sigmoid(logit))
           + (1 - label) * math.log(1.0 - sigmoid(logit)))


def log_partition(row):
  return math.log(sum(math.exp(v) for v in row))


def slow_cpc(logits, penalty):
  terms = []
  for c in range(logits.shape[2]):
    for i in range(logits.shape[0]):
      total = log_partition(logits[i, :, c])
      terms.append(-(logits[i, i, c] - total) + penalty * total**2)
  return sum(terms) / len(terms)


def slow_nce(logits):
  terms = [cross_entropy(logits[index], float(index[0] == index[1]))
           for index in np.ndindex(*logits.shape)]
  return sum(terms) / len(terms)


def slow_td(positive, negative, weight, discount):
  terms = []
  for i, c in np.ndindex(*positive.shape):
    terms.append((1 - discount) * cross_entropy(positive[i, c], 1.0)
                 + discount * weight[i] * cross_entropy(negative[i, c], 1.0)
                 + cross_entropy(negative[i, c], 0.0))
  return sum(terms) / len(terms)


def slow_td_mc(positive, negative, weight, discount):
  terms = []
  for i, c in np.ndindex(*positive.shape):
    terms.append((2 - discount) * cross_entropy(positive[i, c], 1.0)
                 + discount * weight[i] * cross_entropy(negative[i, c], 1.0)
                 + 2 * cross_entropy(negative[i, c], 0.0))
  return sum(terms) / len(terms)


def slow_actor(q_values, log_probs, alpha):
  terms = [alpha * log_probs[i] - min(q_values[i])
           for i in range(len(log_probs))]
  return sum(terms) / len(terms)


def assert_gradient_by_differences(function, point, step=1e-6):
  """Compares jax.grad with central differences in double precision."""
  size = np.size(point)
  shifts = step * np.eye(size).reshape(size, *np.shape(point))

  @jax.jit
  def both(point, shifts):
    differences = (jax.vmap(function)(point + shifts)
                   - jax.vmap(function)(point - shifts)) / (2 * step)
    return jax.grad(function)(point), differences.reshape(point.shape)

  with enable_x64():
    gradient, expected = both(jnp.asarray(point), jnp.asarray(shifts))
  assert np.all(np.any(np.asarray(expected) != 0, axis=-1))
  np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)


class TestCpc:

  @CRITICS
  @pytest.mark.parametrize('penalty', [0.0, 0.01, 1.0])
  def test_equals_the_loops(self, num_critics, penalty):
    logits = numbers(5, 5, num_critics)
    np.testing.assert_allclose(
        losses.cpc_loss(jnp.asarray(logits), penalty),
        slow_cpc(logits, penalty), rtol=1e-5)

  @CRITICS
  def test_gradient(self, num_critics):
    assert_gradient_by_differences(
        lambda x: losses.cpc_loss(x, 0.1), numbers(4, 4, num_critics))

  def test_is_log_of_the_batch_size_when_nothing_is_known(self):
    np.testing.assert_allclose(
        losses.cpc_loss(jnp.zeros((8, 8, 1)), 0.0), math.log(8), rtol=1e-6)

  def test_rows_choose_among_columns(self):
    # Row 0 beats its column easily, yet is told apart within its own row.
    logits = jnp.array([[5.0, 0.0], [5.0, 5.0]])[:, :, None]
    expected = (math.log(1 + math.exp(-5)) + math.log(2)) / 2
    np.testing.assert_allclose(
        losses.cpc_loss(logits, 0.0), expected, rtol=1e-5)

  def test_large_logits_do_not_overflow(self):
    logits = 1000.0 * jnp.eye(4)[:, :, None]
    np.testing.assert_allclose(losses.cpc_loss(logits, 0.0), 0.0, atol=1e-3)


def slow_cpc_of_rows(rows, penalty):
  """Returns the loss of rows `[B, M, C]`, whose own columns come first."""
  terms = []
  for i, c in np.ndindex(len(rows), rows.shape[2]):
    total = log_partition(rows[i, :, c])
    terms.append(total - rows[i, i, c] + penalty * total**2)
  return sum(terms) / len(terms)


class TestExtraNegatives:

  @CRITICS
  @pytest.mark.parametrize('penalty', [0.0, 0.3])
  def test_equal_the_loops(self, num_critics, penalty):
    logits = numbers(5, 5, num_critics)
    more = numbers(5, 3, num_critics, seed=2)
    np.testing.assert_allclose(
        losses.cpc_loss(jnp.asarray(logits), penalty, jnp.asarray(more)),
        slow_cpc_of_rows(np.concatenate([logits, more], axis=1), penalty),
        rtol=1e-5)

  def test_gradient(self):
    assert_gradient_by_differences(
        lambda x: losses.cpc_loss(x[:, :4], 0.1, x[:, 4:]), numbers(4, 6, 2))

  def test_one_of_minus_infinity_is_none(self):
    logits = jnp.asarray(numbers(4, 4, 2))
    nothing = jnp.full((4, 1, 2), -jnp.inf)
    value, gradient = jax.value_and_grad(losses.cpc_loss)(logits, 0.1)
    same, same_gradient = jax.value_and_grad(losses.cpc_loss)(
        logits, 0.1, nothing)
    np.testing.assert_allclose(same, value, rtol=1e-6)
    np.testing.assert_allclose(same_gradient, gradient, rtol=1e-5, atol=1e-7)

  @pytest.mark.parametrize('shape', [(4, 3), (3, 3, 2), (4, 3, 1)])
  def test_of_other_shapes_are_refused(self, shape):
    with pytest.raises(ValueError, match=r'expected negatives \[B, K, C\]'):
      losses.cpc_loss(jnp.zeros((4, 4, 2)), 0.0, jnp.zeros(shape))


class TestBackwardCpc:

  @CRITICS
  @pytest.mark.parametrize('penalty', [0.0, 0.3])
  def test_columns_choose_among_rows(self, num_critics, penalty):
    logits = numbers(5, 5, num_critics, seed=3)
    terms = []
    for k, c in np.ndindex(5, num_critics):
      total = log_partition(logits[:, k, c])
      terms.append(total - logits[k, k, c] + penalty * total**2)
    np.testing.assert_allclose(
        losses.backward_cpc_loss(jnp.asarray(logits), penalty),
        np.mean(terms), rtol=1e-5)

  def test_gradient(self):
    assert_gradient_by_differences(
        lambda x: losses.backward_cpc_loss(x, 0.1), numbers(4, 4, 2, seed=4))


class TestNce:

  @CRITICS
  def test_equals_the_loops(self, num_critics):
    logits = numbers(5, 5, num_critics, seed=1)
    np.testing.assert_allclose(
        losses.nce_loss(jnp.asarray(logits)), slow_nce(logits), rtol=1e-5)

  @CRITICS
  def test_gradient(self, num_critics):
    assert_gradient_by_differences(
        losses.nce_loss, numbers(4, 4, num_critics, seed=2))

  def test_two_critics_are_the_mean_of_each(self):
    logits = numbers(4, 4, 2, seed=3)
    each = [slow_nce(logits[:, :, c:c + 1]) for c in range(2)]
    np.testing.assert_allclose(
        losses.nce_loss(jnp.asarray(logits)), np.mean(each), rtol=1e-5)

  def test_large_logits_do_not_overflow(self):
    logits = (200.0 * jnp.eye(4) - 100.0)[:, :, None]
    np.testing.assert_allclose(losses.nce_loss(logits), 0.0, atol=1e-6)


@pytest.mark.parametrize('logits', [(4, 4), (4, 3, 1), (1, 4, 4, 1)])
def test_square_losses_refuse_other_shapes(logits):
  for function in (lambda x: losses.cpc_loss(x, 0.0), losses.nce_loss,
                   losses.critic_metrics):
    with pytest.raises(ValueError, match=r'expected logits \[B, B, C\]'):
      function(jnp.zeros(logits))


class TestImportanceWeight:

  @CRITICS
  def test_is_the_odds_of_the_lesser_critic(self, num_critics):
    logits = numbers(6, num_critics, seed=4, scale=1.0)
    weight = losses.importance_weight(jnp.asarray(logits))
    assert weight.shape == (6,)
    for i in range(6):
      v = min(sigmoid(x) for x in logits[i])
      np.testing.assert_allclose(weight[i], v / (1 - v), rtol=1e-4)

  def test_is_clipped_at_twenty(self):
    logits = jnp.array([[2.9], [3.1], [50.0], [200.0], [-200.0]])
    np.testing.assert_allclose(
        losses.importance_weight(logits),
        [math.exp(2.9), 20.0, 20.0, 20.0, 0.0], rtol=1e-5)

  def test_has_no_gradient(self):
    logits = jnp.asarray(numbers(6, 2, seed=5))
    gradient = jax.grad(
        lambda x: jnp.sum(losses.importance_weight(x)))(logits)
    np.testing.assert_array_equal(gradient, np.zeros((6, 2)))

  def test_refuses_other_ranks(self):
    with pytest.raises(ValueError, match='expected next_logits'):
      losses.importance_weight(jnp.zeros(4))


@pytest.mark.parametrize('loss, slow', [
    (losses.td_loss, slow_td), (losses.td_mc_loss, slow_td_mc)],
    ids=['td', 'td_mc'])
class TestTemporalDifferences:

  @CRITICS
  @pytest.mark.parametrize('discount', [0.5, 0.99])
  def test_equals_the_loops(self, loss, slow, num_critics, discount):
    positive = numbers(5, num_critics, seed=6)
    negative = numbers(5, num_critics, seed=7)
    weight = np.random.default_rng(8).uniform(0, 20, 5)
    np.testing.assert_allclose(
        loss(*map(jnp.asarray, (positive, negative, weight)), discount),
        slow(positive, negative, weight, discount), rtol=1e-5)

  @CRITICS
  def test_gradient_of_positives_and_negatives(self, loss, slow, num_critics):
    del slow
    weight = np.array([0.0, 0.5, 3.0, 20.0])
    assert_gradient_by_differences(
        lambda x: loss(x[0], x[1], jnp.asarray(weight), 0.9),
        numbers(2, 4, num_critics, seed=9))

  def test_weights_stay_in_their_rows(self, loss, slow):
    del slow
    negative = jnp.asarray(numbers(3, 2, seed=13))
    base, heavy = (
        loss(jnp.zeros((3, 2)), negative, jnp.array(weight), 0.9)
        for weight in ([0.0, 0.0, 0.0], [0.0, 2.0, 0.0]))
    extra = 0.9 * 2.0 * sum(
        cross_entropy(x, 1.0) for x in negative[1].tolist()) / 6
    np.testing.assert_allclose(heavy - base, extra, rtol=1e-4)

  @pytest.mark.parametrize('positive, negative, weight', [
      ((4, 1), (4, 2), (4,)), ((4, 2), (4, 2), (4, 2)),
      ((4, 2), (4, 2), (3,))])
  def test_refuses_shapes_that_would_broadcast(
      self, loss, slow, positive, negative, weight):
    del slow
    with pytest.raises(ValueError, match='expected positive'):
      loss(jnp.zeros(positive), jnp.zeros(negative), jnp.zeros(weight), 0.9)


def test_the_fixed_point_of_td_is_the_discounted_odds():
  # One state that is its own next state: odds = (1 - g) + g * odds, so odds 1,
  # which is logit 0 for the positive and the negative alike.
  gradient = jax.grad(lambda x: losses.td_loss(
      x, x, losses.importance_weight(x), 0.9))(jnp.zeros((1, 1)))
  np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


@pytest.mark.parametrize('batch_size, discount, expected', [
    (256, 0.99, 2), (256, 0.9, 23), (4, 0.5, 1), (100, 0.5, 33), (8, 0.99, 0)])
def test_the_share_of_next_state_rows(batch_size, discount, expected):
  assert losses.num_next_state_rows(batch_size, discount) == expected


class TestActorLoss:

  @CRITICS
  @pytest.mark.parametrize('alpha', [0.0, 0.3])
  def test_equals_the_loops(self, num_critics, alpha):
    q_values, log_probs = numbers(6, num_critics, seed=14), numbers(6, seed=15)
    np.testing.assert_allclose(
        losses.actor_loss(jnp.asarray(q_values)) + losses.entropy_loss(
            jnp.asarray(log_probs), jnp.asarray(alpha)),
        slow_actor(q_values, log_probs, alpha), rtol=1e-5)

  @CRITICS
  def test_gradient_of_q_values_and_log_probs(self, num_critics):
    # Columns are the critics and, last, the log-probabilities.
    assert_gradient_by_differences(
        lambda x: (losses.actor_loss(x[:, :-1])
                   + losses.entropy_loss(x[:, -1], 0.3)),
        numbers(4, num_critics + 1, seed=16))

  def test_only_the_lesser_critic_gets_a_gradient(self):
    gradient = jax.grad(losses.actor_loss)(
        jnp.array([[1.0, 2.0], [4.0, 3.0]]))
    np.testing.assert_array_equal(gradient, [[-0.5, 0.0], [0.0, -0.5]])

  @pytest.mark.parametrize('shape', [(4,), (4, 1, 1)])
  def test_refuses_other_shapes(self, shape):
    with pytest.raises(ValueError, match='expected q_values'):
      losses.actor_loss(jnp.zeros(shape))


class TestAlphaLoss:

  @pytest.mark.parametrize('log_alpha', [-2.0, 0.0, 1.5])
  @pytest.mark.parametrize('target', [0.0, -2.0])
  def test_value_and_gradient_in_closed_form(self, log_alpha, target):
    log_probs = numbers(7, seed=18)
    value, gradient = jax.value_and_grad(losses.alpha_loss)(
        log_alpha, jnp.asarray(log_probs), target)
    expected = math.exp(log_alpha) * np.mean(-log_probs - target)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    # alpha = exp(log alpha), so the derivative is the value itself.
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)

  def test_the_policy_gets_no_gradient(self):
    gradient = jax.grad(losses.alpha_loss, argnums=1)(
        0.5, jnp.asarray(numbers(7, seed=19)), 0.0)
    np.testing.assert_array_equal(gradient, np.zeros(7))

  def test_too_little_entropy_raises_alpha(self):
    gradient = jax.grad(losses.alpha_loss)(0.0, jnp.full(3, 2.0), 0.0)
    assert gradient < 0.0


class TestCriticMetrics:

  @CRITICS
  def test_equals_the_loops(self, num_critics):
    logits = numbers(5, 5, num_critics, seed=20)
    logits[2, 2] += 10.0
    metrics = losses.critic_metrics(jnp.asarray(logits))
    signs, picks, positive, negative, squares = [], [], [], [], []
    for c in range(num_critics):
      for i in range(5):
        row = logits[i, :, c].tolist()
        picks.append(row.index(max(row)) == i)
        squares.append(log_partition(row)**2)
        for k, value in enumerate(row):
          (positive if i == k else negative).append(value)
          signs.append((value > 0) == (i == k))
    expected = {
        'binary_accuracy': np.mean(signs),
        'categorical_accuracy': np.mean(picks),
        'logits_pos': np.mean(positive),
        'logits_neg': np.mean(negative),
        'logsumexp': np.mean(squares),
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
      assert metrics[name].shape == ()
      np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)

  def test_a_perfect_critic(self):
    metrics = losses.critic_metrics((4.0 * jnp.eye(3) - 2.0)[:, :, None])
    assert metrics['binary_accuracy'] == 1.0
    assert metrics['categorical_accuracy'] == 1.0
    assert metrics['logits_pos'] == 2.0
    assert metrics['logits_neg'] == -2.0
