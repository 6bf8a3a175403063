"""The assembled agent: contract, order of the parts, targets, checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learners import checkpoint
from learners.agent import UNCHANGED
from learners.dceo import agent as agent_lib
from learners.dceo import learning, losses, options
from tests import contracts
from tests.learners.dceo import batches

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.mark.parametrize('alg, overrides', [
    ('dceo', {}),
    ('rainbow', dict(noisy=True, num_sgd_steps_per_step=1)),
    ('rainbow', dict(distributional=False, dueling=False, double=False,
                     num_sgd_steps_per_step=1)),
])
def test_the_agent_keeps_the_contract(alg, overrides):
  agent = batches.make_agent(alg, **overrides)
  contracts.check_agent(
      agent, batches.random_batch(agent.replay), num_actions=3)


@pytest.fixture(name='setup', scope='module')
def make_setup():
  """Returns config, networks, parts and a state."""
  config = batches.make_config()
  networks = agent_lib.make_networks(config, batches.SPEC)
  parts = learning.make_parts(config, networks, 8)
  agent = batches.make_agent()
  return config, networks, parts, agent.init(jax.random.key(0))


def random_steps(num=4, seed=0):
  rng = np.random.default_rng(seed)
  frames = rng.integers(0, 256, (2, num, 9, 9, 2), np.uint8)
  return learning.Transitions(
      frames[0], rng.integers(0, 3, num).astype(np.int32),
      rng.normal(size=num).astype(np.float32),
      np.array([0.97, 0.0, 0.97, 0.97], np.float32), frames[1],
      np.array([1.0, 0.5, 0.7, 0.2], np.float32))


def test_an_option_learns_as_if_it_were_alone(setup):
  """Gather, update and scatter against one option's own plain update."""
  config, networks, parts, state = setup
  steps = random_steps()
  step = learning.make_value_step(
      networks, optax.adam(config.learning_rate, eps=config.adam_epsilon),
      config, config.option_vmax)
  options, metrics = jax.jit(parts.option)(
      state.options, state.representation.params, steps, jax.random.key(3))
  counts = np.asarray(options.steps)
  chosen = int(np.argmax(counts))
  assert sorted(counts.tolist()) == [0, 0, 1]
  phi = [networks.phi(state.representation.params, x)
         for x in (steps.state, steps.next_state)]
  dim = chosen + 1  # the first dimension has no option
  moved = np.where(steps.bootstrap == 0, 0.0, (phi[1] - phi[0])[:, dim])
  np.testing.assert_allclose(metrics['option_reward'], np.abs(moved).mean(),
                             rtol=1e-4)
  before = jax.tree.map(lambda x: x[chosen], state.options)
  _, key_noise = jax.random.split(jax.random.key(3))
  alone, _, _ = jax.jit(step)(before, steps._replace(returns=moved), key_noise)
  # Its first update is one of those after which the target is copied.
  alone = alone._replace(target_params=alone.params)
  jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
      jax.tree.map(lambda x: x[chosen], options), alone)
  for other in {0, 1, 2} - {chosen}:
    contracts.assert_same_values(
        jax.tree.map(lambda x: x[other], options),
        jax.tree.map(lambda x: x[other], state.options), f'option {other}')


def test_new_priorities_are_roots_of_the_unweighted_losses(setup):
  config, networks, parts, state = setup
  steps = random_steps()
  _, priorities, _ = jax.jit(parts.main)(
      state.main, steps, jax.random.key(0))
  atoms = losses.support(-config.vmax, config.vmax, config.num_atoms)
  params = state.main.params
  logits = [networks.q_logits(params, x, None)
            for x in (steps.state, steps.next_state)]
  target = losses.target_distribution(
      steps.returns, steps.bootstrap, logits[1],
      jnp.argmax(losses.q_values(logits[1], atoms), axis=1), atoms)
  probs = jax.nn.softmax(logits[0])[np.arange(4), steps.action]
  np.testing.assert_allclose(
      priorities, np.sqrt(-np.sum(target * np.log(probs), axis=1)), rtol=1e-3)


def test_weights_are_those_of_a_table_of_priorities():
  """Draws by a plain cumulative sum, and the weights of Schaul et al."""
  rng = np.random.default_rng(0)
  priority = rng.uniform(0.1, 3.0, 50)
  drawn = np.searchsorted(np.cumsum(priority), rng.uniform(size=8)
                          * priority.sum())
  probability = priority[drawn] / priority.sum()
  wanted = (1.0 / (50 * probability)) ** 0.5
  np.testing.assert_allclose(
      losses.importance_weights(probability, 0.5), wanted / wanted.max(),
      rtol=1e-5)


@pytest.fixture(name='single', scope='module')
def make_single():
  """Returns an agent of one SGD step a call, its update and a state."""
  agent = batches.make_agent(num_sgd_steps_per_step=1)
  return agent, jax.jit(agent.update), agent.init(jax.random.key(0))


def test_the_option_follows_the_representation_of_this_update(single):
  """Main first, then phi, then the option with the new phi."""
  agent, update, state = single
  config = batches.make_config()
  networks = agent_lib.make_networks(config, batches.SPEC)
  batch = batches.random_batch(agent.replay)
  new, metrics = update(state, batch)
  steps = learning.transitions(
      batch['options'], config, jnp.ones(4), config.discount)
  chosen = int(np.argmax(new.options.steps))

  def mean_reward(params):
    moved = networks.phi(params, steps.next_state) - networks.phi(
        params, steps.state)
    moved = jnp.where(steps.bootstrap == 0, 0.0, moved[:, chosen + 1])
    return float(jnp.mean(jnp.abs(moved)))

  assert mean_reward(new.representation.params) == pytest.approx(
      float(metrics['option_reward']), rel=1e-4)
  assert mean_reward(state.representation.params) != pytest.approx(
      float(metrics['option_reward']), rel=1e-4)


def test_options_have_step_size_discount_and_window_of_their_own():
  own = dict(option_learning_rate=0.5, option_discount=0.25, option_n_step=1)
  config = batches.make_config(**own)
  agent = batches.make_agent(**own, num_sgd_steps_per_step=1)
  batch = batches.random_batch(agent.replay)
  assert batch['options']['reward'].shape == (4, 1)
  assert batch['main']['reward'].shape == (4, 3)
  main, _, option = learning.read_draws(config)(batch)
  ended = batch['options']['discount'][:, 0] == 0
  np.testing.assert_allclose(option.bootstrap, np.where(ended, 0.0, 0.25))
  assert float(main.bootstrap.max()) == pytest.approx(config.discount**3)
  state = agent.init(jax.random.key(0))
  new, _ = jax.jit(agent.update)(state, batch)

  def moved(name):
    return max(float(jnp.abs(x - y).max()) for x, y in zip(
        jax.tree.leaves(getattr(new, name).params),
        jax.tree.leaves(getattr(state, name).params)))

  # Adam's first step is at most its step size.
  assert 0.1 < moved('options') < 0.51 and moved('main') < 0.011


def test_targets_are_copied_when_due(single):
  """Every 2 updates of the main network: 8 environment steps, 4 per update."""
  agent, update, state = single
  for i in range(1, 4):
    previous = state.main.target_params
    state, _ = update(state, batches.random_batch(agent.replay, i))
    copied = i % 2 == 0
    contracts.assert_same_values(
        state.main.target_params, state.main.params if copied else previous,
        f'target after {i} updates')
  assert int(state.options.steps.sum()) == 3


def test_only_what_the_main_network_saw_has_new_priorities():
  agent = batches.make_agent(
      aux_sampling='prioritized', laplacian='ggdo_log', option_signs='both',
      options_per_step=2)
  state = agent.init(jax.random.key(0))
  state, metrics = jax.jit(agent.update)(
      state, batches.random_batch(agent.replay))
  values = np.asarray(agent.priorities(state)['main']).reshape(2, 26)
  assert np.all(values[:, :4] > 0) and np.all(values[:, 4:] == UNCHANGED)
  assert float(metrics['max_priority']) == max(2.0, values.max())
  assert agent.insert_priority(None) == 2.0
  assert float(agent.insert_priority(agent.variables(state))) == float(
      metrics['max_priority'])


def test_a_checkpoint_brings_back_options_and_representation(
    tmp_path, single):
  agent, update, template = single
  config = batches.make_config()
  networks = agent_lib.make_networks(config, batches.SPEC)
  state, _ = update(template, batches.random_batch(agent.replay))
  checkpoint.save(str(tmp_path), 2, state, {})
  restored = checkpoint.load_latest(str(tmp_path), template)
  contracts.assert_same_values(state, restored.state, 'a restored state')
  frames = np.random.default_rng(1).integers(0, 256, (5, 9, 9, 2), np.uint8)
  back = jax.device_put(restored.state)
  np.testing.assert_array_equal(
      networks.phi(back.representation.params, frames),
      networks.phi(state.representation.params, frames))
  for option in range(3):
    of = [jax.tree.map(lambda x: x[option], s.options.params)
          for s in (state, back)]
    np.testing.assert_array_equal(*(
        networks.q_logits(params, frames, None) for params in of))
  later = [update(s, batches.random_batch(agent.replay, 1))[0]
           for s in (state, back)]
  contracts.assert_same_values(*later, 'the update after a restart')


def test_acting_follows_options_and_evaluation_does_not():
  agent = batches.make_agent(
      eps_mode='ladder', option_start_eps=1.0, option_prob=1.0,
      option_duration=1e9, option_action_eps=0.0)
  config = batches.make_config()
  networks = agent_lib.make_networks(config, batches.SPEC)
  variables = agent.variables(agent.init(jax.random.key(5)))
  variables['updates'] = jnp.asarray(10**6, jnp.int32)
  frame = np.random.default_rng(0).integers(0, 256, (6, 9, 9), np.uint8)
  first = np.ones(6, bool)
  state = agent.policy.init(jax.random.key(1), 6)
  action, state = jax.jit(agent.policy.act)(
      variables, frame, state, jax.random.key(2), first)
  assert np.all(np.asarray(state.machine.option) >= 0)
  np.testing.assert_array_equal(state.frames[..., 0], 0)
  np.testing.assert_array_equal(state.frames[..., 1], frame)
  atoms = losses.support(
      -config.option_vmax, config.option_vmax, config.num_atoms)
  for env, option in enumerate(np.asarray(state.machine.option)):
    params = variables['options'][option]
    q = losses.q_values(
        networks.q_logits(params, state.frames[env:env + 1], None), atoms)
    assert int(action[env]) == int(jnp.argmax(q))
  # The second frame pushes the first; an episode's start empties the stack.
  _, later = jax.jit(agent.policy.act)(
      variables, frame + 1, state, jax.random.key(3), np.arange(6) < 3)
  np.testing.assert_array_equal(later.frames[3:, ..., 0], frame[3:])
  np.testing.assert_array_equal(later.frames[:3, ..., 0], 0)
  quiet = agent.eval_policy.init(jax.random.key(1), 6)
  _, quiet = jax.jit(agent.eval_policy.act)(
      variables, frame, quiet, jax.random.key(2), first)
  assert np.all(np.asarray(quiet.machine.option) == -1)


def test_environments_without_pictures_are_refused():
  spec = batches.SPEC.__class__(
      name='vectors', obs_dim=3, action_dim=0, num_actions=2, step_limit=5)
  found = agent_lib.environment_problems(batches.make_config(), spec, None)
  assert len(found) == 1 and 'vectors' in found[0]


def test_actors_fetch_the_main_network_and_one_option(setup):
  agent = batches.make_agent()
  old = jax.device_get(agent.variables(setup[-1]))
  new = jax.tree.map(lambda x: x + np.ones_like(x), old)
  piece = jax.device_put(agent.portions.take(new, 1))
  main, one = ([x.size for x in jax.tree.leaves(new[part])]
               for part in ('main', 'options'))
  # Beside them, the numbers of the portion and of updates, and a priority.
  assert (sum(x.size for x in jax.tree.leaves(piece))
          == sum(main) + sum(one) // len(new['options']) + 3)
  merged = agent.portions.put(old, piece)
  contracts.assert_same_values(
      merged, {**new, 'options': tuple(
          (new if o == 1 else old)['options'][o]
          for o in range(len(new['options'])))}, 'other variables')
  assert agent.portions.num == len(new['options'])
  machine = options.OptionState(jnp.array([2, -1]), jnp.zeros(2))
  state = agent.policy.init(jax.random.key(0), 2)._replace(machine=machine)
  assert agent.portions.in_use(state).tolist() == [2, -1]
  assert batches.make_agent('rainbow').portions is None


def test_what_actors_get_are_the_options_of_the_stack(setup):
  agent, state = batches.make_agent(), setup[-1]
  for o, option in enumerate(agent.variables(state)['options']):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y[o]),
                 option, state.options.params)


def test_the_log_tells_dimensions_apart():
  rng = np.random.default_rng(0)
  phi = rng.normal(size=(50, 3)).astype(np.float32) * [1.0, 0.5, 1e-4]
  phi[:, 1] += phi[:, 0]
  metrics = learning.representation_metrics(
      jnp.asarray(phi, jnp.float32), jnp.array([0.1, 0.2, 0.4]))
  wanted = {
      'rep_graph': 0.7, 'rep_alive': 2.0,
      'rep_deviation': phi.std(axis=0).mean(),
      'rep_correlation': abs(np.corrcoef(phi[:, :2].T)[0, 1]),
      **{f'rep_graph_{i}': value for i, value in enumerate([0.1, 0.2, 0.4])},
      **{f'rep_deviation_{i}': phi[:, i].std() for i in range(3)}}
  assert set(metrics) == set(wanted)
  for name, value in wanted.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
