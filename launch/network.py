"""A network of its own for a run on one machine.

Courier and Reverb listen on every interface and trust whoever connects: courier
runs the pickles it is sent. Neither can be told to listen on the loopback
interface alone. So the launcher moves into a network namespace that has no
other interface, and its nodes, which are its children, live there too: no other
machine, and no other user of this one, can reach their ports.
"""

import ctypes
import fcntl
import os
import socket
import struct
from typing import List

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def isolate() -> bool:
  """Moves this process into a network namespace with a loopback interface only.

  The process must have a single thread yet, and stays the same user: only the
  network is another one.

  Returns:
    Whether it is there; if not, nothing has changed.
  """
  # A half-made namespace could not be left again, so a child tries first.
  child = os.fork()
  if child == 0:
    try:
      _isolate()
    except OSError:
      os._exit(1)
    os._exit(0)
  _, status = os.waitpid(child, 0)
  if status:
    return False
  _isolate()
  return True


def outside_interfaces() -> List[str]:
  """Returns the interfaces that are up and are not the loopback one."""
  return [name for _, name in socket.if_nameindex()
          if name != 'lo' and _flags(name) & _IFF_UP]


def in_container() -> bool:
  """Whether this is a Docker, Podman or Kubernetes container.

  Those have a network of their own unless they were given the machine's.
  """
  return (os.path.exists('/.dockerenv') or os.path.exists('/run/.containerenv')
          or 'KUBERNETES_SERVICE_HOST' in os.environ)


def _isolate() -> None:
  user, group = os.geteuid(), os.getegid()
  try:
    # The superuser needs no more than this.
    _unshare(_CLONE_NEWNET)
  except PermissionError:
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _write('/proc/self/setgroups', 'deny')
    _write('/proc/self/uid_map', f'{user} {user} 1')
    _write('/proc/self/gid_map', f'{group} {group} 1')
  _set_up('lo')


def _unshare(flags: int) -> None:
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.unshare(flags) != 0:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def _write(path: str, text: str) -> None:
  with open(path, 'w', encoding='ascii') as f:
    f.write(text)


def _flags(interface: str) -> int:
  request = struct.pack('16sH14s', interface.encode(), 0, b'')
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    try:
      reply = fcntl.ioctl(s, _SIOCGIFFLAGS, request)
    except OSError:
      return 0  # It has gone since it was listed.
  return struct.unpack('16sH14s', reply)[1]


def _set_up(interface: str) -> None:
  request = struct.pack(
      '16sH14s', interface.encode(), _flags(interface) | _IFF_UP, b'')
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, _SIOCSIFFLAGS, request)
