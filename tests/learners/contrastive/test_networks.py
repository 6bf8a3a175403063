"""Network shapes and initial ranges; the tanh-Normal against closed forms."""

import math

import jax
from jax.experimental import enable_x64
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from learners.contrastive import networks as networks_lib
from learners.contrastive.networks import TanhNormal

pytestmark = pytest.mark.usefixtures('quick_compile')
OBS, GOAL, ACTION, HIDDEN, REPR = 3, 2, 2, (40, 50), 30


@pytest.fixture(scope='module', params=[1, 2])
def parts(request):
  """Returns networks, policy params and critic params."""
  networks = networks_lib.make_networks(
      OBS, GOAL, ACTION, HIDDEN, REPR, num_critics=request.param)
  policy_params, critic_params = networks.init(jax.random.key(0))
  return networks, policy_params, critic_params, request.param


def matrices(params):
  """Returns the weights and the biases of one network, in order of use."""
  layers = list(params.values())
  return [p['w'] for p in layers], [p['b'] for p in layers]


class TestInit:

  def check(self, params, sizes, fan):
    weights, biases = matrices(params)
    shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
    assert [w.shape for w in weights] == shapes
    for w, b in zip(weights, biases, strict=True):
      limit = math.sqrt(3.0 / fan(*w.shape))
      np.testing.assert_array_equal(b, np.zeros(w.shape[1]))
      assert np.max(np.abs(w)) <= limit
      uniform = stats.uniform(-limit, 2 * limit)
      assert stats.kstest(np.ravel(w), uniform.cdf).pvalue > 1e-3

  def test_encoders_are_uniform_by_average_fan(self, parts):
    _, _, critic_params, num_critics = parts
    assert set(critic_params) == {'phi', 'psi'}
    for name, inputs in (('phi', OBS + ACTION), ('psi', GOAL)):
      assert len(critic_params[name]) == num_critics
      for params in critic_params[name]:
        self.check(params, (inputs, *HIDDEN, REPR), lambda i, o: (i + o) / 2)

  def test_the_actor_is_uniform_by_fan_in(self, parts):
    _, policy_params, _, _ = parts
    self.check(policy_params, (OBS + GOAL, *HIDDEN, 2 * ACTION),
               lambda i, o: i)

  def test_no_two_networks_start_alike(self, parts):
    _, policy_params, critic_params, _ = parts
    # The second matrices have one shape everywhere.
    everyone = [policy_params, *critic_params['phi'], *critic_params['psi']]
    seconds = [matrices(params)[0][1] for params in everyone]
    for i, a in enumerate(seconds):
      for b in seconds[:i]:
        assert not np.array_equal(a, b)

  def test_the_key_decides(self, parts):
    networks, policy_params, _, _ = parts
    again, other = (networks.init(jax.random.key(k))[0] for k in (0, 1))
    first, same, changed = (
        matrices(p)[0][0] for p in (policy_params, again, other))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, changed)


def slow_mlp(params, inputs, activate_final=False):
  """Returns a ReLU network's output, in NumPy."""
  weights, biases = matrices(params)
  hidden = np.asarray(inputs, np.float64)
  for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
    hidden = hidden @ np.asarray(w) + np.asarray(b)
    if i < len(weights) - 1 or activate_final:
      hidden = np.maximum(hidden, 0.0)
  return hidden


def inputs_for(seed=0, num=4):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(num, OBS)).astype(np.float32),
          rng.uniform(-1, 1, (num, ACTION)).astype(np.float32),
          rng.normal(size=(num, GOAL)).astype(np.float32))


class TestForward:

  def test_phi_sees_state_and_action(self, parts):
    networks, _, critic_params, num_critics = parts
    state, action, _ = inputs_for()
    phi = networks.encode_state(critic_params, state, action)
    assert phi.shape == (4, REPR, num_critics)
    for c in range(num_critics):
      np.testing.assert_allclose(
          phi[:, :, c],
          slow_mlp(critic_params['phi'][c], np.hstack([state, action])),
          rtol=1e-4, atol=1e-5)

  def test_psi_sees_the_goal(self, parts):
    networks, _, critic_params, num_critics = parts
    _, _, goal = inputs_for()
    psi = networks.encode_goal(critic_params, goal)
    assert psi.shape == (4, REPR, num_critics)
    for c in range(num_critics):
      np.testing.assert_allclose(
          psi[:, :, c], slow_mlp(critic_params['psi'][c], goal),
          rtol=1e-4, atol=1e-5)

  def test_the_actor_sees_state_and_goal(self, parts):
    networks, policy_params, _, _ = parts
    state, _, goal = inputs_for()
    loc, scale = networks.actor(policy_params, state, goal)
    raw = slow_mlp(policy_params, np.hstack([state, goal]))
    np.testing.assert_allclose(
        loc, 10.0 * np.tanh(raw[:, :ACTION] / 10.0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        scale, np.log1p(np.exp(raw[:, ACTION:])) + 1e-6, rtol=1e-4, atol=1e-5)

  def test_location_is_bounded_and_scale_positive_far_away(self, parts):
    networks, policy_params, _, _ = parts
    state, _, goal = inputs_for(num=50)
    loc, scale = networks.actor(policy_params, 1e4 * state, 1e4 * goal)
    assert np.all(np.abs(loc) <= 10.0)
    assert np.all(scale >= 1e-6) and np.all(np.isfinite(scale))
    assert np.min(scale) < 1e-3

  def test_similarities_are_inner_products(self):
    rng = np.random.default_rng(1)
    phi, psi = rng.normal(size=(4, 5, 2)), rng.normal(size=(3, 5, 2))
    pairs = networks_lib.all_pairs(jnp.asarray(phi), jnp.asarray(psi))
    assert pairs.shape == (4, 3, 2)
    for i, k, c in np.ndindex(4, 3, 2):
      expected = sum(phi[i, n, c] * psi[k, n, c] for n in range(5))
      np.testing.assert_allclose(pairs[i, k, c], expected, rtol=1e-4, atol=1e-6)
    own = networks_lib.similarity(jnp.asarray(phi[:3]), jnp.asarray(psi))
    assert own.shape == (3, 2)
    for i, c in np.ndindex(3, 2):
      expected = sum(phi[i, n, c] * psi[i, n, c] for n in range(5))
      np.testing.assert_allclose(own[i, c], expected, rtol=1e-4, atol=1e-6)


def slow_residual(params, inputs):
  """Returns a residual network's output before its head, in NumPy."""
  hidden = shortcut = np.asarray(inputs, np.float64)
  for i in range(sum('layer_norm' in name for name in params)):
    tail = f'_{i}' if i else ''
    linear, norm = params[f'linear{tail}'], params[f'layer_norm{tail}']
    hidden = hidden @ np.asarray(linear['w']) + np.asarray(linear['b'])
    hidden = (hidden - hidden.mean(axis=1, keepdims=True)) / np.sqrt(
        hidden.var(axis=1, keepdims=True) + 1e-5)
    hidden = hidden * np.asarray(norm['scale']) + np.asarray(norm['offset'])
    hidden = hidden / (1.0 + np.exp(-hidden))
    if i == 0:
      shortcut = hidden
    elif i % 4 == 0:
      hidden = shortcut = hidden + shortcut
  return hidden


class TestResidual:

  @pytest.mark.parametrize('num_layers', [1, 4, 5, 9])
  def test_adds_what_went_into_each_four_layers(self, num_layers):
    networks = networks_lib.make_networks(
        OBS, GOAL, ACTION, (6,) * num_layers, 3, 1, residual=True)
    policy_params, critic_params = networks.init(jax.random.key(0))
    # Normalisation that does nothing would hide that it is forgotten.
    policy_params, critic_params = jax.tree.map(
        lambda p: p + 0.1, (policy_params, critic_params))
    state, action, goal = inputs_for()
    last = f'linear_{num_layers}'
    for got, params, inputs in (
        (networks.encode_state(critic_params, state, action)[:, :, 0],
         critic_params['phi'][0], [state, action]),
        (networks.encode_goal(critic_params, goal)[:, :, 0],
         critic_params['psi'][0], [goal]),
        (np.arctanh(networks.actor(policy_params, state, goal).loc / 10) * 10,
         policy_params, [state, goal])):
      head = slow_residual(params, np.hstack(inputs)) @ np.asarray(
          params[last]['w']) + np.asarray(params[last]['b'])
      np.testing.assert_allclose(
          got, head[:, :got.shape[1]], rtol=1e-4, atol=1e-4)

  def test_is_uniform_by_fan_in(self):
    networks = networks_lib.make_networks(
        OBS, GOAL, ACTION, (50, 50), REPR, 1, residual=True)
    weights = networks.init(jax.random.key(0))[1]['psi'][0]
    for name, inputs in (('linear', GOAL), ('linear_1', 50), ('linear_2', 50)):
      limit = math.sqrt(3.0 / inputs)
      assert stats.kstest(np.ravel(weights[name]['w']), stats.uniform(
          -limit, 2 * limit).cdf).pvalue > 1e-3


class TestColdStart:

  @pytest.mark.parametrize('options', [
      dict(), dict(residual=True), dict(monolithic=True)])
  def test_only_the_last_weights_are_tiny(self, options):
    arguments = (OBS, GOAL, ACTION, (40, 40), REPR, 1)
    cold_policy, cold = networks_lib.make_networks(
        *arguments, head_scale=1e-3, **options).init(jax.random.key(0))
    policy, plain = networks_lib.make_networks(
        *arguments, **options).init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, cold_policy, policy)
    for name, (params,) in cold.items():
      *layers, head = params
      for layer in layers:
        jax.tree.map(np.testing.assert_array_equal, params[layer],
                     plain[name][0][layer])
      assert stats.kstest(np.ravel(params[head]['w']), stats.uniform(
          -1e-3, 2e-3).cdf).pvalue > 1e-3
      assert not np.any(params[head]['b'])


class TestNormalised:

  @pytest.mark.parametrize('num_critics', [1, 2])
  def test_values_are_cosines_over_the_temperature(self, num_critics):
    plain = networks_lib.make_networks(
        OBS, GOAL, ACTION, HIDDEN, REPR, num_critics)
    networks = networks_lib.normalised(plain, 0.25)
    params = plain.init(jax.random.key(0))[1]
    state, action, goal = inputs_for()
    phi, raw_phi = (
        n.encode_state(params, state, action) for n in (networks, plain))
    psi, raw_psi = (n.encode_goal(params, goal) for n in (networks, plain))
    np.testing.assert_allclose(
        np.linalg.norm(psi, axis=1), np.ones((4, num_critics)), rtol=1e-5)
    values = networks.compare_all(params, phi, psi)
    for i, k, c in np.ndindex(4, 4, num_critics):
      left, right = raw_phi[i, :, c], raw_psi[k, :, c]
      cosine = np.dot(left, right) / np.linalg.norm(left) / np.linalg.norm(
          right)
      np.testing.assert_allclose(values[i, k, c], cosine / 0.25, rtol=1e-4,
                                 atol=1e-5)

  def test_a_representation_of_nothing_has_a_gradient(self):
    plain = networks_lib.make_networks(OBS, GOAL, ACTION, (4,), 3, 1)
    networks = networks_lib.normalised(plain, 1.0)
    params = jax.tree.map(jnp.zeros_like, plain.init(jax.random.key(0))[1])
    _, _, goal = inputs_for()
    grads = jax.grad(
        lambda p: jnp.sum(networks.encode_goal(p, goal)))(params)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


class TestMonolithic:

  @pytest.mark.parametrize('num_critics', [1, 2])
  def test_is_one_network_of_everything(self, num_critics):
    networks = networks_lib.make_networks(
        OBS, GOAL, ACTION, HIDDEN, REPR, num_critics, monolithic=True)
    params = networks.init(jax.random.key(0))[1]
    assert set(params) == {'q'} and len(params['q']) == num_critics
    state, action, goal = inputs_for()
    phi = networks.encode_state(params, state, action)
    psi = networks.encode_goal(params, goal)
    values = networks.compare_all(params, phi, psi[:3])
    own = networks.compare(params, phi, psi)
    assert values.shape == (4, 3, num_critics) and own.shape == (4, num_critics)
    for i, k, c in np.ndindex(4, 4, num_critics):
      expected = slow_mlp(params['q'][c], np.concatenate(
          [state[i], action[i], goal[k]])[None])[0, 0]
      if k < 3:
        np.testing.assert_allclose(values[i, k, c], expected, rtol=1e-4,
                                   atol=1e-5)
      if i == k:
        np.testing.assert_allclose(own[i, c], expected, rtol=1e-4, atol=1e-5)


# Narrow and wide, centred and pushed into either tail.
SHAPES = pytest.mark.parametrize('loc, scale', [
    (0.0, 1.0), (0.5, 0.1), (-1.0, 0.7), (3.0, 1.0), (-4.5, 0.5), (0.0, 4.0)])


@jax.jit
def padded_density(loc, scale, actions):
  shape = actions.shape
  return networks_lib.log_prob(
      TanhNormal(jnp.full(shape, loc), jnp.full(shape, scale)), actions)


def density(loc, scale, actions):
  """Returns the log-density of one-dimensional actions, in double precision."""
  padded = np.zeros((4001, 1))
  padded[:len(actions), 0] = actions
  with enable_x64():
    result = padded_density(
        jnp.asarray(loc, jnp.float64), jnp.asarray(scale, jnp.float64),
        jnp.asarray(padded))
  return np.asarray(result)[:len(actions)]


class TestTanhNormal:

  @SHAPES
  def test_the_density_is_that_of_a_squashed_normal(self, loc, scale):
    actions = np.linspace(-0.998, 0.998, 41)
    expected = (stats.norm.logpdf(np.arctanh(actions), loc, scale)
                - np.log(1.0 - actions**2))
    np.testing.assert_allclose(
        density(loc, scale, actions), expected, rtol=1e-9, atol=1e-9)

  @SHAPES
  def test_the_tails_spread_their_mass_evenly(self, loc, scale):
    bound = np.arctanh(0.999)
    right = stats.norm.logsf(bound, loc, scale) - np.log(0.001)
    left = stats.norm.logcdf(-bound, loc, scale) - np.log(0.001)
    got = density(loc, scale, [0.999, 0.9995, 1.0, -0.999, -0.9995, -1.0])
    np.testing.assert_allclose(got, [right] * 3 + [left] * 3, rtol=1e-6)

  @SHAPES
  def test_the_density_integrates_to_one(self, loc, scale):
    # Even in the squashed Normal's own coordinate, so dense where it counts.
    raw = np.linspace(-np.arctanh(0.999), np.arctanh(0.999), 4001)[1:-1]
    actions = np.tanh(raw)
    inside = integrate.trapezoid(np.exp(density(loc, scale, actions)), actions)
    tails = np.exp(density(loc, scale, [-0.9995, 0.9995])) * 0.001
    np.testing.assert_allclose(inside + tails.sum(), 1.0, atol=2e-3)

  def test_dimensions_add_up(self):
    loc = np.array([[0.3, -1.0, 2.0]])
    scale = np.array([[0.5, 1.0, 0.2]])
    action = np.array([[0.1, 0.9995, 0.95]])
    total = jax.jit(networks_lib.log_prob)(
        TanhNormal(jnp.asarray(loc), jnp.asarray(scale)), jnp.asarray(action))
    assert total.shape == (1,)
    expected = sum(
        density(loc[0, i], scale[0, i], action[0, i:i + 1])[0]
        for i in range(3))
    np.testing.assert_allclose(total[0], expected, rtol=1e-4)

  def test_saturated_actions_have_finite_densities_and_gradients(self):
    loc = jnp.array([[10.0], [-10.0], [10.0], [0.0]])
    scale = jnp.array([[1e-6], [1e-6], [5.0], [1e-6]])
    action = jnp.array([[1.0], [1.0], [-1.0], [0.5]])

    def total(loc, scale, action):
      return jnp.sum(networks_lib.log_prob(TanhNormal(loc, scale), action))

    value, grads = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(
        loc, scale, action)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in grads)

  def test_samples_are_squashed_normals(self):
    num, loc, scale = 20_000, (0.4, -0.8), (0.5, 1.0)
    distribution = TanhNormal(
        jnp.tile(jnp.array(loc), (num, 1)),
        jnp.tile(jnp.array(scale), (num, 1)))
    action = np.asarray(
        networks_lib.sample(jax.random.key(2), distribution), np.float64)
    assert action.shape == (num, 2)
    raw = np.arctanh(action)
    for i in range(2):
      assert stats.kstest(raw[:, i], stats.norm(loc[i], scale[i]).cdf
                          ).pvalue > 1e-3
    assert abs(stats.pearsonr(raw[:, 0], raw[:, 1])[0]) < 0.03

  def test_samples_carry_gradients_to_both_parameters(self):
    noise = jax.random.normal(jax.random.key(3), (1, 1))
    for name, expected in (('loc', 1.0), ('scale', float(noise[0, 0]))):
      start = TanhNormal(jnp.array([[0.2]]), jnp.array([[0.7]]))
      gradient = jax.grad(lambda x: jnp.sum(networks_lib.sample(
          jax.random.key(3), start._replace(**{name: x}))))(
              getattr(start, name))
      action = math.tanh(0.2 + 0.7 * float(noise[0, 0]))
      np.testing.assert_allclose(
          gradient, [[expected * (1 - action**2)]], rtol=1e-4)

  def test_the_mode_is_the_squashed_location(self):
    loc = np.array([[0.0, 1.0], [-2.0, 9.0]], np.float32)
    got = networks_lib.mode(TanhNormal(jnp.asarray(loc), jnp.ones((2, 2))))
    np.testing.assert_allclose(got, np.tanh(loc), rtol=1e-6)
