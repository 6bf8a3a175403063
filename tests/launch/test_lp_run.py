"""Whole distributed runs: learning, what they leave, dying and going on."""

import glob
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from launch import run_folder, summary
from learners import checkpoint
from safety import visits
from tests.launch.processes import launcher_flags, LP_RUN, Run, TINY

NODES = {'replay/0', 'counter/0', 'learner/0', 'evaluator/0', 'actor/0',
         'actor/1'}
REGION = '--region_bounds=0,5:5,11'


@pytest.fixture
def start(tmp_path):
  runs = []

  def launch(*flags):
    runs.append(Run(tmp_path, *TINY, *flags))
    return runs[-1]

  yield launch
  for run in runs:
    run.end()


def run_dir(run):
  found = glob.glob(os.path.join(run.folder, 'logs', '*'))
  return found[0] if found else ''


def checkpointed(run, name):
  """Returns a count in the newest checkpoint, 0 before there is one."""
  saved = run_folder.saved_counter(run_dir(run)) if run_dir(run) else None
  return saved['counts'][name] if saved else 0


def maps(run):
  """Returns what the launcher has loaded."""
  with open(f'/proc/{run.process.pid}/maps', encoding='utf-8') as f:
    return f.read()


def updating(run, at_least=1):
  run.wait_until(lambda: checkpointed(run, 'learner_updates') >= at_least,
                 'checkpoint with updates')


def test_a_run_ends_by_itself_and_leaves_its_record(start):
  run = start('--num_steps=1200', REGION)
  assert run.wait(120) == 0
  assert run.orphans() == []
  folder = run_dir(run)
  assert os.path.basename(folder) == 'contrastive_cpc_point_FourRooms_7'

  experiment = run_folder.load(folder)
  assert experiment.region_bounds == '0,5:5,11' and experiment.seed == 7
  assert experiment.safety_enforcement
  with open(os.path.join(folder, 'command.txt'), encoding='utf-8') as f:
    assert 'lp_run.py' in f.read()
  with open(os.path.join(folder, 'git.json'), encoding='utf-8') as f:
    assert [set(state) for state in json.load(f)] == [{'commit', 'diff'}]
  for role in ('actor', 'learner', 'evaluator'):
    log = summary.read_log(folder, role)
    assert (np.diff(log['actor_steps']) >= 0).all()
    assert glob.glob(os.path.join(folder, 'tensorboard', role, 'events*'))
  assert checkpointed(run, 'actor_steps') >= 1200
  assert os.listdir(run_folder.replay_dir(folder))

  counts = visits.read_visits(os.path.join(
      run.folder, 'safety_region_visits_data', 'point_FourRooms_7'))
  episodes = checkpointed(run, 'actor_episodes')
  assert counts['episodes'].tolist() == list(range(int(episodes)))
  assert counts['counts'].sum() == 0
  for words in ('environment steps', 'success, last 100 evaluation episodes',
                'steps in region per training episode', 'updates/s',
                'newest checkpoint'):
    assert words in run.output

  again = start('--num_steps=1200', REGION)
  assert again.wait(60) == 0
  assert 'already has its 1,200 steps' in again.output


def test_killing_everything_loses_only_what_came_after_the_checkpoint(start):
  first = start('--num_steps=1000000')
  updating(first, at_least=40)
  first.kill_everything()
  before = checkpointed(first, 'actor_steps')
  newest = checkpoint.checkpoints(
      run_folder.checkpoint_dir(run_dir(first)))[-1]
  step = checkpoint.read_meta(newest)['step']
  assert first.orphans() == []

  # A changed setting is refused by name before anything starts.
  refused = start('--num_steps=1000000', '--discount=0.5')
  assert refused.wait(60) == 2
  assert 'agent.discount: the run has 0.99, got 0.5' in refused.output

  second = start('--num_steps=1000000')
  updating(second, at_least=step + 40)
  # Had replay been lost, the warm-up would have had to come first.
  assert checkpointed(second, 'actor_steps') >= before
  log = summary.read_log(run_dir(second), 'learner')
  assert (np.diff(log['learner_updates']) > 0).sum() >= 1

  # One dead actor is replaced, and the run goes on.
  actor = second.nodes()['actor/1']
  actor.kill()
  second.wait_until(
      lambda: 'actor/1' in second.nodes()
      and second.nodes()['actor/1'].pid != actor.pid, 'new actor')
  assert 'actor/1 ended with status -9; starting it again' in second.output
  updating(second, at_least=checkpointed(second, 'learner_updates') + 40)

  # Ctrl-C saves and ends with status 0.
  second.process.send_signal(signal.SIGINT)
  assert second.wait(60) == 0
  assert second.orphans() == []
  assert 'newest checkpoint' in second.output


@pytest.mark.parametrize('label, signum', [
    ('learner/0', signal.SIGKILL), ('replay/0', signal.SIGKILL),
    *(pytest.param(label, signum, marks=pytest.mark.slow) for label, signum in (
        ('evaluator/0', signal.SIGKILL), ('counter/0', signal.SIGKILL),
        ('learner/0', signal.SIGTERM), ('learner/0', signal.SIGINT),
        ('counter/0', signal.SIGTERM)))])
def test_a_dead_server_ends_the_run(start, label, signum):
  run = start('--num_steps=1000000')
  run.wait_until(lambda: set(run.nodes()) >= NODES, 'all nodes')
  updating(run)
  run.nodes()[label].send_signal(signum)
  assert run.wait(15) == 1
  status = -9 if signum == signal.SIGKILL else 0
  assert f'{label} failed with status {status}' in run.output
  assert run.orphans() == []


@pytest.mark.slow
def test_a_learner_that_hangs_ends_the_run(start):
  run = start('--num_steps=1000000', '--hang_minutes=1')
  updating(run)
  run.nodes()['learner/0'].suspend()
  assert run.wait(150) == 1
  assert 'learner/0 did nothing for too long and was killed' in run.output
  assert run.orphans() == []


@pytest.mark.slow
def test_all_actors_may_die_at_once(start):
  run = start('--num_steps=1000000')
  updating(run)

  def actors():
    return {node.pid: node for label, node in run.nodes().items()
            if label.startswith('actor')}

  dead = actors()
  assert len(dead) == 2
  for actor in dead.values():
    actor.kill()
  run.wait_until(lambda: len(actors()) == 2 and not set(actors()) & set(dead),
                 'new actors')
  updating(run, at_least=checkpointed(run, 'learner_updates') + 80)
  run.process.send_signal(signal.SIGTERM)
  assert run.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize('label', ['launcher', 'everything'])
def test_a_run_goes_on_after_the_launcher_died(start, label):
  run = start('--num_steps=1000000')
  updating(run)
  if label == 'launcher':
    run.process.kill()
    run.process.wait()
  else:
    run.kill_everything()
  assert run.orphans(within=60.0) == []
  before = checkpointed(run, 'learner_updates')
  again = start('--num_steps=1000000')
  updating(again, at_least=before + 40)
  again.process.send_signal(signal.SIGTERM)
  assert again.wait(60) == 0


def test_an_exception_in_the_learner_is_the_last_thing_on_the_screen(
    start, tmp_path):
  # A checkpoint of another agent makes the learner raise at its start.
  folder = tmp_path / 'logs' / 'contrastive_cpc_point_FourRooms_7'
  counter = {'counts': {}, 'episodes': {}, 'score': None, 'seconds': 0.0}
  checkpoint.save(run_folder.checkpoint_dir(str(folder)), 1,
                  {'other': np.zeros(3)}, {'counter': counter})
  run = start('--num_steps=1000000')
  assert run.wait(60) == 1
  last = run.output.rstrip().split('\n')[-1]
  assert last.startswith('ValueError: checkpoint ')
  assert 'does not fit this agent' in last


@pytest.mark.parametrize('launch_type', ['local_mp', 'local_mt'])
@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_before_anything_runs_is_no_failure(start, signum, launch_type):
  run = start('--num_steps=1000000', f'--lp_launch_type={launch_type}')
  # The launcher has begun to import what it needs.
  run.wait_until(lambda: psutil.Process(run.process.pid).num_threads() > 1
                 or 'numpy' in maps(run), 'imports', 30)
  run.process.send_signal(signum)
  assert run.wait(30) == 0, run.output
  assert 'Traceback' not in run.output
  assert run.orphans() == []


@pytest.mark.parametrize('seconds', [
    2.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.5, 1.0, 4.0))])
def test_a_stop_while_nodes_are_importing_is_no_failure(start, seconds):
  run = start('--num_steps=1000000')
  run.wait_until(lambda: 'learner/0' in run.nodes(), 'learner')
  time.sleep(seconds)
  run.process.send_signal(signal.SIGTERM)
  assert run.wait(60) == 0, run.output
  assert run.orphans() == []


def test_threads_run_the_same_program(start):
  run = start('--num_steps=800', '--lp_launch_type=local_mt')
  assert run.wait(120) == 0
  assert checkpointed(run, 'actor_steps') >= 800
  assert checkpointed(run, 'learner_updates') > 0


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_keeps_its_last_checkpoint(tmp_path):
  logs = tmp_path / 'logs'
  logs.mkdir()
  namespace = ['unshare', '--map-root-user', '--mount']
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=1500k', 'none', str(logs)]
  if subprocess.run([*namespace, *mount], capture_output=True).returncode:
    pytest.skip('this machine lets nobody mount a small disk')
  # The folder is copied out before the namespace, and the disk, are gone.
  script = (f'{shlex.join(mount)} && {shlex.join([sys.executable, LP_RUN])} '
            '"$@"; status=$?; cp -r logs kept; exit $status')
  done = subprocess.run(
      [*namespace, 'sh', '-c', script, 'sh', *TINY, *launcher_flags(),
       '--samples_per_insert=1', '--envs_per_actor=8', '--num_steps=1000000'],
      cwd=tmp_path, capture_output=True, text=True, timeout=600)
  assert done.returncode == 1
  assert 'No space left on device' in done.stderr
  assert 'Traceback' in done.stderr
  run_dir = str(tmp_path / 'kept' / 'contrastive_cpc_point_FourRooms_7')
  assert run_folder.saved_counter(run_dir)['counts']['learner_updates'] > 0
  assert glob.glob(os.path.join(run_folder.replay_dir(run_dir), '*', 'DONE'))
