"""Updates against loops, and how rows begin."""

import numpy as np
import pytest

from learners.tabular import config as config_lib
from learners.tabular import environments, losses
from learners.tabular.environments import ENVIRONMENTS
from learners.tabular.representations import Goal, init_psi, REPRESENTATIONS

# States repeat within and across the two sides.
ANCHORS = np.array([0, 2, 2, 3])
FUTURES = np.array([2, 2, 4, 0])
RATE = 0.3


def unit_rows(num=5, dim=3):
  rows = np.random.default_rng(0).standard_normal((num, dim))
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def begin(seed=0, **settings):
  config = config_lib.from_settings('four_rooms', None, settings)
  environment = ENVIRONMENTS['four_rooms']()
  return init_psi(config, environment, np.random.default_rng(seed))


@pytest.mark.parametrize('loss', losses.LOSSES)
def test_psi_accumulates_where_states_repeat(loss):
  psi = unit_rows()
  value, d_anchors, d_futures = losses.increments(
      psi[ANCHORS], psi[FUTURES], loss)
  expected = psi.copy()
  for k in range(len(ANCHORS)):
    expected[ANCHORS[k]] = expected[ANCHORS[k]] + RATE * d_anchors[k]
    expected[FUTURES[k]] = expected[FUTURES[k]] + RATE * d_futures[k]
  expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
  before = psi.copy()
  updated, loss_value = REPRESENTATIONS['psi'].update(
      psi, ANCHORS, FUTURES, RATE, loss)
  assert loss_value == value
  np.testing.assert_allclose(updated, expected, atol=1e-7)
  np.testing.assert_allclose(np.linalg.norm(updated, axis=-1), 1.0, atol=1e-7)
  np.testing.assert_array_equal(psi, before)


def test_scores_accumulate_where_states_repeat_and_are_clipped():
  table = np.random.default_rng(1).uniform(-0.5, 0.5, (5, 5))
  logits = table[ANCHORS][:, FUTURES]
  _, direction = losses.score_increments(logits, 'backward')
  expected = table.copy()
  for j, anchor in enumerate(ANCHORS):
    for k, future in enumerate(FUTURES):
      expected[anchor, future] += RATE * direction[j, k]
  updated, _ = REPRESENTATIONS['none'].update(
      table, ANCHORS, FUTURES, RATE, 'backward')
  np.testing.assert_allclose(updated, expected)
  clipped, _ = REPRESENTATIONS['none'].update(
      table, ANCHORS, FUTURES, 100.0, 'backward')
  assert np.abs(clipped).max() == 1.0


def test_scores_of_a_goal_of_two_goals_and_of_a_direction():
  psi = unit_rows()
  table = REPRESENTATIONS['none'].init(psi)
  for weights in ([0, 1, 0, 0, 0], [0, 0.5, 0, 0.5, 0]):
    weights = np.array(weights, float)
    expected = psi @ sum(w * row for w, row in zip(weights, psi))
    for name, learned in (('psi', psi), ('none', table)):
      scores = REPRESENTATIONS[name].scores(learned, Goal(weights))
      np.testing.assert_allclose(scores, expected)
  direction = np.array([0.0, 1.0, 0.0])
  np.testing.assert_allclose(
      REPRESENTATIONS['psi'].scores(psi, Goal(weights, direction)), psi[:, 1])


@pytest.mark.parametrize('init', config_lib.INITS)
def test_rows_begin_with_unit_length_and_the_goal_at_the_centre(init):
  psi, centre = begin(init=init)
  assert psi.shape == (100, 16)
  np.testing.assert_allclose(np.linalg.norm(psi, axis=-1), 1.0, atol=1e-6)
  np.testing.assert_array_equal(psi[99], centre)


def test_how_close_to_the_goal_rows_begin():
  def similarity(init):
    psi, centre = begin(init=init)
    return psi @ centre
  assert similarity('near_goal')[:99].mean() == pytest.approx(0.93, abs=0.02)
  # Noise a fifth as large.
  assert similarity('uniform_around_goal')[:99].mean() > 0.99
  assert abs(similarity('fully_random')[:99].mean()) < 0.1
  by_distance = similarity('distance_aware')
  assert by_distance[[89, 98]].mean() > by_distance[[0, 1, 10]].mean()


def test_orthogonal_rooms_are_orthogonal_to_the_goal_and_the_rest_is_near():
  psi, centre = begin(init='orthogonal_rooms')
  similarity = (psi @ centre).reshape(10, 10)
  inside = np.zeros((10, 10), bool)
  inside[7:10, 0:4] = inside[0:3, 6:10] = True
  inside &= ENVIRONMENTS['four_rooms']().free.reshape(10, 10)
  np.testing.assert_allclose(similarity[inside], 0.0, atol=1e-7)
  assert similarity[~inside].min() > 0.7


def test_an_imaginary_goal_is_no_state_but_rows_begin_near_it():
  psi, centre = begin(goal='imaginary')
  assert not (psi == centre).all(axis=-1).any()
  assert (psi @ centre).min() > 0.7


def test_rooms_of_the_optimality_test_are_in_the_maze():
  environment = ENVIRONMENTS['four_rooms']()
  sizes = [environments.region_mask(environment, room).sum()
           for room in ('7,0:9,3', '0,6:2,9')]
  assert sizes == [12, 12]
