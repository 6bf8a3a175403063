"""What the benchmarks of reliability compute from what they see."""

import math
import os
import signal
import sys

import pytest

from benchmarks import chaos, soak
from benchmarks.running import WatchedRun
from launch import run_folder


def samples(megabytes, minutes):
  return [soak.Sample(t, m, 1, 1) for t, m in zip(minutes, megabytes)]


def test_growth_is_the_slope_after_warm_up():
  minutes = [0, 1, 2, 3, 4]
  # Two a minute after a start that does not count.
  assert soak.growth(samples([0, 90, 100, 102, 104], minutes), 2) == (
      pytest.approx(120.0))
  assert soak.growth(samples([5] * 5, minutes), 0) == pytest.approx(0.0)
  assert math.isnan(soak.growth(samples([5] * 5, minutes), 4))


def test_failed_calls_are_read_from_what_nodes_said(tmp_path):
  nodes = run_folder.nodes_dir(str(tmp_path))
  os.makedirs(nodes)
  for name, text in (('actor-0', 'W link to the learner: gone\nall is well\n'),
                     ('actor-1', 'W trying again: Deadline\n' * 2)):
    with open(os.path.join(nodes, f'{name}.log'), 'w', encoding='utf-8') as f:
      f.write(text)
  assert soak.failed_calls(str(tmp_path)) == 3


@pytest.mark.parametrize('steps, resumed, lost', [
    (900, 500, 400), (900, 900, 0),
    # The log is behind the checkpoint.
    (900, 950, 0)])
def test_what_a_blow_costs(steps, resumed, lost):
  assert chaos.Blow('a', 'b', steps, 500, resumed=resumed).lost == lost


def test_every_role_is_struck():
  assert {target.split('/')[0] for target, _ in chaos.BLOWS} >= {
      'actor', 'learner', 'replay', 'counter', 'evaluator', 'launcher',
      'everything', 'all actors'}


@pytest.fixture
def run(tmp_path):
  watched = WatchedRun(str(tmp_path), [])
  yield watched
  watched.kill()


def test_a_run_that_ignores_a_stop_is_killed(run, monkeypatch):
  monkeypatch.setattr('benchmarks.running.STOP_SECONDS', 0.5)
  run._command = [sys.executable, '-uc', 'import signal, time; '
                  'signal.signal(signal.SIGTERM, signal.SIG_IGN); '
                  'print("deaf"); time.sleep(60)']
  run.start()
  while 'deaf' not in open(run.output_path, encoding='utf-8').read():
    assert run.status is None
  run.stop()
  assert run.status == -signal.SIGKILL


def test_before_a_run_has_begun_it_has_done_nothing(run):
  assert run.run_dir is None
  assert run.steps() == run.saved_steps() == 0.0
  run.stop()
