"""The RCP agents: their rules, flags and policies."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import registry as env_registry
from envs.spec import EnvSpec
from learners import commanded
from learners.rcp import agent as agent_lib
from learners.rcp import config as config_lib
from safety.masking import SafetyMask
from tests import contracts, fakes

pytestmark = pytest.mark.usefixtures('quick_compile')

SPEC = EnvSpec(name='steps', obs_dim=3, action_dim=0, num_actions=4,
               step_limit=6)


def make(alg, preset='reference', **settings):
  return agent_lib.make_agent(config_lib.from_settings(alg, preset, dict(
      hidden_sizes=(4,), batch_size=16, num_sgd_steps_per_step=2,
      episodes_per_call=5, max_replay_episodes=20, **settings)), SPEC)


@pytest.mark.parametrize('alg, preset', [
    ('rcp_r', 'reference'), ('rcp_a', 'reference'), ('rcp_a', 'cpu')])
def test_the_rules_of_agents(alg, preset):
  agent = make(alg, preset, command_window=3)
  contracts.check_agent(
      agent, fakes.random_episodes(agent.replay, 5, num_actions=4),
      num_actions=4)


def test_episodes_are_only_heard_of_where_commands_follow_from_them():
  agent = make('rcp_a')
  assert agent.hear is None and agent.reports == ()
  assert agent.init(jax.random.key(0)).latest == ()
  assert make('rcp_r').reports == ('discounted_return',)


@pytest.mark.parametrize('separate', [False, True])
def test_the_value_network_learns_at_its_interval_only(separate):
  agent = make('rcp_a', value_interval=4, separate_value_optimizer=separate)
  episodes = fakes.random_episodes(agent.replay, 5, num_actions=4)
  state, update = agent.init(jax.random.key(0)), jax.jit(agent.update)
  for done, learns in ((0, True), (1, False), (3, True), (5, False)):
    # Two more SGD steps, numbered from `done` on.
    counted = state._replace(running=state.running._replace(
        updates=jnp.array(done, jnp.int32)))
    new, _ = update(counted, episodes)
    changed = not contracts._all_equal(state.params.value, new.params.value)
    assert changed == learns, done
    assert not contracts._all_equal(state.params.policy, new.params.policy)


def variables_of(agent, returns):
  state = agent.hear(
      agent.init(jax.random.key(0)),
      {'discounted_return': jnp.array(returns)}, jnp.ones(len(returns), bool))
  return agent.variables(state)


@pytest.mark.parametrize('decrement', [False, True])
def test_a_commanded_return_is_held_unless_it_is_to_shrink(decrement):
  agent = make('rcp_r', decrement_command=decrement, discount=0.5)
  variables = variables_of(agent, [8.0, 2.0])
  num = 3000
  memory = agent.policy.init(jax.random.key(0), num)
  everyone = jnp.ones(num, bool)
  _, memory = agent.policy.act(
      variables, jnp.zeros((num, 3)), memory, jax.random.key(1), everyone)
  begun = np.asarray(memory.command)
  np.testing.assert_allclose([begun.mean(), begun.std()], [8.0, 3.0], atol=0.3)
  memory = agent.policy.observe(memory, jnp.full(num, 1.5), ~everyone)
  _, memory = agent.policy.act(
      variables, jnp.zeros((num, 3)), memory, jax.random.key(2), ~everyone)
  np.testing.assert_allclose(
      memory.command, (begun - 1.5) / 0.5 if decrement else begun, rtol=1e-5)


@pytest.mark.parametrize('redraw', [False, True])
def test_a_commanded_advantage_is_drawn_anew_if_asked(redraw):
  agent = make('rcp_a', redraw_command=redraw, command_window=1)
  state, _ = jax.jit(agent.update)(
      agent.init(jax.random.key(0)),
      fakes.random_episodes(agent.replay, 5, num_actions=4))
  variables = agent.variables(state)
  memory = agent.policy.init(jax.random.key(0), 4)
  commanded = []
  for t in range(2):
    _, memory = agent.policy.act(
        variables, jnp.zeros((4, 3)), memory, jax.random.key(t),
        jnp.full(4, t == 0))
    commanded.append(np.asarray(memory.command))
  assert np.array_equal(*commanded) != redraw


def test_the_published_value_and_the_stable_preset():
  for env, alg in (('lunarlander', 'rcp_r'), ('lunarlander-sparse', 'rcp_a')):
    config = config_lib.from_settings(alg, 'reference', {}, env)
    assert (config.learning_rate, config.batch_size, config.discount,
            config.updates_per_episode) == (1e-3, 256, 0.99, 50.0)
    assert not config.normalize_command and config.expo_weighting
  config = config_lib.from_settings('rcp_a', 'cpu', {}, 'cartpole')
  assert config.separate_value_optimizer and config.warmup_episodes == 50


@pytest.mark.parametrize('name, value', [
    ('beta', 0.0), ('batch_size', 1), ('discount', 1.5), ('gae_lambda', -0.1),
    ('command_statistic', 'least'), ('value_states', 'none'),
    ('normalizer_rate', 0.0), ('pair_sampling', 'random'),
    ('hidden_sizes', ())])
def test_what_cannot_be_is_named(name, value):
  config = dataclasses.replace(
      config_lib.from_settings('rcp_a', 'cpu', {}), **{name: value})
  problem, = config_lib.problems(config)
  assert problem.startswith(f'{name}: got {value!r}, needs ')


def test_what_needs_the_other_variant_is_refused():
  config = config_lib.from_settings(
      'rcp_a', 'cpu', dict(decrement_command=True))
  problem, = config_lib.problems(config)
  assert 'decrement_command' in problem and 'rcp_r' in problem
  problem, = commanded.problems(
      config, env_registry.spec('point_Small'), SafetyMask())
  assert 'discrete actions' in problem
