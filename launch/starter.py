"""Starts the nodes of a Launchpad program, watches them, and ends them.

Launchpad's program, nodes, handles and process entry are used as they are; this
replaces its address builder, its program stopper, the place of its pickles and
its start command, and adds what its local launcher lacks: it notices a node
that dies, restarts those that may be, stops nodes in order, and returns a
status one can trust.
"""

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Dict, Iterator, List, Mapping, Optional

import courier
import launchpad as lp
from launchpad import context
from launchpad.launch import serialization

from launch.heartbeat import START_SECONDS
from launch.hosts import Host, Place
from launch.node import NODE_VARIABLE

_POLL_SECONDS = 0.05
# Seconds a node that hangs gets to write down where.
_LAST_WORDS = 1.0
# Once a node has failed, no group of nodes gets longer than this to stop.
_FAILURE_GRACE = 4.0
_TRACEBACK_LINES = 60
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclasses.dataclass(frozen=True)
class Role:
  """How the nodes of one group are run.

  Attributes:
    stop_order: groups with lower numbers are stopped first.
    grace: seconds a node gets to stop before it is killed.
    restarts: start again if it dies; otherwise its death ends the program.
    must_finish: a stop in which it is killed or fails has not succeeded, for
      what it was to save is missing.
    has_loop: it asks whether to stop (launch/heartbeat.py), and hangs if it
      does not; of others only the process is watched.
    env: environment variables.
    console: its standard output goes to the terminal.
  """
  stop_order: int
  grace: float
  restarts: bool = False
  must_finish: bool = False
  has_loop: bool = True
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)
  console: bool = False


class FixedAddress(lp.AbstractAddressBuilder):
  """host:port chosen by the starter; clients dial it, servers use the port."""

  def __init__(self, address: str):
    self._address = address

  def build(self) -> str:
    """Returns host:port."""
    return self._address


class RemoteStopper:
  """What `lp.stop()` calls in a node: asks the starter to stop the program."""

  def __init__(self, address: str):
    self._address = address

  def __call__(self, mark_as_completed: bool = False) -> None:
    """Asks the starter once."""
    del mark_as_completed
    courier.Client(
        self._address, call_timeout=10, wait_for_ready=False).stop()


@dataclasses.dataclass
class _Node:
  """One node: how to start it, and its running process.

  Attributes:
    log_start: bytes that were in its log before it was started.
    turned: when its loop last turned, as far as the starter knows.
    hung: it was killed because that was long ago.
  """
  label: str
  index: int
  role: Role
  host: Host
  argv: List[str]
  env: Dict[str, str]
  log_path: str
  log_start: int = 0
  process: Optional['subprocess.Popen[str]'] = None
  turned: float = 0.0
  hung: bool = False

  @property
  def title(self) -> str:
    """Label and index, as messages name it."""
    return f'{self.label}/{self.index}'

  @property
  def alive(self) -> bool:
    """Whether its process runs."""
    return self.process is not None and self.process.poll() is None


class Starter:
  """Runs one program to its end."""

  def __init__(self, program: lp.Program, roles: Mapping[str, Role],
               here: Host, place: Place, nodes_dir: str, max_restarts: int,
               hang_seconds: float = math.inf):
    """Prepares the nodes; nothing is started yet.

    Args:
      program: what to run.
      roles: one per group of nodes.
      here: this machine, as nodes reach it.
      place: tells the host of each node.
      nodes_dir: folder for pickles and output, readable by this user alone.
      max_restarts: restarts allowed in all.
      hang_seconds: a node that does nothing for so long counts as dead.
    """
    self._place = place
    self._nodes_dir = nodes_dir
    self._restarts_left = max_restarts
    self._hang_seconds = hang_seconds
    self._stop_asked = threading.Event()
    self._signals = 0
    self._out_of_time = False
    port = here.pick_port()
    self._address = f'{here.address}:{port}'
    self._server = courier.Server(port=port)
    self._server.Bind('stop', self._stop_asked.set)
    self._server.Bind('beat', self._beat)
    self._nodes = self._prepare(program, roles)

  @property
  def out_of_time(self) -> bool:
    """Whether it was SIGUSR1 that stopped the program."""
    return self._out_of_time

  def run(self) -> int:
    """Starts all nodes, waits for the end, and returns an exit status."""
    with self._handle_signals():
      self._server.Start()
      try:
        for node in self._nodes:
          self._start(node)
        failed = self._watch()
        self._stop_nodes(_FAILURE_GRACE if failed else None)
      finally:
        # The server goes with the process: stopping it in the middle of a call,
        # such as a last beat, may never return.
        self._kill(self._nodes)
    if failed is None and self._signals > 1:
      return 130
    failed = failed or self._unfinished()
    if failed is not None:
      print(_report(failed), file=sys.stderr, flush=True)
      return 1
    return 0

  def _beat(self, title: str, idle: float) -> None:
    """Served to the nodes: `title` did something `idle` seconds ago."""
    for node in self._nodes:
      if node.title == title:
        node.turned = time.monotonic() - idle

  def _prepare(self, program: lp.Program,
               roles: Mapping[str, Role]) -> List[_Node]:
    # Launchpad has no public way to set a node's context from outside.
    for label, nodes in program.groups.items():
      for node in nodes:
        node._initialize_context(
            context.LaunchType.LOCAL_MULTI_PROCESSING, launch_config=None)
        node._launch_context._program_stopper = RemoteStopper(self._address)
        for handle in node.input_handles:
          handle.connect(node, label)
    for label, nodes in program.groups.items():
      for index, node in enumerate(nodes):
        host = self._place(label, index)
        for address in node.addresses:
          address.bind(FixedAddress(f'{host.address}:{host.pick_port()}'))
    prepared = []
    for label, nodes in program.groups.items():
      data_file = os.path.abspath(os.path.join(self._nodes_dir, f'{label}.pkl'))
      serialization.serialize_functions(
          data_file, label, [n.function for n in nodes])
      for index in range(len(nodes)):
        prepared.append(self._node(label, index, roles[label], data_file))
    return prepared

  def _node(self, label: str, index: int, role: Role,
            data_file: str) -> _Node:
    host = self._place(label, index)
    settings = {
        'grace': role.grace, 'address': self._address,
        'title': f'{label}/{index}', 'has_loop': role.has_loop,
        'lost_after': host.lost_after}
    return _Node(
        label=label, index=index, role=role, host=host,
        argv=[sys.executable, '-m', 'launch.node', '--data_file', data_file,
              '--lp_task_id', str(index),
              # The watchdog of launch/node.py replaces Launchpad's timer.
              '--lp_termination_notice_secs=-1'],
        env={'PYTHONUNBUFFERED': '1',
             'PYTHONPATH': os.pathsep.join(
                 [_ROOT, *filter(None, [os.environ.get('PYTHONPATH')])]),
             'TF_CPP_MIN_LOG_LEVEL': '1',
             NODE_VARIABLE: json.dumps(settings), **role.env},
        log_path=os.path.join(self._nodes_dir, f'{label}-{index}.log'))

  def _start(self, node: _Node) -> None:
    with open(node.log_path, 'a', encoding='utf-8') as log:
      node.log_start = os.path.getsize(node.log_path)
      node.process = node.host.start(
          node.argv, node.env, log, node.role.console)
    # It cannot report before it has started.
    node.turned, node.hung = time.monotonic() + START_SECONDS, False

  def _watch(self) -> Optional[_Node]:
    """Waits until the program is to stop; returns the node that failed."""
    looked = time.monotonic()
    while not (self._stop_asked.wait(_POLL_SECONDS) or self._signals):
      now = time.monotonic()
      self._end_hanging(now - looked)
      looked = now
      dead = [node for node in self._nodes if not node.alive]
      # Others fail because a server went away; name the one that matters.
      dead.sort(key=lambda node: (node.role.restarts, -node.role.stop_order))
      for node in dead:
        if not node.role.restarts or self._restarts_left == 0:
          return node
        self._restarts_left -= 1
        print(f'{node.title} {_outcome(node)}; starting it again '
              f'({self._restarts_left} restarts left), output in '
              f'{node.log_path}', file=sys.stderr, flush=True)
        self._start(node)
    return None

  def _end_hanging(self, elapsed: float) -> None:
    """Kills nodes that have done nothing for too long.

    Args:
      elapsed: seconds since the last call. If this process was suspended, the
        nodes could not report meanwhile, which is no fault of theirs.
    """
    for node in self._nodes:
      node.turned += max(0.0, elapsed - 1.0)
      if time.monotonic() - node.turned <= self._hang_seconds:
        continue
      node.hung = True
      if node.process is not None:
        node.process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
          node.process.wait(_LAST_WORDS)
      self._kill([node])

  def _unfinished(self) -> Optional[_Node]:
    """Returns a node that should have finished its work and did not."""
    for node in self._nodes:
      # Only a Python that had not yet come to launch/node.py dies of SIGTERM,
      # and it had nothing to save.
      if node.role.must_finish and _status(node) not in (0, -signal.SIGTERM):
        return node
    return None

  def _stop_nodes(self, limit: Optional[float]) -> None:
    """Stops groups in order; each gets its grace, at most `limit`."""
    for order in sorted({node.role.stop_order for node in self._nodes}):
      nodes = [n for n in self._nodes if n.role.stop_order == order]
      for node in nodes:
        if node.alive and node.process is not None:
          node.process.send_signal(signal.SIGTERM)
      grace = max(node.role.grace for node in nodes)
      if limit is not None:
        grace = min(grace, limit)
      deadline = time.monotonic() + grace
      while (any(node.alive for node in nodes) and self._signals < 2
             and time.monotonic() < deadline):
        time.sleep(_POLL_SECONDS)
      self._kill(nodes)

  def _kill(self, nodes: List[_Node]) -> None:
    for node in nodes:
      if node.alive and node.process is not None:
        node.process.kill()
    for node in nodes:
      if node.process is not None:
        node.process.wait()

  @contextlib.contextmanager
  def _handle_signals(self) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops in order, the second kills.

    So does SIGUSR1, by which SLURM says that the job's time is nearly over.
    """

    def handle(signum, frame):
      del frame
      # It interrupts this very thread, which may hold the lock of whatever it
      # is waiting for: no more than plain attributes is safe to touch.
      self._signals += 1
      self._out_of_time |= signum == signal.SIGUSR1

    before = {s: signal.signal(s, handle)
              for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
      yield
    finally:
      for signum, handler in before.items():
        signal.signal(signum, handler)


def _status(node: _Node) -> Optional[int]:
  return node.process.returncode if node.process is not None else None


def _outcome(node: _Node) -> str:
  """Returns how a node ended, as messages say it."""
  if node.hung:
    return 'did nothing for too long and was killed'
  return f'ended with status {_status(node)}'


def _report(node: _Node) -> str:
  """Returns what the failed node said last, its traceback at the end.

  What an earlier start wrote into the same log is not what this one failed of.
  """
  with open(node.log_path, 'rb') as f:
    f.seek(node.log_start)
    lines = f.read().decode(errors='replace').splitlines(keepends=True)
  how = _outcome(node).replace('ended', 'failed', 1)
  if not lines:
    return f'{node.title} {how}; it wrote nothing into {node.log_path}'
  return (f'{node.title} {how}; its output is in {node.log_path} and ends with:'
          '\n' + ''.join(lines[-_TRACEBACK_LINES:]))
