"""Trains an agent: many actors, a replay server, one learner.

python launch/lp_run.py --env point_FourRooms --region_bounds=0,5:5,11

The same command run again resumes the run where its last checkpoint left it.
"""
# pylint: disable=g-import-not-at-top, wrong-import-position

import os
import sys
import traceback
from typing import List, Tuple

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


def run_processes(experiment: Experiment, keep_open: Tuple[int, ...]) -> int:
  """Runs one process per node under the starter.

  Args:
    experiment: the run.
    keep_open: files the nodes are to hold open too, such as locks, which must
      outlive a launcher that is killed.

  Returns:
    An exit status.
  """
  import jax
  # The launcher must not take the GPU's memory. An environment variable would
  # reach the learner too.
  jax.config.update('jax_platforms', 'cpu')
  from launch import program
  from launch.hosts import LocalHost
  from launch.starter import Starter
  starter = Starter(
      program.make_program(experiment), program.ROLES, LocalHost(keep_open),
      run_folder.nodes_dir(experiment_lib.run_dir(experiment)),
      experiment.max_actor_restarts)
  return starter.run()


def run_threads(experiment: Experiment) -> int:
  """Runs every node as a thread of this process; returns an exit status."""
  from launch import program
  from launch.hosts import proxy_variables
  for name in proxy_variables(os.environ):
    del os.environ[name]
  flags.FLAGS['lp_termination_notice_secs'].value = _THREADS_GRACE
  manager = lp.launch(program.make_program(experiment), launch_type='local_mt',
                      terminal='current_terminal')
  # Launchpad forgets who failed while stopping, such as a learner that could
  # not save, and has no public way to ask.
  outcomes = [worker.future
              for label, workers in manager._active_workers.items()
              for worker in workers if program.ROLES[label].must_finish]
  try:
    manager.wait()
    for outcome in outcomes:
      outcome.result()
  except Exception:  # pylint: disable=broad-except
    # Whatever a node raised, it is the last thing on the screen.
    traceback.print_exc()
    return 1
  return 0


def run_serial(experiment: Experiment) -> int:
  """Runs every role in this thread; returns an exit status."""
  from launch import serial
  return serial.run(experiment)


def _check_turns(experiment: Experiment) -> None:
  """Raises ConfigError if collecting and learning cannot take turns."""
  from launch import alternating, factory
  found = alternating.problems(experiment, factory.make_agent(experiment))
  if found:
    raise ConfigError(found)


def run_alternating(experiment: Experiment) -> int:
  """Collects and learns in turns, in this thread; returns an exit status."""
  from launch import alternating, serial
  return serial.run(experiment, alternating.AlternatingProgram(experiment))


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
    if flags.FLAGS.sync:
      _check_turns(experiment)
    locks = run_folder.lock(experiment)
    one_thread = flags.FLAGS.serial or flags.FLAGS.sync
    run_dir = run_folder.prepare(experiment, one_thread)
  except ConfigError as e:
    print(e, file=sys.stderr)
    sys.exit(2)

  status = 0
  if run_folder.is_complete(experiment):
    print(f'{run_dir} already has its {experiment.num_steps:,} steps')
  elif flags.FLAGS.sync:
    status = run_alternating(experiment)
  elif flags.FLAGS.serial:
    status = run_serial(experiment)
  elif launch_type == 'local_mt':
    status = run_threads(experiment)
  else:
    status = run_processes(experiment, locks)
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
