"""The learner shell: counts, serves, logs, saves, and goes on exactly."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actors.policy import uniform_policy
from actors.portions import Portions
from envs.spec import EnvSpec
from learners import checkpoint
from learners.agent import (
  Agent,
  Column,
  ReplaySpec,
  StepPacing,
  UNCHANGED,
)
from learners.contrastive import agent as contrastive_agent
from learners.contrastive import config as contrastive_config
from learners.learner import Learner, LearnerConfig, SavedLater
from tests import fakes

pytestmark = pytest.mark.usefixtures('quick_compile')

NEVER = math.inf


class ToyState(NamedTuple):
  """Counts calls and walks at random."""
  calls: Any
  position: Any
  key: Any


def toy_agent():
  """Returns an agent that adds the batch's mean and noise to a position."""

  def init(key):
    return ToyState(jnp.zeros((), jnp.int32), jnp.zeros(3), key)

  def update(state, batch):
    key, key_noise = jax.random.split(state.key)
    noise = jax.random.normal(key_noise, (3,))
    mean = jnp.mean(batch['x'])
    new_state = ToyState(state.calls + 1, state.position + mean + noise, key)
    return new_state, {'mean': mean, 'calls': state.calls + 1}

  policy = uniform_policy(2)
  return Agent(
      init=init, update=update, variables=lambda state: state.position,
      policy=policy, eval_policy=policy, warmup_policy=policy,
      replay=ReplaySpec({'x': Column((4,))}, 2, StepPacing(1, 1, 1.0),
                        max_steps=10),
      updates_per_call=3)


class FakeCounts:
  """Remembers what the learner says."""

  def __init__(self):
    self.increments = []
    self.rows = []
    self.score = None
    self.episodes = []
    self.kept = 1000

  def increment(self, **counts):
    self.increments.append(counts)
    return counts

  def get_episodes(self, since, names):
    new = self.episodes[since:][-self.kept:]
    return len(self.episodes), {name: np.array(new) for name in names}

  def get_snapshot(self):
    return {'counts': {'calls': len(self.increments)}, 'score': self.score}

  def record_learner(self, metrics):
    self.rows.append(metrics)


@pytest.fixture
def make(tmp_path):
  """Returns `(agent, ...) -> (learner, counts)`, all in one run's folder."""

  def make_learner(agent=None, seed=0, save_replay=lambda: 'replay', **config):
    counts = FakeCounts()
    values = dict(checkpoint_dir=str(tmp_path / 'checkpoints'),
                  checkpoint_interval=NEVER, log_interval=NEVER)
    return Learner(agent or toy_agent(), LearnerConfig(**{**values, **config}),
                   jax.random.key(seed), counts, save_replay), counts

  return make_learner


def batch(number):
  return {'x': jnp.full((2, 4), number, jnp.float32)}


def numbers(tree):
  """Returns copies of the leaves as plain arrays."""
  return [np.array(jax.random.key_data(leaf)
                   if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
          for leaf in jax.tree.leaves(tree)]


def assert_same_bits(left, right):
  for a, b in zip(left, right, strict=True):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


def test_updates_are_counted(make):
  learner, counts = make()
  for call in range(4):
    assert learner.updates == 3 * call
    learner.step(batch(1), waited=0.0)
  assert counts.increments == [{'learner_steps': 1, 'learner_updates': 3}] * 4
  assert int(learner.state.calls) == 4


def test_variables_are_served_with_their_version(make):
  learner, _ = make()
  updates, variables = learner.get_variables(-1)
  assert updates == 0
  np.testing.assert_array_equal(variables, np.zeros(3))
  assert learner.get_variables(0) is None
  for version in (3, 6):
    learner.step(batch(1), waited=0.0)
    for have in (version - 3, -1, version + 3):
      updates, variables = learner.get_variables(have)
      assert updates == version
      np.testing.assert_array_equal(variables, learner.state.position)
    assert learner.get_variables(version) is None


def test_an_evaluator_may_be_served_other_variables(make):
  agent = dataclasses.replace(
      toy_agent(), eval_variables=lambda state: -2.0 * state.position)
  learner, _ = make(agent)
  plain, _ = make()
  for each in (learner, plain):
    each.step(batch(1), waited=0.0)
  updates, variables = learner.get_variables(-1, for_evaluation=True)
  assert updates == 3 and type(variables) is np.ndarray
  np.testing.assert_array_equal(variables, -2.0 * learner.state.position)
  np.testing.assert_array_equal(
      learner.get_variables(-1)[1], learner.state.position)
  assert learner.get_variables(3, for_evaluation=True) is None
  np.testing.assert_array_equal(
      plain.get_variables(-1, for_evaluation=True)[1], plain.state.position)


def test_a_piece_of_the_variables_may_be_asked_for(make):
  agent = dataclasses.replace(toy_agent(), portions=Portions(
      num=3, in_use=lambda state: state, put=lambda variables, piece: piece,
      take=lambda variables, portion: variables[portion:portion + 1]))
  learner, _ = make(agent)
  learner.step(batch(1), waited=0.0)
  updates, piece = learner.get_variables(-1, portion=1)
  assert updates == 3 and type(piece) is np.ndarray
  np.testing.assert_array_equal(piece, learner.state.position[1:2])
  assert learner.get_variables(3, portion=1) is None


def test_served_variables_are_on_the_host(make):
  learner, _ = make()
  learner.step(batch(1), waited=0.0)
  assert type(learner.get_variables(-1)[1]) is np.ndarray


def test_metrics_become_log_rows(make):
  learner, counts = make(log_interval=0.0)
  for number in (1.5, 2.5, 4.0):
    learner.step(batch(number), waited=0.0)
  # The first call compiles, so rates begin after it.
  assert [row['mean'] for row in counts.rows] == [2.5, 4.0]
  assert [row['calls'] for row in counts.rows] == [2.0, 3.0]
  for row in counts.rows:
    assert set(row) == {
        'mean', 'calls', 'updates_per_second', 'wait_fraction'}
    assert all(type(value) is float for value in row.values())
    assert row['updates_per_second'] > 0.0
    assert row['wait_fraction'] == 0.0


def test_waiting_is_a_share_of_the_interval(make):
  learner, counts = make(log_interval=0.0)
  for waited in (1000.0, 1000.0, 0.0):
    learner.step(batch(1), waited)
  assert [row['wait_fraction'] for row in counts.rows] == [1.0, 0.0]


def test_no_row_before_the_interval_is_over(make):
  learner, counts = make(log_interval=NEVER)
  for _ in range(3):
    learner.step(batch(1), waited=0.0)
  assert counts.rows == []


@pytest.mark.parametrize('interval, saved', [(NEVER, []), (0.0, [3, 6, 9])])
def test_saves_at_intervals(make, tmp_path, interval, saved):
  learner, _ = make(checkpoint_interval=interval)
  for _ in range(3):
    learner.step(batch(1), waited=0.0)
  found = checkpoint.checkpoints(str(tmp_path / 'checkpoints'))
  assert [checkpoint.read_meta(path)['step'] for path in found] == saved


def test_a_checkpoint_holds_counter_replay_and_score(make):
  calls = []

  def save_replay():
    calls.append(learner.updates)
    return f'replay {len(calls)}'

  learner, counts = make(save_replay=save_replay, keep=1)
  for score in (0.5, 0.75, 0.25, 0.5):
    learner.step(batch(1), waited=0.0)
    counts.score = score
    path = learner.save()
  assert calls == [3, 6, 9, 12]
  assert checkpoint.read_meta(path) == {
      'counter': {'counts': {'calls': 4}, 'score': 0.5}, 'replay': 'replay 4',
      'heard': 0, 'step': 12, 'score': 0.5}
  resumed, _ = make()
  assert resumed.restored_meta == checkpoint.read_meta(path)
  # The newest, and the best.
  steps = [checkpoint.read_meta(p)['step'] for p in checkpoint.checkpoints(
      resumed._config.checkpoint_dir)]
  assert steps == [6, 12]


def test_learning_goes_on_where_a_checkpoint_takes_too_long(make, caplog):
  outcomes = [SavedLater('replay took too long'), None, OSError('disk full')]

  def save_replay():
    outcome = outcomes.pop(0)
    if outcome is not None:
      raise outcome
    return 'replay'

  learner, _ = make(save_replay=save_replay, checkpoint_interval=0.0)
  directory = learner._config.checkpoint_dir
  learner.step(batch(1), waited=0.0)
  assert 'replay took too long; the run goes on' in caplog.text
  assert checkpoint.checkpoints(directory) == []
  learner.step(batch(1), waited=0.0)
  (path,) = checkpoint.checkpoints(directory)
  assert checkpoint.read_meta(path)['step'] == 6
  with pytest.raises(OSError, match='disk full'):
    learner.step(batch(1), waited=0.0)
  # At the end there is no later.
  outcomes.append(SavedLater('replay took too long'))
  with pytest.raises(SavedLater):
    learner.finish()


def test_a_new_run_has_nothing_restored(make):
  learner, _ = make()
  assert learner.restored_meta is None
  assert learner.updates == 0


def test_a_resumed_learner_serves_what_it_restored(make):
  learner, _ = make()
  for _ in range(2):
    learner.step(batch(1), waited=0.0)
  learner.save()
  expected = np.array(learner.state.position)
  resumed, _ = make(seed=5)
  assert resumed.updates == 6
  updates, variables = resumed.get_variables(-1)
  assert updates == 6
  np.testing.assert_array_equal(variables, expected)


def test_saving_disturbs_nothing_and_resuming_goes_on_bit_for_bit(make):
  whole, _ = make(checkpoint_interval=NEVER)
  for number in range(6):
    whole.step(batch(number), waited=0.0)
  first, _ = make()
  for number in range(2):
    first.step(batch(number), waited=0.0)
  first.save()
  first.step(batch(2), waited=0.0)
  # The key of a resumed run is the saved one, whatever it is built with.
  second, _ = make(seed=9)
  for number in range(2, 6):
    second.step(batch(number), waited=0.0)
    if number == 2:
      assert_same_bits(numbers(second.state), numbers(first.state))
  assert second.updates == whole.updates == 18
  assert_same_bits(numbers(second.state), numbers(whole.state))


def tiny_contrastive_agent():
  spec = EnvSpec(
      name='plane', obs_dim=2, action_dim=2, goal_indices=(0, 1),
      position_indices=(0, 1), step_limit=5, success_radius=1.0,
      goal=(3.0, 3.0))
  config = contrastive_config.from_settings('contrastive_cpc', 'cpu', dict(
      hidden_layer_sizes=(5,), repr_dim=3, batch_size=4,
      num_sgd_steps_per_step=2, min_replay_size=10, max_replay_size=100))
  return contrastive_agent.make_agent(config, spec)


def test_a_contrastive_run(make):
  """One test for two facts, because each learner compiles its own update.

  What was published survives updates that reuse the state's memory, and a
  resumed run goes on exactly.
  """
  agent = tiny_contrastive_agent()
  batches = [fakes.random_episodes(agent.replay, 4, seed) for seed in range(5)]
  learner, _ = make(agent)
  expected = {0: numbers(learner.state.policy_params)}
  published = {0: learner.get_variables(-1)}
  states = {}
  for episodes in batches:
    learner.step(jax.device_put(episodes), waited=0.0)
    expected[learner.updates] = numbers(learner.state.policy_params)
    states[learner.updates] = numbers(learner.state)
    if learner.updates != 6:
      # Version 6 is never asked for, version 10 only at the end.
      published[learner.updates] = learner.get_variables(-1)
    if learner.updates == 4:
      learner.save()

  assert sorted(published) == [0, 2, 4, 8, 10]
  for version, (updates, variables) in published.items():
    assert updates == version
    assert_same_bits(numbers(variables), expected[version])
  assert expected[2][0].tobytes() != expected[4][0].tobytes()

  resumed, _ = make(agent, seed=1)
  assert resumed.updates == 4
  assert_same_bits(numbers(resumed.get_variables(-1)[1]), expected[4])
  for episodes in batches[2:]:
    resumed.step(jax.device_put(episodes), waited=0.0)
    assert_same_bits(numbers(resumed.state), states[resumed.updates])
  assert resumed.updates == 10


def test_variables_asked_for_late_are_those_of_their_version(make):
  learner, _ = make()
  learner.step(batch(1), waited=0.0)
  expected = np.array(learner.state.position)
  # Published, not fetched yet; the next update donates the state it is from.
  _, held = learner._published
  learner.step(batch(2), waited=0.0)
  learner.step(batch(3), waited=0.0)
  np.testing.assert_array_equal(np.asarray(held['actor']), expected)


def test_a_checkpoint_of_another_agent_is_refused(make):
  learner, _ = make()
  learner.save()
  with pytest.raises(ValueError, match='does not fit this agent'):
    make(tiny_contrastive_agent())


def listening_agent():
  """Returns an agent that keeps the order and number of what it hears."""

  def hear(state, reports, valid):
    rows = jnp.where(valid, reports['episode_return'], 0.0)
    last = rows[jnp.sum(valid) - 1]
    position = state.position + jnp.array([jnp.sum(rows), jnp.sum(valid), 0.0])
    return state._replace(position=position.at[2].set(last))

  return dataclasses.replace(
      toy_agent(), hear=hear, reports=('episode_return', 'episode_length'))


def test_the_agent_hears_of_every_episode_once_also_after_a_restart(make):
  learner, counts = make(listening_agent())
  counts.episodes = [float(n) for n in range(150)]
  learner.hear(150)
  # More than are told at once; the order is kept.
  assert learner.state.position.tolist() == [sum(range(150)), 150.0, 149.0]
  learner.hear(150)
  learner.hear(100)
  assert learner.state.position.tolist() == [sum(range(150)), 150.0, 149.0]
  learner.save()
  learner.step(batch(1), waited=0.0)

  resumed, counts = make(listening_agent(), seed=9)
  counts.episodes = [float(n) for n in range(153)]
  resumed.hear(151)
  assert resumed.state.position.tolist() == [sum(range(153)), 153.0, 152.0]
  # What the counter keeps no more is not heard, and not waited for.
  counts.kept, counts.episodes = 2, [1.0] * 200
  resumed.hear(200)
  assert resumed.state.position.tolist() == [sum(range(153)) + 2, 155.0, 1.0]


def test_an_agent_that_does_not_listen_is_told_nothing(make):
  learner, counts = make()
  counts.get_episodes = None
  learner.hear(10)
  assert learner.state.position.tolist() == [0.0] * 3


def test_priorities_are_handed_on_a_call_later_without_unchanged_ones(tmp_path):
  def update(state, batch):
    return state + 1, {'state': state}

  agent = dataclasses.replace(
      toy_agent(), init=lambda key: jnp.zeros(2), update=update,
      variables=lambda state: state,
      priorities=lambda state: {
          'main': jnp.stack([state[0], jnp.asarray(UNCHANGED), 10 + state[1]])})
  sent = []
  learner = Learner(
      agent, LearnerConfig(str(tmp_path), NEVER, NEVER), jax.random.key(0),
      FakeCounts(), save_replay=dict,
      set_priorities=lambda table, key, priority: sent.append(
          (table, key.tolist(), priority.tolist())))
  keys = np.array([2**63 + 5, 7, 2**40], np.uint64)
  batch = {'main': {'key': jnp.asarray(keys.view(np.uint32).reshape(3, 2))}}
  learner.step(batch, 0.0)
  assert sent == []
  learner.step(batch, 0.0)
  assert sent == [('main', [2**63 + 5, 2**40], [1.0, 11.0])]
