"""A run of `lp_run.py` that is watched from outside: its nodes and counts."""

import os
import re
import signal
import subprocess
import sys
import time
from typing import Dict, List, Optional

import numpy as np
import psutil

from launch import run_folder, summary
from launch.tables import LP_RUN

# Seconds a run gets to save and end when it is asked to.
STOP_SECONDS = 120.0


def end_on_sigterm() -> None:
  """Lets SIGTERM end this process as an exception, which stops its runs."""
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class WatchedRun:
  """One run in a folder of its own, started as often as need be."""

  def __init__(self, folder: str, flags: List[str]):
    """Prepares the command; `start` starts it, or resumes the run."""
    self.folder = folder
    self._command = [sys.executable, LP_RUN, '--log_dir_path=logs', *flags]
    self._process: Optional[subprocess.Popen] = None
    self._seen: Dict[int, psutil.Process] = {}

  def start(self) -> None:
    """Gives the command."""
    with open(self.output_path, 'ab') as output:
      self._process = subprocess.Popen(
          self._command, cwd=self.folder, stdin=subprocess.DEVNULL,
          stdout=output, stderr=subprocess.STDOUT)

  @property
  def output_path(self) -> str:
    """Where all it says is kept."""
    return os.path.join(self.folder, 'output.txt')

  @property
  def status(self) -> Optional[int]:
    """Exit status of the last start, None while it runs."""
    assert self._process is not None, 'start() comes first'
    return self._process.poll()

  @property
  def launcher(self) -> psutil.Process:
    """The process that was started."""
    assert self._process is not None, 'start() comes first'
    return psutil.Process(self._process.pid)

  def nodes(self) -> Dict[str, psutil.Process]:
    """Returns the running nodes by 'label/index'."""
    found: Dict[str, psutil.Process] = {}
    try:
      children = self.launcher.children(recursive=True)
    except psutil.NoSuchProcess:
      return found
    for child in children:
      try:
        command = ' '.join(child.cmdline())
      except psutil.NoSuchProcess:
        continue
      self._seen[child.pid] = child
      match = re.search(r'(\w+)\.pkl --lp_task_id (\d+)', command)
      if match:
        found[f'{match.group(1)}/{match.group(2)}'] = child
    return found

  def survivors(self, within: float) -> List[psutil.Process]:
    """Returns processes of the run that are still there after a while."""
    return psutil.wait_procs(list(self._seen.values()), timeout=within)[1]

  def wait(self, seconds: float) -> bool:
    """Waits for its end; whether it came in time."""
    deadline = time.monotonic() + seconds
    while self.status is None and time.monotonic() < deadline:
      time.sleep(0.1)
    return self.status is not None

  def stop(self) -> None:
    """Asks it to save and end; kills what does not."""
    if self._process is None:
      return
    self.nodes()
    if self.status is None:
      self._process.send_signal(signal.SIGTERM)
      self.wait(STOP_SECONDS)
    self.kill()

  def kill(self) -> None:
    """Kills the launcher and every node there was."""
    if self._process is None:
      return
    self.nodes()
    if self.status is None:
      self._process.kill()
      self._process.wait()
    for process in self._seen.values():
      try:
        process.kill()
      except psutil.NoSuchProcess:
        continue

  @property
  def run_dir(self) -> Optional[str]:
    """The run's folder, None before there is one."""
    logs = os.path.join(self.folder, 'logs')
    names = [n for n in (os.listdir(logs) if os.path.isdir(logs) else [])
             if os.path.exists(os.path.join(logs, n, 'config.json'))]
    return os.path.join(logs, names[0]) if names else None

  def log(self, role: str) -> summary.Columns:
    """Returns the log of one role, empty before there is one."""
    return summary.read_log(self.run_dir, role) if self.run_dir else {}

  def steps(self) -> float:
    """Returns the environment steps of the newest log row."""
    steps = self.log('actor').get('actor_steps', np.zeros(0))
    return float(steps[-1]) if len(steps) else 0.0

  def saved_steps(self) -> float:
    """Returns the environment steps of the newest checkpoint."""
    saved = run_folder.saved_counter(self.run_dir) if self.run_dir else None
    return float(saved['counts']['actor_steps']) if saved else 0.0
