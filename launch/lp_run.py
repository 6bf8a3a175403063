"""Trains an agent: many actors, a replay server, one learner.

python launch/lp_run.py --env point_FourRooms --region_bounds=0,5:5,11

The same command run again resumes the run where its last checkpoint left it.
"""
# pylint: disable=g-import-not-at-top, wrong-import-position

import os
import sys
from typing import List

from launch import native

native.preload()

from absl import app, flags, logging
import launchpad as lp

from launch import command_line, run_folder, summary
from launch import experiment as experiment_lib
from launch.experiment import ConfigError, Experiment

_LAUNCH_TYPES = ('local_mp', 'local_mt')
# Seconds threads of one process get to save before Launchpad kills them.
_THREADS_GRACE = 60

command_line.define_flags()
flags.adopt_module_key_flags(command_line)


def run_processes(experiment: Experiment) -> int:
  """Runs one process per node under the starter; returns an exit status."""
  import jax
  # The launcher must not take the GPU's memory. An environment variable would
  # reach the learner too.
  jax.config.update('jax_platforms', 'cpu')
  from launch import program
  from launch.hosts import LocalHost
  from launch.starter import Starter
  starter = Starter(
      program.make_program(experiment), program.ROLES, LocalHost(),
      run_folder.nodes_dir(experiment_lib.run_dir(experiment)),
      experiment.max_actor_restarts)
  return starter.run()


def run_threads(experiment: Experiment) -> int:
  """Runs every node as a thread of this process; returns an exit status."""
  from launch import program
  flags.FLAGS['lp_termination_notice_secs'].value = _THREADS_GRACE
  manager = lp.launch(program.make_program(experiment), launch_type='local_mt',
                      terminal='current_terminal')
  try:
    manager.wait()
  except RuntimeError as e:
    print(f'a node failed: {e}', file=sys.stderr, flush=True)
    return 1
  return 0


def run_serial(experiment: Experiment) -> int:
  """Runs every role in this thread; returns an exit status."""
  from launch import serial
  return serial.run(experiment)


def main(argv: List[str]) -> None:
  """Checks the settings, runs, and prints what came of it."""
  try:
    if len(argv) > 1:
      raise ConfigError([f"unexpected argument '{a}'; settings are flags, see "
                         '--help' for a in argv[1:]])
    experiment = command_line.experiment_from_flags()
    launch_type = flags.FLAGS.lp_launch_type
    if launch_type not in _LAUNCH_TYPES:
      raise ConfigError([f'lp_launch_type: got {launch_type}, needs one of '
                         + ', '.join(_LAUNCH_TYPES)])
    run_dir = run_folder.prepare(experiment, flags.FLAGS.serial)
  except ConfigError as e:
    print(e, file=sys.stderr)
    sys.exit(2)

  status = 0
  if run_folder.is_complete(experiment):
    print(f'{run_dir} already has its {experiment.num_steps:,} steps')
  elif flags.FLAGS.serial:
    status = run_serial(experiment)
  elif launch_type == 'local_mt':
    status = run_threads(experiment)
  else:
    status = run_processes(experiment)
  if status == 0:
    print(summary.table(run_dir))
  sys.stdout.flush()
  sys.stderr.flush()
  # Clients of servers that are gone would hang in their destructors.
  os._exit(status)


if __name__ == '__main__':
  flags.FLAGS.set_default('lp_launch_type', 'local_mp')
  flags.FLAGS.set_default('verbosity', logging.WARNING)
  app.run(main)
