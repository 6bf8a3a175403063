"""Stop signals that come before there is anything to stop.

A process takes seconds to import what it needs. Whoever asks it to stop
meanwhile gets what a stop later would give: an end with status 0.
"""

import os
import signal
from types import FrameType
from typing import Optional


def leave_on_stop(signum: int, frame: Optional[FrameType]) -> None:
  """Ends the process with status 0, unless another handler took over."""
  del frame
  # Launchpad's handler also calls the one it replaced.
  if signal.getsignal(signum) is leave_on_stop:
    os._exit(0)


def leave_until_handled() -> None:
  """Lets SIGINT and SIGTERM end this process until their handlers are set."""
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, leave_on_stop)
