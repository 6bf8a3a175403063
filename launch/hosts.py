"""Where nodes run and how they are started there."""

import dataclasses
import os
import subprocess
from typing import (
  Callable,
  IO,
  List,
  Mapping,
  Optional,
  Protocol,
  Sequence,
  Tuple,
)

import portpicker

from launch.node import PARENT_VARIABLE


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
