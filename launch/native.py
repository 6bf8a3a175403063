"""Finds the Python library that Launchpad's and Reverb's binaries link to.

Some Pythons (uv's and conda's among them) keep `libpython3.10.so.1.0` where
the loader does not look. Every process calls `preload` before it imports either
package; once loaded, the library satisfies the binaries by its name.
"""

import ctypes
import os
import platform
import sys
import sysconfig

LIBRARY = 'libpython3.10.so.1.0'


def preload() -> None:
  """Loads the Python library into this process.

  Raises:
    SystemExit: on another platform or Python, or if the library is nowhere,
      with what to do about it.
  """
  system, machine = platform.system(), platform.machine()
  if (system, machine) != ('Linux', 'x86_64'):
    raise SystemExit(
        "Cairn needs x86-64 Linux, because Launchpad's and Reverb's binaries "
        f'are built for nothing else; this is {system} on {machine}.')
  if sys.version_info[:2] != (3, 10):
    raise SystemExit(
        f'Cairn needs Python 3.10, this is {platform.python_version()}; '
        "'make setup' makes a fitting environment in .venv.")
  folders = [sysconfig.get_config_var('LIBDIR') or '',
             os.path.join(sys.base_prefix, 'lib')]
  for path in [os.path.join(f, LIBRARY) for f in folders] + [LIBRARY]:
    try:
      ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
      return
    except OSError:
      continue
  raise SystemExit(
      f"{LIBRARY} was found neither in {' nor '.join(folders)} nor by the "
      "loader. Install it (Ubuntu: 'apt install libpython3.10') or use a "
      "Python 3.10 that has it, such as the one 'make setup' gets with uv.")
