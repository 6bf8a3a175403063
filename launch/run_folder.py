"""What a run leaves behind, and whether it may be resumed."""

import contextlib
import errno
import fcntl
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Tuple
import uuid

from envs import registry as env_registry
from launch import experiment as experiment_lib
from launch.errors import ConfigError
from launch.experiment import Experiment
from learners import checkpoint

_RUN_ID = 'run_id'
_RUN_REMEDY = 'use --add_uid or another --log_dir_path'


def checkpoint_dir(run_dir: str) -> str:
  """Returns the folder of the learner's checkpoints."""
  return os.path.join(run_dir, 'checkpoints')


def replay_dir(run_dir: str) -> str:
  """Returns the folder of replay's checkpoint."""
  return os.path.join(run_dir, 'replay')


def nodes_dir(run_dir: str) -> str:
  """Returns the folder of the nodes' pickles and output."""
  return os.path.join(run_dir, 'nodes')


def figures_dir(run_dir: str) -> str:
  """Returns the folder of figures."""
  return os.path.join(run_dir, 'figures')


def evaluation_path(run_dir: str) -> str:
  """Where the episodes of the last round of evaluation are kept."""
  return os.path.join(figures_dir(run_dir), 'evaluation.npz')


def eval_paths_path(run_dir: str) -> str:
  """Where the example paths of that round are kept."""
  return os.path.join(figures_dir(run_dir), 'eval_paths.npz')


def memory_replay_path(run_dir: str) -> str:
  """Returns where a run in one thread keeps its replay."""
  return os.path.join(replay_dir(run_dir), 'memory.npz')


def run_id(run_dir: str) -> str:
  """Returns the name that is this run's alone, wherever its folder is."""
  with open(os.path.join(run_dir, _RUN_ID), encoding='utf-8') as f:
    return f.read().strip()


def lock(experiment: Experiment) -> Tuple[int, ...]:
  """Keeps other runs out of the folders this one writes to.

  Returns:
    Open files; the folders stay locked while any process has them open.

  Raises:
    ConfigError: if another run is writing there, or nobody can; nothing is left
      behind then.
  """
  run_dir = experiment_lib.run_dir(experiment)
  visits_dir = experiment_lib.visits_dir(experiment)
  with contextlib.ExitStack() as undo:
    files = [_lock(os.path.join(run_dir, 'lock'), run_dir, _RUN_REMEDY, undo)]
    if env_registry.spec(experiment.env).has_position:
      files.append(_lock(
          visits_dir + '.lock', visits_dir,
          'use another --seed or start in another folder', undo))
    undo.pop_all()
  return tuple(files)


def _lock(path: str, folder: str, remedy: str,
          undo: contextlib.ExitStack) -> int:
  """Locks `path`; `undo` learns how to take that back."""
  try:
    _make_folders(os.path.dirname(path), undo)
    new = not os.path.exists(path)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    undo.callback(os.close, file)
    if new:
      undo.callback(_remove_if_there, path)
  except OSError as e:
    raise _unwritable(folder, e, remedy) from e
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    user = os.read(file, 200).decode(errors='replace').strip()
    raise ConfigError([f'{folder} is in use by the run of '
                       f'{user or "another process"}; wait for its end, or '
                       f'{remedy}']) from None
  except OSError as e:
    raise ConfigError([
        f'{path} cannot be locked: {e.strerror}; use a file system that has '
        'locks, with another --log_dir_path or started in another folder'
    ]) from e
  os.ftruncate(file, 0)
  os.pwrite(file, f'process {os.getpid()} on {socket.gethostname()}'.encode(),
            0)
  return file


def _make_folders(path: str, undo: contextlib.ExitStack) -> None:
  """Makes a folder and those it lies in."""
  missing = []
  while path and not os.path.isdir(path):
    if os.path.exists(path):
      raise NotADirectoryError(errno.ENOTDIR, f'Not a directory: {path}')
    missing.append(path)
    path = os.path.dirname(path)
  for folder in reversed(missing):
    os.makedirs(folder, exist_ok=True)
    undo.callback(_remove_if_empty, folder)


def _remove_if_there(path: str) -> None:
  with contextlib.suppress(FileNotFoundError):
    os.remove(path)


def _remove_if_empty(path: str) -> None:
  # Another run may have put something there since.
  with contextlib.suppress(OSError):
    os.rmdir(path)


def set_aside(experiment: Experiment, restart: str,
              locks: Tuple[int, ...]) -> Tuple[int, ...]:
  """Makes room for a run that starts anew where another one was.

  Args:
    experiment: the run.
    restart: 'resume' leaves all as it is; 'restart' keeps the old run under
      another name; 'overwrite' deletes it.
    locks: what `lock` returned.

  Returns:
    The locks from now on.

  Raises:
    ConfigError: if the old run cannot be moved.
  """
  run_dir = experiment_lib.run_dir(experiment)
  if restart == 'resume' or not os.path.exists(_config_path(run_dir)):
    return locks
  aside = f'{run_dir}.until-{time.time_ns()}'
  try:
    os.rename(run_dir, aside)
    if restart == 'overwrite':
      shutil.rmtree(aside)
    else:
      print(f'the run that was in {run_dir} is now in {aside}')
  except OSError as e:
    raise _unwritable(run_dir, e, _RUN_REMEDY) from e
  # The lock moved along with the folder.
  with contextlib.ExitStack() as undo:
    anew = _lock(os.path.join(run_dir, 'lock'), run_dir, _RUN_REMEDY, undo)
    undo.pop_all()
  os.close(locks[0])
  return (anew, *locks[1:])


def check(experiment: Experiment,
          serial: bool = False) -> Optional[Dict[str, Any]]:
  """Checks that the run in the experiment's folder, if any, may go on.

  Args:
    experiment: the run.
    serial: whether it runs in one thread, with replay in memory.

  Returns:
    The JSON of its newest checkpoint, None if there is none.

  Raises:
    ConfigError: if the folder holds a run with other settings, or one that is
      damaged.
  """
  run_dir = experiment_lib.run_dir(experiment)
  visits_dir = experiment_lib.visits_dir(experiment)
  _check_folders(run_dir, *_folders(run_dir), nodes_dir(run_dir))
  if os.path.exists(visits_dir) and not os.path.isdir(visits_dir):
    raise ConfigError([f'{visits_dir} is no folder; move it away, or start in '
                       'another folder'])
  # All of a checkpoint is read for it, so once is enough.
  meta = checkpoint.latest_meta(checkpoint_dir(run_dir))
  if os.path.exists(_config_path(run_dir)):
    _check_same(run_dir, experiment)
    if meta is not None:
      _counter_of(meta, run_dir)
      _check_replay(run_dir, serial)
    _git_states(run_dir)
  return meta


def prepare(experiment: Experiment, serial: bool = False) -> str:
  """Makes the run's folder, or checks that the run in it may go on.

  Args:
    experiment: the run.
    serial: whether it runs in one thread, with replay in memory.

  Returns:
    The folder.

  Raises:
    ConfigError: if the folder cannot be written, or holds a run with other
      settings.
  """
  run_dir = experiment_lib.run_dir(experiment)
  meta = check(experiment, serial)
  try:
    if meta is None:
      # Saved by a run whose learner was not: its episodes are not counted.
      shutil.rmtree(replay_dir(run_dir), ignore_errors=True)
    for path in glob.glob(os.path.join(glob.escape(replay_dir(run_dir)), '*')):
      # Reverb was killed, or the disk was full, before it had written DONE.
      if os.path.isdir(path) and not os.path.exists(
          os.path.join(path, 'DONE')):
        shutil.rmtree(path)
    for folder in _folders(run_dir):
      os.makedirs(folder, exist_ok=True)
    # Node pickles are code: nobody else may put theirs here.
    os.makedirs(nodes_dir(run_dir), mode=0o700, exist_ok=True)
    _write(_config_path(run_dir), experiment_lib.to_json(experiment))
    if not os.path.exists(os.path.join(run_dir, _RUN_ID)):
      _write(os.path.join(run_dir, _RUN_ID), f'{uuid.uuid4()}\n')
    with open(os.path.join(run_dir, 'command.txt'), 'a', encoding='utf-8') as f:
      f.write(' '.join([sys.executable, *sys.argv]) + '\n')
    _append_git_state(run_dir)
  except OSError as e:
    raise _unwritable(run_dir, e, _RUN_REMEDY) from e
  return run_dir


def load(run_dir: str) -> Experiment:
  """Reads the experiment of a run's folder.

  Raises:
    ConfigError: if there is none.
  """
  path = _config_path(run_dir)
  if not os.path.exists(path):
    raise ConfigError([f'{run_dir} is no run folder: it has no config.json'])
  try:
    with open(path, encoding='utf-8') as f:
      return experiment_lib.from_json(f.read())
  except (OSError, ValueError) as e:
    raise ConfigError([f'{path} cannot be read ({e}); put back a copy of it, '
                       'or move the folder away to start anew']) from e


def has_checkpoint(run_dir: str) -> bool:
  """Whether the run in the folder, if any, has something to resume."""
  return checkpoint.latest_meta(checkpoint_dir(run_dir)) is not None


def saved_counter(run_dir: str) -> Optional[Dict[str, Any]]:
  """Returns the counter's part of the newest checkpoint, if there is one."""
  meta = checkpoint.latest_meta(checkpoint_dir(run_dir))
  return None if meta is None else _counter_of(meta, run_dir)


def _counter_of(meta: Dict[str, Any], run_dir: str) -> Dict[str, Any]:
  counter = meta.get('counter')
  if not (isinstance(counter, dict)
          and isinstance(counter.get('counts'), dict)):
    raise ConfigError([
        f'the newest checkpoint in {checkpoint_dir(run_dir)} holds no counts; '
        'remove it to go on from the one before'])
  return counter


def is_complete(experiment: Experiment) -> bool:
  """Whether the checkpointed run already has all its environment steps."""
  saved = saved_counter(experiment_lib.run_dir(experiment))
  done = saved['counts'].get('actor_steps', 0) if saved else 0
  return done >= experiment.num_steps


def git_state() -> Dict[str, Any]:
  """Returns commit and uncommitted changes of the code, where it is in git."""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

  def git(*args: str) -> Optional[str]:
    try:
      return subprocess.run(
          ['git', '-C', root, *args], check=True, capture_output=True,
          text=True).stdout
    except (OSError, subprocess.CalledProcessError):
      return None

  commit, diff = git('rev-parse', 'HEAD'), git('diff', 'HEAD')
  return {'commit': commit.strip() if commit else None, 'diff': diff}


def _append_git_state(run_dir: str) -> None:
  """Adds the code's state to those the run was started with before."""
  states, state = _git_states(run_dir), git_state()
  if state not in states[-1:]:
    _write(_git_path(run_dir), json.dumps([*states, state], indent=2))


def _git_states(run_dir: str) -> List[Any]:
  """Returns the code's states the run was started with before."""
  path = _git_path(run_dir)
  if not os.path.exists(path):
    return []
  try:
    with open(path, encoding='utf-8') as f:
      stored = json.load(f)
  except (OSError, ValueError) as e:
    raise ConfigError([f'{path} cannot be read ({e}); remove it']) from e
  return stored if isinstance(stored, list) else [stored]


def _git_path(run_dir: str) -> str:
  return os.path.join(run_dir, 'git.json')


def _folders(run_dir: str) -> Tuple[str, ...]:
  return (run_dir, checkpoint_dir(run_dir), replay_dir(run_dir),
          figures_dir(run_dir))


def _check_folders(*paths: str) -> None:
  """Refuses files where folders should be."""
  found = [f'{path} is in the way, it is no folder; move it away, or '
           f'{_RUN_REMEDY}' for path in paths
           if os.path.exists(path) and not os.path.isdir(path)]
  if found:
    raise ConfigError(found)


def _config_path(run_dir: str) -> str:
  return os.path.join(run_dir, 'config.json')


def _unwritable(folder: str, error: OSError, remedy: str) -> ConfigError:
  return ConfigError([f'cannot write {folder}: {error.strerror}; {remedy}, '
                      'where files can be written'])


def _check_same(run_dir: str, experiment: Experiment) -> None:
  changed = experiment_lib.changed_settings(load(run_dir), experiment)
  if changed:
    raise ConfigError(
        [f'{c}; a resumed run keeps it' for c in changed]
        + [f'to start anew, use --restart=restart, which keeps {run_dir} under '
           'another name, --restart=overwrite, which deletes it, --add_uid or '
           'another --log_dir_path'])


def _check_replay(run_dir: str, serial: bool) -> None:
  """Refuses to resume a learner without the replay it was saved with."""
  saved = {
      True: os.path.exists(memory_replay_path(run_dir)),
      # Reverb writes DONE when a checkpoint is whole.
      False: bool(glob.glob(os.path.join(
          glob.escape(replay_dir(run_dir)), '*', 'DONE')))}
  if saved[serial]:
    return
  if saved[not serial]:
    raise ConfigError([
        f'{run_dir} was run {"without" if serial else "with"} --serial, and '
        'its replay can only be resumed that way'])
  raise ConfigError([
      f'{run_dir} has a checkpoint, but {replay_dir(run_dir)} holds no replay '
      'to resume with; move the run folder away to start anew'])


def _write(path: str, text: str) -> None:
  with open(path + '.tmp', 'w', encoding='utf-8') as f:
    f.write(text)
  os.replace(path + '.tmp', path)
