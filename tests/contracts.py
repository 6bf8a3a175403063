"""Checks that every environment, policy and agent has to pass.

Each takes the thing, or a factory of it, and raises AssertionError. Run them on
anything new from a test of one line.
"""

import copy
from typing import Any, Callable, List, Mapping, Sequence
import unittest

import dm_env
from dm_env import test_utils
import jax
import jax.numpy as jnp
import numpy as np

from actors.policy import Policy
from envs.vector import VectorEnvironment
from learners.agent import Agent, EpisodePacing, HELD_OUT
from learners.stream_spec import StreamSpec
from replay import streams

FIRST, MID, LAST = (int(t) for t in dm_env.StepType)
MakeVector = Callable[[int, int], VectorEnvironment]


def check_vector_environment(make: MakeVector, seeded: bool = True,
                             terminates: bool = False) -> None:
  """Checks the rules of `envs.spec.VectorEnvironment`.

  Args:
    make: `(seed, num_envs) -> environment`, a new one at each call.
    seeded: whether the seed changes anything.
    terminates: whether episodes may end other than by the step limit.
  """
  global_state = np.random.get_state()
  _check_episodes(make(0, 3), terminates)
  _check_fresh_step_is_a_reset(make(0, 3))
  _check_seeding(make, seeded)
  _check_instances_are_separate(make)
  _check_rows_are_separate(make)
  _check_returned_arrays_are_given_away(make)
  np.testing.assert_equal(
      np.random.get_state(), global_state,
      err_msg='the environment draws from the global np.random')


def actions_for(env: VectorEnvironment, num_steps: int,
                seed: int = 0) -> List[np.ndarray]:
  """Returns random `[E, ...]` actions, read-only so that no step can edit them.

  Each environment keeps one direction for a while, so that it gets somewhere.
  """
  rng = np.random.default_rng(seed)
  shape = (num_steps, env.num_envs, *env.spec.action_shape)
  if env.spec.num_actions:
    drawn = rng.integers(env.spec.num_actions, size=shape)
  else:
    drawn = rng.uniform(-1.0, 1.0, shape)
  held = np.repeat(drawn, 7, axis=0)[:num_steps]
  actions = held.astype(env.spec.action_dtype)
  actions.setflags(write=False)
  return list(actions)


def _rollout(env: VectorEnvironment,
             actions: Sequence[np.ndarray]) -> List[dm_env.TimeStep]:
  """Returns copies of the reset and of every step."""
  timesteps = [copy.deepcopy(env.reset())]
  for action in actions:
    timesteps.append(copy.deepcopy(env.step(action)))
  return timesteps


def _differ(left: Sequence[dm_env.TimeStep],
            right: Sequence[dm_env.TimeStep]) -> bool:
  return any(not np.array_equal(a.observation, b.observation)
             for a, b in zip(left, right, strict=True))


def _assert_same(left: Sequence[dm_env.TimeStep],
                 right: Sequence[dm_env.TimeStep], message: str) -> None:
  for a, b in zip(left, right, strict=True):
    for name, x, y in zip(a._fields, a, b, strict=True):
      np.testing.assert_array_equal(x, y, err_msg=f'{message}: {name}')


def _check_episodes(env: VectorEnvironment, terminates: bool) -> None:
  """Steps through two episodes and checks each step and each transition."""
  spec = env.spec
  assert env.num_envs == 3, f'asked for 3 environments, got: {env.num_envs}'
  _check_specs(env)
  timestep = env.reset()
  _check_values(env, timestep)
  assert np.all(timestep.step_type == FIRST), 'reset returns FIRST everywhere'
  elapsed = np.zeros(env.num_envs, int)
  ends = np.zeros(env.num_envs, int)
  for action in actions_for(env, 2 * spec.step_limit + 3):
    previous, timestep = timestep, env.step(action)
    _check_values(env, timestep)
    for i in range(env.num_envs):
      first = timestep.step_type[i] == FIRST
      assert first == (previous.step_type[i] == LAST), (
          f'environment {i}: FIRST must follow LAST and nothing else, got '
          f'{timestep.step_type[i]} after {previous.step_type[i]}')
      elapsed[i] = 0 if first else elapsed[i] + 1
      _check_end(timestep, i, elapsed[i], spec.step_limit, terminates)
      if not first:
        if spec.has_goals:
          np.testing.assert_array_equal(
              timestep.observation[i, spec.obs_dim:],
              previous.observation[i, spec.obs_dim:],
              err_msg='the goal changed within an episode')
      ends[i] += timestep.step_type[i] == LAST
  assert np.all(ends >= 2), f'episodes outlive the step limit: {ends} ended'


def _check_specs(env: VectorEnvironment) -> None:
  spec, observation = env.spec, env.observation_spec()
  action = env.action_spec()
  assert observation.shape == spec.observation_shape
  assert observation.dtype == np.dtype(spec.observation_dtype)
  assert action.shape == spec.action_shape
  assert action.dtype == np.dtype(spec.action_dtype)
  if spec.num_actions:
    assert action.num_values == spec.num_actions
  else:
    assert np.all(action.minimum == -1.0) and np.all(action.maximum == 1.0)
  assert all(0 <= i < spec.obs_dim for i in spec.goal_indices)
  assert all(0 <= i < spec.obs_dim for i in spec.position_indices)
  for value, size in ((spec.start, len(spec.position_indices)),
                      (spec.goal, spec.goal_dim)):
    assert value is None or len(value) == size, (
        f'expected {size} entries, got: {value}')


def _check_values(env: VectorEnvironment, timestep: dm_env.TimeStep) -> None:
  """Checks shapes, dtypes and what a FIRST step may say."""
  num, spec = env.num_envs, env.spec
  for name, dtype in (('step_type', np.int32), ('reward', np.float32),
                      ('discount', np.float32)):
    value = getattr(timestep, name)
    assert isinstance(value, np.ndarray), f'{name} is a {type(value)}'
    assert value.shape == (num,) and value.dtype == dtype, (
        f'{name}: expected [{num}] {np.dtype(dtype)}, got: {value.shape} '
        f'{value.dtype}')
    assert np.all(np.isfinite(value)), f'{name} is not finite: {value}'
  assert timestep.observation.shape == (num, *spec.observation_shape)
  for observation in timestep.observation:
    env.observation_spec().validate(observation)
    assert np.all(np.isfinite(observation))
  assert np.all(np.isin(timestep.step_type, (FIRST, MID, LAST)))
  first = timestep.step_type == FIRST
  assert np.all(timestep.reward[first] == 0.0), 'a FIRST step has no reward'
  assert np.all(timestep.discount[first] == 1.0), 'a FIRST step has no discount'
  if spec.goal is not None:
    goals = np.broadcast_to(np.float32(spec.goal), (num, spec.goal_dim))
    np.testing.assert_array_equal(timestep.observation[:, spec.obs_dim:], goals)
  if spec.start is not None:
    starts = timestep.observation[first][:, list(spec.position_indices)]
    assert np.all(np.abs(starts - np.float32(spec.start))
                  <= spec.start_jitter + 1e-6), f'starts at {starts}'


def _check_end(timestep: dm_env.TimeStep, i: int, elapsed: int,
               step_limit: int, terminates: bool) -> None:
  """Tells truncation (discount 1) from termination (discount 0)."""
  last, discount = timestep.step_type[i] == LAST, timestep.discount[i]
  assert elapsed <= step_limit, f'step {elapsed} of {step_limit}'
  if elapsed == step_limit:
    assert last, 'the step limit must end the episode'
  elif last:
    assert discount == 0.0, (
        f'ended at step {elapsed} of {step_limit} with discount {discount}; '
        'only the step limit truncates')
  if discount == 0.0:
    assert last and terminates, f'discount 0 at step {elapsed}'
  else:
    assert discount == 1.0, f'discount {discount} at step {elapsed}'


def _check_fresh_step_is_a_reset(env: VectorEnvironment) -> None:
  timestep = env.step(actions_for(env, 1)[0])
  assert np.all(timestep.step_type == FIRST), 'step before reset must reset'
  _check_values(env, timestep)


def _check_seeding(make: MakeVector, seeded: bool) -> None:
  num_steps = make(3, 2).spec.step_limit + 5
  actions = actions_for(make(3, 2), num_steps)
  rollout = _rollout(make(3, 2), actions)
  _assert_same(rollout, _rollout(make(3, 2), actions), 'same seed')
  if seeded:
    assert _differ(rollout, _rollout(make(4, 2), actions)), (
        'another seed, the same trajectory')


def _check_instances_are_separate(make: MakeVector) -> None:
  """Steps two instances in turn; each must go its own way."""
  actions = actions_for(make(5, 2), 12)
  others = actions_for(make(6, 2), 12, seed=1)
  alone = _rollout(make(5, 2), actions)
  env, other = make(5, 2), make(6, 2)
  beside = [copy.deepcopy(env.reset())]
  other.reset()
  for action, other_action in zip(actions, others, strict=True):
    timestep = env.step(action)
    for _ in range(2):
      other_timestep = other.step(other_action)
      assert not any(np.shares_memory(a, b) for a, b in zip(
          timestep, other_timestep, strict=True)), 'instances share arrays'
    beside.append(copy.deepcopy(timestep))
  _assert_same(alone, beside, 'another instance changed this one')


def _check_rows_are_separate(make: MakeVector) -> None:
  """Changes the actions of environment 0; the others must not notice."""
  actions = actions_for(make(7, 3), 8)
  spec = make(7, 3).spec
  other = (lambda a: spec.num_actions - 1 - a) if spec.num_actions else (
      lambda a: -a)
  changed = [np.concatenate([other(a[:1]), a[1:]]) for a in actions]
  left = _rollout(make(7, 3), actions)
  right = _rollout(make(7, 3), changed)
  for a, b in zip(left, right, strict=True):
    np.testing.assert_array_equal(
        a.observation[1:], b.observation[1:],
        err_msg='the action of environment 0 moved another one')


def _check_returned_arrays_are_given_away(make: MakeVector) -> None:
  """What was returned never changes again, and may be written over."""
  env = make(8, 2)
  actions = actions_for(env, env.spec.step_limit + 3)
  expected = _rollout(make(8, 2), actions)
  kept = [env.reset()] + [env.step(a) for a in actions]
  _assert_same(expected, kept, 'a later step changed what was returned')
  env = make(8, 2)
  timestep = env.reset()
  for action, wanted in zip(actions, expected[1:], strict=True):
    for array in timestep:
      array.fill(0)
    timestep = env.step(action)
    _assert_same([wanted], [timestep], 'writing over a result changed the next')


class _DmEnvironmentCase(test_utils.EnvironmentTestMixin, unittest.TestCase):
  """dm_env's own checks on one given environment, which stays open."""

  given: Any = None
  num_steps: int = 0

  def make_object_under_test(self):
    return self.given

  def make_action_sequence(self):
    rng = np.random.default_rng(0)
    spec = self.given.action_spec()
    for _ in range(self.num_steps):
      yield rng.uniform(spec.minimum, spec.maximum, spec.shape).astype(
          spec.dtype)

  def tearDown(self):
    """Leaves the environment to the next check."""


def check_dm_environment(env: dm_env.Environment, num_steps: int = 120) -> None:
  """Checks the rules of `dm_env.Environment`.

  Args:
    env: a fresh environment, not reset yet.
    num_steps: steps of the longest check; more than one episode has.
  """
  case = type('Case', (_DmEnvironmentCase,),
              {'given': env, 'num_steps': num_steps})
  # The first one needs a fresh environment.
  for name in ('test_step_on_fresh_environment', 'test_reset',
               'test_step_after_reset', 'test_longer_action_sequence'):
    case(name).debug()


def check_policy(policy: Policy, params: Any, observation_dim: int,
                 action_dim: int, num_actions: int = 0,
                 frame_shape: Sequence[int] = ()) -> None:
  """Checks the rules of `actors.policy.Policy`.

  Args:
    policy: the policy.
    params: what its `act` needs, `policy.select(variables)`.
    observation_dim: number of entries in an observation.
    action_dim: number of entries in an action.
    num_actions: how many actions there are where they are discrete, else 0.
    frame_shape: of observations that are uint8 pictures.
  """
  num_envs = 5
  key_init, key_act, key_observation = jax.random.split(jax.random.key(0), 3)
  observation = 3.0 * jax.random.normal(
      key_observation, (num_envs, observation_dim))
  if frame_shape:
    observation = jax.random.bits(
        key_observation, (num_envs, *frame_shape), jnp.uint8)
  is_first = jnp.arange(num_envs) % 2 == 0
  state = policy.init(key_init, num_envs)

  def perceive(params, observation, state, key, is_first):
    reward = jnp.where(is_first, 0.0, 1.0)
    return policy.act(params, observation, policy.observe(
        state, reward, is_first), key, is_first)

  act = jax.jit(perceive)
  action, new_state = act(params, observation, state, key_act, is_first)
  shape = () if num_actions else (action_dim,)
  assert action.shape == (num_envs, *shape), f'action is {action.shape}'
  if num_actions:
    assert action.dtype == jnp.int32, f'action is {action.dtype}'
    assert bool(jnp.all((action >= 0) & (action < num_actions))), action
  else:
    assert action.dtype == jnp.float32, f'action is {action.dtype}'
    assert bool(jnp.all(jnp.isfinite(action)))
    assert bool(jnp.all(jnp.abs(action) <= 1.0)), f'beyond [-1, 1]: {action}'
  assert_same_avals(state, new_state, 'policy state')

  again, state_again = act(params, observation, state, key_act, is_first)
  assert_same_values(action, again, 'same key, another action')
  assert_same_values(new_state, state_again, 'same key, another state')
  one_state = policy.init(key_init, 1)
  one, _ = jax.eval_shape(
      perceive, params, observation[:1], one_state, key_act, is_first[:1])
  assert one.shape == (1, *shape), f'one environment: {one.shape}'


def check_agent(agent: Agent, episodes: Mapping[str, Any],
                num_actions: int = 0) -> None:
  """Checks the rules of `learners.agent.Agent`.

  Args:
    agent: the agent; small networks keep this fast.
    episodes: a batch of replay items, one leading dimension.
    num_actions: how many actions there are where they are discrete, else 0.
  """
  _check_replay(agent, episodes)
  key = jax.random.key(1)
  state = agent.init(key)
  assert_same_values(state, agent.init(key), 'init: same key, other numbers')
  assert not _all_equal(state, agent.init(jax.random.key(2))), (
      'init ignores its key')

  num_traces = 0

  def update(state, batch):
    nonlocal num_traces
    num_traces += 1
    return agent.update(state, batch)

  # Donated, so that no two leaves of the state may share a buffer.
  step = jax.jit(update, donate_argnums=0)
  new_state, metrics = step(copy_of(state), episodes)
  again, metrics_again = step(copy_of(state), episodes)
  assert_same_values(new_state, again, 'update: same state, other numbers')
  assert_same_values(metrics, metrics_again, 'update: other metrics')
  assert_same_avals(state, new_state, 'learning state')
  assert not _all_equal(state, new_state), 'update changes nothing'
  step(state, episodes)
  later, later_metrics = step(again, episodes)
  assert not _all_equal(new_state, later), 'a second update changes nothing'
  assert num_traces == 1, f'update was traced {num_traces} times'

  for given in (metrics, later_metrics):
    assert given, 'no metrics'
    assert set(given) == set(metrics)
    for name, value in given.items():
      assert value.shape == (), f'metric {name} has shape {value.shape}'
      assert bool(jnp.isfinite(value)), f'metric {name} is {value}'

  assert_same_values(agent.variables(new_state), agent.variables(new_state),
                     'variables are not pure')
  if isinstance(agent.replay, StreamSpec):
    observation_dim = action_dim = 0
    frame_shape = agent.replay.frame.shape
  else:
    observation_dim = agent.replay.columns['observation'].shape[-1]
    action_dim = agent.replay.columns['action'].shape[-1]
    frame_shape = ()
  for policy in (agent.policy, agent.eval_policy, agent.warmup_policy,
                 *agent.eval_policies.values()):
    params = policy.select(agent.variables(new_state))
    check_policy(policy, params, observation_dim, action_dim, num_actions,
                 frame_shape)


def _check_replay(agent: Agent, episodes: Mapping[str, np.ndarray]) -> None:
  replay = agent.replay
  assert agent.updates_per_call >= 1
  if isinstance(replay, StreamSpec):
    _check_streams(agent, episodes)
    return
  expected = set(replay.columns) | ({HELD_OUT} if replay.held_out_every
                                    else set())
  assert expected == set(episodes), (
      f'the agent reads {sorted(expected)}, got: {sorted(episodes)}')
  for name, column in replay.columns.items():
    assert episodes[name].shape[1:] == tuple(column.shape), name
    assert episodes[name].dtype == np.dtype(column.dtype), name
  assert replay.episodes_per_batch >= 1
  pacing = replay.pacing
  if isinstance(pacing, EpisodePacing):
    assert pacing.min_episodes >= 1
    assert pacing.updates_per_episode > 0
  else:
    assert 1 <= pacing.min_steps
    assert replay.max_steps is None or pacing.min_steps <= replay.max_steps
    assert pacing.transitions_per_update >= 1
    assert pacing.samples_per_insert > 0


def _check_streams(agent: Agent, batch: Mapping[str, Any]) -> None:
  """Checks that the tables are those of the batch, and of the priorities."""
  replay = agent.replay
  assert set(replay.tables) == set(batch)
  state = jax.eval_shape(agent.init, jax.random.key(0))
  priorities = jax.eval_shape(agent.priorities, state)
  for name, table in replay.tables.items():
    for column, layout in streams.item_columns(replay, name).items():
      shape = (table.items_per_batch, *layout.shape)
      assert batch[name][column].shape == shape, f'{name}, {column}'
    if table.prioritized:
      assert priorities[name].shape == (table.items_per_batch,)
  assert set(priorities) <= {
      name for name, table in replay.tables.items() if table.prioritized}


def copy_of(pytree: Any) -> Any:
  """Returns the tree with every array copied."""
  return jax.tree.map(jnp.copy, pytree)


def assert_same_avals(left: Any, right: Any, what: str) -> None:
  """Asserts equal tree structure, shapes and dtypes, weak types included."""
  assert jax.tree.structure(left) == jax.tree.structure(right), (
      f'{what}: the tree changed')
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(left),
                          jax.tree.leaves(right), strict=True):
    name, x, y = jax.tree_util.keystr(path), jax.typeof(a), jax.typeof(b)
    assert x.shape == y.shape and x.dtype == y.dtype, (
        f'{what}{name}: {x} became {y}')
    assert x.weak_type == y.weak_type, f'{what}{name}: its weak type changed'


def assert_same_values(left: Any, right: Any, message: str) -> None:
  """Asserts that two trees hold the same numbers, bit for bit."""
  assert jax.tree.structure(left) == jax.tree.structure(right), message
  assert _all_equal(left, right), message


def _all_equal(left: Any, right: Any) -> bool:
  return all(
      np.array_equal(_numbers(a), _numbers(b)) for a, b in zip(
          jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def _numbers(leaf: Any) -> np.ndarray:
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)
