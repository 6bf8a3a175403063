"""Every notebook runs from top to bottom, and is stored without outputs."""

import json
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, 'notebooks')
NOTEBOOKS = sorted(n for n in os.listdir(FOLDER) if n.endswith('.ipynb'))

# Runs cells as a kernel does; what a cell ends in is shown the way Jupyter
# shows it, as far as that needs no Jupyter.
RUN = '''
import ast, io, json, sys
names = {'__name__': '__main__'}
for number, source in enumerate(json.load(sys.stdin)):
  tree = ast.parse(source, f'cell {number}')
  last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
  exec(compile(tree, f'cell {number}', 'exec'), names)
  value = last and eval(
      compile(ast.Expression(last.value), f'cell {number}', 'eval'), names)
  if hasattr(value, 'savefig'):
    value.savefig(io.BytesIO())
    print('shown figure')
  elif hasattr(value, 'to_jshtml'):
    print('shown animation', len(value._repr_html_()) > 10_000)
'''


def load(name):
  with open(os.path.join(FOLDER, name), encoding='utf-8') as f:
    return json.load(f)


def code_of(notebook):
  """Returns the source of each cell, without what only Jupyter understands."""
  return [''.join(line for line in cell['source'] if not line.startswith('%'))
          for cell in notebook['cells'] if cell['cell_type'] == 'code']


def test_there_are_notebooks():
  assert NOTEBOOKS == ['hanoi.ipynb', 'maze.ipynb']


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebooks_are_stored_without_outputs(name):
  notebook = load(name)
  assert notebook['nbformat'] == 4
  for cell in notebook['cells']:
    assert not cell.get('outputs') and not cell.get('execution_count')


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebooks_run(name):
  result = subprocess.run(
      [sys.executable, '-c', RUN], input=json.dumps(code_of(load(name))),
      cwd=FOLDER, capture_output=True, text=True, timeout=180, check=False,
      env={**os.environ, 'MPLBACKEND': 'Agg', 'NOTEBOOK_EPISODES': '6'})
  assert result.returncode == 0, result.stderr
  shown = [line for line in result.stdout.splitlines()
           if line.startswith('shown')]
  assert 'shown animation True' in shown and 'shown figure' in shown
