"""The critic's best action, against a search over every action."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.contrastive import networks as networks_lib
from learners.contrastive import policies
from tests import contracts
from tests.learners.contrastive.by_hand import make, MASK, SPEC

pytestmark = pytest.mark.usefixtures('quick_compile')


def parts(action_dim, num_critics=1, monolithic=False):
  """Returns networks, spec and critic params."""
  spec = dataclasses.replace(SPEC, action_dim=action_dim)
  networks = networks_lib.make_networks(
      spec.obs_dim, spec.goal_dim, action_dim, (7,), 5, num_critics,
      monolithic=monolithic)
  return networks, spec, networks.init(jax.random.key(1))[1]


def observations(num_envs):
  rng = np.random.default_rng(2)
  return jnp.asarray(rng.normal(scale=3.0, size=(num_envs, 5)), jnp.float32)


class TestCriticPolicy:

  @pytest.mark.parametrize('action_dim, num_critics, monolithic', [
      (1, 1, False), (2, 2, False), (2, 2, True), (3, 1, False)])
  def test_takes_the_best_action_of_the_grid(
      self, action_dim, num_critics, monolithic):
    networks, spec, params = parts(action_dim, num_critics, monolithic)
    observed = observations(3)
    policy = policies.critic_policy(networks, spec)
    action, _ = jax.jit(policy.act)(
        params, observed, (), jax.random.key(0), jnp.zeros(3, bool))
    assert action.shape == (3, action_dim)
    grid = np.array(list(itertools.product(
        np.linspace(-1, 1, 20), repeat=action_dim)), np.float32)
    for env in range(3):
      state, goal = (jnp.tile(x, (len(grid), 1)) for x in (
          observed[env, :3], observed[env, 3:]))
      values = np.min(networks.compare(
          params, networks.encode_state(params, state, grid),
          networks.encode_goal(params, goal)), axis=-1)
      chosen = np.argmin(np.sum(np.abs(grid - action[env]), axis=-1))
      np.testing.assert_allclose(grid[chosen], action[env], atol=1e-6)
      assert values[chosen] >= np.max(values) - 1e-5
      assert np.max(values) - np.min(values) > 0.1

  def test_every_action_of_the_grid_is_there_once(self):
    actions = np.asarray(policies.grid_actions(jnp.arange(8000), 3))
    expected = itertools.product(np.linspace(-1, 1, 20), repeat=3)
    np.testing.assert_allclose(
        sorted(map(tuple, actions)), sorted(expected), atol=1e-6)
    assert len(np.unique(actions, axis=0)) == 8000

  def test_four_entries_are_compared_in_pieces(self):
    networks, spec, params = parts(4)
    policy = policies.critic_policy(networks, spec)
    jaxpr = jax.make_jaxpr(policy.act)(
        params, observations(3), (), jax.random.key(0), jnp.zeros(3, bool))
    # 160,000 actions, of which 400 at a time pass through 7 units.
    assert 400 * 3 * 7 <= largest_array(jaxpr.jaxpr) < 10_000

  def test_the_key_does_not_matter(self):
    networks, spec, params = parts(2)
    act = jax.jit(policies.critic_policy(networks, spec).act)
    first, second = (act(params, observations(4), (), jax.random.key(k),
                         jnp.zeros(4, bool))[0] for k in (0, 1))
    np.testing.assert_array_equal(first, second)

  def test_refuses_other_ranks(self):
    with pytest.raises(ValueError, match=r'expected indices \[K\]'):
      policies.grid_actions(jnp.zeros((2, 2), int), 2)


def largest_array(jaxpr):
  """Returns the number of entries of the largest intermediate result."""
  sizes = [0]
  for equation in jaxpr.eqns:
    sizes += [v.aval.size for v in equation.outvars]
    for value in equation.params.values():
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        sizes.append(largest_array(inner))
  return max(sizes)


class TestWhatActorsFetch:

  def test_is_the_critic_only_if_it_acts(self):
    for overrides, name in (({}, 'policy_params'),
                            (dict(Q_max=True), 'critic_params')):
      agent, _ = make('contrastive_cpc', **overrides)
      state = agent.init(jax.random.key(0))
      contracts.assert_same_values(
          agent.variables(state), getattr(state, name), name)

  def test_the_critic_acts_in_training_and_in_evaluation(self):
    agent, config = make('contrastive_cpc', MASK, Q_max=True)
    params = agent.variables(agent.init(jax.random.key(0)))
    expected, _ = policies.critic_policy(
        networks_lib.make_networks(3, 2, 2, config.hidden_layer_sizes,
                                   config.repr_dim, 1), SPEC).act(
        params, observations(4), (), jax.random.key(0), jnp.zeros(4, bool))
    for policy in (agent.policy, agent.eval_policy):
      action, _ = policy.act(params, observations(4), (), jax.random.key(1),
                             jnp.zeros(4, bool))
      np.testing.assert_allclose(action, expected, atol=1e-6)
