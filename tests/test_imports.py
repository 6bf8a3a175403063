"""Who may import whom, read from the sources, and that everything imports."""

import ast
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = ('launch', 'actors', 'learners', 'replay', 'envs', 'safety')
FOLDERS = (*PACKAGES, 'tests', 'benchmarks')
MAX_LINES = 500

# Runs on a GPU machine that has nothing else.
PURE = {'jax', 'haiku', 'optax', 'distrax', 'numpy'}
SERVERS = {'launchpad', 'courier'}


def python_files(*folders):
  """Returns the paths of all Python files below `folders`, from the root."""
  found = []
  for folder in folders:
    for path, _, names in os.walk(os.path.join(ROOT, folder)):
      found += [os.path.relpath(os.path.join(path, name), ROOT)
                for name in names if name.endswith('.py')]
  return sorted(found)


def module_name(path):
  name = path[:-len('.py')].replace(os.sep, '.')
  return name[:-len('.__init__')] if name.endswith('.__init__') else name


MODULES = {module_name(path): path for path in python_files(*PACKAGES)}


def imported(path):
  """Returns the full names that a file imports, wherever in it.

  `from a import b` gives `a.b` where that is a module of the project, else `a`.
  """
  with open(os.path.join(ROOT, path), encoding='utf-8') as f:
    tree = ast.parse(f.read(), path)
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path} imports relatively'
      for alias in node.names:
        full = f'{node.module}.{alias.name}'
        found.add(full if full in MODULES else node.module)
  return found


def with_packages(name):
  """Returns a module and the packages it lies in, which run before it."""
  parts = name.split('.')
  return {'.'.join(parts[:i]) for i in range(1, len(parts) + 1)}


def reachable(name):
  """Returns project modules and others that importing `name` leads to."""
  inside, outside, left = set(), {}, with_packages(name)
  while left:
    module = left.pop()
    inside.add(module)
    for other in imported(MODULES[module]):
      if other in MODULES:
        left |= with_packages(other) - inside
      else:
        outside.setdefault(other.split('.')[0], module)
  return inside, outside


def top_level(names):
  return {name.split('.')[0] for name in names}


PURE_MODULES = sorted(
    name for name in MODULES
    if name in ('replay.hindsight', 'replay.relabel', 'safety.regions',
                'safety.masking')
    or (name.startswith('learners.')
        and name.rsplit('.', 1)[1] in (
            'networks', 'losses', 'laplacian', 'options')))


def test_the_sources_are_read_as_written(tmp_path):
  path = tmp_path / 'sample.py'
  path.write_text(
      'import os.path, jax\nfrom learners.contrastive import losses, nothing\n'
      'from numpy import linalg as l\ndef f():\n  import reverb.client\n'
      'if os:\n  from replay import relabel\n')
  assert imported(str(path)) == {
      'os.path', 'jax', 'learners.contrastive.losses', 'learners.contrastive',
      'numpy', 'reverb.client', 'replay.relabel'}


def test_the_rules_apply_to_something():
  assert {'learners.contrastive.losses', 'learners.contrastive.networks',
          'learners.rcp.losses', 'learners.udrl.networks', 'replay.hindsight',
          'replay.relabel', 'safety.masking', 'safety.regions'} <= set(
              PURE_MODULES)
  inside, outside = reachable('launch.program')
  assert {'launch', 'launch.nodes', 'actors.loop', 'learners.learner'} <= inside
  assert {'launchpad', 'reverb', 'acme', 'dm_env'} <= set(outside)


@pytest.mark.parametrize('name', PURE_MODULES)
def test_pure_modules_lead_to_jax_and_numpy_only(name):
  _, outside = reachable(name)
  foreign = {package: module for package, module in outside.items()
             if package not in PURE and package not in sys.stdlib_module_names}
  assert foreign == {}


def test_the_tabular_agents_need_numpy_only_and_nobody_needs_them():
  tabular = {name for name in MODULES if name.startswith('learners.tabular')}
  assert 'learners.tabular.training' in tabular
  for name in tabular:
    inside, outside = reachable(name)
    assert inside <= tabular | {'learners', 'learners.settings'}, name
    assert set(outside) - set(sys.stdlib_module_names) <= {'numpy'}, name
  for name in set(MODULES) - tabular:
    if not name.startswith('launch'):
      assert not reachable(name)[0] & tabular, name


def test_actors_do_not_know_the_losses():
  for name in MODULES:
    if name.startswith('actors'):
      inside, _ = reachable(name)
      assert [m for m in inside if m.endswith('.losses')] == [], name


@pytest.mark.parametrize('path', python_files(*FOLDERS))
def test_imports_point_the_right_way(path):
  folder, names = path.split(os.sep)[0], imported(path)
  if folder != 'launch':
    assert not top_level(names) & SERVERS or folder in ('tests', 'benchmarks')
  if folder not in ('launch', 'tests', 'benchmarks'):
    assert 'launch' not in top_level(names)
  if folder not in ('tests', 'benchmarks'):
    assert not top_level(names) & {'tests', 'benchmarks'}


@pytest.mark.parametrize('path', python_files(*FOLDERS))
def test_no_file_is_too_long(path):
  with open(os.path.join(ROOT, path), encoding='utf-8') as f:
    assert sum(1 for _ in f) <= MAX_LINES


@pytest.mark.parametrize('folder', [
    *FOLDERS, 'learners/contrastive', 'learners/dceo', 'learners/rcp',
    'learners/tabular', 'learners/udrl',
    *(f'tests/{package}' for package in PACKAGES)])
def test_every_folder_is_a_package(folder):
  assert os.path.isfile(os.path.join(ROOT, folder, '__init__.py'))


def run_python(code, *arguments):
  """Runs code in a fresh interpreter that has the project's path only."""
  return subprocess.run(
      [sys.executable, '-c', code, *arguments], cwd=ROOT, capture_output=True,
      text=True, timeout=120, check=False,
      env={**os.environ, 'PYTHONPATH': ROOT, 'JAX_PLATFORMS': 'cpu'})


# Third-party packages are loaded once; each of our modules is then the first
# of ours in a process of its own, so that it cannot lean on another's imports.
IMPORT_EACH = '''
import os, sys, traceback
from launch import native
native.preload()
import acme.utils.counting, acme.utils.loggers, dm_env, haiku, jax, numpy, optax
import launchpad, reverb, tensorflow
for name in [n for n in sys.modules if n.split('.')[0] == 'launch']:
  del sys.modules[name]
failed = []
for name in sys.argv[1:]:
  child = os.fork()
  if child == 0:
    status = 1
    try:
      __import__(name)
      status = 0
    except BaseException:
      traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)
  if os.waitpid(child, 0)[1] != 0:
    failed.append(name)
print('failed:', failed)
'''


def test_every_module_imports_by_itself():
  result = run_python(IMPORT_EACH, *sorted(MODULES))
  assert result.stdout.strip() == 'failed: []', result.stderr


# What must not come along with each module.
LIGHT = '''
import sys
for name, heavy in [
    ('learners.contrastive.agent', 'reverb tensorflow launchpad courier acme'),
    ('learners.learner', 'reverb tensorflow launchpad courier acme'),
    ('actors.actor', 'reverb tensorflow launchpad courier'),
    ('replay.dataset', 'reverb tensorflow launchpad courier'),
    ('launch.command_line', 'reverb tensorflow launchpad courier'),
    # Acme's loggers bring Launchpad along.
    ('launch.serial', 'reverb tensorflow')]:
  __import__(name)
  loaded = {m.split('.')[0] for m in sys.modules}
  print(name, sorted(loaded & set(heavy.split())))
'''


def test_agents_and_serial_runs_load_no_server():
  result = run_python(LIGHT)
  assert result.returncode == 0, result.stderr
  lines = result.stdout.splitlines()
  assert len(lines) == 6
  assert [line for line in lines if not line.endswith(' []')] == []
