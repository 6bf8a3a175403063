"""Where nodes run and how they are started there."""

import abc
import dataclasses
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from typing import (
  Any,
  Callable,
  Dict,
  IO,
  List,
  Mapping,
  Optional,
  Protocol,
  Sequence,
  Set,
  Tuple,
)

import portpicker

from launch.errors import ConfigError
from launch.node import PARENT_VARIABLE
from launch.where import Where


class Host(Protocol):
  """A place nodes can be started on."""

  @property
  def address(self) -> str:
    """What clients dial to reach servers there."""
    ...

  @property
  def lost_after(self) -> Optional[float]:
    """Seconds without the starter after which a node there ends itself.

    None where it ends with the starter anyway.
    """
    ...

  def pick_port(self) -> int:
    """Returns a port that is free there."""
    ...

  def start(self, argv: Sequence[str], env: Mapping[str, str],
            log: IO[str], console: bool) -> 'subprocess.Popen[str]':
    """Starts a node.

    Args:
      argv: the command.
      env: variables to set on top of the launcher's own.
      log: where its output goes.
      console: its standard output goes to the terminal instead.

    Returns:
      A process whose signals and exit status are the node's.
    """
    ...


# Tells the host of a node by its label and index.
Place = Callable[[str, int], Host]

_PROXY_VARIABLES = ('http_proxy', 'https_proxy', 'grpc_proxy', 'all_proxy')


def proxy_variables(environ: Mapping[str, str]) -> List[str]:
  """Lists variables to unset: gRPC sends even loopback traffic through them."""
  return [name for name in environ if name.lower() in _PROXY_VARIABLES]


@dataclasses.dataclass(frozen=True)
class LocalHost:
  """This machine; clients dial the loopback address.

  Attributes:
    keep_open: files that the nodes hold open too.
    address: what clients dial.
    lost_after: None, for the kernel ends nodes when the starter dies.
  """
  keep_open: Tuple[int, ...] = ()
  address: str = '127.0.0.1'
  lost_after: Optional[float] = None

  def pick_port(self) -> int:
    """Returns a free port."""
    return portpicker.pick_unused_port()

  def start(self, argv: Sequence[str], env: Mapping[str, str],
            log: IO[str], console: bool) -> 'subprocess.Popen[str]':
    """Starts a process in a session of its own, out of Ctrl-C's reach."""
    environment = dict(os.environ)
    for name in proxy_variables(environment):
      del environment[name]
    return subprocess.Popen(
        list(argv), stdin=subprocess.DEVNULL,
        env={**environment, **env, PARENT_VARIABLE: str(os.getpid())},
        stdout=None if console else log, stderr=log, text=True,
        start_new_session=True, pass_fds=self.keep_open)


# Seconds without the starter after which a node on another machine ends itself.
LOST_AFTER = 30.0
# Seconds a remote machine gets to answer, and to carry out a signal.
_ANSWER_SECONDS = 60.0
_SIGNAL_SECONDS = 10.0
# Ports asked for at a time.
_NUM_PORTS = 16
# Finds free ports with nothing but Python; all are held until all are found.
# They stay clear of those that systems take for outgoing connections.
_FIND_PORTS = """
import random, socket
held = []
while len(held) < {num}:
  s = socket.socket(socket.AF_INET6)
  try:
    s.bind(('::', random.randrange(20000, 30000)))
    held.append(s)
  except OSError:
    pass
print(*(s.getsockname()[1] for s in held))
"""


class RemoteHost(abc.ABC):
  """A machine that commands reach: by srun, or by ssh.

  It has the same files at the same paths: code, Python, and the run folder.
  """

  lost_after: Optional[float] = LOST_AFTER

  def __init__(self, address: str):
    """Keeps the address that clients dial to reach servers there."""
    self._address = address
    self._ports: List[int] = []

  @property
  def address(self) -> str:
    """What clients dial to reach servers there."""
    return self._address

  def pick_port(self) -> int:
    """Returns a port that was free there when it was asked for some.

    Raises:
      ConfigError: if the machine cannot be reached.
    """
    if not self._ports:
      code = _FIND_PORTS.format(num=_NUM_PORTS)
      command = self._command([sys.executable, '-c', code], {}, 'ports', None)
      try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=_ANSWER_SECONDS)
      except (OSError, subprocess.SubprocessError) as e:
        said = getattr(e, 'stderr', None) or str(e)
        raise ConfigError([
            f'{self._address} cannot run {sys.executable}, which needs to be '
            f'there at the same path: {said.strip()}']) from e
      self._ports = [int(port) for port in done.stdout.split()]
    return self._ports.pop()

  def start(self, argv: Sequence[str], env: Mapping[str, str],
            log: IO[str], console: bool) -> 'subprocess.Popen[str]':
    """Starts a node there, by a process here."""
    title = os.path.splitext(os.path.basename(log.name))[0]
    # Absolute: a signal is sent by a command that runs elsewhere.
    pid_path = os.path.abspath(os.path.splitext(log.name)[0] + '.pid')
    return self._popen(pid_path)(
        self._command(argv, env, title, pid_path), stdin=subprocess.DEVNULL,
        stdout=None if console else log, stderr=log, text=True,
        start_new_session=True)

  @abc.abstractmethod
  def _popen(self, pid_path: str) -> Callable[..., 'subprocess.Popen[str]']:
    """Returns what starts a command here that runs a node there."""

  @abc.abstractmethod
  def _command(self, argv: Sequence[str], env: Mapping[str, str], title: str,
               pid_path: Optional[str]) -> List[str]:
    """Returns what to run here to have `argv` run there."""


def _with_environment(argv: Sequence[str], env: Mapping[str, str]) -> List[str]:
  """Returns a command that sets variables itself, whoever starts it."""
  unset = [f'--unset={name}' for name in proxy_variables(os.environ)]
  return ['env', *unset, *(f'{k}={v}' for k, v in env.items()), *argv]


class _Srun(subprocess.Popen):
  """An srun; it forwards other signals, but kills its task on SIGTERM."""

  def send_signal(self, sig: int) -> None:
    """Sends a signal to the task."""
    super().send_signal(signal.SIGUSR2 if sig == signal.SIGTERM else sig)

  def kill(self) -> None:
    """Kills the task; killing srun itself would leave it behind."""
    super().send_signal(signal.SIGTERM)
    try:
      self.wait(_SIGNAL_SECONDS)
    except subprocess.TimeoutExpired:
      super().kill()


class SlurmHost(RemoteHost):
  """A node of the SLURM allocation this process is in."""

  def __init__(self, name: str, address: str, gpus: int = 0):
    """Describes a node.

    Args:
      name: as SLURM knows it.
      address: what clients dial.
      gpus: that a step there gets.
    """
    super().__init__(address)
    self._name = name
    self._gpus = gpus

  def _popen(self, pid_path: str) -> Callable[..., 'subprocess.Popen[str]']:
    return _Srun

  def _command(self, argv: Sequence[str], env: Mapping[str, str], title: str,
               pid_path: Optional[str]) -> List[str]:
    return [
        'srun', '--nodes=1', '--ntasks=1', f'--nodelist={self._name}',
        # Steps share the node's cores; without it they wait for each other.
        '--overlap', '--cpu-bind=none', f'--job-name={title}',
        '--kill-on-bad-exit=1', '--export=ALL',
        # A step without it would inherit the job's GPUs.
        f'--gres=gpu:{self._gpus}' if self._gpus else '--gres=none',
        f'--chdir={os.getcwd()}', *_with_environment(argv, env)]


class _Ssh(subprocess.Popen):
  """An ssh; signals go to the process there by another one."""

  def __init__(self, command: Sequence[str], *, reach: Sequence[str],
               pid_path: str, **kwargs: Any):
    """Starts it; `reach` is the command that runs others there."""
    self._reach = list(reach)
    self._pid_path = pid_path
    super().__init__(command, **kwargs)

  def send_signal(self, sig: int) -> None:
    """Sends a signal to the process there."""
    if self.poll() is None:
      self._send(int(sig))

  def kill(self) -> None:
    """Kills the process there, and if that does not end this one, both."""
    if self.poll() is None:
      self._send(int(signal.SIGKILL))
      try:
        self.wait(_SIGNAL_SECONDS)
      except subprocess.TimeoutExpired:
        super().send_signal(signal.SIGKILL)

  def _send(self, sig: int) -> None:
    pid = shlex.quote(self._pid_path)
    try:
      subprocess.run(
          [*self._reach, f'kill -{sig} $(cat {pid})'], capture_output=True,
          stdin=subprocess.DEVNULL, timeout=_SIGNAL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
      # The node misses its starter and ends itself.
      print(f'{self._reach} does not answer', file=sys.stderr, flush=True)


class SshHost(RemoteHost):
  """A machine reached by ssh."""

  def __init__(self, name: str, ssh: str):
    """Describes a machine.

    Args:
      name: `[user@]host`.
      ssh: the command, with its options.
    """
    super().__init__(name.rpartition('@')[2])
    self._reach = [*shlex.split(ssh), name]

  def _popen(self, pid_path: str) -> Callable[..., 'subprocess.Popen[str]']:
    def start(command: Sequence[str], **kwargs: Any) -> 'subprocess.Popen[str]':
      return _Ssh(command, reach=self._reach, pid_path=pid_path, **kwargs)
    return start

  def _command(self, argv: Sequence[str], env: Mapping[str, str], title: str,
               pid_path: Optional[str]) -> List[str]:
    line = f'cd {shlex.quote(os.getcwd())}'
    if pid_path is not None:
      line += f' && echo $$ > {shlex.quote(pid_path)}'
    line += f' && exec {shlex.join(_with_environment(argv, env))}'
    return [*self._reach, line]


def make_hosts(where: Where, num_actors: int,
               keep_open: Tuple[int, ...] = ()) -> Tuple[Host, Place]:
  """Returns this machine, as nodes reach it, and where each node goes.

  Args:
    where: what the flags say.
    num_actors: actors to place.
    keep_open: files that nodes on this machine hold open too.

  Raises:
    ConfigError: if there is no such place, or not enough room in it.
  """
  if where.launcher == 'local':
    here: Host = LocalHost(keep_open)
    return here, lambda label, index: here
  if where.launcher == 'ssh':
    hosts: List[Host] = [SshHost(name, where.ssh) for name in where.hosts]
    here = LocalHost(address=_own_address(hosts[0].address))
    return here, spread(hosts, num_actors, where.actors_per_node)
  nodes = _slurm_nodes()
  with_gpus = _slurm_gpu_nodes()
  # The learner's node: the first where this job has a GPU.
  nodes.sort(key=lambda node: node['NodeName'] not in with_gpus)
  gpus = where.learner_gpus
  if gpus is None:
    gpus = int(nodes[0]['NodeName'] in with_gpus)
  hosts = [SlurmHost(node['NodeName'], node['NodeAddr']) for node in nodes]
  here = LocalHost(address=_address_here(nodes))
  place = spread(hosts, num_actors, where.actors_per_node)
  learner = SlurmHost(nodes[0]['NodeName'], nodes[0]['NodeAddr'], gpus)
  return here, lambda label, index: (
      learner if label == 'learner' else place(label, index))


def spread(hosts: Sequence[Host], num_actors: int,
           actors_per_node: Optional[int]) -> Place:
  """Places all but the actors on the first host, and those on the others.

  With one host all are there. The evaluator goes with the actors, for it takes
  a core as they do.

  Args:
    hosts: at least one.
    num_actors: actors to place.
    actors_per_node: how many fill a host; None spreads them evenly.

  Raises:
    ConfigError: if they do not fit.
  """
  others = list(hosts[1:]) or list(hosts)
  if actors_per_node is not None and num_actors > (
      actors_per_node * len(others)):
    raise ConfigError([
        f'actors_per_node: {len(others)} hosts of {actors_per_node} actors '
        f'have no room for {num_actors}; raise it, lower num_actors, or use '
        'more hosts'])

  def place(label: str, index: int) -> Host:
    if label == 'actor':
      return others[index // actors_per_node if actors_per_node else
                    index % len(others)]
    return others[-1] if label == 'evaluator' else hosts[0]

  return place


def _own_address(other: str) -> str:
  """Returns the address of this machine on the way to another one."""
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    try:
      # Sends nothing; it only chooses the way.
      s.connect((other, 9))
    except OSError as e:
      raise ConfigError([f'hosts: {other} is not known here: {e}']) from e
    return s.getsockname()[0]


def _slurm_nodes() -> List[Dict[str, str]]:
  """Returns what SLURM knows of each node of this allocation."""
  allocation = os.environ.get('SLURM_JOB_NODELIST')
  if allocation is None:
    raise ConfigError([
        'launcher: slurm needs an allocation; start it by sbatch or in salloc, '
        'or add --submit'])
  names = _scontrol('show', 'hostnames', allocation).split()
  return [dict(word.split('=', 1)
               for word in _scontrol('-o', 'show', 'node', name).split()
               if '=' in word) for name in names]


def _slurm_gpu_nodes() -> Set[str]:
  """Returns the names of the nodes on which this job has GPUs."""
  job = _scontrol('-o', '--detail', 'show', 'job', os.environ['SLURM_JOB_ID'])
  parts = re.findall(r' Nodes=(\S+) CPU_IDs=.*? GRES=(\S*)', job)
  return {name for nodes, gres in parts if 'gpu' in gres
          for name in _scontrol('show', 'hostnames', nodes).split()}


def _address_here(nodes: Sequence[Mapping[str, str]]) -> str:
  """Returns the address of the node that runs this process."""
  own = os.environ.get('SLURMD_NODENAME')
  for node in nodes:
    if node['NodeName'] == own:
      return node['NodeAddr']
  # In salloc it may be none of them.
  return _own_address(nodes[0]['NodeAddr'])


def _scontrol(*arguments: str) -> str:
  try:
    return subprocess.run(
        ['scontrol', *arguments], check=True, capture_output=True, text=True,
        timeout=_ANSWER_SECONDS).stdout
  except (OSError, subprocess.SubprocessError) as e:
    raise ConfigError([f'launcher: scontrol cannot be asked: {e}']) from e
