"""One step of a contrastive agent, worked out logit by logit."""

import jax
import jax.numpy as jnp
import numpy as np

from envs.spec import EnvSpec
from learners.contrastive import ablations
from learners.contrastive import agent as agent_lib
from learners.contrastive import config as config_lib
from learners.contrastive import networks as networks_lib
from replay import relabel
from replay.relabel import Transitions
from safety import regions
from safety.masking import SafetyMask
from tests import fakes

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


def steady_noise(key, batch, num, size):
  """Stands in for `ablations.perturbations`: the same at every call."""
  del key
  shape = (len(batch.state), num, size)
  return np.random.default_rng(3).uniform(-2, 2, shape).astype(np.float32)


def relu_network(params, inputs):
  """Returns the output of an MLP for one row of inputs."""
  hidden = inputs
  for i in range(len(params) - 1):
    layer = params[f'mlp/~/linear_{i}']
    hidden = jnp.maximum(hidden @ layer['w'] + layer['b'], 0.0)
  return hidden @ params['linear']['w'] + params['linear']['b']


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

  def phi(self, params, states, actions):
    """Returns what represents each state and action, row by row."""
    if self.config.monolithic_critic:
      return [jnp.concatenate([s, a]) for s, a in zip(states, actions)]
    phi = self.networks.encode_state(params, states, actions)
    return [self.scaled(row) / self.config.repr_temperature for row in phi]

  def psi(self, params, goals):
    """Returns what represents each goal, those inside a region replaced."""
    if self.config.monolithic_critic:
      return list(goals)
    plain = self.networks.encode_goal(params, jnp.asarray(goals))
    rows = []
    for i, (x, y) in enumerate(np.asarray(goals).tolist()):
      inside = any(x0 <= x <= x1 and y0 <= y <= y1
                   for (x0, y0), (x1, y1) in self.mask.regions)
      rows.append(self.scaled(self.substitute(params) if inside else plain[i]))
    return rows

  def substitute(self, params):
    """Returns what stands for goals inside a region."""
    psi = self.networks.encode_goal(params, jnp.array([self.mask.goal]))[0]
    return (-1.0 if self.mask.negative else 0.5) * jax.lax.stop_gradient(psi)

  def scaled(self, representation):
    """Returns `[N, C]` with the length that the settings give it."""
    if not self.config.repr_norm:
      return representation
    return jnp.stack([v / jnp.sqrt(jnp.dot(v, v)) for v in representation.T],
                     axis=1)

  def q_values(self, params, phi, psi):
    """Returns the value of one row of each under every critic."""
    if self.config.monolithic_critic:
      return [relu_network(p, jnp.concatenate([phi, psi]))[0]
              for p in params['q']]
    return [jnp.dot(phi[:, c], psi[:, c]) for c in range(self.num_critics)]

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
    params = self.state.target_params
    rows = zip(self.phi(params, self.batch.next_state, actions),
               self.psi(params, goals))
    weights = []
    for phi, psi in rows:
      logits = map(float, self.q_values(params, phi, psi))
      value = min(1.0 / (1.0 + np.exp(-x)) for x in logits)
      weights.append(min(value / (1.0 - value), 20.0))
    return weights

  def critic_loss(self, params):
    """Returns the critic objective, a mean over rows and critics."""
    phi = self.phi(params, self.batch.state, self.batch.action)
    psi = self.psi(params, self.positives)
    # [B, B, C], rows being those that choose.
    logits = [[self.q_values(params, p, g) for g in psi] for p in phi]
    if self.config.backward_loss:
      logits = [list(column) for column in zip(*logits)]
    terms = []
    for i, row in enumerate(logits):
      extra = self.extra_negatives(params, phi[i], i)
      terms += [self.row_loss([q[c] for q in row + extra], i)
                for c in range(self.num_critics)]
    return sum(terms) / len(terms)

  def extra_negatives(self, params, phi, i):
    """Returns the values `[K, C]` that row `i` has on top, for few updates."""
    config, state = self.config, self.batch.state[i]
    goal = np.array([SPEC.goal], np.float32)
    num, goal_num = (config.perturbed_negatives_num,
                     config.perturbed_negatives_goal_num)
    found = []
    if config.goal_neg_actor_steps:
      found.append(self.q_values(params, phi, self.psi(params, goal)[0]))
    for noise in steady_noise(None, self.batch, num, 2)[i]:
      psi, = self.psi(params, [state[:2] + noise])
      found.append(self.q_values(params, phi, psi))
    for noise in steady_noise(None, self.batch, goal_num, 3)[i]:
      near, = self.phi(
          params, (state + noise)[None], self.batch.action[i:i + 1])
      found.append(self.q_values(params, near, self.psi(params, goal)[0]))
    return found

  def row_loss(self, row, i):
    """Returns the loss of row `i` given its logits."""
    num, discount = len(self.positives), self.config.discount
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
    params = self.state.critic_params
    phi, psi = self.phi(params, states, actions), self.psi(params, goals)
    terms = []
    for row in range(len(rows)):
      q_values = self.q_values(params, phi[row], psi[row])
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


def check_step(monkeypatch, alg, mask, overrides, batch=None):
  """Compares one step with the step by hand, and returns both sides of it.

  Args:
    monkeypatch: replaces all randomness.
    alg: algorithm name.
    mask: of the agent.
    overrides: its settings.
    batch: what is learned from, if not what replay hands over.

  Returns:
    Config, state before and after, metrics, and what was computed by hand:
    critic parameters and the log-probabilities of actions.
  """
  given = batch_of()
  batch = given if batch is None else batch
  monkeypatch.setattr(
      relabel, 'sample_transitions', lambda *args, **kwargs: given)
  monkeypatch.setattr(networks_lib, 'sample', steady_sample)
  monkeypatch.setattr(ablations, 'perturbations', steady_noise)
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
  assert int(new_state.steps) == 1
  return config, state, new_state, metrics, critic_params, log_probs
