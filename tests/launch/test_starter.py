"""The starter on small real programs: who ends, who restarts, what is said."""

import os
import signal
import threading
import time

import launchpad as lp
import pytest

from launch import hosts, starter
from tests.launch import small_program
from tests.launch.processes import Run


@pytest.fixture
def start(tmp_path):
  runs = []

  def launch(*assignments):
    runs.append(Run(tmp_path, str(tmp_path), *assignments,
                    script=small_program.__file__))
    return runs[-1]

  yield launch
  for run in runs:
    run.end()


def said(run, role):
  path = os.path.join(run.folder, role)
  if not os.path.exists(path):
    return []
  with open(path, encoding='utf-8') as f:
    return f.read().split('\n')[:-1]


def started(run, *roles):
  run.wait_until(lambda: all(said(run, r) for r in roles), 'start', 30)


def test_a_crash_ends_the_program_with_its_traceback_last(start):
  run = start('learner=crash', 'replay=serve')
  assert run.wait(15) == 1
  assert run.output.rstrip().endswith('ValueError: learner broke on purpose')
  assert 'learner/0 failed with status 1' in run.output
  assert run.orphans() == []


def test_a_node_that_returns_early_ends_the_program(start):
  run = start('learner=return', 'replay=serve')
  assert run.wait(15) == 1
  assert 'learner/0 failed with status 0' in run.output


def test_a_killed_node_ends_the_program(start):
  run = start('learner=serve', 'replay=serve')
  started(run, 'learner', 'replay')
  run.nodes()['learner/0'].kill()
  assert run.wait(15) == 1
  assert 'learner/0 failed with status -9' in run.output
  assert run.orphans() == []


def test_a_report_is_of_this_start_alone(start, tmp_path):
  logs = tmp_path / 'nodes'
  logs.mkdir()
  # A node's log goes on where an earlier run of the same folder left it.
  for role in ('learner', 'replay'):
    (logs / f'{role}-0.log').write_text(f'ValueError: {role} of another time\n')
  run = start('learner=crash', 'replay=serve')
  assert run.wait(15) == 1
  assert run.output.rstrip().endswith('ValueError: learner broke on purpose')
  assert 'of another time' not in run.output
  assert (logs / 'learner-0.log').read_text().startswith(
      'ValueError: learner of another time\n')


def test_a_node_that_wrote_nothing_is_reported_so(start, tmp_path):
  logs = tmp_path / 'nodes'
  logs.mkdir()
  (logs / 'learner-0.log').write_text('ValueError: learner of another time\n')
  run = start('learner=serve', 'replay=serve')
  # Before it has come to the first thing that it says.
  run.wait_until(lambda: 'learner/0' in run.nodes(), 'learner', 30)
  run.nodes()['learner/0'].kill()
  assert run.wait(15) == 1
  assert run.output.rstrip().endswith(
      'learner/0 failed with status -9; it wrote nothing into '
      f'{logs / "learner-0.log"}')


def test_stop_from_a_node_ends_all_nodes_in_order(start):
  run = start('actor=serve', 'learner=finish', 'replay=serve')
  assert run.wait(15) == 0
  times = [float(said(run, role)[-1].split()[1])
           for role in ('actor', 'learner', 'replay')]
  # The learner asked for the stop itself, so it may hear of it first.
  assert times[0] < times[2] and times[1] < times[2]
  assert run.orphans() == []


def test_a_dead_actor_is_started_again(start):
  run = start('actor=crash_once', 'learner=serve')
  run.wait_until(lambda: said(run, 'actor').count('started') == 2, 'restart')
  run.process.send_signal(signal.SIGTERM)
  assert run.wait(15) == 0
  assert 'starting it again (1 restarts left)' in run.output


def test_restarts_are_bounded(start):
  run = start('actor=crash', 'learner=serve')
  assert run.wait(30) == 1
  assert said(run, 'actor').count('started') == 3
  assert run.output.rstrip().endswith('ValueError: actor broke on purpose')


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_order_and_returns_zero(start, signum):
  run = start('learner=serve', 'replay=serve')
  started(run, 'learner', 'replay')
  time.sleep(0.5)
  run.process.send_signal(signum)
  assert run.wait(15) == 0
  times = [float(said(run, role)[-1].split()[1])
           for role in ('learner', 'replay')]
  assert times[1] - times[0] >= 0.3  # replay waits until the learner is gone


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('seconds', [0.0, 0.1, 0.3])
def test_a_stop_while_nodes_are_starting_is_no_failure(start, signum, seconds):
  run = start('learner=serve', 'replay=serve')
  run.wait_until(lambda: 'learner/0' in run.nodes(), 'learner', 30)
  time.sleep(seconds)
  run.process.send_signal(signum)
  assert run.wait(15) == 0, run.output
  assert run.orphans() == []


def test_a_deaf_node_is_killed_after_its_grace(start):
  run = start('learner=serve', 'replay=deaf')
  started(run, 'learner', 'replay')
  run.process.send_signal(signal.SIGTERM)
  assert run.wait(15) == 0
  assert run.orphans() == []


@pytest.mark.parametrize('behaviour, last', [
    ('deaf', 'node: did not stop in time, leaving'),
    ('crash_late', 'ValueError: learner could not save'),
])
def test_a_stop_that_could_not_save_is_a_failure(start, behaviour, last):
  run = start(f'learner={behaviour}', 'replay=serve')
  started(run, 'learner', 'replay')
  run.process.send_signal(signal.SIGTERM)
  assert run.wait(15) == 1
  assert 'learner/0 failed with status' in run.output
  assert run.output.rstrip().endswith(last)
  assert run.orphans() == []


def test_a_second_signal_kills_at_once(start):
  run = start('learner=deaf', 'replay=deaf')
  started(run, 'learner', 'replay')
  run.process.send_signal(signal.SIGINT)
  time.sleep(0.3)
  run.process.send_signal(signal.SIGINT)
  assert run.wait(10) == 130
  assert run.orphans() == []


def test_nodes_end_when_the_launcher_is_killed(start):
  run = start('learner=serve', 'replay=deaf')
  started(run, 'learner', 'replay')
  run.nodes()
  run.process.kill()
  run.process.wait()
  assert run.orphans() == []


def test_a_node_that_hangs_ends_the_program_and_says_where(start):
  run = start('learner=hang', 'replay=serve')
  assert run.wait(30) == 1
  assert 'learner/0 did nothing for too long and was killed' in run.output
  assert 'in do_nothing_for_ever' in run.output
  assert run.orphans() == []


def test_a_process_that_hangs_is_noticed_too(start):
  run = start('learner=serve', 'replay=serve')
  started(run, 'learner', 'replay')
  run.nodes()['replay/0'].suspend()
  assert run.wait(30) == 1
  assert 'replay/0 did nothing for too long and was killed' in run.output
  assert run.orphans() == []


@pytest.mark.slow
def test_an_actor_that_hangs_is_started_again(start):
  run = start('actor=hang_once', 'learner=serve')
  run.wait_until(lambda: said(run, 'actor').count('started') == 2, 'restart')
  run.process.send_signal(signal.SIGTERM)
  assert run.wait(15) == 0
  assert ('actor/0 did nothing for too long and was killed; starting it again'
          in run.output)


@pytest.mark.slow
def test_nodes_are_not_blamed_for_a_launcher_that_was_suspended(start):
  run = start('learner=serve', 'replay=serve')
  started(run, 'learner', 'replay')
  run.process.send_signal(signal.SIGSTOP)
  time.sleep(small_program.HANG_SECONDS + 1.0)
  run.process.send_signal(signal.SIGCONT)
  time.sleep(1.0)
  run.process.send_signal(signal.SIGTERM)
  assert run.wait(15) == 0, run.output


class InterruptedEvent(threading.Event):
  """Gets a signal at the worst moment: while it holds its lock."""

  def wait(self, timeout=None):
    with self._cond:
      signal.raise_signal(signal.SIGTERM)
    return super().wait(timeout)


def test_a_signal_may_interrupt_the_launcher_anywhere(tmp_path, monkeypatch):

  def give_up(signum, frame):
    raise AssertionError('the launcher waits for itself')

  monkeypatch.setattr(starter.threading, 'Event', InterruptedEvent)
  here = hosts.LocalHost()
  nothing = starter.Starter(lp.Program('nothing'), {}, here,
                            lambda label, index: here, str(tmp_path), 0, 60.0)
  before = signal.signal(signal.SIGALRM, give_up)
  signal.alarm(20)
  try:
    assert nothing.run() == 0
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    nothing._server.Stop()
