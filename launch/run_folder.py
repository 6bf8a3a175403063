"""What a run leaves behind, and whether it may be resumed."""

import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys
from typing import Any, Dict, Optional, Tuple

from envs import registry as env_registry
from launch import experiment as experiment_lib
from launch.experiment import ConfigError, Experiment
from learners import checkpoint


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


def memory_replay_path(run_dir: str) -> str:
  """Returns where a run in one thread keeps its replay."""
  return os.path.join(replay_dir(run_dir), 'memory.npz')


def lock(experiment: Experiment) -> Tuple[int, ...]:
  """Keeps other runs out of the folders this one writes to.

  Returns:
    Open files; the folders stay locked while any process has them open.

  Raises:
    ConfigError: if another run is writing there, or nobody can.
  """
  run_dir = experiment_lib.run_dir(experiment)
  visits_dir = experiment_lib.visits_dir(experiment)
  locks = [(run_dir, os.path.join(run_dir, 'lock'),
            'use --add_uid or another --log_dir_path')]
  if env_registry.spec(experiment.env).has_position:
    locks.append((visits_dir, visits_dir + '.lock',
                  'use another --seed or start in another folder'))
  files = []
  for folder, path, remedy in locks:
    try:
      os.makedirs(os.path.dirname(path), exist_ok=True)
      files.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
      fcntl.flock(files[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      user = os.read(files[-1], 20).decode()
      raise ConfigError([f'{folder} is in use by the run of process {user}; '
                         f'wait for its end, or {remedy}']) from None
    except OSError as e:
      raise _unwritable(folder, e) from e
    os.ftruncate(files[-1], 0)
    os.write(files[-1], str(os.getpid()).encode())
  return tuple(files)


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
  config_path = os.path.join(run_dir, 'config.json')
  if os.path.exists(config_path):
    _check_same(config_path, experiment)
    _check_replay(run_dir, serial)
  try:
    if checkpoint.latest_meta(checkpoint_dir(run_dir)) is None:
      # Saved by a run whose learner was not: its episodes are not counted.
      shutil.rmtree(replay_dir(run_dir), ignore_errors=True)
    for folder in (run_dir, checkpoint_dir(run_dir), replay_dir(run_dir),
                   figures_dir(run_dir)):
      os.makedirs(folder, exist_ok=True)
    # Node pickles are code: nobody else may put theirs here.
    os.makedirs(nodes_dir(run_dir), mode=0o700, exist_ok=True)
    _write(config_path, experiment_lib.to_json(experiment))
    with open(os.path.join(run_dir, 'command.txt'), 'a', encoding='utf-8') as f:
      f.write(' '.join([sys.executable, *sys.argv]) + '\n')
    _append_git_state(os.path.join(run_dir, 'git.json'))
  except OSError as e:
    raise _unwritable(run_dir, e) from e
  return run_dir


def load(run_dir: str) -> Experiment:
  """Reads the experiment of a run's folder.

  Raises:
    ConfigError: if there is none.
  """
  path = os.path.join(run_dir, 'config.json')
  if not os.path.exists(path):
    raise ConfigError([f'{run_dir} is no run folder: it has no config.json'])
  with open(path, encoding='utf-8') as f:
    return experiment_lib.from_json(f.read())


def saved_counter(run_dir: str) -> Optional[Dict[str, Any]]:
  """Returns the counter's part of the newest checkpoint, if there is one."""
  meta = checkpoint.latest_meta(checkpoint_dir(run_dir))
  return meta['counter'] if meta else None


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


def _append_git_state(path: str) -> None:
  """Adds the code's state to those the run was started with before."""
  states = []
  if os.path.exists(path):
    with open(path, encoding='utf-8') as f:
      stored = json.load(f)
    states = stored if isinstance(stored, list) else [stored]
  state = git_state()
  if state not in states[-1:]:
    _write(path, json.dumps([*states, state], indent=2))


def _unwritable(folder: str, error: OSError) -> ConfigError:
  return ConfigError([f'log_dir_path: cannot write {folder}: {error.strerror}; '
                      'choose a folder that can be written'])


def _check_same(config_path: str, experiment: Experiment) -> None:
  with open(config_path, encoding='utf-8') as f:
    try:
      old = experiment_lib.from_json(f.read())
    except (ValueError, KeyError, TypeError) as e:
      raise ConfigError([
          f'{config_path} cannot be read ({e}); move the folder away to start '
          'anew']) from e
  changed = experiment_lib.changed_settings(old, experiment)
  if changed:
    raise ConfigError(
        [f'{c}; a resumed run keeps it' for c in changed]
        + [f'to start anew, move {os.path.dirname(config_path)} away, or use '
           '--add_uid or another --log_dir_path'])


def _check_replay(run_dir: str, serial: bool) -> None:
  """Refuses to resume a learner without the replay it was saved with."""
  if checkpoint.latest_meta(checkpoint_dir(run_dir)) is None:
    return
  saved = {
      True: os.path.exists(memory_replay_path(run_dir)),
      # Reverb writes DONE when a checkpoint is whole.
      False: bool(glob.glob(os.path.join(replay_dir(run_dir), '*', 'DONE')))}
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
