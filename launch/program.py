"""The topology of a run.

episodes                    batches
actor x N -------> replay (Reverb) -------> learner (GPU)
^  |                                      |   |
|  +------- counts ----> counter <--------+   |
+---------------- parameters -----------------+---> evaluator
"""

from typing import Mapping

import launchpad as lp
import reverb

from launch import experiment as experiment_lib
from launch import factory, nodes, run_folder
from launch.experiment import Experiment
from launch.starter import Role

_CPU = {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''}
_ONE_THREAD = {
    **_CPU,
    'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false',
    'NPROC': '1', 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1',
}

# How each group of nodes is run. Lower stop orders end first.
ROLES: Mapping[str, Role] = {
    'actor': Role(stop_order=0, grace=4.0, restarts=True, env=_ONE_THREAD),
    'evaluator': Role(stop_order=0, grace=8.0, env=_ONE_THREAD),
    'learner': Role(stop_order=1, grace=60.0, must_finish=True),
    'replay': Role(stop_order=2, grace=4.0, has_loop=False, env=_CPU),
    'counter': Role(stop_order=2, grace=4.0, must_finish=True, env=_CPU,
                    console=True),
}


def make_program(experiment: Experiment) -> lp.Program:
  """Returns the Launchpad program of one run."""
  replay_dir = run_folder.replay_dir(experiment_lib.run_dir(experiment))
  program = lp.Program('cairn')

  with program.group('replay'):
    replay = program.add_node(lp.ReverbNode(
        factory.reverb_tables(experiment, factory.make_agent(experiment)),
        lambda: reverb.checkpointers.DefaultCheckpointer(replay_dir)))

  with program.group('counter'):
    counter = _bounded(program.add_node(
        lp.CourierNode(nodes.CounterNode, experiment)))

  with program.group('learner'):
    learner = _bounded(program.add_node(
        lp.CourierNode(nodes.LearnerNode, experiment, replay, counter)))

  with program.group('evaluator'):
    program.add_node(
        lp.CourierNode(nodes.EvaluatorNode, experiment, counter, learner))

  with program.group('actor'):
    for index in range(experiment.num_actors):
      program.add_node(lp.CourierNode(
          nodes.ActorNode, experiment, index, replay, counter, learner))
  return program


def _bounded(handle: lp.CourierHandle) -> lp.CourierHandle:
  """No call through this handle may block for ever."""
  handle.set_client_kwargs(call_timeout=nodes.CALL_TIMEOUT)
  return handle
