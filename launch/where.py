"""Where the processes of a run are: flags, and what they mean.

Imports nothing heavy: a run on one machine moves into a network of its own, and
only a process with a single thread can.
"""

import dataclasses
from typing import List, Optional, Sequence, Tuple

from absl import flags

from launch import network

FLAGS = flags.FLAGS
LAUNCHERS = ('local', 'slurm', 'ssh')


@dataclasses.dataclass(frozen=True)
class Where:
  """Where the processes of a run are.

  Attributes:
    launcher: 'local', 'slurm' or 'ssh'.
    hosts: machines reached by ssh.
    ssh: the command that reaches them.
    actors_per_node: actors on each machine; None spreads them evenly.
    learner_gpus: GPUs of the learner's step; None is one where there are any.
    requeue: a SLURM job that is told to end goes back into the queue.
    allow_remote: servers may be reached from elsewhere.
  """
  launcher: str = 'local'
  hosts: Tuple[str, ...] = ()
  ssh: str = 'ssh -o BatchMode=yes'
  actors_per_node: Optional[int] = None
  learner_gpus: Optional[int] = None
  requeue: bool = False
  allow_remote: bool = False


def define_flags() -> None:
  """Defines the flags that say where processes run."""
  flags.DEFINE_enum(
      'launcher', 'local', list(LAUNCHERS), 'what starts the processes: this '
      'machine; srun, in a SLURM allocation; or ssh, on --hosts')
  flags.DEFINE_list('hosts', [], 'machines for --launcher=ssh; the first gets '
                    'replay and learner, the others the actors')
  flags.DEFINE_string('ssh', 'ssh -o BatchMode=yes',
                      'command and options that reach --hosts')
  flags.DEFINE_integer('actors_per_node', None, 'actors on each node of a '
                       'cluster (default: as even as possible)')
  flags.DEFINE_integer('learner_gpus', None, "GPUs of the learner's SLURM step "
                       '(default: 1 if its node has any)')
  flags.DEFINE_bool('submit', False, 'with --launcher=slurm: write a batch '
                    'script, submit it and return')
  flags.DEFINE_string('sbatch', '', 'options for --submit, such as '
                      "--sbatch='--nodes=3 --time=24:00:00 --gres=gpu:1'")
  flags.DEFINE_bool('requeue', False, 'with --launcher=slurm: back into the '
                    'queue when the time is over, to go on from there')
  flags.DEFINE_bool('allow_remote', False, 'let the servers of a run on one '
                    'machine be reached from elsewhere, by anybody')
  flags.DEFINE_bool('serial', False, 'every role in one thread, the same '
                    'numbers for the same seed; for debugging')


def isolate_early(argv: Sequence[str]) -> None:
  """Moves a run on one machine into a network of its own, where that may be.

  Args:
    argv: the command line, of which only the flags above are looked at.
  """
  try:
    FLAGS(argv, known_only=True)
  except flags.Error:
    return  # Said once all flags are defined.
  if (FLAGS.launcher == 'local' and not FLAGS.serial
      and not FLAGS.allow_remote):
    network.isolate()
  FLAGS.unparse_flags()


def from_flags() -> Where:
  """Returns what the flags say."""
  return Where(
      launcher=FLAGS.launcher, hosts=tuple(FLAGS.hosts), ssh=FLAGS.ssh,
      actors_per_node=FLAGS.actors_per_node, learner_gpus=FLAGS.learner_gpus,
      requeue=FLAGS.requeue, allow_remote=FLAGS.allow_remote)


def problems(where: Where) -> List[str]:
  """Lists what is wrong with the flags above, or closed to this launcher."""
  found = []
  launcher = where.launcher
  if launcher != 'local' and FLAGS.serial:
    found.append(f'serial: one thread runs here, not by {launcher}; drop one')
  if launcher != 'local' and FLAGS.lp_launch_type != 'local_mp':
    found.append('lp_launch_type: processes on other machines need local_mp, '
                 f'got {FLAGS.lp_launch_type}')
  if launcher == 'ssh' and not where.hosts:
    found.append("hosts: --launcher=ssh needs some, such as --hosts=one,two")
  if launcher != 'ssh' and where.hosts:
    found.append(f'hosts: --launcher={launcher} knows its own; drop hosts, or '
                 'use --launcher=ssh')
  if launcher != 'slurm':
    found += [f'{name}: needs --launcher=slurm'
              for name in ('submit', 'requeue', 'sbatch', 'learner_gpus')
              if FLAGS[name].value not in (None, False, '')]
  if launcher == 'slurm' and FLAGS.add_uid and (FLAGS.submit or FLAGS.requeue):
    found.append('add_uid: each start of the job would be a run of its own; '
                 'drop it, or submit and requeue')
  if FLAGS.sbatch and not FLAGS.submit:
    found.append('sbatch: needs --submit')
  if launcher == 'local' and where.actors_per_node is not None:
    found.append('actors_per_node: needs --launcher=slurm or ssh')
  for name, least in (('actors_per_node', 1), ('learner_gpus', 0)):
    value = getattr(where, name)
    if value is not None and value < least:
      found.append(f'{name}: got {value}, needs at least {least}')
  return found


def open_ports(where: Where) -> Optional[str]:
  """Returns who can reach the run's ports besides itself; None if nobody."""
  if where.launcher != 'local':
    return ('Courier and Reverb listen on every interface of the hosts of this '
            'run and trust whoever connects: docs/cluster.md says how to keep '
            'others out.')
  interfaces = network.outside_interfaces()
  if FLAGS.serial or not interfaces:
    return None
  return (f'Courier and Reverb listen on {", ".join(interfaces)} too and trust '
          'whoever connects.')


def refusal(where: Where) -> Optional[str]:
  """Returns why a run on one machine must not be started, None if it may."""
  opened = open_ports(where)
  if (opened is None or where.launcher != 'local' or where.allow_remote
      or network.in_container()):
    return None
  return (f'allow_remote: {opened} This system permits no network namespace '
          'that would keep others out; permit user namespaces, run in a '
          'container, or accept it with --allow_remote')
