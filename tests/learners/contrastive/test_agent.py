"""The assembled agent: its contract, and one step worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.contrastive import config as config_lib
from learners.contrastive import networks as networks_lib
from safety.masking import SafetyMask
from tests import contracts, fakes
from tests.learners.contrastive.by_hand import (
  assert_close,
  check_step,
  make,
  MASK,
  NO_MASK,
  SPEC,
)

pytestmark = pytest.mark.usefixtures('quick_compile')

@pytest.mark.parametrize('alg, mask, entropy', [
    ('contrastive_cpc', NO_MASK, 0.0),
    ('contrastive_cpc', MASK, None),
    ('contrastive_nce', NO_MASK, 0.1),
    ('contrastive_nce', MASK, 0.0),
    ('c_learning', NO_MASK, None),
    ('c_learning', MASK, 0.1),
    ('nce+c_learning', NO_MASK, 0.0),
    ('nce+c_learning', MASK, None),
], ids=lambda value: ('mask' if value == MASK else 'plain')
   if isinstance(value, SafetyMask) else str(value))
def test_keeps_the_rules_of_an_agent(alg, mask, entropy):
  agent, _ = make(alg, mask, entropy_coefficient=entropy)
  contracts.check_agent(agent, fakes.random_episodes(agent.replay, 6))


@pytest.mark.parametrize('alg, mask, overrides', [
    ('contrastive_cpc', MASK, dict(random_goals=0.5)),
    ('contrastive_nce', NO_MASK,
     dict(random_goals=0.0, entropy_coefficient=0.1)),
    ('c_learning', MASK,
     dict(random_goals=1.0, entropy_coefficient=None, target_entropy=-1.0,
          tau=0.25)),
    ('nce+c_learning', MASK, dict(random_goals=0.5, discount=0.6, tau=0.25)),
], ids=['cpc', 'nce', 'td', 'td_mc'])
def test_one_step_equals_the_step_by_hand(monkeypatch, alg, mask, overrides):
  config, state, new_state, metrics, critic_params, log_probs = check_step(
      monkeypatch, alg, mask, dict(overrides, eval_tau=0.25))
  if config_lib.uses_td(config):
    assert_close(new_state.target_params, jax.tree.map(
        lambda old, new: 0.75 * old + 0.25 * new,
        state.target_params, critic_params))
  assert_close(new_state.average_params, jax.tree.map(
      lambda old, new: 0.75 * old + 0.25 * new,
      state.average_params, new_state.policy_params))
  if config_lib.adapts_entropy(config):
    # log alpha starts at 0, where the gradient is the mean entropy gap.
    gap = float(np.mean(-np.asarray(log_probs) - config.target_entropy))
    expected = -0.3 * gap / (abs(gap) + 0.5)
    np.testing.assert_allclose(new_state.log_alpha, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics['alpha'], np.exp(expected), rtol=1e-4)
    np.testing.assert_allclose(metrics['alpha_loss'], gap, rtol=1e-4)
    np.testing.assert_allclose(
        metrics['entropy_mean'], -np.mean(log_probs), rtol=1e-4)
  else:
    assert float(new_state.log_alpha) == 0.0


def test_two_fused_steps_equal_two_calls_of_one():
  fused, _ = make('contrastive_cpc', MASK, num_sgd_steps_per_step=2)
  single, _ = make('contrastive_cpc', MASK, num_sgd_steps_per_step=1)
  assert (fused.updates_per_call, single.updates_per_call) == (2, 1)
  state = fused.init(jax.random.key(4))
  episodes = fakes.random_episodes(fused.replay, 6)
  expected, fused_metrics = jax.jit(fused.update)(state, episodes)
  update = jax.jit(single.update)
  got, first_metrics = update(state, episodes)
  got, second_metrics = update(got, episodes)
  np.testing.assert_array_equal(
      jax.random.key_data(got.key), jax.random.key_data(expected.key))
  assert_close(got._replace(key=()), expected._replace(key=()))
  for name, value in fused_metrics.items():
    np.testing.assert_allclose(
        value, (first_metrics[name] + second_metrics[name]) / 2,
        rtol=1e-3, atol=1e-5, err_msg=name)
  # Each step leaves another key, so the second one saw other draws.
  assert not np.array_equal(
      jax.random.key_data(got.key), jax.random.key_data(state.key))


@pytest.mark.parametrize('alg, has_target', [
    ('contrastive_cpc', False), ('contrastive_nce', False),
    ('c_learning', True), ('nce+c_learning', True)])
def test_only_td_has_a_target_and_it_starts_as_the_critic(alg, has_target):
  agent, _ = make(alg)
  state = agent.init(jax.random.key(0))
  if has_target:
    assert jax.tree.structure(state.target_params) == jax.tree.structure(
        state.critic_params)
    for target, critic in zip(jax.tree.leaves(state.target_params),
                              jax.tree.leaves(state.critic_params),
                              strict=True):
      np.testing.assert_array_equal(target, critic)
  else:
    assert state.target_params == ()


@pytest.mark.parametrize('settings, averaged', [
    (dict(eval_tau=0.5), True), (dict(eval_tau=1.0), False),
    (dict(eval_tau=0.5, Q_max=True), False)], ids=str)
def test_evaluation_acts_on_an_average_of_the_actor(settings, averaged):
  agent, config = make('contrastive_cpc', **settings)
  state = agent.init(jax.random.key(0))
  assert config_lib.averages_policy(config) is averaged
  if not averaged:
    # The evaluator then fetches what actors fetch.
    assert state.average_params == () and agent.eval_variables is None
    return
  contracts.assert_same_values(
      state.average_params, state.policy_params, 'another start')
  other = jax.tree.map(lambda p: p + 1.0, state.policy_params)
  assert agent.eval_variables(state._replace(average_params=other)) is other
  assert agent.variables(state) is state.policy_params


@pytest.mark.parametrize('alg, num_critics', [
    ('contrastive_cpc', 1), ('contrastive_nce', 1), ('c_learning', 2),
    ('nce+c_learning', 2)])
def test_the_number_of_critics(alg, num_critics):
  agent, _ = make(alg)
  params = agent.init(jax.random.key(0)).critic_params
  assert [len(params['phi']), len(params['psi'])] == [num_critics] * 2
  twin, _ = make(alg, twin_q=True)
  assert len(twin.init(jax.random.key(0)).critic_params['phi']) == 2


def test_the_evaluation_policy_is_the_mode_and_the_other_samples():
  agent, config = make('contrastive_cpc')
  networks = networks_lib.make_networks(
      SPEC.obs_dim, SPEC.goal_dim, SPEC.action_dim, config.hidden_layer_sizes,
      config.repr_dim, 1)
  params = agent.variables(agent.init(jax.random.key(0)))
  row = np.random.default_rng(0).normal(size=(1, 5)).astype(np.float32)
  observation = jnp.tile(row, (4000, 1))
  is_first = jnp.zeros(4000, bool)
  loc, scale = networks.actor(params, observation[:, :3], observation[:, 3:])
  mode, _ = jax.jit(agent.eval_policy.act)(
      params, observation, (), jax.random.key(1), is_first)
  np.testing.assert_allclose(mode, np.tanh(loc), rtol=1e-5)
  sampled, _ = jax.jit(agent.policy.act)(
      params, observation, (), jax.random.key(1), is_first)
  raw = (np.arctanh(np.asarray(sampled, np.float64)) - loc) / scale
  np.testing.assert_allclose(raw.mean(axis=0), 0.0, atol=0.06)
  np.testing.assert_allclose(raw.std(axis=0), 1.0, atol=0.05)
  warm, _ = agent.warmup_policy.act(
      params, observation, (), jax.random.key(1), is_first)
  np.testing.assert_allclose(np.mean(warm, axis=0), 0.0, atol=0.04)
  np.testing.assert_allclose(np.std(warm, axis=0), 3**-0.5, atol=0.02)


class TestReplaySpec:

  def test_columns_hold_a_whole_episode(self):
    agent, _ = make('contrastive_cpc')
    shapes = {name: (column.shape, column.dtype)
              for name, column in agent.replay.columns.items()}
    assert shapes == {'observation': ((8, 5), 'float32'),
                      'action': ((7, 2), 'float32'),
                      'length': ((), 'int32')}

  @pytest.mark.parametrize('batch_size, num_steps, expected', [
      (4, 2, 4),          # 8 transitions need 2 episodes of 7; a batch wins.
      (4, 14, 8),         # 56 transitions are 8 episodes.
      (4, 15, 9),         # 60 are not quite 9.
  ])
  def test_a_call_reads_as_many_steps_as_it_learns_from(
      self, batch_size, num_steps, expected):
    agent, _ = make('contrastive_cpc', batch_size=batch_size,
                    num_sgd_steps_per_step=num_steps)
    assert agent.replay.episodes_per_batch == expected

  def test_settings_reach_replay(self):
    agent, _ = make('contrastive_cpc', samples_per_insert=12.0)
    assert agent.replay.pacing.samples_per_insert == 12.0
    assert agent.replay.pacing.transitions_per_update == 4
    assert (agent.replay.pacing.min_steps, agent.replay.max_steps) == (10, 100)
