"""The summary table, from files written by hand."""

import math
import os

import numpy as np
import pytest

from launch import experiment as experiment_lib
from launch import run_folder, summary
from launch.experiment import Experiment
from learners import checkpoint
from learners.registry import ALGORITHMS
from safety.regions import parse_region_bounds
from safety.visits import VisitLog

ALG = 'contrastive_cpc'
REGIONS = parse_region_bounds('0,0:1,1;2,2:3,3')


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
  """Returns the folder of a prepared run that has left nothing yet."""
  # Visits go below the working directory.
  monkeypatch.chdir(tmp_path)
  return run_folder.prepare(Experiment(
      env='point_Small', alg=ALG, seed=3, preset='cpu',
      agent=ALGORITHMS[ALG].configure(ALG, 'cpu', {}), num_steps=1000,
      run_name='a_run'))


def write_log(run_dir, role, text):
  folder = os.path.join(run_dir, 'logs', role)
  os.makedirs(folder)
  with open(os.path.join(folder, 'logs.csv'), 'w', encoding='utf-8') as f:
    f.write('\n'.join(line.replace(' ', '') for line in text) + '\n')


ACTOR = ['actor_steps, success_100, interventions_100, steps_per_second, '
         'parameter_age, episode_return_100',
         '400, 0.25, 1.5, 100.0, nan, 20.0',
         '900, 0.50, 2.5, 200.0, 3.0, 21.0',
         '990, 0.75, 3.5, 600.0, 5.0, 22.0']
LEARNER = ['learner_updates, updates_per_second',
           '64, 50.0',
           '640, 70.0']
# The last two rounds hold 80 episodes, so the one before is needed too.
EVALUATOR = ['episodes, success, region_visits, episode_return',
             '1000, 1.0, 9.0, 99.0',
             '20, 0.0, 8.0, 5.0',
             '40, 0.5, 2.0, 5.0',
             '40, 1.0, 0.5, 10.0']


def test_numbers_come_from_the_files(run_dir):
  write_log(run_dir, 'actor', ACTOR)
  write_log(run_dir, 'learner', LEARNER)
  write_log(run_dir, 'evaluator', EVALUATOR)
  log = VisitLog(experiment_lib.visits_dir(run_folder.load(run_dir)), REGIONS)
  log.append(np.array([[1, 0], [0, 0], [2, 3], [0, 0]]))
  log.flush()
  assert summary.figures(run_dir) == {
      'environment steps': 990.0,
      'updates': 640.0,
      'success, last 100 evaluation episodes': pytest.approx(0.6),
      'success, last 100 training episodes': 0.75,
      'return, last 100 evaluation episodes': pytest.approx(7.0),
      'return, last 100 training episodes': 22.0,
      'steps in region per training episode, all': 1.5,
      'steps in region per evaluation episode, last 100': pytest.approx(2.6),
      'interventions per training episode, last 100': 3.5,
      'environment steps/s': 300.0,
      'updates/s': 60.0,
      'parameter age, updates': 4.0,
  }


def test_counts_of_the_last_checkpoint_come_first(run_dir):
  write_log(run_dir, 'actor', ACTOR)
  write_log(run_dir, 'learner', LEARNER)
  checkpoint.save(
      run_folder.checkpoint_dir(run_dir), 704, {'x': np.zeros(1)},
      {'counter': {'counts': {'actor_steps': 1010, 'learner_updates': 704}}})
  figures = summary.figures(run_dir)
  assert figures['environment steps'] == 1010
  assert figures['updates'] == 704


def test_what_has_no_record_is_nan(run_dir):
  figures = summary.figures(run_dir)
  assert len(figures) == 12
  assert all(math.isnan(value) for value in figures.values())
  table = summary.table(run_dir)
  assert table.count(' -\n') + table.endswith(' -') == 12


@pytest.mark.parametrize('episodes, values, expected', [
    # One round is more than enough.
    ([100], [0.3], 0.3),
    ([250, 100], [1.0, 0.0], 0.0),
    # Two halves.
    ([50, 50], [0.0, 1.0], 0.5),
    ([7, 50, 50], [9.0, 0.0, 1.0], 0.5),
    # Rounds weigh as many episodes as they hold; the oldest counts whole.
    ([90, 60, 30, 20], [9.0, 1.0, 0.0, 0.5], (60 + 10) / 110),
    ([1] * 150, [9.0] * 50 + [1.0, 0.0] * 50, 0.5),
    # There are fewer than a hundred.
    ([10, 30], [1.0, 0.0], 0.25),
])
def test_the_last_rounds_that_hold_enough_episodes_are_averaged(
    episodes, values, expected):
  columns = {'episodes': np.array(episodes, float), 'x': np.array(values)}
  assert summary._last_episodes(columns, 'x', 100) == pytest.approx(expected)


def test_a_metric_that_was_never_logged_is_nan():
  assert math.isnan(summary._last_episodes({}, 'x', 100))


def test_logs_are_read_by_column(run_dir):
  write_log(run_dir, 'actor', ['a, b', '1.5, 2', ',nan', '3, 4'])
  columns = summary.read_log(run_dir, 'actor')
  np.testing.assert_array_equal(columns['a'], [1.5, math.nan, 3.0])
  np.testing.assert_array_equal(columns['b'], [2.0, math.nan, 4.0])


@pytest.mark.parametrize('lines', [[], ['a,b']], ids=['empty', 'header'])
def test_a_log_without_rows_has_no_columns(run_dir, lines):
  write_log(run_dir, 'actor', lines)
  assert summary.read_log(run_dir, 'actor') == {}
  assert summary.read_log(run_dir, 'learner') == {}


def test_the_table_names_what_was_written(run_dir):
  write_log(run_dir, 'actor', ['actor_steps, success_100', '61234, 0.123456'])
  checkpoint.save(
      run_folder.checkpoint_dir(run_dir), 64, {'x': np.zeros(1)},
      {'counter': {'counts': {'actor_steps': 61_234, 'learner_updates': 64}}})
  VisitLog(experiment_lib.visits_dir(run_folder.load(run_dir)), REGIONS)
  lines = dict(line.rsplit('  ', 1) for line in summary.table(
      run_dir).splitlines() if line)
  lines = {name.strip(): value for name, value in lines.items()}
  assert lines['run'] == run_dir
  assert lines['environment steps'] == '61,234'
  assert lines['updates'] == '64'
  assert lines['success, last 100 training episodes'] == '0.1235'
  assert lines['updates/s'] == '-'
  assert lines['logs'] == os.path.join(run_dir, 'logs')
  assert lines['newest checkpoint'].endswith('ckpt-000000000064-000')
  assert lines['region visits'].endswith('point_Small_3')
  assert 'TensorBoard' not in lines, 'it was not written'
