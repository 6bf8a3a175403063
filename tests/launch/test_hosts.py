"""Which node goes where, and the commands that bring it there."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest

from launch import hosts, slurm
from launch.errors import ConfigError
from launch.where import Where


class Named:
  """A host that is only a name."""

  def __init__(self, name):
    self.name = name


def placed(num_hosts, num_actors, actors_per_node=None):
  place = hosts.spread(
      [Named(i) for i in range(num_hosts)], num_actors, actors_per_node)
  return ({label: place(label, 0).name
           for label in ('replay', 'learner', 'counter', 'evaluator')},
          [place('actor', i).name for i in range(num_actors)])


@pytest.mark.parametrize('num_hosts, actors, per_node, expected', [
    (1, 3, None, [0, 0, 0]), (1, 3, 3, [0, 0, 0]), (2, 3, None, [1, 1, 1]),
    (3, 5, None, [1, 2, 1, 2, 1]), (3, 5, 3, [1, 1, 1, 2, 2]),
    (3, 2, 8, [1, 1])])
def test_actors_go_to_the_other_hosts(num_hosts, actors, per_node, expected):
  servers, found = placed(num_hosts, actors, per_node)
  assert found == expected
  assert servers == {'replay': 0, 'learner': 0, 'counter': 0,
                     'evaluator': num_hosts - 1}


@pytest.mark.parametrize('num_hosts, actors, per_node', [
    (1, 4, 3), (2, 4, 3), (3, 7, 3)])
def test_too_many_actors_are_refused(num_hosts, actors, per_node):
  with pytest.raises(ConfigError, match=f'no room for {actors}.*num_actors'):
    placed(num_hosts, actors, per_node)


@pytest.fixture
def reach(tmp_path):
  """A command that is called as ssh is, and stays on this machine."""
  path = tmp_path / 'ssh'
  # Whoever comes by ssh is in another folder at first.
  path.write_text(
      '#!/bin/sh\ntest "$1" = somewhere || exit 9\ncd /\nexec sh -c "$2"')
  path.chmod(0o755)
  return str(path)


@pytest.fixture
def started(reach, tmp_path, monkeypatch):
  """Yields `argv, env -> (process, log path)`; nothing is left running."""
  processes = []

  def start(argv, env):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'actor-0.log'
    with open(path.name, 'a', encoding='utf-8') as log:
      processes.append(hosts.SshHost('somewhere', reach).start(
          argv, env, log, console=False))
    return processes[-1], path

  yield start
  for process in processes:
    process.kill()
    process.wait()


def test_ports_of_another_machine_are_free_there(reach):
  host = hosts.SshHost('somewhere', reach)
  ports = [host.pick_port() for _ in range(40)]
  for port in ports[-5:]:
    with socket.create_server(('', port)):
      pass


def test_a_machine_that_cannot_be_reached_is_named(reach):
  with pytest.raises(ConfigError, match='elsewhere cannot run'):
    hosts.SshHost('elsewhere', reach).pick_port()
  with pytest.raises(ConfigError, match='somewhere cannot run'):
    hosts.SshHost('somewhere', '/no/such/ssh').pick_port()


def test_variables_and_arguments_arrive_as_they_are(started, monkeypatch):
  monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
  odd = 'a b,"c" $d; \'e\''
  process, path = started(
      [sys.executable, '-c', 'import os, sys; print(sys.argv[1], '
       'os.environ["ODD"], os.environ.get("http_proxy"), os.getcwd())', odd],
      {'ODD': odd})
  assert process.wait(20) == 0
  assert path.read_text().strip() == f'{odd} {odd} None {os.getcwd()}'


SLEEPER = [sys.executable, '-uc', """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print('ready')
time.sleep(60)
"""]


def ready(path):
  deadline = time.monotonic() + 20.0
  while 'ready' not in path.read_text() and time.monotonic() < deadline:
    time.sleep(0.05)


def test_signals_reach_the_process_there(started):
  process, path = started(SLEEPER, {})
  ready(path)
  process.send_signal(signal.SIGTERM)
  assert process.wait(20) == 7


def test_killing_kills_the_process_there(started, tmp_path):
  process, path = started(SLEEPER, {})
  ready(path)
  pid = int((tmp_path / 'actor-0.pid').read_text())
  process.kill()
  assert process.wait(20) != 0
  assert not os.path.exists(f'/proc/{pid}') or 'Z' in open(
      f'/proc/{pid}/stat', encoding='ascii').read()


@pytest.mark.parametrize(
    'gpus, gres', [(0, '--gres=none'), (2, '--gres=gpu:2')])
def test_a_step_gets_the_gpus_it_is_given(gpus, gres):
  command = hosts.SlurmHost('n1', '10.0.0.1', gpus)._command(
      ['python', '-m', 'x'], {'A': 'b,c'}, 'learner-0', None)
  assert command[0] == 'srun' and command[-3:] == ['python', '-m', 'x']
  for word in (gres, '--nodelist=n1', '--overlap', '--job-name=learner-0',
               'A=b,c'):
    assert word in command


def test_slurm_needs_an_allocation(monkeypatch):
  monkeypatch.delenv('SLURM_JOB_NODELIST', raising=False)
  with pytest.raises(ConfigError, match='allocation.*--submit'):
    hosts.make_hosts(Where(launcher='slurm'), num_actors=1)


def test_without_slurm_nothing_is_submitted(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', '')
  with pytest.raises(ConfigError, match='no sbatch here'):
    slurm.submit(str(tmp_path / 'run' / 'job.sh'), 'text')


def test_a_batch_script_runs_the_command_where_it_was_given(
    tmp_path, monkeypatch):
  folder = tmp_path / "a folder's"
  folder.mkdir()
  monkeypatch.chdir(folder)
  text = slurm.script(
      'name', 'out-%j', [sys.executable, '-c', 'import os, sys; '
                         'print(os.getcwd(), sys.argv[1:])', "it's", '$HOME'],
      ['--nodes=3'], requeue=True)
  settings = [shlex.split(line)[1] for line in text.splitlines()
              if line.startswith('#SBATCH')]
  assert settings == ['--job-name=name', '--output=out-%j',
                      '--open-mode=append', '--signal=B:USR1@120', '--requeue',
                      '--nodes=3']
  done = subprocess.run(['bash', '-c', text], cwd='/', check=True,
                        capture_output=True, text=True)
  assert done.stdout.strip() == f'''{folder} ["it's", '$HOME']'''


@pytest.mark.parametrize('given', [
    ['--submit', '--sbatch=--nodes=2'], ['--sbatch', '--nodes=2', '--submit'],
    ['-submit=true', '-sbatch', '--nodes=2'], ['--submit']])
def test_the_submitted_command_is_the_same_without_submitting(given):
  assert slurm.own_command(
      ['launch/lp_run.py', '--env', 'x', *given, '--launcher=slurm'],
      {'submit': False, 'sbatch': True}) == [
          sys.executable, os.path.abspath('launch/lp_run.py'), '--env', 'x',
          '--launcher=slurm']
