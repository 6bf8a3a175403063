"""Films of the evaluator's policy while a run goes on."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Optional

from absl import logging

from learners import checkpoint

_COMMAND = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'video.py')
# Seconds that the last film is waited for.
_PATIENCE = 15.0


class Films:
  """Films what was evaluated, one episode now and then.

  `launch/video.py` does it in a process of its own: MuJoCo reads what to draw
  with only once, and a graphics driver that crashes takes its process along.
  Where nothing draws the log says so, once, and the run goes on without.
  """

  def __init__(self, run_dir: str, period: float,
               run_steps: Callable[[], int]):
    """Films into the figures of a run.

    Args:
      run_dir: its folder.
      period: least seconds between the starts of two films.
      run_steps: returns the environment steps of the run.
    """
    self._run_dir = run_dir
    self._period = period
    self._run_steps = run_steps
    self._next = time.monotonic()
    self._folder: Optional[tempfile.TemporaryDirectory[str]] = None
    self._child: Optional[subprocess.Popen[str]] = None
    self._given_up = False

  def show(self, updates: int, variables: Any) -> None:
    """Starts a film, if it is time for one and none is being made.

    Args:
      updates: SGD steps the variables have seen; names the film.
      variables: what the policy acts with.
    """
    self._look()
    if (self._child is not None or self._given_up
        or time.monotonic() < self._next):
      return
    self._next = time.monotonic() + self._period
    self._folder = tempfile.TemporaryDirectory(prefix='film_')
    path = checkpoint.save(
        self._folder.name, updates, variables,
        {'counter': {'counts': {'actor_steps': self._run_steps()}}})
    self._child = subprocess.Popen(
        [sys.executable, _COMMAND, self._run_dir, f'--variables={path}'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

  def close(self) -> None:
    """Waits a little for the film that is being made, then ends it."""
    if self._child is not None:
      try:
        self._child.wait(_PATIENCE)
      except subprocess.TimeoutExpired:
        self._child.kill()
        self._child.wait()
        logging.warning('the last film took too long; launch/video.py makes it')
        self._given_up = True
    self._look()

  def _look(self) -> None:
    """Reads what came of a film that has ended."""
    if self._child is None or self._child.poll() is None:
      return
    said, _ = self._child.communicate()
    if self._child.returncode == 0:
      logging.info('filmed %s', said.strip())
    elif not self._given_up:
      self._given_up = True
      last = (said.strip().splitlines() or ['it crashed'])[-1]
      logging.warning('no film, and none will be tried again: %s', last)
    self._child = None
    assert self._folder is not None
    self._folder.cleanup()
    self._folder = None
