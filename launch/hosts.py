"""Where nodes run and how they are started there."""

import dataclasses
import os
import subprocess
from typing import IO, Mapping, Protocol, Sequence

import portpicker


class Host(Protocol):
  """A place nodes can be started on."""

  @property
  def address(self) -> str:
    """What clients dial to reach servers there."""
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


# gRPC sends even loopback traffic through a proxy it finds here.
_PROXY_VARIABLES = ('http_proxy', 'https_proxy', 'grpc_proxy', 'all_proxy')


@dataclasses.dataclass(frozen=True)
class LocalHost:
  """This machine; clients dial the loopback address."""
  address: str = '127.0.0.1'

  def pick_port(self) -> int:
    """Returns a free port."""
    return portpicker.pick_unused_port()

  def start(self, argv: Sequence[str], env: Mapping[str, str],
            log: IO[str], console: bool) -> 'subprocess.Popen[str]':
    """Starts a process in a session of its own, out of Ctrl-C's reach."""
    environment = {k: v for k, v in os.environ.items()
                   if k.lower() not in _PROXY_VARIABLES}
    return subprocess.Popen(
        list(argv), env={**environment, **env}, stdin=subprocess.DEVNULL,
        stdout=None if console else log, stderr=log, text=True,
        start_new_session=True)
