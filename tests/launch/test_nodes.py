"""Calls that could block for ever have a bound."""

from concurrent import futures
import threading
import time

import pytest

from launch import nodes


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
