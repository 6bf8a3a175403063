"""Replay in memory: first in, first out, uniform, and the same after a save."""

import collections
import json

import numpy as np
import pytest
from scipy import stats

from learners.agent import Column
from replay.memory import MemoryReplay

COLUMNS = {'x': Column((2,)), 'length': Column((), 'int32')}


def numbered(first, num):
  """Returns items that hold their number, from `first` on, and its half."""
  numbers = np.arange(first, first + num)
  return {'x': np.stack([numbers, numbers / 2], axis=1).astype(np.float32),
          'length': numbers.astype(np.int32)}


def make(max_items=7, min_items=1, seed=0):
  return MemoryReplay(COLUMNS, min_items, max_items, seed)


def contents(replay):
  """Returns the numbers of the items held, in order."""
  return sorted(replay.save()['arrays']['length'].tolist())


@pytest.mark.parametrize('max_items', [1, 7, 64, 150])
def test_keeps_the_newest_items_like_a_deque(max_items):
  replay = make(max_items)
  expected = collections.deque(maxlen=max_items)
  rng = np.random.default_rng(0)
  written = 0
  while written < 400:
    num = int(rng.integers(1, 10))
    assert replay.write(numbered(written, num)) is True
    expected.extend(range(written, written + num))
    written += num
    assert len(replay) == len(expected)
    assert contents(replay) == list(expected)


def test_columns_of_one_item_stay_together():
  replay = make(50)
  for first in range(0, 180, 9):
    replay.write(numbered(first, 9))
  sample = replay.sample(200)
  assert sample['x'].shape == (200, 2) and sample['x'].dtype == np.float32
  assert sample['length'].shape == (200,) and sample['length'].dtype == np.int32
  np.testing.assert_array_equal(sample['x'][:, 0], sample['length'])
  np.testing.assert_array_equal(sample['x'][:, 1], sample['length'] / 2)


@pytest.mark.parametrize('written', [13, 20, 33])
def test_sampling_is_uniform_over_what_is_held(written):
  replay = make(max_items=20)
  replay.write(numbered(0, written))
  held = range(max(0, written - 20), written)
  num_samples = 20_000
  drawn = replay.sample(num_samples)['length']
  observed = np.array([np.sum(drawn == number) for number in held])
  assert observed.sum() == num_samples, 'something else was drawn'
  expected = num_samples / len(held)
  statistic = np.sum((observed - expected)**2 / expected)
  assert statistic < stats.chi2.ppf(0.9999, len(held) - 1)


def test_draws_follow_from_the_seed():
  samples = {}
  for name, seed in (('one', 1), ('again', 1), ('other', 2)):
    replay = make(50, seed=seed)
    replay.write(numbered(0, 50))
    samples[name] = replay.sample(40)['length'].tolist()
  assert samples['one'] == samples['again'] != samples['other']


def test_samples_are_copies():
  replay = make(3)
  replay.write(numbered(0, 3))
  sample = replay.sample(5)
  before = sample['x'].copy()
  replay.write(numbered(3, 3))
  np.testing.assert_array_equal(sample['x'], before)
  sample['x'].fill(-1)
  assert replay.sample(5)['x'].min() >= 0


def test_sampling_too_early_says_how_much_is_missing():
  replay = make(min_items=3)
  for num in range(3):
    assert not replay.ready
    with pytest.raises(RuntimeError, match=f'holds {num} items.*needs 3'):
      replay.sample(1)
    replay.write(numbered(num, 1))
  assert replay.ready
  assert len(replay.sample(1)['length']) == 1


@pytest.mark.parametrize('written', [0, 3, 7, 17])
def test_a_restored_replay_goes_on_with_the_same_draws(written):
  replay = make()
  if written:
    replay.write(numbered(0, written))
    replay.sample(11)
  saved = replay.save()
  # What is beside the arrays is stored as JSON.
  arrays = {name: array.copy() for name, array in saved.pop('arrays').items()}
  text = json.dumps(saved)

  restored = make(seed=99)
  restored.write(numbered(500, 2))
  restored.restore({**json.loads(text), 'arrays': arrays})
  assert len(restored) == len(replay) == min(written, 7)
  for first in range(1000, 1030, 3):
    for other in (replay, restored):
      other.write(numbered(first, 3))
    np.testing.assert_equal(restored.sample(6), replay.sample(6))
  np.testing.assert_equal(restored.save(), replay.save())


def test_what_was_saved_does_not_change_later():
  replay = make()
  replay.write(numbered(0, 7))
  saved = replay.save()
  state = json.dumps(saved['rng'])
  replay.write(numbered(7, 5))
  replay.sample(3)
  assert sorted(saved['arrays']['length'].tolist()) == list(range(7))
  assert saved['inserts'] == 7
  assert json.dumps(saved['rng']) == state
