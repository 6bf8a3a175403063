"""Trains an agent: many actors, a replay server, one learner.

python launch/lp_run.py --env point_FourRooms --region_bounds=0,5:5,11

The same command run again resumes the run where its last checkpoint left it.
"""
# pylint: disable=g-import-not-at-top, wrong-import-position

import os
import shlex
import sys
import traceback
from typing import List, Tuple

from launch import native, signals, where

where.define_flags()
if __name__ == '__main__':
  signals.leave_until_handled()
  where.isolate_early(sys.argv)
native.preload()

from absl import app, flags, logging
import launchpad as lp

from launch import command_line, run_folder, summary
from launch import experiment as experiment_lib
from launch.errors import ConfigError
from launch.experiment import Experiment

_LAUNCH_TYPES = ('local_mp', 'local_mt')
# Seconds threads of one process get to save before Launchpad kills them.
_THREADS_GRACE = 60

command_line.define_flags()
for module in (command_line, where):
  flags.adopt_module_key_flags(module)


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
  from launch import hosts, program, slurm
  from launch.starter import Starter
  here, place = hosts.make_hosts(
      where.from_flags(), experiment.num_actors, keep_open)
  starter = Starter(
      program.make_program(experiment), program.ROLES, here, place,
      run_folder.nodes_dir(experiment_lib.run_dir(experiment)),
      experiment.max_actor_restarts, 60.0 * experiment.hang_minutes)
  status = starter.run()
  if starter.out_of_time and flags.FLAGS.requeue and status == 0:
    slurm.requeue()
  return status


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


def run_alternating(experiment: Experiment) -> int:
  """Collects and learns in turns, in this thread; returns an exit status."""
  from launch import alternating, serial
  return serial.run(experiment, alternating.AlternatingProgram(experiment))


def main(argv: List[str]) -> None:
  """Checks the settings, runs, and prints what came of it."""
  try:
    evaluation = command_line.evaluation(argv[1:])
    if evaluation is not None:
      sys.exit(evaluate(evaluation))
    experiment = check_settings(argv)
    if flags.FLAGS.submit:
      print(f'submitted as job {submit(experiment)}')
      return
    locks = take_folders(experiment)
    run_dir = experiment_lib.run_dir(experiment)
    if locks:
      status = run(experiment, locks)
    else:
      status = 0
      print(f'{run_dir} already has its {experiment.num_steps:,} steps')
  except ConfigError as e:
    print(e, file=sys.stderr)
    sys.exit(2)
  if status == 0:
    print(summary.table(run_dir))
  sys.stdout.flush()
  sys.stderr.flush()
  # Clients of servers that are gone would hang in their destructors.
  os._exit(status)


def evaluate(arguments: List[str]) -> int:
  """Evaluates a checkpoint; returns an exit status."""
  import jax
  # A run that is still going keeps the GPU to itself.
  jax.config.update('jax_platforms', 'cpu')
  from launch import eval_agent
  return eval_agent.main(arguments)


def run(experiment: Experiment, locks: Tuple[int, ...]) -> int:
  """Runs the experiment the way the flags say; returns an exit status."""
  opened = where.open_ports(where.from_flags())
  if opened is not None:
    print(opened, file=sys.stderr)
  if flags.FLAGS.sync:
    return run_alternating(experiment)
  if flags.FLAGS.serial:
    return run_serial(experiment)
  if flags.FLAGS.lp_launch_type == 'local_mt':
    return run_threads(experiment)
  return run_processes(experiment, locks)


def check_settings(argv: List[str]) -> Experiment:
  """Returns the run the flags describe, once nothing is wrong with it.

  Raises:
    ConfigError: listing what is wrong with the settings or the run's folders.
  """
  if len(argv) > 1:
    raise ConfigError(command_line.unexpected(argv[1:]))
  experiment = command_line.experiment_from_flags()
  launch_type = flags.FLAGS.lp_launch_type
  if launch_type not in _LAUNCH_TYPES:
    raise ConfigError([f'lp_launch_type: got {launch_type}, needs one of '
                       + ', '.join(_LAUNCH_TYPES)])
  place = where.from_flags()
  found = where.problems(place) or list(filter(None, [where.refusal(place)]))
  if flags.FLAGS.sync:
    from launch import alternating, factory
    found += alternating.problems(experiment, factory.make_agent(experiment))
  if found:
    raise ConfigError(found)
  if command_line.restart() == 'resume':
    # Before anything is written, and again once the folder is locked.
    run_folder.check(experiment, where.one_thread())
  return experiment


def take_folders(experiment: Experiment) -> Tuple[int, ...]:
  """Returns the locks of the run's folders, none if it is complete.

  Raises:
    ConfigError: if another run is in them, or they cannot be written.
  """
  restart = command_line.restart()
  if restart == 'resume' and run_folder.is_complete(experiment):
    return ()
  locks = run_folder.lock(experiment)
  locks = run_folder.set_aside(experiment, restart, locks)
  run_folder.prepare(experiment, where.one_thread())
  return locks


def submit(experiment: Experiment) -> str:
  """Submits this command as a SLURM job and returns the job's number."""
  from launch import slurm
  run_dir = experiment_lib.run_dir(experiment)
  return slurm.submit(os.path.join(run_dir, 'job.sh'), slurm.script(
      experiment.run_name, os.path.join(run_dir, 'slurm-%j.out'),
      slurm.own_command(sys.argv, {'submit': False, 'sbatch': True}),
      shlex.split(flags.FLAGS.sbatch), flags.FLAGS.requeue))


if __name__ == '__main__':
  flags.FLAGS.set_default('lp_launch_type', 'local_mp')
  flags.FLAGS.set_default('verbosity', logging.WARNING)
  app.run(main)
