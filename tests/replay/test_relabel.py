"""Where relabelled goals come from, and how often from where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from replay import relabel
from tests.fakes import numbered_episodes

pytestmark = pytest.mark.usefixtures('quick_compile')


def closed_form(steps_left, discount):
  """Returns P(offset = 1..steps_left), proportional to discount^offset."""
  weights = np.array(
      [discount**o for o in range(1, steps_left + 1)], np.float64)
  return weights / weights.sum()


def draw_offsets(steps_left, discount, num=20_000, seed=0):
  uniform = jax.random.uniform(jax.random.key(seed), (num,))
  return np.asarray(relabel.geometric_offset(
      uniform, jnp.full((num,), steps_left), discount))


def chi_square(counts, probabilities):
  """Returns the p-value, with the rarest outcomes taken together."""
  expected = np.asarray(probabilities) * np.sum(counts)
  rare = expected < 5
  if rare.any():
    counts = [*np.asarray(counts)[~rare], np.asarray(counts)[rare].sum()]
    expected = [*expected[~rare], expected[rare].sum()]
  return stats.chisquare(counts, expected).pvalue


class TestGeometricOffset:

  @pytest.mark.parametrize('discount', [0.5, 0.9, 0.99])
  @pytest.mark.parametrize('steps_left', [2, 3, 7, 20, 100])
  def test_follows_the_truncated_geometric(self, steps_left, discount):
    offsets = draw_offsets(steps_left, discount)
    counts = np.bincount(offsets, minlength=steps_left + 1)
    assert counts[0] == 0 and len(counts) == steps_left + 1
    assert chi_square(counts[1:], closed_form(steps_left, discount)) > 1e-3

  @pytest.mark.parametrize('discount', [0.9999, 0.999999, 0.9999999, 1 - 1e-9])
  def test_a_discount_close_to_one_is_nearly_uniform(self, discount):
    offsets = draw_offsets(10, discount)
    counts = np.bincount(offsets, minlength=11)
    assert chi_square(counts[1:], closed_form(10, discount)) > 1e-3

  def test_a_small_discount_looks_one_step_ahead(self):
    assert np.mean(draw_offsets(50, 0.001) == 1) > 0.99

  @pytest.mark.parametrize('discount', [0.3, 0.95, 0.999])
  def test_inverts_the_distribution_function(self, discount):
    steps_left, num = 12, 997
    uniform = (np.arange(num) + 0.5) / num
    cumulative = np.cumsum(closed_form(steps_left, discount))
    expected = 1 + np.searchsorted(cumulative, uniform, side='right')
    offsets = np.asarray(relabel.geometric_offset(
        jnp.asarray(uniform, jnp.float32), jnp.full((num,), steps_left),
        discount))
    # Draws that fall on a step of the function may round to either side.
    clear = np.min(np.abs(uniform[:, None] - cumulative), axis=1) > 1e-5
    np.testing.assert_array_equal(offsets[clear], expected[clear])
    assert clear.mean() > 0.9

  @pytest.mark.parametrize('discount', [0.01, 0.9, 0.99, 0.999999])
  def test_stays_within_the_episode_at_the_ends_of_the_uniform(self, discount):
    steps_left = jnp.array([1, 1, 2, 2, 100, 100, 1000, 1000])
    last = float(np.nextafter(np.float32(1.0), np.float32(0.0)))
    uniform = jnp.array([0.0, last] * 4)
    offsets = relabel.geometric_offset(uniform, steps_left, discount)
    assert offsets.dtype == jnp.int32
    np.testing.assert_array_equal(offsets[::2], 1)
    assert np.all(offsets >= 1) and np.all(offsets <= steps_left)

  def test_each_row_has_its_own_steps_left(self):
    steps_left = jnp.tile(jnp.arange(1, 9), 2000)
    uniform = jax.random.uniform(jax.random.key(1), steps_left.shape)
    offsets = np.asarray(relabel.geometric_offset(uniform, steps_left, 0.9))
    for steps in range(1, 9):
      counts = np.bincount(
          offsets[np.asarray(steps_left) == steps], minlength=steps + 1)
      assert len(counts) == steps + 1 and counts[0] == 0
      if steps > 1:
        assert chi_square(counts[1:], closed_form(steps, 0.9)) > 1e-3


SAMPLE = jax.jit(relabel.sample_transitions, static_argnames=(
    'discount',
    'batch_size', 'obs_dim', 'goal_indices'))
# Always as many episodes with as much room, so that few shapes are compiled.
NUM_EPISODES, MAX_LENGTH = 12, 40
MANY = 30_000


class Drawn:
  """Transitions from numbered episodes, read back as episode and time."""

  def __init__(self, lengths, batch_size=MANY, discount=0.9, seed=0,
               goal_indices=(0, 1)):
    """Draws from 12 episodes that cycle through `lengths`."""
    lengths = np.resize(lengths, NUM_EPISODES)
    self.transitions = SAMPLE(
        jax.random.key(seed), numbered_episodes(lengths, MAX_LENGTH),
        batch_size=batch_size, discount=discount, obs_dim=2,
        goal_indices=goal_indices)
    state, action, next_state, goal = map(np.asarray, self.transitions)
    self.episode, self.t = state.astype(int).T
    self.action, self.next_state, self.goal = action, next_state, goal
    self.length = lengths[self.episode]


RAGGED = [1, 2, 3, 5, 8, 13, 21, 1, 30, 4, 40, 2]


class TestSampleTransitions:

  @pytest.mark.parametrize('batch_size', [8, NUM_EPISODES, MANY])
  def test_everything_comes_from_one_episode_and_before_its_end(
      self, batch_size):
    drawn = Drawn(RAGGED, batch_size)
    shapes = [x.shape for x in drawn.transitions]
    assert shapes == [(batch_size, size) for size in (2, 3, 2, 2)]
    for array in (drawn.action, drawn.next_state, drawn.goal):
      assert np.all(np.isfinite(array))
      np.testing.assert_array_equal(array[:, 0], drawn.episode)
    assert np.all(drawn.t >= 0) and np.all(drawn.t < drawn.length)
    np.testing.assert_array_equal(drawn.action[:, 1], drawn.t)
    np.testing.assert_array_equal(drawn.next_state[:, 1], drawn.t + 1)
    assert np.all(drawn.goal[:, 1] > drawn.t)
    assert np.all(drawn.goal[:, 1] <= drawn.length)

  def test_the_last_state_is_a_goal_and_never_a_start(self):
    drawn = Drawn([4])
    assert set(drawn.t) == {0, 1, 2, 3}
    assert set(drawn.goal[:, 1]) == {1, 2, 3, 4}

  def test_goal_entries_come_in_the_order_asked_for(self):
    drawn = Drawn(RAGGED, batch_size=8, goal_indices=(1, 0))
    np.testing.assert_array_equal(drawn.goal[:, 1], drawn.episode)
    assert np.all(drawn.goal[:, 0] > drawn.t)

  def test_a_goal_may_leave_entries_out(self):
    drawn = Drawn(RAGGED, batch_size=8, goal_indices=(1,))
    assert drawn.goal.shape == (8, 1)
    assert np.all(drawn.goal[:, 0] > drawn.t)

  @pytest.mark.parametrize('batch_size', [8, NUM_EPISODES])
  def test_rows_come_from_distinct_episodes(self, batch_size):
    for seed in range(20):
      drawn = Drawn([3], batch_size, seed=seed)
      assert len(set(drawn.episode)) == batch_size

  def test_every_episode_is_equally_likely(self):
    counts = np.zeros(NUM_EPISODES)
    for seed in range(300):
      drawn = Drawn([2], batch_size=8, seed=seed)
      counts += np.bincount(drawn.episode, minlength=NUM_EPISODES)
    # Drawing 8 of 12 without replacement varies 4/11 as much as 8 free draws.
    statistic = stats.chisquare(counts).statistic * 11 / 4
    assert stats.chi2.sf(statistic, 11) > 1e-3
    many = np.bincount(Drawn([2]).episode, minlength=NUM_EPISODES)
    assert stats.chisquare(many).pvalue > 1e-3

  @pytest.mark.parametrize('lengths', [[1], [9], [20, 5, 11]])
  def test_the_time_is_uniform_over_the_transitions(self, lengths):
    drawn = Drawn(lengths)
    for length in lengths:
      counts = np.bincount(drawn.t[drawn.length == length], minlength=length)
      assert len(counts) == length
      if length > 1:
        assert stats.chisquare(counts).pvalue > 1e-3

  @pytest.mark.parametrize('discount', [0.7, 0.97])
  def test_the_offset_is_truncated_geometric_at_every_time(self, discount):
    drawn = Drawn([12, 6], discount=discount)
    offset = (drawn.goal[:, 1] - drawn.t).astype(int)
    for length, t in [(12, 0), (12, 5), (12, 10), (6, 0), (6, 3)]:
      chosen = offset[(drawn.length == length) & (drawn.t == t)]
      counts = np.bincount(chosen, minlength=length - t + 1)[1:]
      assert chi_square(counts, closed_form(length - t, discount)) > 1e-3

  def test_time_and_offset_are_drawn_independently(self):
    drawn = Drawn([40], discount=0.5)
    early = drawn.t < 10
    offset = drawn.goal[:, 1] - drawn.t
    table = [[np.sum(offset[group] == o) for o in range(1, 7)]
             for group in (early, ~early & (drawn.t < 30))]
    assert stats.chi2_contingency(table).pvalue > 1e-3

  def test_the_key_decides(self):
    first, again, other = (
        Drawn(RAGGED, batch_size=8, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.episode, again.episode)
    np.testing.assert_array_equal(first.goal, again.goal)
    assert not np.array_equal(first.goal, other.goal)

  @pytest.mark.parametrize('observation, action', [
      ((4, 3), (4, 2, 2)), ((4, 3, 4), (4, 2))])
  def test_refuses_other_ranks(self, observation, action):
    episodes = {'observation': jnp.zeros(observation),
                'action': jnp.zeros(action), 'length': jnp.ones(4, jnp.int32)}
    with pytest.raises(ValueError, match='expected observation'):
      relabel.sample_transitions(
          jax.random.key(0), episodes, 2, 0.9, 2, (0, 1))
