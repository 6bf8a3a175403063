"""Episodes as actors collect them, and as they arrive in replay."""

import dm_env
import numpy as np
import pytest

from envs.vector import StackedEnvironments
from learners.agent import Column, HELD_OUT
from replay import episodes as episodes_lib
from replay import tables
from replay.episodes import EpisodeBuffer, ReverbWriter
from replay.tables import TableLimits
from tests import fakes

FIRST, MID, LAST = (int(t) for t in dm_env.StepType)
LIMIT = 6
ALL_COLUMNS = {
    'observation': Column((LIMIT + 1, 3)),
    'action': Column((LIMIT, 2)),
    'reward': Column((LIMIT,)),
    'discount': Column((LIMIT,)),
    'length': Column((), 'int32'),
}
SOME_COLUMNS = {name: ALL_COLUMNS[name]
                for name in ('observation', 'action', 'length')}


class OneByOne:
  """What `EpisodeBuffer` should do, one environment and one step at a time."""

  def __init__(self, columns, num_envs):
    self._columns = columns
    self._steps = [[] for _ in range(num_envs)]

  @property
  def unstored_steps(self):
    return sum(max(0, len(steps) - 1) for steps in self._steps)

  def add(self, timestep, action):
    ended = []
    for i, steps in enumerate(self._steps):
      if timestep.step_type[i] == FIRST:
        steps.clear()
      steps.append((timestep.observation[i],
                    None if action is None else action[i],
                    timestep.reward[i], timestep.discount[i]))
      if timestep.step_type[i] == LAST:
        ended.append(self._episode(steps))
        steps.clear()
    if not ended:
      return None
    return {name: np.stack([e[name] for e in ended]) for name in self._columns}

  def _episode(self, steps):
    episode = {name: np.zeros(column.shape, column.dtype)
               for name, column in self._columns.items()}
    for t, (observation, action, reward, discount) in enumerate(steps):
      episode['observation'][t] = observation
      if t == 0:
        continue
      for name, value in (('action', action), ('reward', reward),
                          ('discount', discount)):
        if name in episode:
          episode[name][t - 1] = value
    episode['length'][()] = len(steps) - 1
    return episode


def ragged_steps(num_envs, num_steps, seed, resets=()):
  """Yields `(timestep, action)` of environments that end when they like.

  Args:
    num_envs: number of environments.
    num_steps: number of vectorised steps after the first reset.
    seed: of lengths and numbers.
    resets: steps at which everything is reset, whatever was going on.
  """
  rng = np.random.default_rng(seed)
  step_type = np.full(num_envs, LAST)
  elapsed = np.zeros(num_envs, int)
  for t in range(num_steps + 1):
    reset = t == 0 or t in resets
    ends = (rng.uniform(size=num_envs) < 0.25) | (elapsed + 1 == LIMIT)
    step_type = np.where((step_type == LAST) | reset, FIRST,
                         np.where(ends, LAST, MID)).astype(np.int32)
    elapsed = np.where(step_type == FIRST, 0, elapsed + 1)
    timestep = dm_env.TimeStep(
        step_type=step_type,
        reward=rng.normal(size=num_envs).astype(np.float32),
        discount=rng.choice([0.0, 1.0], num_envs).astype(np.float32),
        observation=rng.normal(size=(num_envs, 3)).astype(np.float32))
    action = rng.normal(size=(num_envs, 2)).astype(np.float32)
    yield timestep, None if reset else action


@pytest.mark.parametrize('columns', [ALL_COLUMNS, SOME_COLUMNS],
                         ids=['all', 'some'])
@pytest.mark.parametrize('num_envs, resets', [
    (1, ()), (5, ()), (4, (7, 8, 30))])
def test_collects_what_one_by_one_collection_does(columns, num_envs, resets):
  buffer = EpisodeBuffer(columns, num_envs)
  reference = OneByOne(columns, num_envs)
  lengths = []
  for timestep, action in ragged_steps(num_envs, 120, num_envs, resets):
    actual = buffer.add(timestep, action)
    expected = reference.add(timestep, action)
    assert buffer.unstored_steps == reference.unstored_steps
    assert (actual is None) == (expected is None)
    if actual is not None:
      assert set(actual) == set(columns)
      for name in columns:
        assert actual[name].dtype == np.dtype(columns[name].dtype)
        np.testing.assert_array_equal(actual[name], expected[name], name)
      lengths.extend(actual['length'])
  assert set(lengths) == set(range(1, LIMIT + 1))


def test_entries_beyond_the_end_are_zero_also_after_longer_episodes():
  buffer = EpisodeBuffer(ALL_COLUMNS, 1)
  ones = np.ones(1, np.float32)

  def add(step_type):
    return buffer.add(dm_env.TimeStep(
        np.array([step_type], np.int32), ones, ones, np.ones((1, 3))),
        None if step_type == FIRST else np.ones((1, 2)))

  for step_type in [FIRST, MID, MID, MID, MID, LAST, FIRST, MID]:
    add(step_type)
  short = add(LAST)
  assert short['length'].tolist() == [2]
  for name, filled in (('observation', 3), ('action', 2), ('reward', 2),
                       ('discount', 2)):
    assert np.all(short[name][0, :filled] == 1.0), name
    assert np.all(short[name][0, filled:] == 0.0), name


def test_episodes_handed_out_do_not_change_later():
  buffer = EpisodeBuffer(ALL_COLUMNS, 3)
  kept, copies = [], []
  for timestep, action in ragged_steps(3, 60, seed=3):
    ended = buffer.add(timestep, action)
    if ended is not None:
      kept.append(ended)
      copies.append({name: array.copy() for name, array in ended.items()})
  for episode, copy in zip(kept, copies, strict=True):
    np.testing.assert_equal(episode, copy)


def test_a_column_nobody_can_fill_is_refused():
  with pytest.raises(ValueError, match="'pixels', 'speed'.*observation"):
    EpisodeBuffer({**ALL_COLUMNS, 'speed': Column(()), 'pixels': Column(())}, 1)


def stored_items(client, num_samples):
  """Returns `{marker: item}` of what sampling finds."""
  found = {}
  for samples in client.sample(tables.TABLE, num_samples, emit_timesteps=False,
                               unpack_as_table_signature=True):
    found[float(samples.data['observation'][0, 0])] = samples.data
  return found


def marked_episodes(first, num):
  """Returns episodes of odd bit patterns, numbered from `first`."""
  rng = np.random.default_rng(first)
  bits = {name: rng.integers(0, 2**32, (num, *column.shape), np.uint32)
          for name, column in ALL_COLUMNS.items()}
  written = {name: array.view(np.float32) for name, array in bits.items()}
  written['observation'][:, 0, 0] = np.arange(first, first + num)
  written['observation'][:, 0, 1] = [np.nan]
  written['observation'][:, 0, 2] = [-0.0]
  written['length'] = rng.integers(1, LIMIT + 1, num).astype(np.int32)
  return written


def test_what_is_sampled_is_what_was_written_bit_for_bit(serve):
  client = serve(ALL_COLUMNS, TableLimits(1, 100, 1.0, 1000.0))
  writer = ReverbWriter(client, ALL_COLUMNS, lambda: False)
  written = [marked_episodes(*numbers) for numbers in ((0, 2), (2, 1), (3, 4))]
  for batch in written:
    assert writer.write(batch) is True
  assert client.server_info(timeout=10)[tables.TABLE].current_size == 7
  found = stored_items(client, 200)
  assert sorted(found) == list(range(7))
  for batch in written:
    for i, marker in enumerate(batch['observation'][:, 0, 0]):
      for name, array in batch.items():
        actual = found[marker][name]
        assert actual.dtype == array.dtype and actual.shape == array[i].shape
        assert actual.tobytes() == array[i].tobytes(), name


def test_a_write_gives_up_when_the_program_stops(serve, monkeypatch):
  monkeypatch.setattr(episodes_lib, 'FLUSH_TIMEOUT_MS', 50)
  client = serve(ALL_COLUMNS, TableLimits(1, 100, 1.0, 1.0))
  asked = []

  def should_stop():
    asked.append(True)
    return len(asked) == 3

  writer = ReverbWriter(client, ALL_COLUMNS, should_stop)
  # inserts - 1 - samples <= 1
  assert writer.write(marked_episodes(0, 2)) is True
  assert not asked
  assert writer.write(marked_episodes(2, 1)) is False
  assert len(asked) == 3
  stored_items(client, 2)


def test_a_write_waits_until_there_is_room(serve, monkeypatch):
  monkeypatch.setattr(episodes_lib, 'FLUSH_TIMEOUT_MS', 50)
  client = serve(ALL_COLUMNS, TableLimits(1, 100, 1.0, 1.0))
  asked = []

  def sample_instead_of_stopping():
    asked.append(True)
    if len(asked) == 2:
      stored_items(client, 2)
    return False

  writer = ReverbWriter(
      client, ALL_COLUMNS, sample_instead_of_stopping)
  assert writer.write(marked_episodes(0, 4)) is True
  assert len(asked) >= 2
  assert client.server_info(timeout=10)[tables.TABLE].current_size == 4


def test_more_episodes_than_may_be_unconfirmed_all_arrive(serve):
  client = serve(SOME_COLUMNS, TableLimits(1, 100, 1.0, 1000.0))
  writer = ReverbWriter(client, SOME_COLUMNS, lambda: False)
  num = 2 * episodes_lib.MAX_UNCONFIRMED + 3
  assert writer.write(marked_episodes(0, num)) is True
  assert client.server_info(timeout=10)[tables.TABLE].current_size == num
  assert sorted(stored_items(client, 900)) == list(range(num))


def test_a_write_gives_up_within_its_episodes(serve, monkeypatch):
  monkeypatch.setattr(episodes_lib, 'FLUSH_TIMEOUT_MS', 50)
  client = serve(SOME_COLUMNS, TableLimits(1, 100, 1.0, 4.0))
  writer = ReverbWriter(client, SOME_COLUMNS, lambda: True)
  num = 2 * episodes_lib.MAX_UNCONFIRMED
  assert writer.write(marked_episodes(0, num)) is False
  # inserts - 1 - samples <= 4; no more than a flushful waits to follow.
  assert client.server_info(timeout=10)[tables.TABLE].current_size == 5
  stored_items(client, episodes_lib.MAX_UNCONFIRMED)
  writer._writer.flush(timeout_ms=5000)
  assert client.server_info(timeout=10)[tables.TABLE].current_size == (
      episodes_lib.MAX_UNCONFIRMED)


def test_an_episode_of_another_shape_is_refused(serve):
  client = serve(SOME_COLUMNS, TableLimits(1, 10, 1.0, 10.0))
  writer = ReverbWriter(client, SOME_COLUMNS, lambda: True)
  wrong = marked_episodes(0, 1)
  wrong['action'] = wrong['action'][:, :-1]
  with pytest.raises(ValueError):
    writer.write(wrong)


def test_returns_are_added_up_and_some_episodes_are_held_out():
  columns = {'length': Column((), 'int32'), 'episode_return': Column(())}
  environments = [fakes.CountingEnvironment(2), fakes.CountingEnvironment(5)]
  env = StackedEnvironments(environments, environments[0].spec)
  buffer = EpisodeBuffer(columns, 2, held_out_every=3)
  found = [buffer.add(env.reset(), None)]
  found += [buffer.add(env.step(np.zeros((2, 2))), np.zeros((2, 2)))
            for _ in range(17)]
  found = [episodes for episodes in found if episodes is not None]
  lengths, returns, held_out = (
      np.concatenate([episodes[name] for episodes in found]).tolist()
      for name in ('length', 'episode_return', HELD_OUT))
  # Every reset takes a call.
  assert lengths == [2, 2, 5] * 3
  assert returns == [n * (n + 1) / 2 for n in lengths]
  assert held_out == [i % 3 == 0 for i in range(len(lengths))]
  assert found[0]['episode_return'].dtype == np.float32
