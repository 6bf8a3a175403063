"""How the starter knows that a node still does something.

A node's loop asks again and again whether it is to stop. That is its pulse; a
thread beside it reports the pulse to the starter. A loop that hangs, and a
process that does, are both noticed.
"""

import os
import signal
import threading
import time
from typing import Callable, Optional

from absl import logging

# Seconds between two reports.
PERIOD = 2.0
# Seconds a node may take until its loop turns for the first time: imports are
# slow on a busy machine.
START_SECONDS = 120.0
_CALL_TIMEOUT = 5.0
# Seconds after which a waiting loop sees that it is to stop.
_LOOK_SECONDS = 0.05


class Pulse:
  """When the loop of this process was last seen to turn."""

  def __init__(self):
    self._turned = time.monotonic() + START_SECONDS

  def beat(self) -> None:
    """Called at each turn."""
    self._turned = time.monotonic()

  def idle(self) -> float:
    """Returns the seconds since the last turn, or since one was due."""
    return max(0.0, time.monotonic() - self._turned)


# A process runs one node, whose parts Launchpad builds, so nobody can hand it
# over. Nodes that are threads beat it too, and nobody looks.
PULSE = Pulse()


class WatchedStop:
  """A stop event; asking it is what a loop beats by."""

  def __init__(self, event: threading.Event, pulse: Pulse = PULSE):
    """Wraps `event`; the first beat."""
    self._event = event
    self._pulse = pulse
    pulse.beat()

  def is_set(self) -> bool:
    """Whether the node is to stop."""
    self._pulse.beat()
    return self._event.is_set()

  def wait(self, seconds: Optional[float] = None) -> bool:
    """Waits for the event, `seconds` at most; returns whether it is set.

    It looks now and then rather than wait for the event itself. Launchpad sets
    that in a signal handler, which interrupts this very thread and would wait
    for ever if it held the event's lock.
    """
    began = time.monotonic()
    while not self.is_set():
      left = _LOOK_SECONDS
      if seconds is not None:
        left = min(left, began + seconds - time.monotonic())
      if left <= 0:
        return False
      time.sleep(left)
    return True


def report(address: str, title: str, has_loop: bool,
           lost_after: Optional[float]) -> Callable[[], None]:
  """Starts to report this node to the starter.

  Args:
    address: of the starter's server.
    title: of this node.
    has_loop: it beats `PULSE`; of others, that the process runs is reported.
    lost_after: seconds without the starter after which this process is told to
      stop, because nothing else will end it; None never does.

  Returns:
    A function that ends the reports; a node reports until it is gone.
  """
  import courier
  client = courier.Client(
      address, call_timeout=_CALL_TIMEOUT, wait_for_ready=False)

  over = threading.Event()

  def repeat() -> None:
    heard = time.monotonic()
    while not over.is_set():
      try:
        client.beat(title, PULSE.idle() if has_loop else 0.0)
        heard = time.monotonic()
      except Exception as e:  # pylint: disable=broad-except
        if lost_after is not None and time.monotonic() - heard > lost_after:
          logging.error('the starter is gone: %s', e)
          os.kill(os.getpid(), signal.SIGTERM)
          return
      over.wait(PERIOD)

  thread = threading.Thread(target=repeat, name='heartbeat', daemon=True)
  thread.start()

  def end() -> None:
    over.set()
    thread.join(2 * _CALL_TIMEOUT)

  return end
