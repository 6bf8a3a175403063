"""A Launchpad program without learning: what its nodes do is in argv.

`python small_program.py FOLDER role=behaviour ...`; each node writes a line to
FOLDER/<role> when it starts and when it is told to stop.
"""

import os
import time

from launch import native

native.preload()

from absl import app  # noqa: E402
import launchpad as lp  # noqa: E402

from launch import heartbeat  # noqa: E402
from launch.hosts import LocalHost  # noqa: E402
from launch.starter import Role, Starter  # noqa: E402

# Reports come every two seconds.
HANG_SECONDS = 6.0


class Worker:
  """Behaves as told.

  That is one of serve, crash, crash_once, crash_late, return, deaf, finish,
  hang and hang_once.
  """

  def __init__(self, folder: str, role: str, behaviour: str):
    self._path = os.path.join(folder, role)
    self._behaviour = behaviour

  def run(self) -> None:
    stop = heartbeat.WatchedStop(lp.stop_event())
    first = not os.path.exists(self._path)
    self._say('started')
    if self._behaviour == 'crash' or (
        self._behaviour == 'crash_once' and first):
      time.sleep(0.5)
      raise ValueError(f'{os.path.basename(self._path)} broke on purpose')
    if self._behaviour == 'return':
      return
    if self._behaviour == 'finish':
      time.sleep(0.5)
      lp.stop()
    if self._behaviour == 'hang' or (
        self._behaviour == 'hang_once' and first):
      do_nothing_for_ever()
    if self._behaviour == 'deaf':
      while True:
        time.sleep(1)
    stop.wait()
    self._say(f'stopped {time.monotonic()}')
    if self._behaviour == 'crash_late':
      raise ValueError(f'{os.path.basename(self._path)} could not save')
    time.sleep(0.3)

  def _say(self, text: str) -> None:
    with open(self._path, 'a', encoding='utf-8') as f:
      f.write(text + '\n')


def do_nothing_for_ever() -> None:
  time.sleep(1000)


def main(argv) -> None:
  folder, *assignments = argv[1:]
  program = lp.Program('small')
  roles = {}
  for order, assignment in enumerate(assignments):
    name, behaviour = assignment.split('=')
    with program.group(name):
      program.add_node(lp.CourierNode(Worker, folder, name, behaviour))
    roles[name] = Role(
        stop_order=order, grace=2.0, restarts=name.startswith('actor'),
        must_finish=name == 'learner')
  nodes_dir = os.path.join(folder, 'nodes')
  os.makedirs(nodes_dir, exist_ok=True)
  host = LocalHost()
  os._exit(Starter(
      program, roles, host, lambda label, index: host, nodes_dir,
      max_restarts=2, hang_seconds=HANG_SECONDS).run())


if __name__ == '__main__':
  app.run(main)
