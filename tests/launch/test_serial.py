"""Whole runs in one thread: the same numbers each time, also after a stop."""

import dataclasses
import glob
import json
import os
import signal

import numpy as np
import pytest

from launch import experiment as experiment_lib
from launch import run_folder, serial, summary
from launch.experiment import Experiment
from learners import checkpoint
from learners.registry import ALGORITHMS
from safety import visits

pytestmark = pytest.mark.usefixtures('quick_compile')

ALG = 'contrastive_cpc'
TINY = dict(
    hidden_layer_sizes=(8,), repr_dim=4, batch_size=8,
    num_sgd_steps_per_step=4, samples_per_insert=8.0, min_replay_size=100)
# Off the way from the start (0, 0) to the goal (3, 3), but easy to get into.
BOX = '0,2:1,4'


def make(seed=1, **settings):
  return Experiment(**{**dict(
      env='point_Small', alg=ALG, seed=seed, preset='cpu',
      agent=ALGORITHMS[ALG].configure(ALG, 'cpu', TINY), num_steps=100_000,
      run_name='run', num_actors=2, envs_per_actor=1, eval_episodes=3,
      log_interval=1e9, visit_bounds=BOX), **settings})


def stop_after(program, num_steps):
  """Runs a program that gets a SIGINT after `num_steps` vectorised steps."""
  step, left = program.step, [num_steps]

  def counting_step():
    step()
    left[0] -= 1
    if left[0] == 0:
      signal.raise_signal(signal.SIGINT)

  program.step = counting_step
  return program.run()


def arrays_of(path):
  with np.load(path, allow_pickle=False) as stored:
    return {name: stored[name] for name in stored.files}


class Run:
  """A run that was stopped, and what it left in its folder."""

  def __init__(self, folder, seed):
    self.folder, self.experiment = str(folder), make(seed)
    os.makedirs(self.folder)
    with pytest.MonkeyPatch.context() as patch:
      patch.chdir(self.folder)
      run_folder.prepare(self.experiment, serial=True)
      self.program = serial.SerialProgram(self.experiment)
      handler = signal.getsignal(signal.SIGINT)
      self.status = stop_after(self.program, 160)
      assert signal.getsignal(signal.SIGINT) == handler

  def path(self, *parts):
    return os.path.join(self.folder, 'logs', 'run', *parts)

  @property
  def checkpoint(self):
    """Arrays and counts of the newest checkpoint."""
    path = checkpoint.checkpoints(self.path('checkpoints'))[-1]
    meta = checkpoint.read_meta(path)
    return arrays_of(os.path.join(path, 'state.npz')), meta

  @property
  def logs(self):
    """Log columns that do not depend on the machine's speed."""
    timed = ('seconds', 'steps_per_second', 'wait_fraction')
    return {
        (role, name): values.tolist() for role in ('actor', 'evaluator')
        for name, values in summary.read_log(self.path(), role).items()
        if name not in timed}

  @property
  def visits(self):
    return visits.read_visits(os.path.join(
        self.folder, experiment_lib.visits_dir(self.experiment)))


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Two runs of one seed and one of another, each stopped by a signal."""
  folder = tmp_path_factory.mktemp('runs')
  return [Run(folder / name, seed)
          for name, seed in (('one', 1), ('again', 1), ('other', 2))]


def differing(left, right):
  """Returns the names of the arrays that differ in any bit."""
  assert set(left) == set(right)
  return [name for name in left
          if (left[name].dtype, left[name].shape, left[name].tobytes()) != (
              right[name].dtype, right[name].shape, right[name].tobytes())]


def test_a_stopped_run_saves_and_leaves_its_record(runs):
  for run in runs:
    assert run.status == 0
    _, meta = run.checkpoint
    # 160 calls are the reset and three episodes of 50 steps with their resets.
    assert meta['counter']['counts']['actor_episodes'] == 6
    assert meta['counter']['counts']['actor_steps'] == 300
    # Each step pays for an update once 100 are stored; 12 are not stored yet.
    # A call of four is made as soon as the first of them is due.
    assert meta['step'] == meta['counter']['counts']['learner_updates'] == 216
    assert meta['counter']['counts']['learner_steps'] == 54
    for pattern in ('replay/memory.npz', 'figures/eval_paths.npz',
                    'logs/evaluator/logs.csv', 'logs/actor/logs.csv',
                    'tensorboard/actor/*'):
      assert len(glob.glob(run.path(pattern))) == 1, pattern
    assert run.visits['episodes'].tolist() == list(range(6))


def test_the_same_seed_gives_the_same_numbers(runs):
  one, again, _ = runs
  assert differing(one.checkpoint[0], again.checkpoint[0]) == []
  assert one.checkpoint[1]['counter']['counts'] == (
      again.checkpoint[1]['counter']['counts'])
  assert one.checkpoint[1]['counter']['episodes'] == (
      again.checkpoint[1]['counter']['episodes'])
  for pattern in ('replay/memory.npz', 'figures/eval_paths.npz'):
    left, right = arrays_of(one.path(pattern)), arrays_of(again.path(pattern))
    assert differing(left, right) == [], pattern
  np.testing.assert_equal(one.logs, again.logs)
  assert len(one.logs[('actor', 'success_100')]) == 1
  np.testing.assert_equal(one.visits, again.visits)


def test_another_seed_gives_others(runs):
  one, _, other = runs
  same = set(one.checkpoint[0]) - set(
      differing(one.checkpoint[0], other.checkpoint[0]))
  # Only what counts steps, and the entropy weight that is not adapted.
  assert all('w' not in name.split("'") for name in same), same
  assert differing(arrays_of(one.path('replay/memory.npz')),
                   arrays_of(other.path('replay/memory.npz')))
  assert one.logs[('actor', 'min_dist')] != other.logs[('actor', 'min_dist')]


def test_a_resumed_run_takes_over_everything_and_goes_on(runs):
  run, _, _ = runs
  before, counts = run.program, run.program.counter.get_counts()
  assert counts['actor_steps'] == 300
  experiment = make(num_steps=450)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(run.folder)
    run_folder.prepare(experiment, serial=True)
    resumed = serial.SerialProgram(experiment)
    assert resumed.counter.get_counts() == counts
    assert resumed.learner.updates == before.learner.updates == 216
    np.testing.assert_equal(resumed._replay.save(), before._replay.save())
    arrays = checkpoint._flatten(before.learner.state)
    assert differing(checkpoint._flatten(resumed.learner.state), arrays) == []
    for have in (-1, 0):
      updates, variables = resumed.learner.get_variables(have)
      assert updates == 216
      np.testing.assert_equal(variables, before.learner.get_variables(-1)[1])

    assert resumed.run() == 0
    assert run_folder.is_complete(experiment)
  # The unfinished episodes were lost, so two waves of 100 steps are new.
  _, meta = run.checkpoint
  assert meta['counter']['counts']['actor_steps'] == 500
  assert meta['counter']['counts']['actor_episodes'] == 10
  assert meta['step'] == 404
  assert run.visits['episodes'].tolist() == list(range(10))
  replay = arrays_of(run.path('replay/memory.npz'))
  observation = replay['observation']
  assert len(observation) == json.loads(str(replay['meta']))['inserts'] == 10
  # Nobody repeated an episode after the restart.
  assert len(np.unique(observation[:, 1], axis=0)) == 10


def test_enforcement_keeps_a_run_out_of_its_region(runs, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  # One actor, because every enforced policy takes long to compile.
  experiment = make(num_steps=300, region_bounds=BOX, visit_bounds=None,
                    safety_enforcement=True, num_actors=1, envs_per_actor=2)
  run_folder.prepare(experiment, serial=True)
  assert serial.run(experiment) == 0
  counts = visits.read_visits(experiment_lib.visits_dir(experiment))
  assert counts['counts'].tolist() == [[0]] * 6
  columns = summary.read_log('logs/run', 'actor')
  assert columns['interventions_100'][-1] > 0
  assert np.all(summary.read_log('logs/run', 'evaluator')[
      'region_visits'] == 0)
  # The same run without enforcement was there.
  assert runs[0].visits['counts'].sum() > 0


def test_roles_have_streams_of_their_own():
  seeds = [serial.factory.role_seed(make(seed), role, index, generation)
           for seed in (1, 2) for role in (
               'learner', 'actor', 'evaluator', 'replay')
           for index in (0, 1, 2) for generation in (0, 1, 500)]
  assert len(set(seeds)) == len(seeds)
  assert serial.factory.role_seed(make(1), 'actor', 2, 500) == (
      serial.factory.role_seed(
          dataclasses.replace(make(1), num_steps=7), 'actor', 2, 500))
