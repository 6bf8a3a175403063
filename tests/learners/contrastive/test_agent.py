"""The assembled agent: its contract, and one step worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.spec import EnvSpec
from learners.contrastive import agent as agent_lib
from learners.contrastive import config as config_lib
from learners.contrastive import networks as networks_lib
from replay.relabel import Transitions
from safety import regions
from safety.masking import SafetyMask
from tests import contracts, fakes

pytestmark = pytest.mark.usefixtures('quick_compile')

SPEC = EnvSpec(
    name='plane', obs_dim=3, action_dim=2, goal_indices=(0, 1),
    position_indices=(0, 1), step_limit=7, success_radius=1.0,
    goal=(3.0, 3.0))
MASK = SafetyMask(
    regions.parse_region_bounds('-1,-1:0.5,0.5;0.5,0.5:1,2'), SPEC.goal)
NO_MASK = SafetyMask()
TINY = dict(hidden_layer_sizes=(6,), repr_dim=4, batch_size=4,
            num_sgd_steps_per_step=2, min_replay_size=10,
            max_replay_size=100)


def make(alg, mask=NO_MASK, **overrides):
  """Returns a tiny agent and its config."""
  config = config_lib.from_settings(alg, 'reference', {**TINY, **overrides})
  assert config_lib.problems(config) == []
  return agent_lib.make_agent(config, SPEC, mask), config


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


def batch_of(num=4, seed=0):
  """Returns `num` transitions, some goals of which lie in the regions."""
  rng = np.random.default_rng(seed)
  goal = rng.normal(scale=2.0, size=(num, 2))
  goal[0], goal[1] = (0.2, -0.3), (0.8, 1.5)
  next_state = rng.normal(size=(num, 3))
  next_state[2, :2] = (-0.5, 0.1)
  return Transitions(*(jnp.asarray(x, jnp.float32) for x in (
      rng.normal(size=(num, 3)), rng.uniform(-1, 1, (num, 2)), next_state,
      goal)))


def steady_sample(key, distribution):
  """Stands in for `networks.sample`: the same noise at every call."""
  del key
  noise = jnp.array([[0.5, -1.0], [1.2, 0.1], [-0.3, 0.7], [-1.1, -0.4]])
  noise = jnp.resize(noise, distribution.loc.shape)
  return jnp.tanh(distribution.loc + distribution.scale * noise)


class ByHand:
  """The objectives of one step, logit by logit, at given parameters."""

  def __init__(self, config, mask, state, batch):
    self.config, self.mask, self.state = config, mask, state
    self.batch = Transitions(*map(np.asarray, batch))
    self.num_critics = 2 if config.twin_q else 1
    self.networks = networks_lib.make_networks(
        SPEC.obs_dim, SPEC.goal_dim, SPEC.action_dim,
        config.hidden_layer_sizes, config.repr_dim, self.num_critics)
    self.positives = self.positive_goals()
    self.weights = None
    if config_lib.uses_td(config):
      self.weights = self.importance_weights()

  def masked_psi(self, params, goals):
    """Returns psi of the goals, those inside a region replaced one by one."""
    plain = self.networks.encode_goal(params, jnp.asarray(goals))
    rows = []
    for i, (x, y) in enumerate(goals.tolist()):
      inside = any(x0 <= x <= x1 and y0 <= y <= y1
                   for (x0, y0), (x1, y1) in self.mask.regions)
      rows.append(-jax.lax.stop_gradient(self.networks.encode_goal(
          params, jnp.array([self.mask.goal]))[0]) if inside else plain[i])
    return rows

  def positive_goals(self):
    """Returns the positive goal of each row."""
    num, spread = len(self.batch.goal), 1.0 - self.config.discount
    num_next = {'cpc': 0, 'nce': 0, 'td': num,
                'td_mc': int(num * spread / (spread + 1.0))}[self.config.loss]
    assert self.config.loss != 'td_mc' or 0 < num_next < num
    return np.array([
        self.batch.next_state[i, :2] if i < num_next else self.batch.goal[i]
        for i in range(num)])

  def importance_weights(self):
    """Returns the odds of the lesser target critic, row by row."""
    goals = np.concatenate([self.positives[1:], self.positives[:1]])
    actions = steady_sample(None, self.networks.actor(
        self.state.policy_params, self.batch.next_state, goals))
    phi = self.networks.encode_state(
        self.state.target_params, self.batch.next_state, actions)
    psi = self.masked_psi(self.state.target_params, goals)
    weights = []
    for i in range(len(goals)):
      logits = [float(np.dot(phi[i, :, c], psi[i][:, c]))
                for c in range(self.num_critics)]
      value = min(1.0 / (1.0 + np.exp(-x)) for x in logits)
      weights.append(min(value / (1.0 - value), 20.0))
    return weights

  def critic_loss(self, params):
    """Returns the critic objective, a mean over rows and critics."""
    num = len(self.positives)
    phi = self.networks.encode_state(
        params, self.batch.state, self.batch.action)
    psi = self.masked_psi(params, self.positives)
    terms = [
        self.row_loss([jnp.dot(phi[i, :, c], psi[k][:, c])
                       for k in range(num)], i)
        for i in range(num) for c in range(self.num_critics)]
    return sum(terms) / len(terms)

  def row_loss(self, row, i):
    """Returns the loss of row `i` given its logits."""
    num, discount = len(row), self.config.discount
    as_one = [jnp.log1p(jnp.exp(-x)) for x in row]
    as_zero = [jnp.log1p(jnp.exp(x)) for x in row]
    if self.config.loss == 'cpc':
      total = jnp.log(sum(jnp.exp(x) for x in row))
      return total - row[i] + self.config.logsumexp_penalty * total**2
    if self.config.loss == 'nce':
      return (as_one[i] + sum(as_zero[k] for k in range(num) if k != i)) / num
    other = (i + 1) % num
    pos, neg = (1 - discount, 1) if self.config.loss == 'td' else (
        2 - discount, 2)
    return (pos * as_one[i] + discount * self.weights[i] * as_one[other]
            + neg * as_zero[other])

  def pairs(self):
    """Returns the (state, goal) rows of the actor loss."""
    num = len(self.batch.goal)
    own = [(i, i) for i in range(num)]
    other = [(i, (i - 1) % num) for i in range(num)]
    return {0.0: own, 0.5: own + other, 1.0: other}[self.config.random_goals]

  def actor_loss(self, params):
    """Returns the actor objective and the log-probabilities."""
    alpha = self.config.entropy_coefficient
    alpha = jnp.exp(self.state.log_alpha) if alpha is None else alpha
    rows = self.pairs()
    states = np.array([self.batch.state[i] for i, _ in rows])
    goals = np.array([self.batch.goal[k] for _, k in rows])
    distribution = self.networks.actor(params, states, goals)
    actions = steady_sample(None, distribution)
    log_probs = networks_lib.log_prob(distribution, actions)
    phi = self.networks.encode_state(self.state.critic_params, states, actions)
    psi = self.masked_psi(self.state.critic_params, goals)
    terms = []
    for row in range(len(rows)):
      q_values = [jnp.dot(phi[row, :, c], psi[row][:, c])
                  for c in range(self.num_critics)]
      q_value = q_values[0] if len(q_values) == 1 else jnp.minimum(*q_values)
      terms.append(alpha * log_probs[row] - q_value)
    return sum(terms) / len(terms), log_probs


def first_adam_step(params, grads, learning_rate, epsilon):
  """Returns the parameters after Adam's first step from zero moments.

  There the corrected moments are g and g^2, so the step is lr g / (|g| + eps).
  """
  return jax.tree.map(
      lambda p, g: p - learning_rate * g / (jnp.abs(g) + epsilon),
      params, grads)


def assert_close(got, expected):
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got),
                          jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(
        a, b, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))


# An epsilon this large makes Adam's first step nearly proportional to the
# gradient; a usual one would hide a wrong size of it.
OPTIMIZER = dict(learning_rate=0.5, actor_learning_rate=0.3, adam_epsilon=0.5,
                 num_sgd_steps_per_step=1)


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
  batch = batch_of()
  monkeypatch.setattr(
      agent_lib.relabel, 'sample_transitions', lambda *args, **kwargs: batch)
  monkeypatch.setattr(networks_lib, 'sample', steady_sample)
  agent, config = make(alg, mask, **OPTIMIZER, **overrides)
  state = agent.init(jax.random.key(0))
  if config_lib.uses_td(config):
    # Apart from the critic, so that reading the wrong one shows.
    state = state._replace(target_params=jax.tree.map(
        lambda p: 0.5 * p, state.critic_params))
  new_state, metrics = jax.jit(agent.update)(
      state, fakes.random_episodes(agent.replay, 4))

  # Everything below is computed at the parameters before the step.
  by_hand = ByHand(config, mask, state, batch)
  critic_loss, critic_grads = jax.jit(jax.value_and_grad(
      by_hand.critic_loss))(state.critic_params)
  (actor_loss, log_probs), policy_grads = jax.jit(jax.value_and_grad(
      by_hand.actor_loss, has_aux=True))(state.policy_params)
  critic_params = first_adam_step(state.critic_params, critic_grads, 0.5, 0.5)
  policy_params = first_adam_step(state.policy_params, policy_grads, 0.3, 0.5)

  np.testing.assert_allclose(metrics['critic_loss'], critic_loss, rtol=1e-4)
  np.testing.assert_allclose(
      metrics['actor_loss'], actor_loss, rtol=1e-4, atol=1e-6)
  assert_close(new_state.critic_params, critic_params)
  assert_close(new_state.policy_params, policy_params)
  if config_lib.uses_td(config):
    assert_close(new_state.target_params, jax.tree.map(
        lambda old, new: 0.75 * old + 0.25 * new,
        state.target_params, critic_params))
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


@pytest.mark.parametrize('alg, num_critics', [
    ('contrastive_cpc', 1), ('contrastive_nce', 1), ('c_learning', 2),
    ('nce+c_learning', 2)])
def test_the_number_of_critics(alg, num_critics):
  agent, _ = make(alg)
  params = agent.init(jax.random.key(0)).critic_params
  assert [len(params['phi']), len(params['psi'])] == [num_critics] * 2
  twin, _ = make(alg, twin_q=True)
  assert len(twin.init(jax.random.key(0)).critic_params['phi']) == 2


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
    state, goal, psi = agent_lib.actor_rows(
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
    goals = agent_lib.critic_goals(config, SPEC, batch)
    for i in range(4):
      expected = batch.next_state[i, :2] if i in next_rows else batch.goal[i]
      np.testing.assert_array_equal(goals[i], expected)


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
    assert agent.replay.samples_per_insert == 12.0
    assert agent.replay.transitions_per_update == 4
    assert (agent.replay.min_steps, agent.replay.max_steps) == (10, 100)
