"""The Python library that the binaries link to, and platforms without it."""

import os
import platform
import subprocess
import sys
import types

import pytest

from launch import native
from tests.launch.processes import ROOT


def run_python(code):
  return subprocess.run(
      [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
      timeout=60, check=True).stdout


def test_preload_maps_the_library_into_the_process():
  maps = run_python(
      'from launch import native; native.preload(); '
      'print(open("/proc/self/maps").read())')
  assert 'libpython3.10.so' in maps


def test_preload_may_be_called_twice():
  native.preload()
  native.preload()


@pytest.mark.parametrize('system, machine', [
    ('Linux', 'aarch64'), ('Darwin', 'arm64'), ('Darwin', 'x86_64'),
    ('Windows', 'AMD64')])
def test_other_platforms_are_told_what_is_needed(monkeypatch, system, machine):
  monkeypatch.setattr(platform, 'system', lambda: system)
  monkeypatch.setattr(platform, 'machine', lambda: machine)
  with pytest.raises(SystemExit) as error:
    native.preload()
  for words in ('x86-64 Linux', system, machine):
    assert words in error.value.code


@pytest.mark.parametrize('version', [(3, 9, 18), (3, 11, 0), (4, 10, 0)])
def test_other_pythons_are_told_what_is_needed(monkeypatch, version):
  monkeypatch.setattr(native, 'sys', types.SimpleNamespace(
      version_info=version, base_prefix=sys.base_prefix))
  with pytest.raises(SystemExit) as error:
    native.preload()
  assert 'Python 3.10' in error.value.code
  assert 'make setup' in error.value.code


def test_a_library_that_is_nowhere_is_named(monkeypatch):
  tried = []

  def missing(path, mode):
    tried.append(path)
    raise OSError(f'{path}: cannot open shared object file')

  monkeypatch.setattr(native, 'ctypes', types.SimpleNamespace(
      CDLL=missing, RTLD_GLOBAL=256))
  with pytest.raises(SystemExit) as error:
    native.preload()
  assert 'libpython3.10.so.1.0' in error.value.code
  assert 'apt install libpython3.10' in error.value.code
  # Beside the interpreter first, then wherever the loader looks.
  assert tried[-1] == 'libpython3.10.so.1.0'
  assert os.path.join(sys.base_prefix, 'lib', tried[-1]) in tried
  for path in tried[:-1]:
    assert os.path.dirname(path) in error.value.code
