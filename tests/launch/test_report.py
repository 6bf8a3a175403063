"""Figures of a real tiny run: what they show, and what they say is missing."""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

from matplotlib.image import imread
from matplotlib.patches import Rectangle
import numpy as np
import pytest

from envs import registry as env_registry
from launch import curves, report, run_folder, serial, summary
from launch import experiment as experiment_lib
from learners.contrastive import config as config_lib

FIGURES = ('maze.png', 'curves.png', 'similarity.png')
REGION = '0,5:5,11'
START, GOAL = (0.0, 0.0), (10.0, 8.0)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def make_experiment(log_dir):
  # Two critics, so that the first must be told from the second.
  agent = config_lib.from_settings('c_learning', 'cpu', dict(
      hidden_layer_sizes=(8, 8), repr_dim=4, batch_size=8,
      num_sgd_steps_per_step=4, samples_per_insert=4.0, min_replay_size=200,
      max_replay_size=1000))
  return experiment_lib.Experiment(
      env='point_FourRooms', alg='c_learning', seed=3, preset='cpu',
      agent=agent, num_steps=600, run_name='tiny_3', region_bounds=REGION,
      num_actors=1, envs_per_actor=2, eval_episodes=10,
      log_dir_path=str(log_dir))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Returns the folder of a run that has everything; leave it as it is."""
  folder = tmp_path_factory.mktemp('finished')
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    experiment = make_experiment(folder / 'logs')
    run_dir = run_folder.prepare(experiment)
    assert serial.SerialProgram(experiment).run() == 0
  return run_dir


@pytest.fixture
def copied(finished, tmp_path):
  """Returns a function that copies the run, with other settings and logs."""
  def copy(name, without=(), **settings):
    folder = tmp_path / 'runs' / name
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(*without))
    config = json.loads((folder / 'config.json').read_text())
    config.update(settings, run_name=name)
    (folder / 'config.json').write_text(json.dumps(config))
    return str(folder)
  return copy


def write_log(run_dir, role, **columns):
  with open(os.path.join(run_dir, 'logs', role, 'logs.csv'), 'w',
            encoding='utf-8') as f:
    writer = csv.writer(f)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))


def assert_picture(path):
  pixels = imread(path)[..., :3]
  assert min(pixels.shape[:2]) >= 500
  some = pixels[::4, ::4].reshape(-1, 3)
  assert len(np.unique(some, axis=0)) > 20
  assert np.mean(np.any(pixels != pixels[0, 0], axis=-1)) > 0.01


def test_writes_every_figure_and_prints_its_path(finished, capsys):
  assert report.main([finished]) == 0
  output = capsys.readouterr()
  paths = [os.path.join(finished, 'figures', name) for name in FIGURES]
  assert output.out.split() == paths
  assert output.err == ''
  for path in paths:
    assert_picture(path)


def psi_by_hand(arrays, points):
  """Returns psi of `[K, 2]` points, by the first critic of a checkpoint."""
  hidden = np.array(points, np.float64)
  for layer in ('mlp/~/linear_0', 'mlp/~/linear_1', 'linear'):
    name = f".critic_params['psi'][0]['{layer}']"
    hidden = hidden @ arrays[name + "['w']"] + arrays[name + "['b']"]
    hidden = hidden if layer == 'linear' else np.maximum(hidden, 0.0)
  return hidden


@pytest.mark.parametrize('bounds, negative, factor', [
    (None, True, None), (REGION, True, -1.0), (REGION, False, 0.5)])
def test_similarity_is_that_of_the_newest_checkpoint(
    finished, bounds, negative, factor):
  run = report.load(finished)
  run = run._replace(experiment=dataclasses.replace(
      run.experiment, region_bounds=bounds, negative_goal_repr=negative))
  state = report.load_checkpoint(run).state
  cosines, products = report.similarity_map(run, state)

  newest = max(os.listdir(os.path.join(finished, 'checkpoints')))
  arrays = np.load(os.path.join(finished, 'checkpoints', newest, 'state.npz'))
  points = np.array([[((i + 0.5) / 8, (j + 0.5) / 8) for j in range(88)]
                     for i in range(88)])
  psi = psi_by_hand(arrays, points.reshape(-1, 2)).reshape(88, 88, -1)
  goal = psi_by_hand(arrays, [GOAL])[0]
  if factor is not None:
    # Rows 0 to 5, columns 5 to 11.
    psi[:40, 40:] = factor * goal
  inner = psi @ goal
  cosine = inner / np.linalg.norm(psi, axis=-1) / np.linalg.norm(goal)
  walls = env_registry.lookup('point_FourRooms').walls
  for i, j in np.ndindex(88, 88):
    if walls[i // 8, j // 8]:
      inner[i, j] = cosine[i, j] = np.nan
  assert np.isfinite(cosine).any()
  np.testing.assert_allclose(products, inner, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(cosines, cosine, rtol=1e-4, atol=1e-5)


def marker(axes, label):
  (line,) = [x for x in axes.lines if x.get_label() == label]
  return line


def test_similarity_figure_is_centred_at_zero(finished):
  figure = report.similarity_figure(report.load(finished))
  cosine, inner = figure.axes[:2]
  assert cosine.images[0].get_cmap().name == 'coolwarm'
  assert cosine.images[0].get_clim() == (-1.0, 1.0)
  low, high = inner.images[0].get_clim()
  assert low == -high < 0
  assert 'cosine' in cosine.get_title() and '-1 to 1' in cosine.get_title()
  assert 'not learned' in figure.get_suptitle()


def test_maze_has_rows_upwards(finished):
  axes = report.maze_figure(report.load(finished)).axes[0]
  assert (axes.get_xlabel(), axes.get_ylabel()) == ('column (y)', 'row (x)')
  assert axes.get_xlim() == (0.0, 11.0) and axes.get_ylim() == (0.0, 11.0)
  assert all(image.origin == 'lower' for image in axes.images)
  start, goal = marker(axes, 'start'), marker(axes, 'goal $g^*$')
  assert (start.get_ydata()[0], start.get_xdata()[0]) == START
  assert (start.get_color(), start.get_marker()) == ('lime', 'o')
  assert (goal.get_ydata()[0], goal.get_xdata()[0]) == GOAL
  assert (goal.get_color(), goal.get_marker()) == ('red', '*')
  (box,) = [p for p in axes.patches if isinstance(p, Rectangle)]
  assert box.get_xy() == (5.0, 0.0)
  assert (box.get_width(), box.get_height()) == (6.0, 5.0)
  assert box.get_hatch() and box.get_edgecolor() == (1.0, 0.0, 0.0, 1.0)


def test_maze_shows_the_paths_of_the_last_evaluation(finished):
  with np.load(os.path.join(finished, 'figures', 'eval_paths.npz')) as stored:
    paths = stored['paths']
  axes = report.maze_figure(report.load(finished)).axes[0]
  drawn = [np.stack([x.get_ydata(), x.get_xdata()], -1) for x in axes.lines
           if len(x.get_xdata()) == len(paths)]
  np.testing.assert_array_equal(np.stack(drawn, 1), paths)
  heat = axes.images[0].get_array().filled(0.0)
  np.testing.assert_allclose(heat.sum(), len(paths))


def test_visits_are_counted_by_square():
  paths = np.array([[[0.1, 0.6], [0.9, 1.9]], [[0.4, 0.9], [1.0, 2.0]]])
  expected = np.zeros((2, 4))
  expected[0, 1], expected[1, 3] = 2, 2
  np.testing.assert_array_equal(
      report.visit_counts(paths, (1, 2)), expected)


def two_seeds(copied):
  first, second = copied('a', seed=1), copied('b', seed=2)
  steps = [0, 100, 300]
  values = np.array([[0.0, 0.2, 0.9], [0.1, 0.4, 0.5]])
  for run_dir, row in zip((first, second), values):
    write_log(run_dir, 'evaluator', actor_steps=steps, success=row,
              region_visits=10 * row, episodes=[10] * 3)
  return (first, second), steps, values


def test_curves_are_mean_and_standard_error_over_seeds(copied):
  run_dirs, steps, values = two_seeds(copied)
  figure = report.curves_figure([report.load(d) for d in run_dirs])
  error = values.std(axis=0, ddof=1) / np.sqrt(2)
  for axes, scale in zip(figure.axes, (1.0, 10.0)):
    line = marker(axes, 'evaluation, 2 runs')
    np.testing.assert_array_equal(line.get_xdata(), steps)
    np.testing.assert_allclose(line.get_ydata(), scale * values.mean(axis=0))
    bands = [c.get_paths()[0].vertices for c in axes.collections]
    (band,) = [b for b in bands if b[:, 0].max() == 300]
    for step, low, high in zip(
        steps, scale * (values.mean(axis=0) - error),
        scale * (values.mean(axis=0) + error)):
      at = band[band[:, 0] == step, 1]
      np.testing.assert_allclose([at.min(), at.max()], [low, high])


def test_a_single_run_is_drawn_as_logged(finished):
  figure = report.curves_figure([report.load(finished)])
  for role, label, names in (
      ('evaluator', 'evaluation', ('success', 'region_visits')),
      ('actor', 'training, last 100 episodes',
       ('success_100', 'region_visits_100'))):
    log = summary.read_log(finished, role)
    for axes, name in zip(figure.axes, names):
      line = marker(axes, label)
      assert not axes.collections
      np.testing.assert_array_equal(
          line.get_xdata(), np.unique(log['actor_steps']))
      assert line.get_ydata()[-1] == log[name][-1]


def test_seeds_logged_at_other_steps_are_interpolated():
  mean, error = curves.mean_and_error([
      curves.Curve(np.array([0, 10, 20]), np.array([0.0, 1.0, 1.0])),
      curves.Curve(np.array([5, 25]), np.array([0.0, 1.0]))])
  np.testing.assert_array_equal(mean.steps, [5, 10, 20])
  np.testing.assert_allclose(mean.values, [0.25, 0.625, 0.875])
  np.testing.assert_allclose(error, [0.25, 0.375, 0.125])


def test_rows_of_a_rolled_back_run_are_replaced(copied):
  run_dir = copied('resumed')
  write_log(run_dir, 'evaluator', actor_steps=[10, 20, 30, 20, 40, 40],
            success=[0.1, 0.2, 0.3, 0.4, 0.5, 'nan'])
  curve = curves.read_curve(run_dir, 'evaluator', 'success')
  np.testing.assert_array_equal(curve.steps, [10, 20, 40])
  np.testing.assert_array_equal(curve.values, [0.1, 0.4, 0.5])


def test_groups_differ_in_more_than_the_seed(copied):
  runs = {d: run_folder.load(d) for d in (
      copied('a', seed=1), copied('b', seed=2),
      copied('c', seed=1, safety_enforcement=True))}
  a, b, c = runs
  assert curves.grouped(runs) == [
      ('safety_enforcement=False', [a, b]), ('safety_enforcement=True', [c])]
  assert curves.grouped({a: runs[a], b: runs[b]}) == [('', [a, b])]


@pytest.fixture
def no_maze(monkeypatch):
  """Makes the environment one without walls to draw."""
  entry = env_registry.lookup('point_FourRooms')
  monkeypatch.setitem(env_registry.ENVIRONMENTS, 'point_FourRooms',
                      dataclasses.replace(entry, walls=None))


@pytest.mark.usefixtures('no_maze')
def test_several_runs_get_curves_in_the_folder_that_holds_them(
    copied, tmp_path, capsys):
  run_dirs = [copied('a', seed=1), copied('b', seed=2)]
  assert report.main(run_dirs) == 0
  combined = str(tmp_path / 'runs' / 'figures' / 'curves.png')
  assert capsys.readouterr().out.split()[-1] == combined
  assert_picture(combined)

  other = str(tmp_path / 'elsewhere')
  assert report.main([*run_dirs, '--output_dir', other]) == 0
  assert_picture(os.path.join(other, 'curves.png'))


def test_says_what_is_missing_and_goes_on(copied, capsys):
  run_dir = copied('young', ('checkpoints', 'eval_paths.npz', 'evaluator'))
  assert report.main([run_dir]) == 0
  output = capsys.readouterr()
  assert output.err.splitlines() == [
      f'{run_dir}: no evaluation yet; maze.png has no paths',
      f'{run_dir}: no evaluator log yet; curves.png goes without it',
      f'{run_dir}: no checkpoint yet; no similarity.png']
  for path in output.out.split():
    assert_picture(path)
  assert [os.path.basename(p) for p in output.out.split()] == [
      'maze.png', 'curves.png']


@pytest.mark.usefixtures('no_maze')
def test_says_when_it_is_no_maze_and_has_no_log(copied, capsys):
  run_dir = copied('arm', ('logs',))
  assert report.main([run_dir]) == 0
  output = capsys.readouterr()
  assert output.out == ''
  assert output.err.splitlines() == [
      f'{run_dir}: point_FourRooms is no maze; no maze.png',
      f'{run_dir}: no actor or evaluator log yet; no curves.png',
      f'{run_dir}: point_FourRooms is no maze; no similarity.png']


def test_says_when_a_checkpoint_does_not_fit(copied, finished):
  agent = json.loads(experiment_lib.to_json(
      run_folder.load(finished)))['agent']
  run_dir = copied('other', agent={**agent, 'repr_dim': 5})
  with pytest.raises(report.Missing, match='does not fit this agent'):
    report.similarity_figure(report.load(run_dir))


def test_names_every_folder_that_is_no_run(copied, tmp_path, capsys):
  broken = copied('broken')
  with open(os.path.join(broken, 'config.json'), 'w', encoding='utf-8') as f:
    f.write('{"alg": ')
  assert report.main([str(tmp_path), broken]) == 2
  output = capsys.readouterr()
  assert output.out == ''
  first, second = output.err.splitlines()
  assert first == f'{tmp_path} is no run folder: it has no config.json'
  assert second.startswith(f'{broken}/config.json cannot be read (')


def test_output_dir_needs_several_runs(finished, capsys):
  with pytest.raises(SystemExit) as exit_info:
    report.main([finished, '--output_dir', 'x'])
  assert exit_info.value.code == 2
  assert 'several runs' in capsys.readouterr().err


def test_script_stops_with_2_and_needs_no_launchpad(tmp_path):
  process = subprocess.run(
      [sys.executable, '-X', 'importtime', 'launch/report.py', str(tmp_path)],
      cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
  assert process.returncode == 2
  assert 'is no run folder' in process.stderr
  assert 'Traceback' not in process.stderr
  imported = set(re.findall(r'\| +([\w.]+)$', process.stderr, re.MULTILINE))
  assert 'launch.run_folder' in imported
  assert not imported & {
      'launchpad', 'reverb', 'courier', 'acme', 'matplotlib.pyplot'}
