"""Which state is taught with which goal."""

import jax.numpy as jnp
import numpy as np
import pytest

from learners.contrastive import rows
from tests.learners.contrastive.by_hand import batch_of, make, SPEC

pytestmark = pytest.mark.usefixtures('quick_compile')


class TestActorRows:

  STATE = np.arange(3.0)[:, None] + 10
  GOAL = np.arange(3.0)[:, None] + 20
  PSI = (np.arange(3.0)[:, None, None] + 30) * np.ones((1, 2, 2))

  @pytest.mark.parametrize('random_goals, pairs', [
      (0.0, [(0, 0), (1, 1), (2, 2)]),
      (1.0, [(0, 2), (1, 0), (2, 1)]),
      (0.5, [(0, 0), (1, 1), (2, 2), (0, 2), (1, 0), (2, 1)]),
  ])
  def test_pairs_states_with_goals(self, random_goals, pairs):
    state, goal, psi = rows.actor_rows(
        random_goals, *map(jnp.asarray, (self.STATE, self.GOAL, self.PSI)))
    assert len(state) == len(goal) == len(psi) == len(pairs)
    for row, (i, k) in enumerate(pairs):
      assert state[row, 0] == 10 + i
      assert goal[row, 0] == 20 + k
      np.testing.assert_array_equal(psi[row], np.full((2, 2), 30.0 + k))


class TestCriticGoals:

  @pytest.mark.parametrize('alg, discount, next_rows', [
      ('contrastive_cpc', 0.9, []), ('contrastive_nce', 0.9, []),
      ('c_learning', 0.9, [0, 1, 2, 3]), ('nce+c_learning', 0.5, [0])])
  def test_the_positive_is_the_future_or_the_next_state(
      self, alg, discount, next_rows):
    _, config = make(alg, discount=discount)
    batch = batch_of()
    goals = rows.critic_goals(config, SPEC, batch)
    for i in range(4):
      expected = batch.next_state[i, :2] if i in next_rows else batch.goal[i]
      np.testing.assert_array_equal(goals[i], expected)
