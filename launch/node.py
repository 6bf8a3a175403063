"""What every node process runs: Launchpad's own entry, made to end reliably.

`python -m launch.node` takes the arguments of Launchpad's process entry.
"""

import ctypes
import faulthandler
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback

from launch import heartbeat, native, signals

# Set by the starter: JSON of what `main` needs to know, see there.
NODE_VARIABLE = 'CAIRN_NODE'
# Set by a host whose nodes are children of the launcher: its process id.
PARENT_VARIABLE = 'CAIRN_NODE_PARENT'
# Exit status of a node that did not stop in time.
LATE_STATUS = 124

_PR_SET_PDEATHSIG = 1
_ENTRY = 'launchpad.nodes.python.process_entry'


def main() -> None:
  """Runs one node and leaves with its status.

  The starter says in `NODE_VARIABLE`: `grace`, the seconds between the first
  stop signal and a hard exit; and the arguments of `heartbeat.report`.
  """
  signals.leave_until_handled()
  native.preload()
  settings = json.loads(os.environ[NODE_VARIABLE])
  # Where it hangs, for the starter to show; killed by SIGUSR1 before this line.
  faulthandler.register(signal.SIGUSR1, all_threads=True)
  # srun forwards SIGUSR2 but takes SIGTERM for an order to kill.
  signal.signal(signal.SIGUSR2,
                lambda *_: os.kill(os.getpid(), signal.SIGTERM))
  _die_with_parent()
  _watch_stop_signals(settings.pop('grace'))
  heartbeat.report(**settings)
  status = 0
  try:
    runpy.run_module(_ENTRY, run_name='__main__', alter_sys=True)
  except SystemExit as e:
    if e.code not in (None, 0):
      print(e.code, file=sys.stderr)
      status = 1
  except BaseException:  # pylint: disable=broad-except
    traceback.print_exc()
    status = 1
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  # A courier client with a call pending would hang in its destructor.
  os._exit(status)


def _die_with_parent() -> None:
  """Asks the kernel for SIGTERM should the launcher die."""
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
  # It may have died before the kernel was asked. In a container it may well be
  # process 1, so that number alone says nothing.
  parent = os.environ.get(PARENT_VARIABLE)
  if parent is not None and os.getppid() != int(parent):
    os.kill(os.getpid(), signal.SIGTERM)


def _watch_stop_signals(grace: float) -> None:
  """Ends the process `grace` seconds after the first stop signal, in any case.

  Python's handlers do not run while the main thread is inside courier or
  Reverb, so the signal's number is read from the wake-up file descriptor.
  """
  read, write = os.pipe()
  os.set_blocking(write, False)
  signal.set_wakeup_fd(write, warn_on_full_buffer=False)

  def watch() -> None:
    while os.read(read, 1)[0] not in (signal.SIGTERM, signal.SIGUSR2):
      pass
    time.sleep(grace)
    os.write(2, b'node: did not stop in time, leaving\n')
    os._exit(LATE_STATUS)

  threading.Thread(target=watch, name='stop-watchdog', daemon=True).start()


if __name__ == '__main__':
  main()
