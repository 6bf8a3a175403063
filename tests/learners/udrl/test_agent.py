"""The UDRL agent: its rules, what it learns from, how it acts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import registry as env_registry
from envs.spec import EnvSpec
from learners import commanded
from learners.agent import HELD_OUT
from learners.udrl import agent as agent_lib
from learners.udrl import config as config_lib
from learners.udrl import policies
from safety.masking import SafetyMask
from tests import contracts, fakes
from tests.learners.udrl.reference import Buffer, pairs

pytestmark = pytest.mark.usefixtures('quick_compile')

SPEC = EnvSpec(name='steps', obs_dim=3, action_dim=0, num_actions=4,
               step_limit=6)


def make(**settings):
  config = config_lib.from_settings('udrl', 'cpu', dict(
      hidden_sizes=(4, 5), batch_size=16, num_sgd_steps_per_step=2,
      episodes_per_call=5, max_replay_episodes=20, last_few=3,
      **settings))
  return agent_lib.make_agent(config, SPEC), config


def hear(agent, state, returns, lengths, held_out=None):
  num = len(returns)
  reports = {'episode_return': jnp.array(returns, jnp.float32),
             'episode_length': jnp.array(lengths, jnp.float32),
             HELD_OUT: jnp.array(held_out or [0.0] * num, jnp.float32)}
  return agent.hear(state, reports, jnp.ones(num, bool))


def test_the_rules_of_agents():
  agent, _ = make()
  contracts.check_agent(
      agent, fakes.random_episodes(agent.replay, 5, num_actions=4),
      num_actions=4)


@pytest.mark.parametrize('command', config_lib.COMMANDS)
def test_rows_are_steps_with_what_came_of_them(command):
  agent, config = make(command=command)
  episodes = fakes.random_episodes(agent.replay, 5, num_actions=4)
  weight = jnp.array([1.0, 1.0, 0.0, 1.0, 1.0])
  rows = agent_lib.sampler(config, episodes, weight)(jax.random.key(0))
  known = {}
  for i in (0, 1, 3, 4):
    length = int(episodes['length'][i])
    achieved = pairs(episodes['reward'][i, :length].tolist())
    for t in range(length):
      total = achieved[0][0] if command == 'cumulative_return' else (
          achieved[t][0])
      known[episodes['observation'][i, t].tobytes()] = (
          total, achieved[t][1], int(episodes['action'][i, t]))
  for state, asked, action in zip(*map(np.asarray, rows)):
    total, horizon, expected_action = known[state.tobytes()]
    np.testing.assert_allclose(asked, [total, horizon], rtol=1e-4, atol=1e-5)
    assert action == expected_action


def test_what_is_beyond_the_capacity_in_steps_is_not_learned_from():
  agent, _ = make(max_replay_steps=10)
  state = hear(agent, agent.init(jax.random.key(0)), [3.0, 2.0, 1.0], [6, 6, 6])
  episodes = fakes.random_episodes(agent.replay, 5, num_actions=4)
  # Only the first two begin within ten steps.
  episodes['episode_return'] = np.array([1.0, 2.0, 1.0, 3.0, 1.0], np.float32)
  changed = dict(episodes, action=episodes['action'].copy())
  changed['action'][[0, 2, 4]] = 3 - changed['action'][[0, 2, 4]]
  update = jax.jit(agent.update)
  same, _ = update(state, episodes)
  other, _ = update(state, changed)
  contracts.assert_same_values(same.params, other.params, 'learned from it')
  changed['action'][1] = 3 - changed['action'][1]
  other, _ = update(state, changed)
  assert not contracts._all_equal(same.params, other.params)


def test_commands_follow_from_what_is_reported():
  agent, config = make()
  rng = np.random.default_rng(0)
  returns, lengths = rng.normal(size=30).astype(np.float32), [5] * 30
  held_out = (np.arange(30) % 7 == 0).astype(float).tolist()
  state = hear(agent, agent.init(jax.random.key(0)), returns, lengths, held_out)
  buffer = Buffer(config.max_replay_episodes, config.max_replay_steps)
  for r, length, apart in zip(returns.tolist(), lengths, held_out):
    if not apart:
      buffer.insert(r, length)
  mean, std, horizon = buffer.statistics(config.last_few)
  _, stats = agent.variables(state)
  np.testing.assert_allclose(
      [stats.mean, stats.std, stats.horizon], [mean, std, horizon], rtol=1e-5)


def test_an_episode_keeps_its_command_and_counts_it_down():
  agent, _ = make(max_return=8.0)
  state = hear(agent, agent.init(jax.random.key(0)), [4.0, 6.0], [3, 5])
  variables = agent.variables(state)
  policy, observation = agent.policy, jnp.zeros((3, 3))
  memory = policy.init(jax.random.key(0), 3)
  first, none = jnp.ones(3, bool), jnp.zeros(3, bool)
  _, memory = policy.act(
      variables, observation, memory, jax.random.key(1), first)
  begun = np.asarray(memory.command)
  assert np.all((begun[:, 0] >= 5.0) & (begun[:, 0] <= 6.0))
  assert np.all(begun[:, 1] == 4.0) and len(set(begun[:, 0].tolist())) == 3
  later = agent.variables(hear(agent, state, [100.0] * 9, [6] * 9))
  memory = policy.observe(memory, jnp.array([1.0, -9.0, 0.0]), none)
  _, memory = policy.act(
      later, observation, memory, jax.random.key(2),
      jnp.array([False, False, True]))
  left = np.asarray(memory.command)
  np.testing.assert_allclose(left[0], [begun[0, 0] - 1.0, 3.0], rtol=1e-6)
  np.testing.assert_allclose(left[1], [8.0, 3.0])
  # A new episode has a new command, of what is known by then.
  np.testing.assert_allclose(left[2], [8.0, round((6 + 5 + 3) / 3)])
  np.testing.assert_array_equal(memory.initial[:2], begun[:2])


def test_without_statistics_actions_are_random_until_there_are_some():
  agent, _ = make()
  state = agent.init(jax.random.key(0))
  num = 2000
  memory = agent.policy.init(jax.random.key(0), num)
  action, memory = agent.policy.act(
      agent.variables(state), jnp.zeros((num, 3)), memory, jax.random.key(1),
      jnp.ones(num, bool))
  np.testing.assert_allclose(np.bincount(action, minlength=4), 500, atol=100)
  assert not np.any(memory.known)
  state = hear(agent, state, [2.0], [3])
  _, memory = agent.policy.act(
      agent.variables(state), jnp.zeros((num, 3)), memory, jax.random.key(1),
      jnp.zeros(num, bool))
  assert np.all(memory.known)
  assert memory.command[0].tolist() == [2.0, 3.0]


def test_commands_can_be_given():
  agent, config = make()
  draw = policies.given_command(-1.0, 3.0, 7.0)
  policy = policies.make_policy(
      agent_lib.make_networks(config, SPEC), config, 4, draw, greedy=True)
  _, memory = policy.act(
      agent.variables(agent.init(jax.random.key(0))), jnp.zeros((3, 3)),
      policy.init(jax.random.key(0), 3), jax.random.key(0), jnp.ones(3, bool))
  assert memory.command.tolist() == [[-1.0, 7.0], [1.0, 7.0], [3.0, 7.0]]


def test_it_needs_discrete_actions():
  config = config_lib.UDRLConfig()
  problem, = commanded.problems(
      config, env_registry.spec('point_Small'), SafetyMask())
  assert 'discrete actions' in problem
  assert not commanded.problems(
      config, env_registry.spec('lunarlander'), SafetyMask())
