"""The pulse of a node's loop, and what is reported of it."""

import os
import signal
import threading
import time

import courier
import portpicker
import pytest

from launch import heartbeat


@pytest.fixture
def still_pulse(monkeypatch):
  """Yields a pulse whose clock is set by hand."""
  clock = [100.0]
  monkeypatch.setattr(heartbeat.time, 'monotonic', lambda: clock[0])
  return heartbeat.Pulse(), clock


def test_a_node_may_take_long_to_start(still_pulse):
  pulse, clock = still_pulse
  clock[0] += heartbeat.START_SECONDS
  assert pulse.idle() == 0.0
  clock[0] += 5.0
  assert pulse.idle() == 5.0


def test_asking_whether_to_stop_is_a_beat(still_pulse):
  pulse, clock = still_pulse
  stop = heartbeat.WatchedStop(threading.Event(), pulse)
  clock[0] += 7.0
  assert pulse.idle() == 7.0
  assert not stop.is_set()
  assert pulse.idle() == 0.0
  clock[0] += 3.0
  assert not stop.wait(0.0)
  assert pulse.idle() == 0.0


def test_a_long_wait_beats_again_and_again(monkeypatch):
  beats = []
  pulse = heartbeat.Pulse()
  monkeypatch.setattr(pulse, 'beat', lambda: beats.append(1))
  event = threading.Event()
  assert not heartbeat.WatchedStop(event, pulse).wait(0.3)
  assert len(beats) > 2
  event.set()
  assert heartbeat.WatchedStop(event, pulse).wait()
  assert heartbeat.WatchedStop(event, pulse).is_set()


class HeldEvent(threading.Event):
  """An event whose lock is free for a signal handler at any moment."""

  def wait(self, timeout=None):
    raise AssertionError('it would hold its lock')


def test_a_signal_may_interrupt_a_wait_anywhere():
  event = HeldEvent()
  before = signal.signal(signal.SIGTERM, lambda *_: event.set())
  timer = threading.Timer(
      0.2, lambda: os.kill(os.getpid(), signal.SIGTERM))
  timer.start()
  try:
    assert not heartbeat.WatchedStop(event).wait(0.05)
    assert heartbeat.WatchedStop(event).wait(20.0)
  finally:
    timer.join()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def starter():
  """Yields the address of a starter and what it hears."""
  heard = []
  port = portpicker.pick_unused_port()
  server = courier.Server(port=port)
  server.Bind('beat', lambda title, idle: heard.append((title, idle)))
  server.Start()
  yield f'127.0.0.1:{port}', heard
  server.Stop()


@pytest.mark.parametrize('has_loop', [True, False])
def test_idleness_is_reported_of_a_loop_only(starter, monkeypatch, has_loop):
  address, heard = starter
  pulse = heartbeat.Pulse()
  monkeypatch.setattr(heartbeat, 'PULSE', pulse)
  monkeypatch.setattr(pulse, 'idle', lambda: 12.5)
  end = heartbeat.report(address, 'a/1', has_loop, lost_after=None)
  deadline = time.monotonic() + 20.0
  while not heard and time.monotonic() < deadline:
    time.sleep(0.01)
  # A server that is stopped in the middle of a call may never return.
  end()
  assert heard[0] == ('a/1', 12.5 if has_loop else 0.0)


def test_a_node_that_has_lost_its_starter_stops_itself(monkeypatch):
  monkeypatch.setattr(heartbeat, 'PERIOD', 0.05)
  told = threading.Event()
  monkeypatch.setattr(heartbeat.os, 'kill', lambda pid, signum: told.set())
  nobody = f'127.0.0.1:{portpicker.pick_unused_port()}'
  kept = heartbeat.report(nobody, 'a/1', has_loop=True, lost_after=None)
  lost = heartbeat.report(nobody, 'a/1', has_loop=True, lost_after=0.2)
  assert told.wait(20.0)
  for end in (kept, lost):
    end()
