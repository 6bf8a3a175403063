"""A run's folder: made once, resumed by the same command, refused by name."""

import dataclasses
import errno
import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from launch import experiment as experiment_lib
from launch import factory, run_folder
from launch.errors import ConfigError
from launch.experiment import Experiment
from launch.hosts import LocalHost
from learners import checkpoint
from learners.registry import ALGORITHMS
from safety import visits

ALG = 'contrastive_cpc'


@pytest.fixture
def experiment(tmp_path):
  return Experiment(
      env='point_Small', alg=ALG, seed=1, preset='cpu',
      agent=ALGORITHMS[ALG].configure(ALG, 'cpu', {}), num_steps=1000,
      run_name='a_run', log_dir_path=str(tmp_path / 'logs'))


def change(experiment, agent=None, **settings):
  changed = dataclasses.replace(experiment.agent, **(agent or {}))
  return dataclasses.replace(experiment, agent=changed, **settings)


def read(*parts):
  with open(os.path.join(*parts), encoding='utf-8') as f:
    return f.read()


def save(run_dir, step, actor_steps):
  """Writes a checkpoint of a run that has done `actor_steps`."""
  checkpoint.save(
      run_folder.checkpoint_dir(run_dir), step, {'x': np.zeros(3)},
      {'counter': {'counts': {'actor_steps': actor_steps}}})


def test_a_new_folder_says_what_runs_in_it(experiment, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['launch/lp_run.py', '--seed=1'])
  run_dir = run_folder.prepare(experiment)
  assert run_dir == os.path.join(experiment.log_dir_path, 'a_run')
  assert sorted(os.listdir(run_dir)) == [
      'checkpoints', 'command.txt', 'config.json', 'figures', 'git.json',
      'nodes', 'replay', 'run_id']
  assert experiment_lib.from_json(read(run_dir, 'config.json')) == experiment
  assert run_folder.load(run_dir) == experiment
  assert read(run_dir, 'command.txt') == (
      f'{sys.executable} launch/lp_run.py --seed=1\n')
  state, = json.loads(read(run_dir, 'git.json'))
  assert set(state) == {'commit', 'diff'}


def test_nobody_else_may_put_code_into_the_nodes_folder(experiment):
  run_dir = run_folder.prepare(experiment)
  mode = stat.S_IMODE(os.stat(run_folder.nodes_dir(run_dir)).st_mode)
  assert mode == 0o700


def save_replay(run_dir, serial):
  """Leaves what either kind of run keeps of its replay."""
  path = (run_folder.memory_replay_path(run_dir) if serial else
          os.path.join(run_folder.replay_dir(run_dir), '2026-01-01', 'DONE'))
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, 'w', encoding='utf-8'):
    pass


def test_the_same_experiment_may_go_on(experiment, monkeypatch):
  run_dir = run_folder.prepare(experiment)
  save(run_dir, 5, 100)
  save_replay(run_dir, serial=False)
  monkeypatch.setattr(sys, 'argv', ['lp_run.py', 'again'])
  assert run_folder.prepare(experiment) == run_dir
  assert len(checkpoint.checkpoints(run_folder.checkpoint_dir(run_dir))) == 1
  # Every command that ever ran is kept.
  commands = read(run_dir, 'command.txt').splitlines()
  assert len(commands) == 2 and commands[1].endswith('lp_run.py again')


@pytest.mark.parametrize('serial', [True, False])
def test_a_run_goes_on_with_the_replay_it_was_saved_with(experiment, serial):
  run_dir = run_folder.prepare(experiment, serial)
  # Without a checkpoint nothing depends on replay yet.
  run_folder.prepare(experiment, serial)
  save(run_dir, 5, 100)
  with pytest.raises(ConfigError, match='holds no replay'):
    run_folder.prepare(experiment, serial)
  save_replay(run_dir, serial)
  assert run_folder.prepare(experiment, serial) == run_dir
  with pytest.raises(ConfigError, match='--serial.*only be resumed that way'):
    run_folder.prepare(experiment, not serial)


def test_replay_saved_without_its_learner_is_dropped(experiment):
  run_dir = run_folder.prepare(experiment)
  save_replay(run_dir, serial=False)
  run_folder.prepare(experiment)
  assert os.listdir(run_folder.replay_dir(run_dir)) == []


def test_a_replay_that_was_being_saved_is_none(experiment):
  run_dir = run_folder.prepare(experiment)
  save(run_dir, 5, 100)
  save_replay(run_dir, serial=False)
  done = os.path.join(run_folder.replay_dir(run_dir), '2026-01-01', 'DONE')
  os.rename(done, done + '.not')
  with pytest.raises(ConfigError, match='holds no replay'):
    run_folder.prepare(experiment)


def test_what_is_left_of_half_a_replay_makes_room(experiment):
  run_dir = run_folder.prepare(experiment)
  save(run_dir, 5, 100)
  save_replay(run_dir, serial=False)
  half = os.path.join(run_folder.replay_dir(run_dir), '2026-01-02')
  os.makedirs(half)
  run_folder.prepare(experiment)
  assert os.listdir(run_folder.replay_dir(run_dir)) == ['2026-01-01']


@pytest.fixture
def locks():
  files = []
  yield files
  for file in files:
    os.close(file)


@pytest.mark.parametrize('overrides, remedy', [
    ({}, '--log_dir_path'),
    # Another folder, but the same environment and seed.
    ({'run_name': 'another_run'}, '--seed')])
def test_folders_in_use_are_refused(
    experiment, tmp_path, monkeypatch, locks, overrides, remedy):
  monkeypatch.chdir(tmp_path)
  locks += run_folder.lock(experiment)
  with pytest.raises(ConfigError) as error:
    run_folder.lock(change(experiment, **overrides))
  assert f'in use by the run of process {os.getpid()}' in str(error.value)
  assert remedy in str(error.value)
  locks += run_folder.lock(change(experiment, run_name='third', seed=99))


def test_a_lock_lasts_as_long_as_any_process_has_it(
    experiment, tmp_path, monkeypatch, locks):
  monkeypatch.chdir(tmp_path)
  files = run_folder.lock(experiment)
  node = LocalHost(keep_open=files).start(
      ['sleep', '60'], {}, open(os.devnull, 'w'), console=False)
  try:
    for file in files:
      os.close(file)
    with pytest.raises(ConfigError, match='in use'):
      run_folder.lock(experiment)
  finally:
    node.kill()
    node.wait()
  locks += run_folder.lock(experiment)


def everything_below(path):
  return sorted(os.path.relpath(os.path.join(folder, name), path)
                for folder, folders, files in os.walk(path)
                for name in folders + files)


@pytest.mark.parametrize('in_use', ['the run', 'the visits'])
def test_a_refused_lock_leaves_nothing_behind(
    experiment, tmp_path, monkeypatch, locks, in_use):
  monkeypatch.chdir(tmp_path)
  locks += run_folder.lock(experiment)
  before = everything_below(tmp_path)
  other = (change(experiment, seed=99) if in_use == 'the run' else
           change(experiment, log_dir_path='elsewhere/logs'))
  with pytest.raises(ConfigError, match='in use by the run of process'):
    run_folder.lock(other)
  assert everything_below(tmp_path) == before
  # What was taken before the refusal was given back.
  for file in locks:
    os.close(file)
  locks[:] = run_folder.lock(other)


def test_a_file_system_without_locks_is_named(
    experiment, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)

  def no_locks(file, operation):
    del file, operation
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

  monkeypatch.setattr(run_folder.fcntl, 'flock', no_locks)
  with pytest.raises(ConfigError, match='locked.*--log_dir_path'):
    run_folder.lock(experiment)
  assert everything_below(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(
    experiment, tmp_path, monkeypatch, locks):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'safety_region_visits_data').write_text('a file')
  with pytest.raises(ConfigError, match='start in another folder'):
    run_folder.lock(experiment)
  assert everything_below(tmp_path) == ['safety_region_visits_data']


def test_a_run_has_one_name_wherever_its_folder_is(experiment, tmp_path):
  run_dir = run_folder.prepare(experiment)
  name = run_folder.run_id(run_dir)
  assert name == run_folder.run_id(run_folder.prepare(experiment))
  assert name != run_folder.run_id(
      run_folder.prepare(change(experiment, run_name='another')))
  moved = change(experiment, log_dir_path=str(tmp_path / 'moved'))
  os.renames(run_dir, experiment_lib.run_dir(moved))
  assert run_folder.run_id(run_folder.prepare(moved)) == name


def test_a_moved_run_keeps_its_region_visits(
    experiment, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  run_dir = run_folder.prepare(experiment)
  log = factory.counter_arguments(experiment)['visits']
  log.append(np.ones((30, 1), int))
  log.flush()
  checkpoint.save(
      run_folder.checkpoint_dir(run_dir), 1, {'x': np.zeros(3)},
      {'counter': {'counts': {'actor_episodes': 30}}})
  moved = change(experiment, log_dir_path=str(tmp_path / 'moved'))
  os.renames(run_dir, experiment_lib.run_dir(moved))
  save_replay(experiment_lib.run_dir(moved), serial=False)
  run_folder.prepare(moved)
  assert factory.counter_arguments(moved)['visits'].num_episodes == 30
  read = visits.read_visits(experiment_lib.visits_dir(moved))
  assert read['episodes'].tolist() == list(range(30))


@pytest.mark.parametrize('restart', ['restart', 'overwrite'])
def test_a_run_may_start_anew_where_another_one_was(
    experiment, tmp_path, monkeypatch, locks, restart):
  monkeypatch.chdir(tmp_path)
  run_dir = run_folder.prepare(experiment)
  save(run_dir, 5, 100)
  other = change(experiment, {'batch_size': 32})
  held = run_folder.lock(other)
  locks += run_folder.set_aside(other, restart, held)
  assert run_folder.prepare(other) == run_dir
  assert run_folder.load(run_dir) == other
  assert run_folder.saved_counter(run_dir) is None
  # The new folder is locked.
  with pytest.raises(ConfigError, match=f'{run_dir} is in use'):
    run_folder.lock(change(other, seed=99))
  aside = [name for name in os.listdir(experiment.log_dir_path)
           if name.startswith('a_run.until-')]
  assert len(aside) == (restart == 'restart')
  for name in aside:
    old = os.path.join(experiment.log_dir_path, name)
    assert run_folder.load(old) == experiment
    assert run_folder.saved_counter(old)['counts'] == {'actor_steps': 100}


def test_a_run_is_resumed_unless_told_otherwise(experiment):
  run_dir = run_folder.prepare(experiment)
  assert run_folder.set_aside(experiment, 'resume', (1, 2)) == (1, 2)
  assert os.path.exists(run_dir)


def test_nothing_is_overwritten_but_a_run(experiment):
  run_dir = experiment_lib.run_dir(experiment)
  os.makedirs(os.path.join(run_dir, 'thesis'))
  assert run_folder.set_aside(experiment, 'overwrite', (1, 2)) == (1, 2)
  assert os.listdir(run_dir) == ['thesis']


def test_the_state_of_the_code_is_kept_for_every_start(
    experiment, monkeypatch):
  states = [{'commit': c, 'diff': ''} for c in ('first', 'first', 'second')]
  started = iter(states)
  monkeypatch.setattr(run_folder, 'git_state', lambda: next(started))
  for _ in states:
    run_dir = run_folder.prepare(experiment)
  assert json.loads(read(run_dir, 'git.json')) == [states[0], states[2]]


def test_what_may_change_is_taken_over(experiment):
  run_dir = run_folder.prepare(experiment)
  longer = change(experiment, num_steps=2000, num_actors=9)
  run_folder.prepare(longer)
  assert run_folder.load(run_dir) == longer


def test_changed_settings_are_refused_by_name(experiment):
  run_dir = run_folder.prepare(experiment)
  with pytest.raises(ConfigError) as error:
    run_folder.prepare(change(
        experiment, {'batch_size': 32}, env='point_Cross', num_steps=5))
  message = str(error.value)
  for words in ("env: the run has 'point_Small', got 'point_Cross'",
                'agent.batch_size: the run has 64, got 32',
                run_dir, '--add_uid', '--log_dir_path'):
    assert words in message, message
  assert 'num_steps' not in message
  # Nothing is overwritten by what was refused.
  assert run_folder.load(run_dir) == experiment
  assert len(read(run_dir, 'command.txt').splitlines()) == 1


@pytest.mark.parametrize('text', [
    '', '{', '[]', '{"env": "point_Small"}', '{"alg": "unheard_of"}',
    '{"alg": "contrastive_cpc", "agent": {"unheard_of": 1}}'])
def test_a_folder_whose_settings_cannot_be_read_is_refused(experiment, text):
  run_dir = run_folder.prepare(experiment)
  path = os.path.join(run_dir, 'config.json')
  with open(path, 'w', encoding='utf-8') as f:
    f.write(text)
  with pytest.raises(ConfigError) as error:
    run_folder.prepare(experiment)
  assert path in str(error.value) and 'move' in str(error.value)


def test_a_folder_that_cannot_be_written_is_refused(experiment, tmp_path):
  # A folder below a file cannot be made, not even by the superuser.
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError) as error:
    run_folder.prepare(change(
        experiment, log_dir_path=str(tmp_path / 'file' / 'logs')))
  message = str(error.value)
  for words in ('--log_dir_path', str(tmp_path / 'file' / 'logs' / 'a_run'),
                'Not a directory', 'can be written'):
    assert words in message, message


def test_a_folder_without_a_run_cannot_be_loaded(tmp_path):
  with pytest.raises(ConfigError, match='no config.json'):
    run_folder.load(str(tmp_path))


@pytest.mark.parametrize('done, complete', [
    (None, False), (0, False), (999, False), (1000, True), (1100, True)])
def test_a_run_is_complete_when_its_checkpoint_has_all_steps(
    experiment, done, complete):
  run_dir = run_folder.prepare(experiment)
  if done is not None:
    save(run_dir, 1, 10)
    save(run_dir, 2, done)
    saved = run_folder.saved_counter(run_dir)
    assert saved == {'counts': {'actor_steps': done}}
  assert run_folder.is_complete(experiment) is complete
  assert not run_folder.is_complete(change(experiment, num_steps=5000))


def test_a_run_that_never_was_has_no_counter(experiment):
  assert run_folder.saved_counter(experiment_lib.run_dir(experiment)) is None
  assert not run_folder.is_complete(experiment)


def git(folder, *arguments):
  return subprocess.run(
      ['git', '-C', str(folder), '-c', 'user.name=n', '-c', 'user.email=e@x',
       *arguments], check=True, capture_output=True, text=True).stdout


def test_git_state_is_the_commit_and_what_differs_from_it(
    tmp_path, monkeypatch):
  (tmp_path / 'launch').mkdir()
  source = tmp_path / 'launch' / 'run_folder.py'
  monkeypatch.setattr(run_folder, '__file__', str(source))
  assert run_folder.git_state() == {'commit': None, 'diff': None}

  source.write_text('one\n')
  git(tmp_path, 'init', '-q')
  git(tmp_path, 'add', '.')
  git(tmp_path, 'commit', '-q', '-m', 'first')
  commit = git(tmp_path, 'rev-parse', 'HEAD').strip()
  assert run_folder.git_state() == {'commit': commit, 'diff': ''}

  source.write_text('two\n')
  state = run_folder.git_state()
  assert state['commit'] == commit
  assert '-one\n+two\n' in state['diff']


def test_without_git_there_is_no_state(monkeypatch):
  monkeypatch.setenv('PATH', '')
  assert run_folder.git_state() == {'commit': None, 'diff': None}
