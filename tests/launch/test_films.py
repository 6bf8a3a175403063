"""Films of evaluation: by a process of its own, given up once it cannot."""

import glob
import os
import tempfile

import imageio.v3 as imageio
import jax
import pytest

from launch import experiment as experiment_lib
from launch import factory, films, report, run_folder, video
from learners.udrl import config as config_lib


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
  """Returns a run of LunarLander, which draws without a driver."""
  folder = tmp_path_factory.mktemp('lander')
  experiment = experiment_lib.Experiment(
      env='lunarlander', alg='udrl', seed=3, preset='cpu',
      agent=config_lib.from_settings('udrl', 'cpu', dict(
          hidden_sizes=(8, 8))),
      num_steps=320, run_name='tiny', log_dir_path=str(folder / 'logs'))
  run_folder.prepare(experiment)
  return experiment


@pytest.fixture
def run_dir(experiment):
  return os.path.abspath(experiment_lib.run_dir(experiment))


@pytest.fixture
def temporary(monkeypatch, tmp_path):
  """Returns where temporary folders are made."""
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  return tmp_path


def variables(experiment):
  agent = factory.make_agent(experiment)
  return agent.variables_for_evaluation(agent.init(jax.random.key(0)))


def no_steps():
  return 0


def test_what_was_evaluated_is_filmed(
    experiment, run_dir, temporary, monkeypatch):
  monkeypatch.setattr(films, '_PATIENCE', 200.0)
  camera = films.Films(run_dir, 3600.0, no_steps)
  camera.show(20, variables(experiment))
  # It is not time for another one.
  camera.show(40, variables(experiment))
  camera.close()
  (path,) = glob.glob(os.path.join(run_dir, 'figures', 'episode_*'))
  assert os.path.basename(path) == 'episode_20.gif'
  frames = imageio.imread(path)
  assert len(frames) > 10 and frames.std() > 20.0
  assert not any(temporary.iterdir())


def test_a_film_that_cannot_be_made_is_told_of_once(
    experiment, run_dir, temporary, monkeypatch, caplog):
  monkeypatch.setattr(films, '_PATIENCE', 200.0)
  camera = films.Films(run_dir + '_nowhere', 0.0, no_steps)
  for updates in (20, 40, 60):
    camera.show(updates, variables(experiment))
    camera.close()
  (record,) = [r for r in caplog.records if 'no film' in r.message]
  assert 'config.json' in record.message
  assert not any(temporary.iterdir())


def test_a_film_that_takes_too_long_is_ended(
    experiment, run_dir, temporary, monkeypatch, caplog):
  monkeypatch.setattr(films, '_PATIENCE', 0.1)
  camera = films.Films(run_dir, 0.0, no_steps)
  camera.show(80, variables(experiment))
  child = camera._child
  camera.close()
  assert child is not None and child.returncode < 0
  assert [r.message for r in caplog.records] == [
      'the last film took too long; launch/video.py makes it']
  assert not os.path.exists(os.path.join(run_dir, 'figures', 'episode_80.gif'))
  assert not any(temporary.iterdir())


def test_the_film_knows_how_far_the_run_was(
    experiment, run_dir, temporary, monkeypatch, tmp_path_factory):
  kept = tmp_path_factory.mktemp('kept')
  command = kept / 'command.py'
  command.write_text(
      'import shutil, sys\n'
      'folder = sys.argv[2][len("--variables="):]\n'
      f'shutil.copytree(folder, {str(kept / "variables")!r})\n')
  monkeypatch.setattr(films, '_COMMAND', str(command))
  monkeypatch.setattr(films, '_PATIENCE', 200.0)
  camera = films.Films(run_dir, 0.0, lambda: 77)
  camera.show(20, variables(experiment))
  camera.close()
  saved = video.stored(report.load(run_dir), str(kept / 'variables'))
  assert (saved.updates, saved.steps) == (20, 77)
  assert not any(temporary.iterdir())
