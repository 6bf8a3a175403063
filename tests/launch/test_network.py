"""What a run on one machine opens to others: nothing."""

import os
import socket
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver
import psutil
import pytest

from launch import lp_run, network, where
from tests.launch.processes import ROOT, Run, TINY

FLAGS = flags.FLAGS


def run_python(code, *prefix):
  return subprocess.run(
      [*prefix, sys.executable, '-c', code], cwd=ROOT, text=True, timeout=60,
      capture_output=True, check=True).stdout.split()


CAN_ISOLATE = run_python(
    'from launch import network; print(network.isolate())') == ['True']
needs_namespaces = pytest.mark.skipif(
    not CAN_ISOLATE, reason='this machine permits no network namespaces')
LOOK = ('import os; from launch import network; '
        'print(network.isolate(), len(network.outside_interfaces()), '
        'os.getuid())')


@needs_namespaces
def test_an_isolated_process_has_loopback_only_and_stays_the_same_user():
  assert run_python(LOOK) == ['True', '0', str(os.getuid())]


@needs_namespaces
@pytest.mark.skipif(os.getuid() != 0, reason='changes the user')
def test_it_takes_no_superuser():
  found = run_python(
      'import ctypes, os; from launch import network; os.setgid(65534); '
      'os.setuid(65534); '
      # As after any exec: /proc/self is its own again.
      'ctypes.CDLL(None).prctl(4, 1, 0, 0, 0); ' + LOOK)
  # Some systems keep user namespaces from everybody but the superuser.
  assert found[0] == 'False' or found == ['True', '0', '65534']


@pytest.mark.skipif(os.getuid() != 0, reason='gives up what only root has')
def test_where_it_is_not_permitted_nothing_changes():
  before = network.outside_interfaces()
  found = run_python(LOOK, 'setpriv', '--bounding-set=-all', '--inh-caps=-all')
  assert found == ['False', str(len(before)), '0']


def listening(pid):
  """Returns addresses and ports that are listened at in a process's network.

  As `ss -ltn` there would print them.
  """
  found = []
  for name in ('tcp', 'tcp6'):
    with open(f'/proc/{pid}/net/{name}', encoding='ascii') as f:
      for line in f.readlines()[1:]:
        fields = line.split()
        if fields[3] == '0A':
          address, port = fields[1].split(':')
          found.append((int(address, 16), int(port, 16)))
  return found


@needs_namespaces
@pytest.mark.parametrize('launch_type', [
    'local_mp', pytest.param('local_mt', marks=pytest.mark.slow)])
def test_a_run_on_one_machine_can_be_reached_from_nowhere_else(
    tmp_path, launch_type):
  run = Run(tmp_path, *TINY, '--num_steps=1000000',
            f'--lp_launch_type={launch_type}')
  try:
    run.wait_until(lambda: len(listening(run.process.pid)) >= 3 and
                   os.path.exists(f'/proc/{run.process.pid}/net/tcp'),
                   'servers of replay, counter and learner')
    # They listen at every address, in a network where there is but one.
    with open(f'/proc/{run.process.pid}/net/dev', encoding='ascii') as f:
      interfaces = [line.split(':')[0].strip() for line in f.readlines()[2:]]
    assert interfaces == ['lo']
    ours = os.stat('/proc/self/ns/net').st_ino
    for process in [psutil.Process(run.process.pid), *run.nodes().values()]:
      assert os.stat(f'/proc/{process.pid}/ns/net').st_ino != ours
    for _, port in listening(run.process.pid):
      with pytest.raises(OSError):
        socket.create_connection(('127.0.0.1', port), timeout=2.0)
  finally:
    run.end()


@pytest.fixture
def given():
  """Yields `*flags -> Where`."""
  def parse(*arguments):
    FLAGS.unparse_flags()
    FLAGS(['lp_run.py', '--lp_launch_type=local_mp', *arguments])
    return where.from_flags()

  assert lp_run  # defines the flags
  with flagsaver.flagsaver():
    yield parse


@pytest.mark.parametrize('interfaces, container, arguments, refused', [
    ([], False, (), False),
    (['eth0', 'wlan0'], False, (), True),
    (['eth0'], True, (), False),
    (['eth0'], False, ('--allow_remote',), False),
    (['eth0'], False, ('--serial',), False),
    (['eth0'], False, ('--launcher=ssh', '--hosts=a'), False),
])
def test_open_ports_are_refused_unless_accepted(
    given, monkeypatch, interfaces, container, arguments, refused):
  monkeypatch.setattr(network, 'outside_interfaces', lambda: interfaces)
  monkeypatch.setattr(network, 'in_container', lambda: container)
  message = where.refusal(given(*arguments))
  assert bool(message) == refused
  if refused:
    for words in ('eth0, wlan0', 'trust whoever connects', '--allow_remote'):
      assert words in message


@pytest.mark.parametrize('arguments, isolated', [
    ((), True), (('--num_steps', '7'), True), (('--nonsense', 'x'), True),
    (('--serial',), False), (('--allow_remote',), False),
    (('--launcher=slurm',), False), (('--launcher', 'ssh'), False),
    (('--launcher=nowhere',), False)])
def test_only_runs_on_one_machine_are_isolated(
    given, monkeypatch, arguments, isolated):
  del given
  called = []
  monkeypatch.setattr(network, 'isolate', lambda: called.append(True))
  where.isolate_early(['lp_run.py', *arguments])
  assert bool(called) == isolated


@pytest.mark.parametrize('arguments, words', [
    ('--launcher=ssh', ['hosts', '--hosts=one,two']),
    ('--hosts=a,b', ['hosts', 'local']),
    ('--launcher=slurm --hosts=a', ['hosts', 'slurm']),
    ('--launcher=slurm --serial', ['serial', 'slurm']),
    ('--launcher=slurm --lp_launch_type=local_mt', [
        'lp_launch_type', 'local_mp', 'local_mt']),
    ('--submit', ['submit', '--launcher=slurm']),
    ('--requeue', ['requeue', '--launcher=slurm']),
    ('--launcher=slurm --sbatch=--nodes=3', ['sbatch', '--submit']),
    ('--actors_per_node=2', ['actors_per_node', 'slurm or ssh']),
    ('--launcher=slurm --actors_per_node=0', ['actors_per_node', 'at least 1']),
    ('--launcher=slurm --requeue --add_uid', ['add_uid', 'of its own']),
    ('--launcher=slurm --learner_gpus=-1', ['learner_gpus', 'at least 0']),
])
def test_flags_that_do_not_go_together_are_named(given, arguments, words):
  message, = where.problems(given(*arguments.split()))
  for word in words:
    assert word in message
