"""Whatever is wrong is said once, before anything runs or is written."""

import dataclasses
import hashlib
import json
import os
import sys

from absl import flags
from absl.testing import flagsaver
import jax
import numpy as np
import pytest

from launch import experiment as experiment_lib
from launch import factory, lp_run, network, run_folder
from launch.errors import ConfigError
from learners import checkpoint
from learners.contrastive import weights
from tests.launch.test_command_line import BAD

FLAGS = flags.FLAGS
RUN = os.path.join('logs', 'contrastive_cpc_point_Small_7')
VISITS = 'safety_region_visits_data'


def write(path, data):
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  with open(path, 'w' if isinstance(data, str) else 'wb') as f:
    f.write(data)


def parse(*arguments):
  FLAGS.unparse_flags()
  return FLAGS(['lp_run.py', '--lp_launch_type=local_mp', *arguments])


def an_experiment(*arguments):
  parse('--env=point_Small', '--seed=7', *arguments)
  return lp_run.command_line.experiment_from_flags()


def a_run(steps=100, replay='reverb', arguments=()):
  """Makes the folder of a run that was stopped at its first checkpoint."""
  experiment = an_experiment(*arguments)
  run_folder.prepare(experiment, serial=replay == 'memory')
  if steps is not None:
    checkpoint.save(
        run_folder.checkpoint_dir(RUN), 5, {'x': np.zeros(3)},
        {'counter': {'counts': {'actor_steps': steps}, 'episodes': {},
                     'score': None, 'seconds': 1.0}})
  if replay == 'memory':
    write(run_folder.memory_replay_path(RUN), 'not looked into before the run')
  elif replay:
    write(os.path.join(run_folder.replay_dir(RUN), '2026', 'DONE'), '')


def config(text):
  def arrange():
    a_run()
    write(os.path.join(RUN, 'config.json'), text)
  return arrange


def changed(**values):
  """A config.json with some values put in, or with None, taken out."""
  def arrange():
    a_run()
    path = os.path.join(RUN, 'config.json')
    with open(path, encoding='utf-8') as f:
      stored = json.load(f)
    for name, value in values.items():
      if value is None:
        del stored[name]
      else:
        stored[name] = value
    write(path, json.dumps(stored))
  return arrange


def meta(value):
  def arrange():
    a_run()
    newest, = checkpoint.checkpoints(run_folder.checkpoint_dir(RUN))
    write(os.path.join(newest, 'meta.json'), json.dumps(value))
  return arrange


def a_file_at(path):
  return lambda: write(path, 'a file, not a folder')


def a_folder_at(path):
  return lambda: os.makedirs(path)


def nothing():
  pass


def locked(which):
  def arrange():
    experiment = an_experiment()
    if which == 'visits':
      experiment = dataclasses.replace(experiment, log_dir_path='elsewhere')
    HELD.extend(run_folder.lock(experiment))
  return arrange


HELD = []
SAME = '--env=point_Small --seed=7'

# Flags, what is there before, and the words that must be in the answer.
FOLDERS = [
    ('config empty', SAME, config(''), ['config.json', 'cannot be read']),
    ('config not JSON', SAME, config('{"alg": '), ['config.json', 'column']),
    ('config not text', SAME, config(b'\xff\xfe'), ['config.json', 'decode']),
    ('config a list', SAME, config('[1, 2]'), ['config.json', 'no settings']),
    ('config a number', SAME, config('7'), ['config.json', 'no settings']),
    ('config null', SAME, config('null'), ['config.json', 'no settings']),
    ('config without agent', SAME, changed(agent=None), [
        'config.json', 'agent']),
    ('config without env', SAME, changed(env=None), ['config.json', 'env']),
    ('config of no algorithm', SAME, changed(alg='sac'), [
        'config.json', 'sac']),
    ('config with an unknown name', SAME, changed(colour='red'), [
        'config.json', 'colour']),
    ('config with an agent that is a list', SAME, changed(agent=[1]), [
        'config.json', 'no settings']),
    ('config with an unknown setting', SAME, changed(agent={'speed': 1}), [
        'config.json', 'speed']),
    ('config a folder', SAME, a_folder_at(os.path.join(RUN, 'config.json')), [
        'config.json', 'cannot be read']),
    ('another environment', f'{SAME} --sample_goals', a_run, [
        'sample_goals', 'False', 'True', '--restart=restart']),
    ('another discount', f'{SAME} --discount=0.5', a_run, [
        'agent.discount', '0.99', '0.5', '--add_uid']),
    ('another preset', f'{SAME} --preset=reference', a_run, [
        'preset', "'cpu'", "'reference'", 'agent.batch_size']),
    ('other regions', f'{SAME} --visit_bounds=0,2:1,3', a_run, [
        'visit_bounds', '0,2:1,3', '--restart=overwrite']),
    ('more environments', f'{SAME} --envs_per_actor=9', a_run, [
        'envs_per_actor', '2', '9']),
    ('a complete run with another setting',
     f'{SAME} --discount=0.5 --num_steps=100', a_run, ['agent.discount']),
    ('serial after processes', f'{SAME} --serial', a_run, [
        'without --serial', 'only be resumed that way']),
    ('processes after serial', SAME, lambda: a_run(replay='memory'), [
        'with --serial', 'only be resumed that way']),
    ('no replay', SAME, lambda: a_run(replay=None), [
        'holds no replay', 'move']),
    ('checkpoint without counts', SAME, meta({}), [
        'holds no counts', 'remove']),
    ('checkpoint with counts of another kind', SAME, meta({'counter': [1]}), [
        'holds no counts']),
    ('checkpoint with half a counter', SAME, meta({'counter': {}}), [
        'holds no counts']),
    ('run folder a file', SAME, a_file_at(RUN), [
        RUN, 'no folder', '--add_uid']),
    ('log folder a file', SAME, a_file_at('logs'), [
        RUN, 'Not a directory', '--log_dir_path']),
    ('log folder below a file', f'{SAME} --log_dir_path=a/b',
     a_file_at('a'), ['a/b', 'Not a directory', '--log_dir_path']),
    ('log folder that cannot be made', f'{SAME} --log_dir_path=/proc/none',
     nothing, ['/proc/none', '--log_dir_path']),
    ('log folder named by a NUL', f'{SAME} --log_dir_path=a\0b', nothing, [
        'log_dir_path', 'a\\x00b', 'a folder']),
    ('log folder named by nothing', f'{SAME} --log_dir_path=', nothing, [
        'log_dir_path']),
    ('name of the folder too long', f'{SAME} --log_dir_path={"x" * 300}',
     nothing, ['File name too long', '--log_dir_path']),
    ('checkpoints a file', SAME, a_file_at(os.path.join(RUN, 'checkpoints')), [
        RUN, 'no folder', '--log_dir_path']),
    ('nodes a file', SAME, a_file_at(os.path.join(RUN, 'nodes')), [
        RUN, 'no folder', '--log_dir_path']),
    ('lock a folder', SAME, a_folder_at(os.path.join(RUN, 'lock')), [
        RUN, 'Is a directory', '--log_dir_path']),
    ('git states not JSON', SAME,
     lambda: (a_run(), write(os.path.join(RUN, 'git.json'), '[{')), [
         'git.json', 'cannot be read', 'remove']),
    ('visits a file', SAME, a_file_at(VISITS), [
        VISITS, 'Not a directory', 'start in another folder']),
    ('visits of this run a file', SAME,
     a_file_at(os.path.join(VISITS, 'point_Small_7')), [
         'point_Small_7', 'no folder']),
    ('run in use', SAME, locked('run'), [
        RUN, 'in use', f'process {os.getpid()}', '--add_uid']),
    ('visits in use', SAME, locked('visits'), [
        'point_Small_7', 'in use', 'another --seed']),
    ('run in use, to be overwritten', f'{SAME} --restart=overwrite',
     locked('run'), [RUN, 'in use']),
    ('an argument that is no flag', f'{SAME} fast', nothing, [
        "'fast'", '--help']),
    ('an argument for a flag', '--seed=7 --serial true', nothing, ["'true'"]),
    ('an unknown way to start anew', f'{SAME} --restart=again', nothing, [
        'restart', 'resume|restart|overwrite']),
    ('an unknown launch type', f'{SAME} --lp_launch_type=vertex_ai', nothing, [
        'lp_launch_type', 'vertex_ai', 'local_mp, local_mt']),
    ('a launch type that is none', f'{SAME} --lp_launch_type=cloud', nothing, [
        'lp_launch_type', 'cloud']),
    ('hanging at once', f'{SAME} --hang_minutes=0', nothing, [
        'hang_minutes', 'got 0.0', 'at least 0.05']),
    ('a region of one number', f'{SAME} --region_bounds=1', nothing, [
        'region_bounds', "':'"]),
    ('regions, one of them empty', f'{SAME} --region_bounds=0,2:1,3;',
     nothing, ['region_bounds', "''"]),
    ('a region in three dimensions', f'{SAME} --region_bounds=0,2,0:1,3,1',
     nothing, ['region_bounds', 'needs 2 numbers', 'got: 3']),
    ('a region with letters', f'{SAME} --region_bounds=0,2:1,x', nothing, [
        'region_bounds', "'1,x'", 'not made of numbers']),
    ('a region turned round', f'{SAME} --region_bounds=3,3:1,1', nothing, [
        'region_bounds', 'lower corner above']),
    ('a region of NaN', f'{SAME} --region_bounds=nan,2:1,3', nothing, [
        'region_bounds', 'not finite']),
]
TABLE = [*FOLDERS, *((given, given, nothing, words) for given, words in BAD)]


def snapshot():
  """Returns every path below the working folder with what is in it."""
  found = {}
  for folder, folders, files in os.walk('.'):
    for name in folders:
      found[os.path.join(folder, name)] = None
    for name in files:
      with open(os.path.join(folder, name), 'rb') as f:
        found[os.path.join(folder, name)] = hashlib.md5(f.read()).digest()
  return found


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
  """An empty working folder in which nothing may be started."""
  monkeypatch.chdir(tmp_path)
  for way in ('run_processes', 'run_threads', 'run_serial'):
    monkeypatch.setattr(lp_run, way, lambda *_: pytest.fail('it was started'))
  # The launcher would be in a network of its own by now.
  monkeypatch.setattr(network, 'outside_interfaces', lambda: [])
  with flagsaver.flagsaver():
    yield
  while HELD:
    os.close(HELD.pop())


def test_the_table_is_long_enough():
  assert len(FOLDERS) >= 50 and len(TABLE) >= 60


@pytest.mark.parametrize(
    'given, arrange, words', [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE])
def test_bad_input_is_refused(nowhere, capsys, given, arrange, words):
  arrange()
  before = snapshot()
  FLAGS.unparse_flags()
  try:
    rest = parse(*given.split(' '))
  except flags.Error as e:
    # absl says this itself, and leaves with status 1.
    message = str(e)
  else:
    with pytest.raises(SystemExit) as leaving:
      lp_run.main(rest)
    assert leaving.value.code == 2
    out, message = capsys.readouterr()
    assert out == ''
    assert message.count('problem(s) in the settings') == 1
    assert 'Traceback' not in message
  for word in words:
    assert word in message, message
  assert snapshot() == before


def test_what_is_refused_here_would_otherwise_run(nowhere, monkeypatch):
  started = []
  monkeypatch.setattr(
      lp_run, 'run_processes', lambda *run: started.append(run) or 3)
  monkeypatch.setattr(os, '_exit', sys.exit)
  a_run()
  with pytest.raises(SystemExit) as leaving:
    lp_run.main(parse(*SAME.split()))
  assert leaving.value.code == 3
  assert experiment_lib.run_dir(started[0][0]) == RUN
  HELD.extend(started[0][1])


def test_a_run_that_goes_on_needs_no_file_it_started_from(nowhere, monkeypatch):
  small = ('--hidden_layer_sizes=4', '--repr_dim=3')
  agent = factory.make_agent(an_experiment(*small))
  weights.save('critic.npz', agent.init(jax.random.key(0)).critic_params)
  given = (*small, '--init_weight=critic.npz')
  a_run(steps=None, arguments=given)
  os.rename('critic.npz', 'gone.npz')
  with pytest.raises(ConfigError, match='init_weight'):
    an_experiment(*given)
  os.rename('gone.npz', 'critic.npz')
  a_run(arguments=given)
  os.remove('critic.npz')
  assert an_experiment(*given).agent.init_weight == 'critic.npz'
  run_folder.check(an_experiment(*given))
  with pytest.raises(ConfigError, match='init_weight'):
    an_experiment(*given, '--restart=overwrite')
  monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
  an_experiment(*given, '--restart=overwrite')


def test_a_job_from_the_queue_does_not_start_anew_again(nowhere, monkeypatch):
  a_run()
  monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
  HELD.extend(lp_run.take_folders(an_experiment('--restart=overwrite')))
  assert run_folder.saved_counter(RUN)['counts']['actor_steps'] == 100
  while HELD:
    os.close(HELD.pop())
  monkeypatch.delenv('SLURM_RESTART_COUNT')
  HELD.extend(lp_run.take_folders(an_experiment('--restart=overwrite')))
  assert run_folder.saved_counter(RUN) is None
