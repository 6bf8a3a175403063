"""Sweeps: which runs there are, which are missing, and how they are started."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from launch import experiment as experiment_lib
from launch import run_folder, sweep
from launch.experiment import Experiment
from learners import checkpoint
from learners.registry import ALGORITHMS
from tests.launch.processes import TINY

ALG = 'contrastive_cpc'


def listed(*argv):
  args = sweep.parse(argv)
  return sweep.tasks(sweep.read_sweep(args), args.folder)


def test_every_setting_is_run_with_every_seed():
  tasks = listed('--seeds', '0', '5', '--grid', 'learning_rate=1e-3,3e-4',
                 'twin_q=true,false', '--folder=f', '--', '--env=point_Small')
  assert len(tasks) == 8
  assert [(t.setting, t.seed) for t in tasks[:3]] == [
      ('learning_rate=1e-3 twin_q=true', 0),
      ('learning_rate=1e-3 twin_q=true', 5),
      ('learning_rate=1e-3 twin_q=false', 0)]
  assert tasks[0].folder == os.path.join(
      'f', 'learning_rate=1e-3,twin_q=true', '0')
  assert tasks[0].command[2:] == [
      '--env=point_Small', '--learning_rate=1e-3', '--twin_q=true', '--seed=0',
      '--log_dir_path=logs']
  assert len({t.folder for t in tasks}) == 8


def test_a_file_says_the_same_as_flags(tmp_path):
  path = tmp_path / 'sweep.json'
  path.write_text(json.dumps({
      'flags': ['--env=point_Small'], 'seeds': [1, 2],
      'grid': {'region_bounds': ['0,2:1,3', '1,1:2,2']}}))
  tasks = listed('--file', str(path), '--', '--num_steps=7')
  assert [(t.setting, t.seed) for t in tasks] == [
      (f'region_bounds={r}', s) for r in ('0,2:1,3', '1,1:2,2') for s in (1, 2)]
  assert tasks[0].command[2:4] == ['--env=point_Small', '--num_steps=7']
  assert [t.seed for t in listed('--file', str(path), '--seeds', '9')] == [9, 9]


@pytest.mark.parametrize('argv, words', [
    ([], ['seeds', 'none']),
    (['--seeds', '0', '--grid', 'batch_size'], ['grid', "'batch_size'"]),
    (['--seeds', '0', '--grid', 'batch_size='], ['grid', 'batch_size=']),
    (['--seeds', '0', '--grid', 'seed=1,2'], ['seed', '--seeds']),
    (['--seeds', '0', '--', '--log_dir_path=x'], ['log_dir_path', '--folder']),
    (['--seeds', '0', '--', '--env', 'x'], ["'x'", '--name=value']),
    (['--seeds', '0', '0'], ['two runs', 'the same']),
    (['--file', 'no.json'], ['no.json', 'cannot be read']),
    (['--file', 'list.json'], ['list.json', 'an object']),
    (['--file', 'odd.json'], ['odd.json', "'seeds'"]),
])
def test_bad_sweeps_are_refused(tmp_path, monkeypatch, capsys, argv, words):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'list.json').write_text('[1]')
  (tmp_path / 'odd.json').write_text('{"seeds": 3}')
  before = sorted(os.listdir(tmp_path))
  assert sweep.main(argv) == 2
  message = capsys.readouterr().err
  for word in words:
    assert word in message, message
  assert sorted(os.listdir(tmp_path)) == before


def finished(task, steps, num_steps=1000):
  """Leaves what a run of `steps` environment steps leaves."""
  experiment = Experiment(
      env='point_Small', alg=ALG, seed=task.seed, preset='cpu',
      agent=ALGORITHMS[ALG].configure(ALG, 'cpu', {}), num_steps=num_steps,
      run_name='run', log_dir_path=os.path.join(task.folder, 'logs'))
  run_folder.prepare(experiment)
  run_dir = experiment_lib.run_dir(experiment)
  checkpoint.save(
      run_folder.checkpoint_dir(run_dir), 1, {'x': np.zeros(1)},
      {'counter': {'counts': {'actor_steps': steps}}})


def test_only_what_is_missing_is_run(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  argv = ['--seeds', '0', '1', '2', '--folder=f', '--', '--env=point_Small']
  first, second, third = listed(*argv)
  finished(first, 1000)
  finished(second, 500)
  assert [sweep.is_complete(t) for t in (first, second, third)] == [
      True, False, False]
  assert sweep.main(['--dry_run', *argv]) == 0
  lines = capsys.readouterr().out.strip().split('\n')
  assert [shlex.split(line)[1] for line in lines] == [
      second.folder, third.folder]
  assert not os.path.exists(third.folder)

  sweep.table([first, second, third])
  rows = [line.split(' | ') for line in capsys.readouterr().out.split('\n')]
  assert [row[2] for row in rows[2:5]] == ['complete', 'cut off', 'not started']
  assert rows[5][1] == 'mean of 2' and rows[5][3] == '750'


def task(folder, code):
  return sweep.Task('s', 0, str(folder), [sys.executable, '-c', code])


def test_runs_have_a_folder_their_output_and_a_status(tmp_path):
  todo = [task(tmp_path / str(i), f'import os; print(os.getcwd()); exit({i})')
          for i in (0, 3)]
  assert sweep.LocalRuns(1).run(todo) == {t.folder: i
                                          for t, i in zip(todo, (0, 3))}
  for t in todo:
    with open(os.path.join(t.folder, 'output.txt'), encoding='utf-8') as f:
      assert f.read().strip() == t.folder


def test_a_stopped_sweep_stops_its_runs_and_starts_no_more(tmp_path):
  code = ('import signal, sys, time; signal.signal(signal.SIGTERM, '
          'lambda *_: sys.exit(5)); open("ready", "w"); time.sleep(60)')
  todo = [task(tmp_path / str(i), code) for i in range(3)]

  def stop_when_running():
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline and not all(
        (tmp_path / str(i) / 'ready').exists() for i in (0, 1)):
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=stop_when_running).start()
  assert list(sweep.LocalRuns(2).run(todo).values()) == [5, 5, 130]


def test_each_task_of_an_array_is_one_run(tmp_path):
  todo = [task(tmp_path / f'a {i}', f'import os; print({i}, os.getcwd())')
          for i in (0, 1)]
  text = sweep.array_script(todo, str(tmp_path), ['--time=5'])
  assert "#SBATCH --array=0-1\n" in text and '#SBATCH --time=5\n' in text
  for i, t in enumerate(todo):
    subprocess.run(['bash', '-c', text], check=True,
                   env={**os.environ, 'SLURM_ARRAY_TASK_ID': str(i)})
    with open(os.path.join(t.folder, 'output.txt'), encoding='utf-8') as f:
      assert f.read().strip() == f'{i} {t.folder}'


@pytest.mark.slow
def test_a_sweep_runs_resumes_and_is_reported(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  flags = [f for f in TINY if not f.startswith('--seed')]
  argv = ['--seeds', '1', '2', '--folder=f', '--', *flags, '--serial']
  for steps in (600, 900):
    assert sweep.main([*argv, f'--num_steps={steps}']) == 0
    assert '2 of 2 runs to do' in capsys.readouterr().out
  assert sweep.main([*argv, '--num_steps=900']) == 0
  out = capsys.readouterr().out
  assert '0 of 2 runs to do' in out and 'mean of 2' in out
  assert (tmp_path / 'f' / 'figures' / 'curves.png').exists()
