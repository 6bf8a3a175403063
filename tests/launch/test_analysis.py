"""Figures of representations over a real tiny run."""

import dataclasses
import os

import numpy as np
import pytest

from launch import analysis, embeddings, report, run_folder, serial
from learners import checkpoint
from tests.launch.test_report import (
  assert_picture,
  make_experiment,
  psi_by_hand,
)

FIGURES = ('maps.png', 'sphere.png', 'components.png', 'correlation.png')
GOAL = (10.0, 8.0)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Returns the folder of a run with several checkpoints."""
  folder = tmp_path_factory.mktemp('finished')
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    experiment = dataclasses.replace(
        make_experiment(folder / 'logs'), region_bounds=None,
        checkpoints_kept=100, time_delta_minutes=0.0)
    run_dir = run_folder.prepare(experiment)
    assert serial.SerialProgram(experiment).run() == 0
  return run_dir


def test_writes_every_figure_and_prints_the_correlations(finished, capsys):
  assert analysis.main([finished]) == 0
  output = capsys.readouterr()
  assert output.err == ''
  lines = output.out.splitlines()
  assert lines[:4] == [
      os.path.join(finished, 'figures', name) for name in FIGURES]
  for path in lines[:4]:
    assert_picture(path)
  moments = analysis.load_moments(report.load(finished))
  assert len(moments) > 3
  assert len(lines) == 4 + 1 + len(moments) - 1 + 1
  assert lines[-1].startswith('first success: ')


def test_moments_follow_the_run(finished):
  moments = analysis.load_moments(report.load(finished))
  steps = [m.actor_steps for m in moments]
  assert steps == sorted(steps) and steps[-1] == 600
  for moment in moments:
    # Every training step of a finished episode is in some cell.
    assert moment.cell_visits.shape == (11, 11)
    assert moment.cell_visits.sum() == moment.actor_steps


def test_correlation_by_hand(finished):
  run = report.load(finished)
  moments = analysis.load_moments(run)
  # Of the last two between which episodes ended.
  index = max(i for i in range(1, len(moments))
              if moments[i].actor_steps > moments[i - 1].actor_steps)
  paths = checkpoint.checkpoints(run_folder.checkpoint_dir(finished))
  arrays = np.load(os.path.join(paths[index], 'state.npz'))
  walls = report.walls_of(run)
  cells = [(i, j) for i in range(11) for j in range(11) if not walls[i, j]]
  psi = psi_by_hand(arrays, [(i + 0.5, j + 0.5) for i, j in cells])
  goal = psi_by_hand(arrays, [GOAL])[0]
  similarity = psi @ goal / np.linalg.norm(psi, axis=-1) / np.linalg.norm(goal)
  visits = [moments[index].cell_visits[c] - moments[index - 1].cell_visits[c]
            for c in cells]
  expected = np.cov(visits, similarity)[0, 1] / (
      np.std(visits, ddof=1) * np.std(similarity, ddof=1))
  got = analysis.correlations(run, moments)[index - 1]
  assert got == pytest.approx(expected, rel=1e-3)


def test_phi_is_of_the_action_that_evaluation_takes(finished):
  run = report.load(finished)
  state = analysis.load_moments(run)[-1].state
  points = np.array([[0.5, 0.5], [9.5, 8.5]])
  found = report.representations(run, state, points)
  params = state.average_params

  def layers(x, params, names):
    for name in names:
      x = x @ np.asarray(params[name]['w']) + np.asarray(params[name]['b'])
      if name != names[-1]:
        x = np.maximum(x, 0.0)
    return x

  names = ['mlp/~/linear_0', 'mlp/~/linear_1', 'linear']
  raw = layers(np.concatenate([points, [GOAL, GOAL]], axis=1), params, names)
  action = np.tanh(10.0 * np.tanh(raw[:, :2] / 10.0))
  phi = layers(np.concatenate([points, action], axis=1),
               state.critic_params['phi'][0], names)
  np.testing.assert_allclose(found.of_actions, phi, rtol=1e-3, atol=1e-4)


def test_maps_are_spread_over_the_run(finished):
  run = report.load(finished)
  moments = analysis.load_moments(run)
  figure = analysis.maps_figure(run, moments)
  titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
  assert titles[0] == f'{moments[0].actor_steps:,} steps'
  assert titles[-1] == '600 steps'
  assert len(titles) <= analysis.NUM_MAPS
  image = figure.axes[0].images[0]
  assert image.get_cmap().name == 'coolwarm' and image.get_clim() == (-1, 1)


def test_a_single_checkpoint_has_no_course(finished, tmp_path):
  run = report.load(finished)
  with pytest.raises(report.Missing, match='one checkpoint has no course'):
    analysis.correlation_figure(run, analysis.load_moments(run)[-1:])
  empty = run._replace(path=str(tmp_path))
  with pytest.raises(report.Missing, match='no checkpoint yet'):
    analysis.load_moments(empty)


def test_a_folder_that_is_no_run_is_named(tmp_path, capsys):
  assert analysis.main([str(tmp_path)]) == 2
  assert 'is no run folder' in capsys.readouterr().err


def test_cells_without_a_way_to_the_goal_are_drawn_apart(finished):
  run = report.load(finished)
  free = ~report.walls_of(run)
  ways = embeddings.path_lengths(~free, (10, 8))[free]
  # One corner of this maze is walled in.
  assert np.isinf(ways).sum() == 1
  axes = analysis.sphere_figure(run, analysis.load_moments(run)).axes[0]
  sizes = {c.get_label(): len(c.get_offsets()) for c in axes.collections}
  assert sizes.pop('no way to the goal') == 1
  assert sizes.pop('goal $g^*$') == 1
  assert list(sizes.values()) == [free.sum() - 1]
