"""Checkpoints that are damaged, and disks that cannot take them."""

import os
import shutil
import subprocess
import sys
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from learners import checkpoint
from tests.launch.processes import ROOT

FEW = settings(max_examples=40, deadline=None, database=None)


def state_of(step):
  rng = np.random.default_rng(step)
  return {'w': rng.normal(size=(5, 3)).astype(np.float32),
          'n': np.full(4, step), 'empty': np.zeros((0, 2))}


def saved(folder, steps):
  for step in steps:
    checkpoint.save(folder, step, state_of(step), {'made': step})


def loaded(folder):
  """Returns which checkpoint is loaded, having checked that it is as saved."""
  restored = checkpoint.load_latest(folder, state_of(0))
  meta = checkpoint.latest_meta(folder)
  if restored is None:
    assert meta is None
    return None
  # The counter resumes from one, the learner from the other.
  assert meta == restored.meta
  step = restored.meta['made']
  for name, value in state_of(step).items():
    np.testing.assert_array_equal(restored.state[name], value)
  return step


@pytest.fixture(scope='module')
def pristine(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('pristine'))
  saved(folder, [1, 2])
  return folder


@FEW
@given(name=st.sampled_from(['state.npz', 'meta.json']), share=st.floats(0, 1))
def test_cut_off_anywhere_it_is_skipped(pristine, name, share):
  with tempfile.TemporaryDirectory() as folder:
    shutil.copytree(pristine, folder, dirs_exist_ok=True)
    path = os.path.join(checkpoint.checkpoints(folder)[-1], name)
    size = os.path.getsize(path)
    os.truncate(path, min(size - 1, int(share * size)))
    assert loaded(folder) == 1


@FEW
@given(share=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255),
       length=st.integers(1, 40))
def test_bytes_that_changed_are_noticed(pristine, share, value, length):
  with tempfile.TemporaryDirectory() as folder:
    shutil.copytree(pristine, folder, dirs_exist_ok=True)
    path = os.path.join(checkpoint.checkpoints(folder)[-1], 'state.npz')
    with open(path, 'r+b') as f:
      data = bytearray(f.read())
      begin = int(share * len(data))
      for i in range(begin, min(begin + length, len(data))):
        data[i] ^= value
      f.seek(0)
      f.write(data)
    # Some bytes of an archive say nothing, such as the time of writing.
    assert loaded(folder) in (1, 2)


@FEW
@given(junk=st.binary(max_size=200), name=st.sampled_from(
    ['state.npz', 'meta.json']))
def test_junk_is_skipped(pristine, junk, name):
  with tempfile.TemporaryDirectory() as folder:
    shutil.copytree(pristine, folder, dirs_exist_ok=True)
    path = os.path.join(checkpoint.checkpoints(folder)[-1], name)
    with open(path, 'wb') as f:
      f.write(junk)
    assert loaded(folder) == 1


ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.tuples(
        st.sampled_from(['float32', 'float64', 'int32', 'uint8', 'bool']),
        st.lists(st.integers(0, 3), max_size=3)),
    min_size=1, max_size=5)


@settings(FEW, max_examples=15)
@given(layout=ARRAYS, seed=st.integers(0, 99))
def test_any_state_comes_back(layout, seed):
  rng = np.random.default_rng(seed)
  state = {
      name: np.frombuffer(
          rng.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize),
          dtype).reshape(shape)
      if dtype != 'bool' else rng.random(shape) < 0.5
      for name, (dtype, shape) in layout.items()}
  with tempfile.TemporaryDirectory() as folder:
    checkpoint.save(folder, 1, state, {})
    restored = checkpoint.load_latest(
        folder, {n: np.zeros_like(v) for n, v in state.items()}).state
  assert set(restored) == set(state)
  for name, value in state.items():
    assert np.asarray(restored[name]).tobytes() == value.tobytes()


BAD_DISK = """
import os, subprocess, sys
import numpy as np
from learners import checkpoint
folder = sys.argv[1]
for step in (1, 2):
  checkpoint.save(folder, step, {'x': np.full(1000, step)}, {'made': step})
for numbers in (10**6, 1000):
  try:
    checkpoint.save(folder, 3, {'x': np.zeros(numbers)}, {})
  except checkpoint.SaveError as e:
    print(e)
  restored = checkpoint.load_latest(folder, {'x': np.zeros(1000, int)})
  assert restored.meta['made'] == 2 and (restored.state['x'] == 2).all()
  assert len(os.listdir(folder)) == 2, os.listdir(folder)
  subprocess.run(['mount', '-o', 'remount,ro', folder], check=True)
"""


def test_a_disk_that_takes_no_more_keeps_the_last_good_one(tmp_path):
  in_namespace = ['unshare', '--map-root-user', '--mount']
  if subprocess.run([*in_namespace, 'mount', '-t', 'tmpfs', 'none',
                     str(tmp_path)], capture_output=True).returncode:
    pytest.skip('this machine lets nobody mount a small disk')
  done = subprocess.run(
      [*in_namespace, 'sh', '-c', 'mount -t tmpfs -o size=2m none "$1" && '
       'exec "$2" -c "$3" "$1"', 'sh', str(tmp_path), sys.executable, BAD_DISK],
      capture_output=True, text=True, timeout=120, cwd=ROOT)
  assert done.returncode == 0, done.stderr
  for line, reason in zip(done.stdout.splitlines(), (
      'No space left on device', 'Read-only file system'), strict=True):
    for words in (reason, 'ckpt-000000000003', 'the last good one is',
                  'ckpt-000000000002-000', 'Make room'):
      assert words in line
