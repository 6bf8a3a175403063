"""The pictures of options, of a run that has just begun."""

import os

import imageio.v3 as imageio
import jax
import numpy as np
import pytest

from envs import grid_rooms, registry
from launch import experiment as experiment_lib
from launch import factory, options, run_folder
from learners import checkpoint
from learners import registry as learner_registry


def make_run(folder, alg='dceo', env='grid_FourRooms'):
  algorithm = learner_registry.ALGORITHMS[alg]
  experiment = experiment_lib.Experiment(
      env=env, alg=alg, seed=3, preset='cpu',
      agent=algorithm.configure(alg, 'cpu', {}, env),
      num_steps=320, run_name=alg, log_dir_path=str(folder))
  run_dir = os.path.abspath(run_folder.prepare(experiment))
  state = factory.make_agent(experiment).init(jax.random.key(0))
  checkpoint.save(run_folder.checkpoint_dir(run_dir), 0, state, {'step': 0})
  return run_dir


def test_both_pictures_are_drawn(tmp_path, capsys):
  run_dir = make_run(tmp_path)
  assert options.main([run_dir]) == 0
  paths = [os.path.join(run_dir, 'figures', name)
           for name in ('eigenfunctions.png', 'options.png')]
  assert capsys.readouterr().out.split() == paths
  for path in paths:
    assert imageio.imread(path).std() > 20.0


@pytest.mark.parametrize('alg, env, says', [
    ('rainbow', 'grid_FourRooms', 'rainbow has no options'),
    ('udrl', 'cartpole', 'cartpole has no cells')])
def test_other_runs_are_refused(tmp_path, capsys, alg, env, says):
  assert options.main([make_run(tmp_path, alg, env)]) == 1
  assert says in capsys.readouterr().err


def test_cells_are_those_of_the_environment():
  """Moves lead where the environment goes, and frames are what it shows."""
  cells = options.cells_of(grid_rooms.LAYOUTS['FourRooms'])
  environment = registry.make('grid_FourRooms', 1, 0)
  timestep = environment.reset()
  rng = np.random.default_rng(0)
  at = int(environment.places()[0])
  for _ in range(150):
    np.testing.assert_array_equal(cells.frames[at], timestep.observation[0])
    action = rng.integers(0, 4, 1)
    timestep = environment.step(action)
    at = int(cells.next_cell[at, action[0]])
    assert at == environment.places()[0]
