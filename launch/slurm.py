"""SLURM jobs of runs: written, submitted, and put back into the queue."""

import os
import re
import shlex
import subprocess
import sys
from typing import List, Mapping, Sequence

from launch.errors import ConfigError

# Seconds before its end at which a job is told, for the last checkpoint.
NOTICE_SECONDS = 120
_SUBMITTED = re.compile(r'Submitted batch job (\d+)')


def script(name: str, output: str, command: Sequence[str],
           options: Sequence[str] = (), requeue: bool = False) -> str:
  """Returns a batch script that runs `command` where it is submitted.

  Args:
    name: of the job.
    output: file its output is appended to; %j stands for the job's number.
    command: what to run.
    options: of sbatch.
    requeue: it may run again after the system ended it.
  """
  settings = [
      f'--job-name={name}', f'--output={output}', '--open-mode=append',
      # To the script alone, which is the launcher: it stops nodes in order.
      f'--signal=B:USR1@{NOTICE_SECONDS}',
      '--requeue' if requeue else '--no-requeue', *options]
  lines = ''.join(f'#SBATCH {shlex.quote(s)}\n' for s in settings)
  # A shell would die of a signal, or defer it until its child has ended.
  return (f'#!/bin/bash\n{lines}cd {shlex.quote(os.getcwd())} || exit 1\n'
          f'exec {shlex.join(command)}\n')


def submit(path: str, text: str) -> str:
  """Writes a batch script to `path` and submits it.

  Returns:
    The job's number.

  Raises:
    ConfigError: if SLURM does not take it.
  """
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, 'w', encoding='utf-8') as f:
    f.write(text)
  try:
    done = subprocess.run(
        ['sbatch', path], check=True, capture_output=True, text=True,
        timeout=120)
  except FileNotFoundError as e:
    raise ConfigError(['submit: there is no sbatch here; submit from a machine '
                       'of the cluster']) from e
  except subprocess.CalledProcessError as e:
    raise ConfigError([
        f'submit: sbatch refused {path}: {e.stderr.strip()}']) from e
  found = _SUBMITTED.search(done.stdout)
  if found is None:
    raise ConfigError([f'submit: sbatch said: {done.stdout.strip()}'])
  return found.group(1)


def requeue() -> None:
  """Puts this job back into the queue; it ends now and starts again later."""
  subprocess.run(['scontrol', 'requeue', os.environ['SLURM_JOB_ID']],
                 check=True, timeout=120)


def own_command(argv: Sequence[str], dropped: Mapping[str, bool]) -> List[str]:
  """Returns this program's command line without some of its flags.

  Args:
    argv: the command line.
    dropped: names of flags, and whether each takes a value.
  """
  kept: List[str] = []
  rest = iter(argv[1:])
  for argument in rest:
    name, equals, _ = argument.lstrip('-').partition('=')
    if not argument.startswith('-') or name not in dropped:
      kept.append(argument)
    elif dropped[name] and not equals:
      next(rest, None)
  return [sys.executable, os.path.abspath(argv[0]), *kept]
