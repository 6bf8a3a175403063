"""Table sizes and rate limits: by hand, and as a real server keeps them."""

import numpy as np
import pytest
import reverb

from envs import registry as env_registry
from learners.agent import (
  Column,
  EpisodePacing,
  HELD_OUT,
  ReplaySpec,
  StepPacing,
)
from learners.contrastive import agent as contrastive_agent
from learners.contrastive import config as contrastive_config
from replay import tables
from replay.dataset import reverb_batches
from replay.episodes import ReverbWriter
from replay.memory import MemoryReplay, MemoryTables
from replay.tables import TABLE, TableLimits

COLUMNS = {'x': Column((2,)), 'length': Column((), 'int32')}


def replay_spec(episodes_per_batch=256, min_steps=10_000, max_steps=1_000_000,
                transitions_per_update=256, samples_per_insert=256.0):
  """Returns a spec; the defaults are the reference's values at L = 64."""
  return ReplaySpec(
      COLUMNS, episodes_per_batch,
      StepPacing(min_steps, transitions_per_update, samples_per_insert),
      max_steps=max_steps)


def test_the_reference_values_give_256_samples_per_insert():
  limits = tables.table_limits(
      replay_spec(), steps_per_item=64, updates_per_call=64)
  # 10 000 / 64 = 156.25, 1e6 / 64 = 15 625.
  assert limits == TableLimits(
      min_items=156, max_items=15_625, samples_per_insert=256.0,
      error_buffer=tables.UNBOUNDED)


def test_the_reference_preset_gives_256_samples_per_insert_of_four_rooms():
  config = contrastive_config.from_settings('contrastive_cpc', 'reference', {})
  spec = env_registry.spec('point_FourRooms')
  limits = tables.table_limits(
      contrastive_agent.replay_spec(config, spec), spec.step_limit,
      updates_per_call=64)
  # 64 * 256 transitions are 327.68 episodes of 50 steps, so 328 are drawn for
  # the 1.28 episodes inserted meanwhile.
  assert limits.samples_per_insert == pytest.approx(328 / 1.28)
  assert (limits.min_items, limits.max_items) == (200, 20_000)


@pytest.mark.parametrize('replay, steps_per_item, calls, expected', [
    (replay_spec(), 64, 64, (156, 15_625, 256.0)),
    # A call takes 32 of 4 steps paid a step: one item of 8 steps.
    (replay_spec(32, 80, 800, 32, 4.0), 8, 1, (10, 100, 32.0)),
    # Half an item is paid for by 3 samples: 6 an item.
    (replay_spec(3, 1600, 1600, 8, 2.0), 8, 1, (200, 200, 6.0)),
    # Fractions round down, but something must be there to be sampled.
    (replay_spec(1, 7, 7, 8, 1.0), 8, 1, (1, 1, 1.0)),
    (replay_spec(1, 23, 39, 8, 1.0), 8, 1, (2, 4, 1.0)),
    (replay_spec(5, 1000, 5000, 20, 1.0), 10, 1, (100, 500, 2.5)),
    (replay_spec(1, 1000, 5000, 28, 1.0), 10, 1, (100, 500, 1 / 2.8)),
])
def test_limits_by_hand(replay, steps_per_item, calls, expected):
  limits = tables.table_limits(replay, steps_per_item, calls)
  assert (limits.min_items, limits.max_items) == expected[:2]
  assert limits.samples_per_insert == pytest.approx(expected[2])


def test_a_server_takes_the_limits_of_every_agent(serve):
  for alg in contrastive_config.VARIANTS:
    config = contrastive_config.from_settings(alg, 'cpu', {})
    spec = env_registry.spec('point_Spiral11x11')
    replay = contrastive_agent.replay_spec(config, spec)
    limits = tables.table_limits(
        replay, spec.step_limit, config.num_sgd_steps_per_step)
    info = serve(replay.columns, limits).server_info(timeout=10)[TABLE]
    assert info.max_size == limits.max_items
    assert info.rate_limiter_info.min_size_to_sample == limits.min_items


class Writer:
  """Appends single items, as the actors' writer does."""

  def __init__(self, client):
    self._writer = client.trajectory_writer(num_keep_alive_refs=1)

  def insert(self, value, timeout_ms=5000):
    self.append(value)
    self._writer.flush(timeout_ms=timeout_ms)

  def append(self, value):
    self._writer.append({'x': np.full(2, value, np.float32),
                         'length': np.int32(value)})
    self._writer.create_item(TABLE, 1.0, {
        name: self._writer.history[name][-1] for name in COLUMNS})

  def flush(self):
    self._writer.flush(timeout_ms=5000)


def lengths_sampled(client, num):
  """Returns up to `num` sampled values; the server may stop before that."""
  dataset = reverb.TrajectoryDataset.from_table_signature(
      client.server_address, TABLE, max_in_flight_samples_per_worker=1,
      num_workers_per_iterator=1, rate_limiter_timeout_ms=200)
  return [int(sample.data['length'])
          for sample in dataset.take(num).as_numpy_iterator()]


def test_the_oldest_items_go_first(serve):
  client = serve(COLUMNS, TableLimits(1, 3, 1.0, 1000.0))
  writer = Writer(client)
  for value in range(6):
    writer.insert(value)
  assert client.server_info(timeout=10)[TABLE].current_size == 3
  assert set(lengths_sampled(client, 60)) == {3, 4, 5}


def test_nothing_is_sampled_before_the_minimum(serve):
  client = serve(COLUMNS, TableLimits(3, 10, 1.0, 100.0))
  writer = Writer(client)
  writer.insert(0)
  writer.insert(1)
  assert lengths_sampled(client, 1) == []
  writer.insert(2)
  assert len(lengths_sampled(client, 4)) == 4


def test_samples_never_wait_once_the_minimum_is_there(serve):
  client = serve(COLUMNS, TableLimits(5, 10, 2.0, 4.0))
  writer = Writer(client)
  for value in range(5):
    writer.insert(value)
  assert len(lengths_sampled(client, 1000)) == 1000
  for value in range(5, 9):
    writer.insert(value)


def test_inserts_never_wait_however_far_they_are_ahead(serve):
  limits = tables.table_limits(
      replay_spec(4, 20, 400, 16, 2.0), steps_per_item=4, updates_per_call=1)
  assert (limits.min_items, limits.samples_per_insert) == (5, 2.0)
  client = serve(COLUMNS, limits)
  writer = Writer(client)
  # Episodes that end early, or a learner behind its replay: no sample is drawn.
  for value in range(3000):
    writer.append(value)
  writer.flush()
  info = client.server_info(timeout=10)[TABLE]
  assert info.current_size == limits.max_items == 100
  assert len(lengths_sampled(client, 10)) == 10


def test_inserts_wait_when_they_are_a_given_buffer_ahead(serve):
  client = serve(COLUMNS, TableLimits(5, 10, 2.0, 4.0))
  writer = Writer(client)
  # 2 * (inserts - 5) - samples <= 4
  for value in range(7):
    writer.insert(value)
  with pytest.raises(reverb.errors.DeadlineExceededError):
    writer.insert(7, timeout_ms=200)
  assert client.server_info(timeout=10)[TABLE].current_size == 7
  assert len(lengths_sampled(client, 2)) == 2
  writer.flush()
  assert client.server_info(timeout=10)[TABLE].current_size == 8


@pytest.mark.parametrize('x, length', [
    (np.zeros(3, np.float32), np.int32(1)),
    (np.zeros((1, 2), np.float32), np.int32(1)),
    (np.zeros(2, np.float64), np.int32(1)),
    (np.zeros(2, np.float32), np.int64(1)),
], ids=['longer', 'deeper', 'double', 'long'])
def test_an_item_of_another_layout_is_refused(serve, x, length):
  client = serve(COLUMNS, TableLimits(1, 10, 1.0, 10.0))
  writer = client.trajectory_writer(num_keep_alive_refs=1)
  writer.append({'x': x, 'length': length})
  with pytest.raises(ValueError, match='(?s)dtype|shape'):
    writer.create_item(TABLE, 1.0, {
        name: writer.history[name][-1] for name in COLUMNS})
    writer.flush(timeout_ms=5000)
  assert client.server_info(timeout=10)[TABLE].current_size == 0


def test_limits_of_learning_that_keeps_pace_with_episodes():
  replay = ReplaySpec(COLUMNS, 4, EpisodePacing(70, 5.0), max_items=500,
                      held_out_every=20, held_out_per_batch=3)
  assert tables.table_limits(replay, 1000, 20) == TableLimits(
      min_items=1, max_items=500, samples_per_insert=None, error_buffer=0.0,
      max_held_out=25)
  replay = ReplaySpec(COLUMNS, 4, EpisodePacing(70, 5.0), max_steps=100_000)
  assert tables.table_limits(replay, 1000, 20) == TableLimits(
      1, 100, None, 0.0)


@pytest.mark.parametrize('settings, problem', [
    (dict(), 'either max_steps or max_items'),
    (dict(max_steps=1, max_items=1), 'either max_steps or max_items'),
    (dict(max_items=1, remover='newest'), "got 'newest', needs one of oldest"),
    (dict(max_items=1, priority='x'), "'x' is no scalar"),
    (dict(max_items=1, remover='lowest_priority'), 'needs a priority column'),
])
def test_tables_that_cannot_be_are_refused(settings, problem):
  with pytest.raises(ValueError, match=problem):
    ReplaySpec(COLUMNS, 1, EpisodePacing(1, 1.0), **settings)


def returns_of(values):
  """Returns one-step episodes with these returns, numbered by `length`."""
  return {'x': np.zeros((len(values), 2), np.float32),
          'length': np.arange(len(values), dtype=np.int32),
          'episode_return': np.array(values, np.float32)}


RETURN_COLUMNS = {**COLUMNS, 'episode_return': Column(())}
RETURNS = [-5.0, 3.0, -7.0, 3.0, 2.0, -6.0, 2.0, 3.0, 9.0, 2.0]


@pytest.mark.parametrize('max_items', [1, 3, 4, 5, 10, 20])
def test_the_best_episodes_stay_in_a_server_as_in_memory(serve, max_items):
  limits = TableLimits(1, max_items, None, 0.0)
  client = serve(RETURN_COLUMNS, limits, remover='lowest_priority',
                 priority='episode_return')
  memory = MemoryReplay(
      RETURN_COLUMNS, 1, max_items, seed=0, priority='episode_return')
  episodes = returns_of(RETURNS)
  assert ReverbWriter(client, RETURN_COLUMNS, lambda: False,
                      'episode_return').write(episodes)
  for i in range(len(RETURNS)):
    memory.write({name: array[i:i + 1] for name, array in episodes.items()})
  # The best, and among equals the newest.
  best = sorted(range(len(RETURNS)), key=lambda i: (RETURNS[i], i))[-max_items:]
  held = set(memory.save()['arrays']['length'].tolist())
  assert held == set(best)
  assert set(memory.sample(500)['length'].tolist()) == set(best)
  assert client.server_info(timeout=10)[TABLE].current_size == len(best)
  assert set(lengths_sampled(client, 500)) == set(best)


def test_held_out_episodes_are_kept_apart_and_come_with_each_batch(serve):
  replay = ReplaySpec(COLUMNS, 3, EpisodePacing(1, 1.0), max_items=100,
                      held_out_every=4, held_out_per_batch=2)
  limits = tables.table_limits(replay, 1, 1)
  client = serve(COLUMNS, limits)
  memory = MemoryTables(replay, limits, seed=0)
  episodes = {'x': np.zeros((20, 2), np.float32),
              'length': np.arange(20, dtype=np.int32),
              HELD_OUT: np.arange(20) % 4 == 0}
  assert not memory.ready
  for writer in (ReverbWriter(client, COLUMNS, lambda: False), memory):
    assert writer.write(episodes)
  assert memory.ready
  restored = MemoryTables(replay, limits, seed=5)
  restored.restore(memory.save())
  stream = reverb_batches(client.server_address, replay)
  for batches in (lambda: next(stream), memory.sample, restored.sample):
    drawn = [batches() for _ in range(100)]
    assert {batch['length'].shape for batch in drawn} == {(3,)}
    assert {batch[HELD_OUT]['length'].shape for batch in drawn} == {(2,)}
    assert {int(n) for batch in drawn for n in batch['length']} == {
        n for n in range(20) if n % 4}
    assert {int(n) for batch in drawn for n in batch[HELD_OUT]['length']} == {
        0, 4, 8, 12, 16}
  np.testing.assert_equal(restored.sample(), memory.sample())
