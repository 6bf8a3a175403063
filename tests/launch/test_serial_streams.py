"""A whole run of an agent that learns from single steps, in one thread."""

import jax
import numpy as np
import pytest

from launch import run_folder, serial
from launch.experiment import Experiment
from learners.registry import ALGORITHMS
from tests import contracts

pytestmark = pytest.mark.usefixtures('quick_compile')

TINY = dict(batch_size=4, rep_batch_size=4, num_atoms=11, num_options=2,
            rep_dim=3, min_replay_size=100, num_sgd_steps_per_step=2)


def make(num_steps):
  return Experiment(
      env='grid_FourRoomsChanging', alg='dceo', seed=3, preset='cpu',
      agent=ALGORITHMS['dceo'].configure('dceo', 'cpu', TINY),
      num_steps=num_steps, run_name='run', num_actors=2, envs_per_actor=2,
      eval_episodes=1, log_interval=1e9)


def test_a_run_learns_and_resumes_where_it_stopped(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  run_folder.prepare(make(num_steps=160), serial=True)
  first = serial.SerialProgram(make(num_steps=160))
  assert first.run() == 0
  counts = first.counter.get_counts()
  # Steps count as they are stored, not when their episode ends.
  assert 160 <= counts['actor_steps'] < 170
  assert counts['actor_episodes'] == 0
  updates = int(counts['learner_updates'])
  assert updates == first.learner.updates
  assert abs(100 + 4 * updates - counts['actor_steps']) <= 8
  tree = first._replay._tables['main'].tree
  priorities = tree.get(np.arange(len(first._replay)))
  assert np.sum(priorities != 2.0) > 10

  again = serial.SerialProgram(make(num_steps=200))
  contracts.assert_same_values(
      again.learner.state, jax.device_get(first.learner.state), 'the state')
  assert again.counter.get_counts()['actor_steps'] == counts['actor_steps']
  np.testing.assert_array_equal(
      again._replay._tables['main'].tree.get(np.arange(len(first._replay))),
      priorities)
  again.step()
  again.step()
  assert again.learner.updates >= updates
