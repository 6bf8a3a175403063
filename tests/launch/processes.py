"""Starting real runs in tests, finding their nodes, and leaving nothing."""

import functools
import os
import re
import signal
import subprocess
import sys
import time
from typing import Callable, Dict, List, Optional

import psutil

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
LP_RUN = os.path.join(ROOT, 'launch', 'lp_run.py')

# Small networks and batches: these tests are about processes.
TINY = ['--hidden_layer_sizes=16,16', '--repr_dim=8', '--batch_size=16',
        '--num_sgd_steps_per_step=4', '--samples_per_insert=16',
        '--min_replay_size=400', '--eval_episodes=10', '--eval_interval=1',
        '--log_interval=1', '--num_actors=2', '--envs_per_actor=2',
        '--time_delta_minutes=0.03', '--seed=7']


@functools.lru_cache
def launcher_flags() -> List[str]:
  """Returns what `lp_run.py` needs on a machine without network namespaces."""
  done = subprocess.run(
      [sys.executable, '-c', 'from launch import network; '
       'print(network.isolate())'], cwd=ROOT, capture_output=True, text=True,
      check=True)
  return [] if done.stdout.strip() == 'True' else ['--allow_remote']


class Run:
  """One `lp_run.py` process and its nodes; `end` leaves no process behind."""

  def __init__(self, folder: str, *flags: str, script: Optional[str] = None):
    self.folder = str(folder)
    self.output_path = os.path.join(self.folder, 'output.txt')
    # A proxy that leads nowhere must not come between nodes of one machine.
    environment = {**os.environ, 'http_proxy': 'http://127.0.0.1:9'}
    with open(self.output_path, 'a', encoding='utf-8') as output:
      self.process = subprocess.Popen(
          [sys.executable, *([script] if script else
                            [LP_RUN, *launcher_flags()]), *flags],
          cwd=self.folder,
          env=environment, stdout=output, stderr=subprocess.STDOUT)
    self._seen: Dict[int, psutil.Process] = {}

  @property
  def output(self) -> str:
    with open(self.output_path, encoding='utf-8') as f:
      return f.read()

  def nodes(self) -> Dict[str, psutil.Process]:
    """Returns the running node processes by 'label/index'."""
    found = {}
    try:
      children = psutil.Process(self.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
      return {}
    for child in children:
      self._seen[child.pid] = child
      try:
        command = ' '.join(child.cmdline())
      except psutil.NoSuchProcess:
        continue
      match = re.search(r'(\w+)\.pkl --lp_task_id (\d+)', command)
      if match:
        found[f'{match.group(1)}/{match.group(2)}'] = child
    return found

  def wait_until(self, condition: Callable[[], bool], what: str,
                 timeout: float = 90.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
      assert self.process.poll() is None, f'ended early:\n{self.output}'
      assert time.monotonic() < deadline, f'no {what}:\n{self.output}'
      self.nodes()
      time.sleep(0.1)

  def wait(self, timeout: float) -> int:
    """Waits for the launcher's end and returns its status."""
    try:
      return self.process.wait(timeout)
    except subprocess.TimeoutExpired:
      raise AssertionError(f'still running:\n{self.output}') from None

  def orphans(self, within: float = 10.0) -> List[psutil.Process]:
    """Returns nodes that outlive the launcher by `within` seconds."""
    _, alive = psutil.wait_procs(list(self._seen.values()), timeout=within)
    return alive

  def kill_everything(self) -> None:
    """SIGKILLs the launcher and every node, as a power cut would."""
    nodes = self.nodes()
    self.process.kill()
    for node in nodes.values():
      node.kill()
    self.process.wait()

  def end(self) -> None:
    self.nodes()
    if self.process.poll() is None:
      self.process.send_signal(signal.SIGKILL)
      self.process.wait()
    for node in self._seen.values():
      try:
        node.kill()
      except psutil.NoSuchProcess:
        continue
