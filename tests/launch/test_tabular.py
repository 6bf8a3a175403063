"""The command line, what it refuses, and the files it leaves."""

import csv
import json
import os
import subprocess
import sys

from matplotlib.image import imread
import numpy as np
from PIL import Image
import pytest

from launch import curves, tabular
from launch import tabular_figures as figures
from launch.errors import ConfigError
from learners.tabular import config as config_lib
from learners.tabular import training
from learners.tabular.environments import ENVIRONMENTS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def request(*flags):
  return tabular.parse(tabular.make_parser().parse_args(flags))


def problems(*flags):
  """Returns the setting each problem is about."""
  with pytest.raises(ConfigError) as error:
    request(*flags)
  return [p.split(':')[0] for p in error.value.problems]


def trained(env='four_rooms', **settings):
  settings = {'episodes': 6, 'eval_interval': 2, **settings}
  config = config_lib.from_settings(env, None, settings)
  return training.train(config, 0, keep_snapshots=True)


@pytest.mark.parametrize('flags, env', [
    ([], 'four_rooms'), (['--env=hanoi'], 'hanoi_3'),
    (['--env=hanoi', '--discs=5'], 'hanoi_5'),
    (['--layout=spiral'], 'spiral')])
def test_environments_are_named_and_have_their_preset(flags, env):
  found = request(*flags)
  assert found.config == config_lib.from_settings(env, None, {})
  assert found.seeds == (0, 10) and found.name == f'{env}_seeds=0-9'


def test_settings_become_flags():
  found = request('--representation=none', '--episodes=7', '--seed=3',
                  '--seeds=2', '--offset_zero=false', '--learning_rate=.5')
  config = found.config
  assert (config.representation, config.episodes, config.offset_zero,
          config.learning_rate) == ('none', 7, False, 0.5)
  assert found.seeds == (3, 2)
  assert found.name.endswith('_seeds=3-4') and 'episodes=7' in found.name


def test_all_problems_are_refused_together():
  assert problems(
      '--env=mase', '--preset=haze', '--offset_zero=maybe', '--episodes=many',
      '--init=far', '--batch_size=1', '--seeds=0', '--seed=-1') == [
          'env', 'preset', 'episodes', 'offset_zero', 'init', 'batch_size',
          'seed', 'seeds']


@pytest.mark.parametrize('flags, names', [
    (['--discs=4'], ['discs']),
    (['--env=hanoi', '--discs=9'], ['discs']),
    (['--env=hanoi', '--layout=empty'], ['layout']),
    (['--layout=spirals'], ['layout']),
    (['--absorbing_demo', '--representation=none'], ['absorbing_demo']),
    (['--absorbing_demo', '--env=hanoi'], ['absorbing']),
    (['--absorbing_demo', '--absorbing=0,0:1,1'], ['absorbing']),
    (['--suite', '--episodes=5'], ['suite'])])
def test_flags_that_do_not_go_together(flags, names):
  assert problems(*flags) == names


def test_a_refusal_names_the_nearest_and_exits_with_2(capsys):
  assert tabular.main(['--env=mazes', '--log_dir_path=/nowhere']) == 2
  output = capsys.readouterr()
  assert output.out == ''
  assert "got 'mazes'" in output.err and "nearest: 'maze'" in output.err


def test_a_folder_that_cannot_be_made_is_said_before_training(tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  assert tabular.main(
      ['--seeds=1', '--log_dir_path', str(tmp_path / 'file')]) == 1
  output = capsys.readouterr()
  assert 'stopped' in output.err and 'first success' not in output.out


def test_files_of_a_run_are_written_and_open(tmp_path, capsys):
  assert tabular.main([
      '--seeds=2', '--processes=1', '--episodes=6', '--eval_interval=2',
      '--max_frames=3', '--log_dir_path', str(tmp_path)]) == 0
  (folder,) = tmp_path.iterdir()
  printed = capsys.readouterr().out
  for name in ('success.csv', 'greedy_success.csv', 'arrays.npz', 'curves.png',
               'seed_0.gif'):
    assert str(folder / name) in printed.split('\n')
  settings = json.loads((folder / 'config.json').read_text())
  assert settings['episodes'] == 6 and settings['seeds'] == [0, 1]
  with open(folder / 'success.csv', encoding='utf-8') as f:
    rows = list(csv.reader(f))
  assert rows[0] == ['episode', 'seed_0', 'seed_1']
  assert [r[0] for r in rows[1:]] == list('123456')
  with np.load(folder / 'arrays.npz') as arrays:
    assert arrays['learned'].shape == (2, 100, 16)
    assert arrays['visited_counts'].shape == (2, 100)
  assert min(imread(folder / 'curves.png').shape[:2]) > 400
  with Image.open(folder / 'seed_0.gif') as gif:
    assert gif.n_frames == 3 and gif.info['duration'] == 200


def test_the_command_trains_seeds_in_processes(tmp_path):
  command = [sys.executable, 'launch/tabular.py', '--env=hanoi', '--seeds=2',
             '--processes=2', '--episodes=20', '--max_frames=0',
             '--log_dir_path', str(tmp_path)]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                          timeout=120, check=False)
  assert result.returncode == 0, result.stderr
  (folder,) = tmp_path.iterdir()
  assert not list(folder.glob('*.gif'))
  with np.load(folder / 'arrays.npz') as arrays:
    for seed in range(2):
      alone = training.train(config_lib.from_settings(
          'hanoi_3', None, dict(episodes=20)), seed)
      np.testing.assert_array_equal(arrays['learned'][seed], alone.learned)


def test_the_absorbing_demo(tmp_path, capsys):
  assert tabular.main([
      '--absorbing_demo', '--episodes=4', '--max_steps=20', '--max_frames=2',
      '--log_dir_path', str(tmp_path)]) == 0
  (folder,) = tmp_path.iterdir()
  assert sorted(p.name for p in folder.iterdir()) == [
      'absorbing.gif', 'baseline.gif', 'config.json', 'side_by_side.png']
  printed = capsys.readouterr().out
  lines = [line.split('|') for line in printed.splitlines()
           if ', before' in line]
  # Both begin with the same rows.
  assert len(lines) == 2 and lines[0][3:] == lines[1][3:]


def test_a_summary_counts_from_one_and_says_never(tmp_path):
  result = trained()
  success = np.zeros(300)
  success[[41, 250]] = 0.02, 1.0
  found = tabular.summary([
      result._replace(success=success),
      result._replace(seed=7, success=np.zeros(300))])
  assert '| 0 | 42 | 0.01 |' in found and '| 7 | never | 0.00 |' in found
  assert 'seeds_with_success_within_200=1/2' in found
  assert 'last_100_success=0.005' in found


def test_rows_of_the_suite_are_usable():
  for row in tabular.SUITE:
    assert request(*row.flags.split()).config


def test_moving_average_is_over_what_there_is():
  success = np.random.default_rng(0).random((2, 250)) < 0.3
  expected = [[row[max(0, n - 99):n + 1].mean() for n in range(250)]
              for row in success]
  np.testing.assert_allclose(
      curves.rolling_mean(success, figures.WINDOW), expected)


def test_curves_are_binary_with_a_band_of_standard_error():
  success = np.zeros((3, 4))
  success[0, 1:] = 0.02
  figure = figures.success_figure({'one': success}, 'title')
  (axes,) = figure.axes
  assert axes.get_xlabel() == 'Training Episodes'
  mean = axes.lines[-1].get_ydata()
  np.testing.assert_allclose(mean, np.array([0, 1 / 2, 2 / 3, 3 / 4]) / 3)
  band = axes.collections[0].get_paths()[0].vertices
  averages = np.array([3 / 4, 0, 0])
  assert band[:, 1].max() == pytest.approx(
      averages.mean() + averages.std(ddof=1) / np.sqrt(3))


def test_maze_frames_show_similarity_path_and_walls():
  environment = ENVIRONMENTS['four_rooms']()
  snapshot = trained().snapshots[-1]._replace(eval_path=np.array([0, 1, 11]))
  figure = figures.Figure()
  axes = figure.add_subplot()
  panel = figures.MazePanel(axes, environment, 'score')
  panel.show(snapshot)
  image, walls = axes.images
  assert image.origin == walls.origin == 'lower'
  assert image.get_cmap().name == 'viridis' and walls.get_alpha() == 0.5
  drawn = image.get_array()
  np.testing.assert_array_equal(drawn.mask.ravel(), ~environment.free)
  np.testing.assert_allclose(
      drawn.compressed(), snapshot.similarity[environment.free])
  low, high = image.get_clim()
  assert high == 1.0 and low == min(0.0, drawn.min())
  by_label = {line.get_label(): line for line in axes.lines}
  path = by_label['greedy path']
  assert path.get_color() == 'black'
  assert list(path.get_xdata()) == [0, 1, 1]
  assert list(path.get_ydata()) == [0, 0, 1]
  start, goal = by_label['start'], by_label['goal']
  assert (start.get_color(), start.get_marker()) == ('lime', 'o')
  assert (goal.get_color(), goal.get_marker()) == ('red', '*')
  assert axes.get_title() == 'Trial 6'


def test_towers_are_drawn_and_counted():
  assert figures.towers((0, 2, 0)).split('\n') == [
      '   |       |       |   ',
      '   |       |       |   ',
      '  ===      |       |   ',
      '=======    |     ===== ',
      '-----------------------']
  snapshot = trained('hanoi_3').snapshots[-1]
  counts = figures.visit_counts(snapshot, 27)
  np.testing.assert_array_equal(counts.sum(axis=-1), [21] * 5)
  for row, path in zip(counts, [*snapshot.recent_paths, snapshot.eval_path]):
    assert all(row[state] == list(path).count(state) for state in range(27))


def test_before_training_only_the_greedy_episode_has_visits():
  counts = figures.visit_counts(trained('hanoi_3').snapshots[0], 27)
  assert not counts[:-1].any() and counts[-1].sum() == 21


def test_towers_at_the_goal_are_green_and_the_animation_stops_there():
  environment = ENVIRONMENTS['hanoi_3']()
  path = np.array([0, 9, 26, 26, 26])
  snapshot = trained('hanoi_3').snapshots[-1]._replace(eval_path=path)
  panels = figures.HanoiPanels(figures.Figure(), environment, 'score')
  for step, color in ((0, 'black'), (2, 'green')):
    panels.show(snapshot, step)
    assert panels._towers.get_color() == color
  assert len(panels._similarity_axes.patches) == 1
  assert len(panels._visits_axes.patches) == 5
  animation = figures.animate(environment, [snapshot], 100)
  # Two steps, then the goal for a while.
  assert len(list(animation.new_frame_seq())) == 2 + 1 + 5
  short = figures.animate(environment, [snapshot], 4)
  assert len(list(short.new_frame_seq())) == 4
  # Neither is to be drawn.
  animation._draw_was_started = short._draw_was_started = True


def test_frames_are_spaced_evenly_and_end_with_the_last():
  assert figures.spaced(5, 10) == [0, 1, 2, 3, 4]
  assert figures.spaced(101, 3) == [0, 50, 100]
  assert figures.spaced(1, 3) == [0]
  assert figures.spaced(5, 1) == [4]
