"""What each ablation changes in a step, and how long it lasts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from learners import checkpoint
from learners.contrastive import ablations, rows
from learners.contrastive import config as config_lib
from learners.contrastive import networks as networks_lib
from replay import relabel
from replay.pacing import Pace, update_due
from tests import contracts, fakes
from tests.learners.contrastive.by_hand import (
  batch_of,
  check_step,
  make,
  MASK,
  NO_MASK,
  SPEC,
)

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.mark.parametrize('alg, mask, overrides', [
    ('contrastive_cpc', MASK, dict(
        goal_neg_actor_steps=1000, perturbed_negatives_num=2,
        perturbed_negatives_goal_num=2)),
    ('contrastive_cpc', MASK, dict(backward_loss=True)),
    # Half a representation is normalised to a whole one.
    ('contrastive_cpc', MASK._replace(negative=False), dict(
        repr_norm=True, repr_temperature=0.2)),
    ('contrastive_cpc', NO_MASK, dict(
        monolithic_critic=True, perturbed_negatives_num=1, twin_q=True)),
    ('c_learning', NO_MASK, dict(monolithic_critic=True, tau=0.25)),
], ids=['extra_negatives', 'backward', 'norm', 'monolithic', 'monolithic_td'])
def test_one_step_equals_the_step_by_hand(monkeypatch, alg, mask, overrides):
  check_step(monkeypatch, alg, mask, overrides)


def test_a_step_with_given_goals_equals_the_step_by_hand(monkeypatch):
  action = jnp.array([[0.5, -0.25]])
  uniform = jax.random.uniform

  def known_action(key, shape=(), *args, **kwargs):
    # Weights are drawn with it too.
    if shape == action.shape:
      return action
    return uniform(key, shape, *args, **kwargs)

  monkeypatch.setattr(jax.random, 'uniform', known_action)
  batch = batch_of()
  changed = batch._replace(
      goal=jnp.concatenate([jnp.array([SPEC.goal]), batch.goal[1:]]),
      action=jnp.concatenate([action, batch.action[1:]]))
  check_step(monkeypatch, 'contrastive_cpc', MASK, dict(
      goal_pos_actor_steps=1000, goal_pos_frac=0.25), changed)


class TestSchedule:
  """Environment steps as counted by the SGD steps they pay for."""

  @pytest.mark.parametrize('actor_steps, batch_size, samples_per_insert', [
      (11, 4, 4.0), (30, 4, 4.0), (30, 4, 1.5), (30, 4, 9.0), (97, 4, 256.0)])
  def test_is_that_of_the_pace(
      self, actor_steps, batch_size, samples_per_insert):
    _, config = make('contrastive_cpc', batch_size=batch_size,
                     samples_per_insert=samples_per_insert)
    pace = Pace(config.min_replay_size, batch_size / samples_per_insert, 0, 1)
    # Updates that are due before the environment makes its last step but one.
    due = 0
    while update_due(pace, actor_steps - 1, due):
      due += 1
    got = config_lib.updates_before(config, actor_steps)
    assert config.min_replay_size + (got - 1) * pace.per_update < (
        actor_steps)
    assert config.min_replay_size + got * pace.per_update >= actor_steps
    assert got >= due

  def test_nothing_is_learned_before_the_minimum_and_counts_are_bounded(self):
    _, config = make('contrastive_cpc')
    assert config_lib.updates_before(config, 10) == 0
    assert config_lib.updates_before(config, 3) == 0
    assert config_lib.updates_before(config, 10**12) == 2**31 - 1

  def test_a_goal_is_a_negative_until_its_steps_are_over(self):
    # One environment step an update, so the last one is update 4.
    agent, config = make('contrastive_cpc', samples_per_insert=4.0,
                         goal_neg_actor_steps=15)
    networks = networks_lib.make_networks(3, 2, 2, (6,), 4, 1)
    params = agent.init(jax.random.key(0)).critic_params
    batch = batch_of()
    for steps in (0, 4, 5, 6):
      column = ablations.extra_negatives(
          config, SPEC, networks, params, batch, jnp.int32(steps),
          jax.random.key(1))
      if steps < 5:
        phi = networks.encode_state(params, batch.state, batch.action)
        psi = networks.encode_goal(params, jnp.array([SPEC.goal]))
        expected = [[[float(np.dot(p[:, 0], psi[0, :, 0]))]] for p in phi]
        np.testing.assert_allclose(column, expected, rtol=1e-4, atol=1e-6)
      else:
        assert np.all(np.asarray(column) == -np.inf)

  def test_after_its_steps_the_goal_leaves_no_trace(self):
    settings = dict(num_sgd_steps_per_step=1, samples_per_insert=4.0)
    results = []
    for goal_neg_actor_steps in (0, 12):
      agent, _ = make('contrastive_cpc', **settings,
                      goal_neg_actor_steps=goal_neg_actor_steps)
      state = agent.init(jax.random.key(0))
      update = jax.jit(agent.update)
      episodes = fakes.random_episodes(agent.replay, 4)
      results.append([
          update(state._replace(steps=jnp.int32(steps)), episodes)[0]
          for steps in (1, 2)])
    for i, same in ((0, False), (1, True)):
      # Elsewhere in the program the same sums may be taken in another order.
      equal = all(np.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(
          *(jax.tree.leaves(r[i].critic_params) for r in results)))
      assert equal is same

  def test_no_setting_no_column(self):
    _, config = make('contrastive_cpc')
    assert ablations.extra_negatives(
        config, SPEC, None, None, None, None, None) is None


class TestPerturbations:

  def test_are_uniform_within_two(self):
    noise = np.asarray(ablations.perturbations(
        jax.random.key(0), batch_of(), 500, 3))
    assert noise.shape == (4, 500, 3)
    assert stats.kstest(np.ravel(noise), stats.uniform(-2, 4).cdf).pvalue > 1e-3
    # Every row, candidate and entry has a draw of its own.
    assert len(np.unique(noise)) > 0.99 * noise.size

  def test_goals_and_states_are_perturbed_apart(self, monkeypatch):
    keys = []

    def record(key, batch, num, size):
      keys.append(tuple(np.asarray(jax.random.key_data(key))))
      return jnp.zeros((len(batch.state), num, size))

    monkeypatch.setattr(ablations, 'perturbations', record)
    agent, config = make('contrastive_cpc', perturbed_negatives_num=1,
                         perturbed_negatives_goal_num=2)
    ablations.extra_negatives(
        config, SPEC, networks_lib.make_networks(3, 2, 2, (6,), 4, 1),
        agent.init(jax.random.key(0)).critic_params, batch_of(), jnp.int32(0),
        jax.random.key(5))
    assert len(set(keys)) == 2


class TestGivenGoals:
  """Rows that get the commanded goal as their future."""

  EPISODES = staticmethod(lambda agent: fakes.random_episodes(
      agent.replay, 40))

  def sample(self, steps, **overrides):
    agent, config = make('contrastive_cpc', **{**dict(
        batch_size=20, samples_per_insert=20.0, goal_pos_actor_steps=15,
        goal_pos_frac=0.2), **overrides})
    return rows.sample(jax.random.key(7), self.EPISODES(agent),
                       jnp.int32(steps), config, SPEC)

  def test_a_share_of_the_rows_has_goal_and_random_action(self):
    given, plain = self.sample(steps=4), self.sample(steps=5)
    np.testing.assert_array_equal(given.goal[:4], [SPEC.goal] * 4)
    assert not np.any(np.isin(given.action[:4], plain.action[:4]))
    for name in ('state', 'next_state'):
      np.testing.assert_array_equal(getattr(given, name), getattr(plain, name))
    for name in ('goal', 'action'):
      np.testing.assert_array_equal(
          getattr(given, name)[4:], getattr(plain, name)[4:])
    assert not np.any(plain.goal == np.float32(SPEC.goal))

  def test_actions_are_uniform(self):
    batch = relabel.Transitions(*(jnp.zeros((2000, n)) for n in (3, 2, 3, 2)))
    given = ablations.give_goal(
        jax.random.key(0), batch, SPEC.goal, 1500, jnp.array(True))
    assert stats.kstest(np.ravel(given.action[:1500]), stats.uniform(
        -1, 2).cdf).pvalue > 1e-3
    assert not np.any(given.action[1500:])

  def test_draws_are_those_of_relabelling_when_it_is_off(self):
    agent, config = make('contrastive_cpc', batch_size=20)
    key, episodes = jax.random.key(7), self.EPISODES(agent)
    expected = relabel.sample_transitions(
        key, episodes, 20, config.discount, SPEC.obs_dim, SPEC.goal_indices)
    contracts.assert_same_values(
        self.sample(0, goal_pos_actor_steps=0), expected, 'other draws')

  @pytest.mark.parametrize('num_rows, goal', [(5, (1.0, 2.0)), (2, (1.0,))])
  def test_refuses_what_does_not_fit(self, num_rows, goal):
    with pytest.raises(ValueError, match='expected a goal'):
      ablations.give_goal(
          jax.random.key(0), batch_of(), goal, num_rows, jnp.array(True))

  def test_needs_a_fixed_goal(self):
    with pytest.raises(ValueError, match='plane has no fixed goal'):
      ablations.fixed_goal(dataclasses.replace(SPEC, goal=None))


class TestWeightReset:

  @pytest.fixture(scope='class')
  def states(self):
    """The states after 0 to 7 SGD steps, reset after every third."""
    agent, _ = make('c_learning', weight_reset_interval=3,
                    num_sgd_steps_per_step=1, entropy_coefficient=None,
                    eval_tau=0.25)
    update = jax.jit(agent.update)
    found = [agent.init(jax.random.key(0))]
    for seed in range(7):
      found.append(update(
          found[-1], fakes.random_episodes(agent.replay, 5, seed))[0])
    return found

  def test_optimizers_start_again(self, states):
    for steps, state in enumerate(states):
      assert int(state.steps) == steps
      for opt in (state.policy_opt, state.critic_opt):
        assert int(opt[0].count) == steps % 3
        moments = jax.tree.leaves((opt[0].mu, opt[0].nu))
        assert any(np.any(m != 0) for m in moments) == (steps % 3 > 0)

  def test_weights_are_drawn_anew(self, states):
    for steps in (3, 6):
      for name in ('policy_params', 'critic_params'):
        params = getattr(states[steps], name)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
          if path[-1].key == 'b':
            assert not np.any(leaf)
    # No two draws are alike, nor is a reset network like the one before it.
    for a, b in ((0, 3), (0, 6), (3, 6), (2, 3), (5, 6)):
      for name in ('policy_params', 'critic_params'):
        first, second = (
            next(leaf for leaf in jax.tree.leaves(getattr(states[i], name))
                 if leaf.ndim == 2) for i in (a, b))
        assert not np.allclose(first, second, atol=1e-3)

  def test_averages_start_again(self, states):
    for steps, state in enumerate(states):
      same = contracts._all_equal(state.target_params, state.critic_params)
      assert same == (steps % 3 == 0)
      same = contracts._all_equal(state.average_params, state.policy_params)
      assert same == (steps % 3 == 0)

  def test_the_entropy_weight_and_the_key_go_on(self, states):
    alphas = [float(s.log_alpha) for s in states]
    assert len(set(alphas)) == len(alphas)
    assert [int(s.alpha_opt[0].count) for s in states] == list(range(8))
    keys = {np.asarray(jax.random.key_data(s.key)).tobytes() for s in states}
    assert len(keys) == 8

  def test_a_reset_and_the_next_step_draw_apart(self, states):
    networks = networks_lib.make_networks(3, 2, 2, (6,), 4, 2)
    for steps in (3, 6):
      drawn, _ = networks.init(states[steps].key)
      assert not np.allclose(drawn['linear']['w'],
                             states[steps].policy_params['linear']['w'])

  def test_counts_steps_within_a_call(self):
    agent, _ = make('contrastive_cpc', weight_reset_interval=3,
                    num_sgd_steps_per_step=5)
    state, _ = jax.jit(agent.update)(
        agent.init(jax.random.key(0)), fakes.random_episodes(agent.replay, 5))
    assert int(state.steps) == 5
    assert int(state.critic_opt[0].count) == 2


def test_a_checkpoint_keeps_the_count_of_steps(tmp_path):
  agent, _ = make('contrastive_cpc')
  state = agent.init(jax.random.key(0))
  counted = state._replace(steps=jnp.int32(1234))
  checkpoint.save(str(tmp_path), 1234, counted, {})
  restored = checkpoint.load_latest(str(tmp_path), state)
  assert int(restored.state.steps) == 1234
  assert restored.state.steps.dtype == np.int32


ALL_AT_ONCE = dict(
    goal_neg_actor_steps=100, goal_pos_actor_steps=100, goal_pos_frac=0.3,
    perturbed_negatives_num=1, perturbed_negatives_goal_num=1,
    repr_norm=True, use_residual_mlp=True, weight_reset_interval=1,
    Q_max=True, twin_q=True)


@pytest.mark.parametrize('mask, overrides', [
    (MASK, ALL_AT_ONCE),
    (NO_MASK, dict(monolithic_critic=True, cold_q_init=True,
                   backward_loss=True, Q_max=True)),
], ids=['representations', 'monolithic'])
def test_keeps_the_rules_of_an_agent(mask, overrides):
  agent, _ = make('contrastive_cpc', mask, **overrides)
  contracts.check_agent(agent, fakes.random_episodes(agent.replay, 6))
