"""Rows and items of streams, in memory and in Reverb, against plain slicing."""

import dm_env
import numpy as np
import pytest

from learners.agent import Column, StepPacing
from learners.stream_spec import (
  PairItems,
  StreamSpec,
  StreamTable,
  WindowItems,
)
from replay import stream_memory, stream_reverb, streams

SHAPE = (3, 2)
STACK, STEPS, GAP = 4, 3, 6
FIRST, MID, LAST = (int(t) for t in dm_env.StepType)


def make_spec(max_items=1000, batch=8):
  return StreamSpec(
      frame=Column(SHAPE, 'uint8'), stack=STACK,
      tables={
          'main': StreamTable(WindowItems(STEPS), batch, prioritized=True),
          'pairs': StreamTable(PairItems(GAP, decay=0.8), batch)},
      max_items=max_items, pacing=StepPacing(10, 32, 8.0))


class Episodes:
  """Two environments with episodes of given lengths, and what they should be.

  A frame's first pixel numbers it within the episode from 1, its second is the
  environment, its third the episode; an action is the number of the frame it
  was taken at.
  """

  def __init__(self, lengths, terminates):
    self.lengths, self.terminates = lengths, terminates

  def frame(self, env, episode, time):
    frame = np.zeros(SHAPE, np.uint8)
    frame.flat[:3] = time + 1, env, episode
    return frame

  def record_into(self, writer, seed=0):
    recorder = streams.StreamRecorder(
        make_spec(), len(self.lengths), writer, seed,
        priority=lambda params: 2.0)
    clocks = [(0, -1)] * len(self.lengths)
    while any(e < len(self.lengths[i]) for i, (e, _) in enumerate(clocks)):
      rows = []
      for i, (episode, time) in enumerate(clocks):
        # Environments that are through repeat a last episode, which is long.
        length = (self.lengths[i][episode] if episode < len(self.lengths[i])
                  else 10**6)
        time += 1
        kind = FIRST if time == 0 else LAST if time == length else MID
        ends = kind == LAST and self.terminates
        rows.append((kind, 0.0 if time == 0 else 10.0 * time,
                     0.0 if ends else 1.0, self.frame(i, episode, time),
                     time - 1))
        clocks[i] = (episode + 1, -1) if kind == LAST else (episode, time)
      kinds, rewards, discounts, frames, actions = zip(*rows)
      stored = recorder.record(
          dm_env.TimeStep(np.array(kinds), np.array(rewards, np.float32),
                          np.array(discounts, np.float32), np.stack(frames)),
          np.array(actions, np.int32), params=None)
      assert stored == {}

  def stack(self, env, episode, time):
    """The state at a time: the newest frames, empty ones before the start."""
    return np.stack([
        self.frame(env, episode, t) if t >= 0 else np.zeros(SHAPE, np.uint8)
        for t in range(time - STACK + 1, time + 1)])


class Collector:
  """Keeps all rows, and copies out items as they are made."""

  def __init__(self):
    self.rows, self.items = {}, []

  def append(self, stream, row):
    self.rows.setdefault(stream, []).append(row)

  def create(self, stream, items, priority):
    assert priority == 2.0
    rows = self.rows[stream]
    for item in items:
      data = {name: (rows[which][column] if isinstance(which, int)
                     else np.stack([row[column] for row in rows[which]]))
              for name, (column, which) in item.columns.items()}
      self.items.append((stream, item.table, data))
    return True


def check_window(episodes, item):
  """Finds out where a window begins from its frames and checks all of it."""
  state = item['frames'][:STACK]
  time, env, episode = (int(x) for x in state[-1].flat[:3])
  time -= 1
  length = episodes.lengths[env][episode]
  np.testing.assert_array_equal(state, episodes.stack(env, episode, time))
  made = min(STEPS, length - time)
  np.testing.assert_array_equal(item['real'], np.arange(STEPS) < made)
  np.testing.assert_array_equal(
      item['frames'][made:made + STACK],
      episodes.stack(env, episode, time + made))
  assert item['action'] == time
  np.testing.assert_array_equal(
      item['reward'][:made], 10.0 * (time + 1 + np.arange(made)))
  ends = episodes.terminates and time + made == length
  np.testing.assert_array_equal(
      item['discount'][:made], [1.0] * (made - 1) + [0.0 if ends else 1.0])
  return env, episode, time


def check_pair(episodes, item):
  for frames in (item['frames'], item['later_frames']):
    time, env, episode = (int(x) for x in frames[-1].flat[:3])
    np.testing.assert_array_equal(
        frames, episodes.stack(env, episode, time - 1))
  if episode < len(episodes.lengths[env]):
    over = episodes.terminates and time - 1 == episodes.lengths[env][episode]
    assert item['discount'] == (0.0 if over else 1.0)


@pytest.mark.parametrize('terminates', [True, False])
def test_there_is_a_window_of_every_step_and_it_is_right(terminates):
  episodes = Episodes([[1, 2, 7], [3, 4, 6]], terminates)
  collector = Collector()
  episodes.record_into(collector)
  found = [check_window(episodes, data) for _, table, data in collector.items
           if table == 'main' and data['frames'][STACK - 1].flat[2] < 3]
  wanted = [(env, number, time) for env, lengths in enumerate(episodes.lengths)
            for number, length in enumerate(lengths) for time in range(length)]
  assert sorted(found) == sorted(wanted)


def test_there_is_a_pair_of_every_state_but_the_last():
  episodes = Episodes([[1, 2, 9], [12]], True)
  collector = Collector()
  episodes.record_into(collector)
  found = []
  for _, table, data in collector.items:
    if table != 'pairs':
      continue
    start, env, episode = (int(x) for x in data['frames'][STACK - 1].flat[:3])
    end = int(data['later_frames'][-1].flat[0])
    if episode >= len(episodes.lengths[env]):
      continue
    assert 1 <= end - start <= GAP
    check_pair(episodes, data)
    found.append((env, episode, start - 1))
  wanted = [(env, number, time) for env, lengths in enumerate(episodes.lengths)
            for number, length in enumerate(lengths) for time in range(length)]
  assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize('length', [3, 20])
def test_gaps_are_geometric_and_cut_off(length):
  spec = make_spec()
  cutter = streams.StreamCutter(spec, np.random.default_rng(0))
  frame, gaps = np.zeros(SHAPE, np.uint8), []
  for _ in range(4000):
    list(cutter.begin(frame))
    for t in range(1, length + 1):
      for _, items in cutter.add(frame, 0, 0.0, 1.0, t == length):
        for item in (i for i in items if i.table == 'pairs'):
          start, end = (t + STACK + item.columns[name][1].start
                        for name in ('frames', 'later_frames'))
          gaps.append((start, end - start))
  # Pairs that begin with the episode's first state.
  first = [gap for start, gap in gaps if start == 0]
  most = min(GAP, length)
  weight = 0.8 ** np.arange(most)
  np.testing.assert_allclose(
      np.bincount(first, minlength=most + 1)[1:] / len(first),
      weight / weight.sum(), atol=0.03)
  assert len(first) == 4000


def test_intrinsic_rewards_telescope_over_windows():
  """Differences over n steps add up to those over each step."""
  episodes = Episodes([[9]], False)
  collector = Collector()
  episodes.record_into(collector)
  phi = np.random.default_rng(0).normal(size=12)

  def value(stack):
    return phi[int(stack[-1].flat[0])]

  for _, table, data in collector.items:
    if table != 'main' or data['frames'][STACK - 1].flat[2]:
      continue
    made = int(data['real'].sum())
    steps = [value(data['frames'][k + 1:k + 1 + STACK])
             - value(data['frames'][k:k + STACK]) for k in range(made)]
    np.testing.assert_allclose(
        sum(steps), value(data['frames'][made:made + STACK])
        - value(data['frames'][:STACK]), atol=1e-9)


def fill_memory(spec, lengths=((9, 30), (14, 25))):
  episodes = Episodes([list(row) for row in lengths], True)
  memory = stream_memory.StreamMemory(spec, seed=0)
  episodes.record_into(memory)
  return episodes, memory


def rows_of(batch):
  return [{name: array[i] for name, array in batch.items()}
          for i in range(len(batch['frames']))]


def test_memory_returns_what_was_written():
  episodes, memory = fill_memory(make_spec(batch=64))
  batch = memory.sample()
  for item in rows_of(batch['main']):
    if item['frames'][STACK - 1].flat[2] < 2:
      check_window(episodes, item)
  for item in rows_of(batch['pairs']):
    check_pair(episodes, item)
  assert batch['main']['frames'].dtype == np.uint8


def test_memory_draws_by_priority_and_tells_the_probability():
  _, memory = fill_memory(make_spec(batch=500))
  batch = memory.sample()['main']
  key = batch['key'].copy().view(np.uint64)[:, 0]
  np.testing.assert_allclose(batch['probability'], 1.0 / len(memory), rtol=0.2)
  chosen = key[0]
  everything = np.arange(200, dtype=np.uint64)
  memory.set_priorities('main', everything[:60], np.full(60, 1e-3))
  memory.set_priorities('main', np.array([chosen]), np.array([1e6]))
  batch = memory.sample()['main']
  assert np.all(batch['key'].copy().view(np.uint64)[:, 0] == chosen)
  np.testing.assert_allclose(batch['probability'], 1.0, rtol=1e-3)


def test_memory_forgets_the_oldest_and_their_priorities():
  spec = make_spec(max_items=20, batch=200)
  episodes, memory = fill_memory(spec)
  assert len(memory) == 20
  batch = memory.sample()['main']
  newest = [int(item['frames'][STACK - 1].flat[2]) for item in rows_of(batch)]
  assert min(newest) >= 1
  memory.set_priorities('main', np.array([0], np.uint64), np.array([1e9]))
  assert np.all(memory.sample()['main']['probability'] < 0.5)


def test_memory_outlives_rows_that_are_overwritten():
  spec = make_spec(max_items=20, batch=50)
  episodes = Episodes([[5] * 2000], True)
  memory = stream_memory.StreamMemory(spec, seed=0)
  episodes.record_into(memory)
  for item in rows_of(memory.sample()['main']):
    time = int(item['frames'][STACK - 1].flat[0]) - 1
    assert item['action'] == time
    np.testing.assert_array_equal(
        item['reward'][:1], [10.0 * (time + 1)])


def test_memory_goes_on_where_it_was_saved():
  spec = make_spec(batch=16)
  _, memory = fill_memory(spec)
  memory.set_priorities('main', np.arange(9, dtype=np.uint64), np.full(9, 50.0))
  saved = memory.save()
  again = stream_memory.StreamMemory(spec, seed=5)
  again.restore(saved)
  for _ in range(2):
    left, right = memory.sample(), again.sample()
    for table in left:
      for name, array in left[table].items():
        np.testing.assert_array_equal(array, right[table][name])


def test_an_empty_memory_is_not_ready():
  memory = stream_memory.StreamMemory(make_spec(), seed=0)
  assert not memory.ready
  with pytest.raises(RuntimeError, match='empty'):
    memory.sample()


@pytest.fixture(name='server', scope='module')
def make_server():
  import reverb
  server = reverb.Server(stream_reverb.make_tables(make_spec(batch=32)))
  yield reverb.Client(f'localhost:{server.port}')
  server.stop()


def test_reverb_returns_what_was_written_and_takes_priorities(server):
  import time
  spec = make_spec(batch=32)
  episodes = Episodes([[1, 9, 30], [14, 2, 25]], True)
  writer = stream_reverb.ReverbStreams(server, spec, lambda: False)
  episodes.record_into(writer)
  for held in writer._writers.values():
    held.flush(timeout_ms=10_000)
  batches = stream_reverb.stream_batches(server.server_address, spec)
  batch = next(batches)
  for item in rows_of(batch['main']):
    if item['frames'][STACK - 1].flat[2] < 3:
      check_window(episodes, item)
  for item in rows_of(batch['pairs']):
    check_pair(episodes, item)
    assert np.all(item['frames'][-1].flat[1:3] == item['later_frames'][
        -1].flat[1:3])
  key = batch['main']['key'].copy().view(np.uint64)[:, 0]
  sender = stream_reverb.PrioritySender(server)
  sender.start()
  sender.set_priorities('main', key[:1], np.array([1e9]))
  deadline = time.monotonic() + 20.0
  while time.monotonic() < deadline:
    batch = next(batches)
    drawn = batch['main']['key'].copy().view(np.uint64)[:, 0]
    if np.all(drawn == key[0]):
      break
  assert np.all(drawn == key[0])
  np.testing.assert_allclose(batch['main']['probability'], 1.0, rtol=1e-3)
