"""Calls that could block for ever have a bound."""

from concurrent import futures
import threading
import time
import types

import courier
import launchpad as lp
import portpicker
import pytest

from launch import nodes
from launch.heartbeat import WatchedStop
from learners.learner import SavedLater
from replay.pacing import Pace
from replay.stream_reverb import PrioritySender


@pytest.fixture
def serve():
  """Yields `**methods -> (client, server)` of real courier servers."""
  servers = []

  def start(**methods):
    port = portpicker.pick_unused_port()
    server = courier.Server(port=port)
    for name, method in methods.items():
      server.Bind(name, method)
    server.Start()
    servers.append(server)
    return courier.Client(f'127.0.0.1:{port}', call_timeout=30.0), server

  yield start
  for server in servers:
    server.Stop()


@pytest.fixture
def stop(monkeypatch):
  """Yields the event that tells nodes to stop, as threads of one process."""
  event = threading.Event()
  monkeypatch.setattr(lp, 'stop_event', lambda: event)
  monkeypatch.setattr(nodes, 'threads', lambda: True)
  return event


def test_a_call_in_time_returns_or_raises_as_it_is():
  assert nodes.within(20.0, lambda: 'saved') == 'saved'

  def fail():
    raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    nodes.within(20.0, fail)


def test_a_call_that_takes_too_long_is_left_behind():
  release = threading.Event()
  began = time.monotonic()
  try:
    with pytest.raises(futures.TimeoutError):
      nodes.within(0.05, lambda: release.wait(30.0))
    assert time.monotonic() - began < 20.0
  finally:
    release.set()


def test_an_evaluator_in_mid_round_does_not_wait_for_a_dead_learner(
    serve, stop, monkeypatch):
  done = []
  counter, _ = serve(
      get_counts=lambda: {'actor_episodes': 7}, leave=done.append)
  learner, server = serve(
      get_variables=lambda have, for_evaluation, portion: (have + 1, 'params'))

  class MidRound:
    """Finds, after a round, that the run has ended meanwhile."""

    def __init__(self, experiment, generation, variables, sink):
      del experiment, sink
      assert generation == 7
      self._variables = variables

    def run(self, should_stop, wait):
      del wait
      assert self._variables.get_variables(3) == (4, 'params')
      server.Stop()
      stop.set()
      assert should_stop()
      self._variables.get_variables(4)

    def close(self):
      done.append('films')

  monkeypatch.setattr(nodes.factory, 'make_evaluator', MidRound)
  node = nodes.EvaluatorNode(None, counter, learner)
  # Less than the 30 seconds a call may take.
  with pytest.raises(Exception, match=(
      '(?i)unavailable|connect|closed|reset|broken pipe')):
    nodes.within(20.0, node.run)
  assert done == ['films', 'evaluator']


def test_a_learner_that_is_a_thread_outlives_the_evaluator(serve, stop):
  del stop
  saved = threading.Event()
  left = []
  counter, _ = serve(leave=left.append)
  learner = nodes.LearnerNode.__new__(nodes.LearnerNode)
  learner._counter = counter
  learner._clients = nodes.Clients('evaluator')
  learner._learn = lambda _: saved.set()
  running = threading.Thread(target=learner.run)
  running.start()
  assert saved.wait(20.0)
  assert running.is_alive() and left == []
  learner.leave('evaluator')
  running.join(20.0)
  assert not running.is_alive() and left == ['learner']


def test_nothing_is_drawn_before_an_update_is_due(stop, monkeypatch):
  steps, drawn_at = [0], []
  pace = Pace(minimum=100, per_update=4.0, slack=8, num_actors=1)

  class Counts:

    def get_counts(self):
      steps[0] += 20
      return {'actor_steps': steps[0], 'actor_episodes': 0}

  class Learner:
    agent, updates = None, 0

    def hear(self, num_episodes):
      pass

    def step(self, batch, waited):
      stop.set()
      return {'actor_steps': steps[0], 'actor_episodes': 0}

    def finish(self):
      pass

  def batches(agent, address):
    for _ in range(3):
      drawn_at.append(steps[0])
      yield {}

  monkeypatch.setattr(nodes.factory, 'make_batches', batches)
  node = nodes.LearnerNode.__new__(nodes.LearnerNode)
  node._learner, node._counter, node._pace = Learner(), Counts(), pace
  node._replay = types.SimpleNamespace(server_address='nowhere')
  node._priorities = PrioritySender(None)
  nodes.within(20.0, lambda: node._learn(WatchedStop(stop)))
  assert drawn_at and min(drawn_at) >= 100


class Replay:
  """A client whose checkpoint fails as Reverb's does."""

  def checkpoint(self):
    raise IndexError('replay/x/chunks.tfrecord; No space left on device\n')


def test_a_replay_that_cannot_be_saved_says_what_to_do():
  with pytest.raises(RuntimeError) as error:
    nodes.save_replay(Replay(), 20.0)
  for words in ('No space left on device.', 'Make room', 'same command'):
    assert words in str(error.value)


def test_a_replay_that_takes_too_long_is_saved_later():
  done = threading.Event()

  class SlowReplay:
    def checkpoint(self):
      done.wait(20.0)

  try:
    with pytest.raises(SavedLater, match='more than 0 s .* is kept'):
      nodes.save_replay(SlowReplay(), 0.1)
  finally:
    done.set()
