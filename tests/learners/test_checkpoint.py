"""Checkpoints: bit for bit, newest and best, and nothing trusted blindly."""

import json
import os
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners import checkpoint


class State(NamedTuple):
  """A training state with every kind of node and leaf."""
  params: Any
  opt: Any
  nothing: Any
  steps: Any
  key: Any


def make_state(seed=0):
  """Returns a state of odd bit patterns."""
  rng = np.random.default_rng(seed)
  floats = rng.integers(0, 2**32, (3, 2), np.uint32).view(np.float32)
  return State(
      params={'mlp/~/linear_0': {'w': jnp.asarray(floats),
                                 'b': jnp.array([-0.0, np.inf, np.nan])}},
      opt=[[jnp.int32(2**31 - 1 - seed), (jnp.ones(0), np.int64(seed))],
           [np.array([True, False]), [np.uint8(seed)]]],
      nothing=(),
      steps=jnp.asarray(seed, jnp.int32),
      key=jax.random.split(jax.random.key(seed), 2))


def empty(state):
  """Returns a template: the same structure with other values."""
  return jax.tree.map(
      lambda leaf: jax.random.clone(leaf)
      if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
      else np.zeros_like(leaf), state)


def bits(leaf):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  leaf = np.asarray(leaf)
  return leaf.dtype, leaf.shape, leaf.tobytes()


def assert_same(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right)):
    assert bits(a) == bits(b)


def steps_kept(directory):
  return [int(os.path.basename(path).split('-')[1])
          for path in checkpoint.checkpoints(str(directory))]


def number(step):
  """Returns a state that tells which step it was saved at."""
  return {'n': np.full(50, step)}


def save_numbers(directory, steps, scores=None, keep=3):
  for i, step in enumerate(steps):
    checkpoint.save(str(directory), step, number(step), {'made': step}, keep,
                    scores[i] if scores else None)


def test_a_state_comes_back_bit_for_bit(tmp_path):
  state = make_state(seed=7)
  path = checkpoint.save(str(tmp_path), 12, state, {'counter': {'a': [1.5]}})
  restored = checkpoint.load_latest(str(tmp_path), empty(state))
  assert_same(restored.state, state)
  assert restored.path == path
  assert restored.meta == {'counter': {'a': [1.5]}, 'step': 12, 'score': None}


def test_a_restored_key_draws_what_the_saved_one_would(tmp_path):
  state = make_state(seed=3)
  checkpoint.save(str(tmp_path), 1, state, {})
  key = checkpoint.load_latest(str(tmp_path), make_state(4)).state.key
  assert key.shape == (2,)
  np.testing.assert_array_equal(
      jax.random.normal(key[1], (5,)), jax.random.normal(state.key[1], (5,)))


def test_a_restored_state_can_be_saved_again(tmp_path):
  state = make_state(seed=5)
  checkpoint.save(str(tmp_path), 1, state, {})
  restored = checkpoint.load_latest(str(tmp_path), empty(state))
  checkpoint.save(str(tmp_path), 2, restored.state, {})
  again = checkpoint.load_latest(str(tmp_path), empty(state))
  assert again.meta['step'] == 2
  assert_same(again.state, state)


def test_the_newest_is_loaded(tmp_path):
  save_numbers(tmp_path, [9, 10, 100])
  restored = checkpoint.load_latest(str(tmp_path), number(0))
  assert restored.state['n'][0] == restored.meta['made'] == 100
  assert checkpoint.latest_meta(str(tmp_path))['made'] == 100


def test_a_step_saved_twice_holds_what_was_saved_last(tmp_path):
  checkpoint.save(str(tmp_path), 5, number(1), {'made': 1})
  checkpoint.save(str(tmp_path), 5, number(2), {'made': 2})
  restored = checkpoint.load_latest(str(tmp_path), number(0))
  assert restored.state['n'][0] == restored.meta['made'] == 2
  # The first is never touched, so there is no moment without either.
  assert [os.path.basename(p) for p in checkpoint.checkpoints(str(tmp_path))
          ] == ['ckpt-000000000005-000', 'ckpt-000000000005-001']


def test_without_checkpoints_there_is_nothing_to_load(tmp_path):
  for directory in (tmp_path, tmp_path / 'missing'):
    assert checkpoint.load_latest(str(directory), number(0)) is None
    assert checkpoint.latest_meta(str(directory)) is None
    assert checkpoint.checkpoints(str(directory)) == []


@pytest.mark.parametrize('scores, kept', [
    (None, [4, 5]),
    ([0.1, 0.9, 0.2, 0.3, 0.4], [2, 4, 5]),
    ([0.9, 0.1, 0.2, 0.3, 0.4], [1, 4, 5]),
    ([0.1, 0.2, 0.3, 0.4, 0.9], [4, 5]),
    # A later one that is as good takes over; an unknown score is not good.
    ([0.9, 0.9, 0.9, 0.1, 0.1], [3, 4, 5]),
    ([None, 0.0, None, None, None], [2, 4, 5]),
    ([None, -1.0, -2.0, None, None], [2, 4, 5]),
])
def test_the_newest_and_the_best_are_kept(tmp_path, scores, kept):
  save_numbers(tmp_path, [1, 2, 3, 4, 5], scores, keep=2)
  assert steps_kept(tmp_path) == kept
  for path, step in zip(checkpoint.checkpoints(str(tmp_path)), kept):
    assert checkpoint.read_meta(path)['made'] == step
  assert checkpoint.load_latest(str(tmp_path), number(0)).meta['made'] == 5


def truncate(path, offset):
  """Cuts a file at `offset`, counted from its end if it is negative."""
  size = os.path.getsize(path)
  os.truncate(path, offset if offset >= 0 else size + offset)


TORN = [(name, offset) for name in ('state.npz', 'meta.json')
        for offset in (0, 1, 3, 4, 10, -30, -1)]


@pytest.mark.parametrize('name, offset', TORN)
def test_a_torn_checkpoint_is_skipped_for_the_one_before(
    tmp_path, name, offset):
  save_numbers(tmp_path, [1, 2, 3])
  truncate(tmp_path / 'ckpt-000000000003-000' / name, offset)
  restored = checkpoint.load_latest(str(tmp_path), number(0))
  assert restored.state['n'].tolist() == [2] * 50
  assert restored.meta['made'] == 2


@pytest.mark.parametrize('name, offset', TORN)
def test_the_newest_meta_is_that_of_the_state_that_is_loaded(
    tmp_path, name, offset):
  # Counters resume from the one and the learner from the other.
  save_numbers(tmp_path, [1, 2, 3])
  truncate(tmp_path / 'ckpt-000000000003-000' / name, offset)
  assert checkpoint.latest_meta(str(tmp_path))['made'] == 2


@pytest.mark.parametrize('name', ['state.npz', 'meta.json'])
def test_a_missing_file_is_skipped_for_the_checkpoint_before(tmp_path, name):
  save_numbers(tmp_path, [1, 2])
  os.remove(tmp_path / 'ckpt-000000000002-000' / name)
  restored = checkpoint.load_latest(str(tmp_path), number(0))
  assert restored.meta['made'] == 1


def test_a_flipped_bit_is_noticed(tmp_path):
  save_numbers(tmp_path, [1, 2])
  path = tmp_path / 'ckpt-000000000002-000' / 'state.npz'
  data = bytearray(path.read_bytes())
  data[data.index(number(2)['n'].tobytes()) + 100] ^= 1
  path.write_bytes(bytes(data))
  assert checkpoint.load_latest(str(tmp_path), number(0)).meta['made'] == 1


def test_when_all_are_torn_there_is_nothing(tmp_path):
  save_numbers(tmp_path, [1, 2])
  for path in checkpoint.checkpoints(str(tmp_path)):
    truncate(os.path.join(path, 'state.npz'), 20)
    truncate(os.path.join(path, 'meta.json'), 2)
  assert checkpoint.load_latest(str(tmp_path), number(0)) is None
  assert checkpoint.latest_meta(str(tmp_path)) is None


@pytest.mark.parametrize('name', ['state.npz', 'meta.json'])
def test_a_run_goes_on_saving_beside_a_torn_checkpoint(tmp_path, name):
  save_numbers(tmp_path, [1, 2], scores=[0.5, 0.6])
  truncate(tmp_path / 'ckpt-000000000002-000' / name, 5)
  save_numbers(tmp_path, [3, 4, 5], scores=[0.1, 0.1, 0.1], keep=2)
  restored = checkpoint.load_latest(str(tmp_path), number(0))
  assert restored.meta['made'] == 5
  assert steps_kept(tmp_path)[-2:] == [4, 5]


def test_what_a_killed_save_left_is_ignored_and_replaced(tmp_path):
  save_numbers(tmp_path, [1])
  leftover = tmp_path / 'ckpt-000000000002-000.tmp'
  shutil.copytree(tmp_path / 'ckpt-000000000001-000', leftover)
  (leftover / 'junk').write_text('junk')
  assert steps_kept(tmp_path) == [1]
  assert checkpoint.load_latest(str(tmp_path), number(0)).meta['made'] == 1
  save_numbers(tmp_path, [2])
  assert not leftover.exists()
  assert sorted(os.listdir(tmp_path / 'ckpt-000000000002-000')) == [
      'meta.json', 'state.npz']
  assert checkpoint.load_latest(str(tmp_path), number(0)).meta['made'] == 2


def test_what_a_killed_save_left_goes_with_the_next_one(tmp_path):
  save_numbers(tmp_path, [1])
  # The run may come back with fewer steps, or never to the same number.
  for step in (2, 9):
    shutil.copytree(tmp_path / 'ckpt-000000000001-000',
                    tmp_path / f'ckpt-{step:012d}-000.tmp')
  save_numbers(tmp_path, [3])
  assert sorted(os.listdir(tmp_path)) == [
      'ckpt-000000000001-000', 'ckpt-000000000003-000']


def test_other_names_in_the_folder_are_let_alone(tmp_path):
  for name in ('best', 'ckpt-7', 'ckpt-0000000000099', 'notes.txt', 'my.tmp'):
    (tmp_path / name).mkdir()
  save_numbers(tmp_path, [1, 2, 3], keep=1)
  assert steps_kept(tmp_path) == [3]
  assert len(os.listdir(tmp_path)) == 6


def test_a_misfit_lists_every_name_and_what_is_wrong(tmp_path):
  checkpoint.save(str(tmp_path), 1, {
      'same': np.zeros(2), 'shape': np.zeros((2, 3), np.float32),
      'dtype': np.zeros(2, np.int32), 'old': np.zeros(1)}, {})
  template = {'same': np.zeros(2), 'shape': np.zeros((3, 2), np.float32),
              'dtype': np.zeros(2, np.float32), 'new': np.zeros(1)}
  with pytest.raises(ValueError) as error:
    checkpoint.load_latest(str(tmp_path), template)
  message = str(error.value)
  for words in ("['new'] is missing", "['old'] is not expected",
                "['shape'] is float32[2, 3], needs float32[3, 2]",
                "['dtype'] is int32[2], needs float32[2]"):
    assert words in message, message
  assert 'same' not in message
  assert 'ckpt-000000000001-000' in message


def test_a_misfit_is_not_passed_over_for_an_older_checkpoint(tmp_path):
  checkpoint.save(str(tmp_path), 1, number(1), {})
  checkpoint.save(str(tmp_path), 2, {'m': np.zeros(2)}, {})
  with pytest.raises(ValueError, match='is missing'):
    checkpoint.load_latest(str(tmp_path), number(0))


class Payload:
  """Leaves a file behind when it is unpickled."""

  def __init__(self, path):
    self._path = path

  def __reduce__(self):
    return os.mkdir, (self._path,)


def test_stored_code_is_refused_and_not_run(tmp_path):
  directory, mark = tmp_path / 'checkpoints', str(tmp_path / 'mark')
  save_numbers(directory, [1])
  path = directory / 'ckpt-000000000001-000' / 'state.npz'
  np.savez(path, **{"['n']": np.array([Payload(mark)], dtype=object)})
  with pytest.raises(ValueError, match='pickle'):
    checkpoint.load_latest(str(directory), number(0))
  assert not os.path.exists(mark)
  # The payload is real: reading it the unsafe way runs it.
  with np.load(path, allow_pickle=True) as arrays:
    assert arrays["['n']"].item() is None
  assert os.path.exists(mark)


def test_meta_is_plain_json(tmp_path):
  path = checkpoint.save(str(tmp_path), 3, number(3), {'a': {'b': [1, None]}},
                         score=0.25)
  with open(os.path.join(path, 'meta.json'), encoding='utf-8') as f:
    assert json.load(f) == {'a': {'b': [1, None]}, 'step': 3, 'score': 0.25}
  assert sorted(os.listdir(path)) == ['meta.json', 'state.npz']
