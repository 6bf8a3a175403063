"""The film of an untrained policy, by the command, without a display."""

import os
import subprocess
import sys

import imageio.v3 as imageio
import jax
import numpy as np
import pytest

from envs import registry
from envs.point_maze import PointMaze
from envs.vector import Drawable
from launch import episodes, factory, run_folder, video
from launch import experiment as experiment_lib
from learners import checkpoint
from learners.contrastive import config as config_lib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@pytest.fixture(scope='module')
def sawyer_run(tmp_path_factory):
  """Returns the folder of a run that has got as far as a checkpoint."""
  folder = tmp_path_factory.mktemp('sawyer')
  experiment = experiment_lib.Experiment(
      env='sawyer_bin', alg='contrastive_cpc', seed=3, preset='cpu',
      agent=config_lib.from_settings('contrastive_cpc', 'cpu', dict(
          hidden_layer_sizes=(8, 8), repr_dim=4)),
      num_steps=320, run_name='tiny', log_dir_path=str(folder / 'logs'))
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    run_dir = os.path.abspath(run_folder.prepare(experiment))
  state = factory.make_agent(experiment).init(jax.random.key(0))
  checkpoint.save(run_folder.checkpoint_dir(run_dir), 0, state, {'step': 0})
  return run_dir


def test_an_episode_is_filmed_or_it_says_why_not(sawyer_run):
  path = os.path.join(sawyer_run, 'figures', 'episode.gif')
  result = subprocess.run(
      [sys.executable, os.path.join(ROOT, 'launch', 'video.py'), sawyer_run],
      capture_output=True, text=True, timeout=200, check=False)
  if result.returncode == 1:
    assert 'nothing here draws without a display' in result.stderr
    assert not os.path.exists(path)
    pytest.skip('no graphics driver')
  assert result.returncode == 0, result.stderr
  assert result.stdout == f'{path}: no success\n'
  frames = imageio.imread(path)
  # The beginning and every third of 150 steps; the end is one of them.
  assert frames.shape == (51, 360, 480, 3)
  assert frames.std() > 20.0
  assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50


def test_a_driver_that_does_not_work_is_told_with_its_error(
    sawyer_run, monkeypatch, capsys):
  monkeypatch.setenv('MUJOCO_GL', 'crayons')
  assert video.main([sawyer_run]) == 1
  output = capsys.readouterr()
  assert 'nothing here draws without a display' in output.err
  assert 'MUJOCO_GL=crayons: RuntimeError' in output.err
  assert 'no film' in output.err and output.out == ''


def test_the_first_backend_that_works_is_taken(monkeypatch):
  asked = []

  def run(arguments, env, **kwargs):
    asked.append(env['MUJOCO_GL'])
    return subprocess.CompletedProcess(
        arguments, int(env['MUJOCO_GL'] == 'egl'), '', '')

  monkeypatch.setattr(episodes.subprocess, 'run', run)
  monkeypatch.setenv('MUJOCO_GL', '')
  episodes.choose_backend()
  assert asked == ['egl', 'osmesa'] and os.environ['MUJOCO_GL'] == 'osmesa'
  # What the user chose is not overruled.
  monkeypatch.setenv('MUJOCO_GL', 'egl')
  with pytest.raises(episodes.Missing, match='MUJOCO_GL=egl: it crashed'):
    episodes.choose_backend()


def test_what_cannot_be_drawn_is_not_filmed(sawyer_run, monkeypatch, capsys):
  monkeypatch.setattr(episodes, 'choose_backend', lambda: None)
  monkeypatch.setattr(
      registry, 'make', lambda *args, **kwargs: PointMaze('Small'))
  assert video.main([sawyer_run]) == 1
  assert 'sawyer_bin cannot be filmed' in capsys.readouterr().err


def test_a_run_without_a_checkpoint_is_not_filmed(sawyer_run, capsys,
                                                  monkeypatch):
  monkeypatch.setattr(
      run_folder, 'checkpoint_dir', lambda run_dir: f'{run_dir}/nothing')
  assert video.main([sawyer_run]) == 1
  assert 'no checkpoint yet; no film' in capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path, capsys):
  assert video.main([str(tmp_path)]) == 2
  assert 'config.json' in capsys.readouterr().err


def test_only_what_can_be_drawn_says_so():
  assert isinstance(registry.make('sawyer_bin', 1, 0), Drawable)
  assert not isinstance(registry.make('point_Small', 1, 0), Drawable)
