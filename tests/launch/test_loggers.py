"""Log rows: CSV, and events that TensorBoard reads."""

import csv
import glob
import math
import os

import numpy as np
import pytest
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

from launch.loggers import make_logger, TensorBoardLogger
from launch.summary import read_log


def events(directory):
  """Returns the events TensorBoard's own reader finds, checksums checked."""
  found = []
  for path in sorted(glob.glob(os.path.join(directory, '*tfevents*'))):
    reader = pywrap_tensorflow.PyRecordReader_New(path)
    while True:
      try:
        reader.GetNext()
      except pywrap_tensorflow.errors.OutOfRangeError:
        break
      found.append(event_pb2.Event.FromString(reader.record()))
  return found


def scalars(event):
  return {value.tag: value.simple_value for value in event.summary.value}


@pytest.fixture
def logger(tmp_path):
  made = make_logger(str(tmp_path), 'actor')
  yield made
  made.close()


def csv_rows(tmp_path):
  with open(tmp_path / 'logs' / 'actor' / 'logs.csv', newline='',
            encoding='utf-8') as f:
    return list(csv.DictReader(f))


def test_rows_become_events_over_environment_steps(tmp_path, logger):
  logger.write({'actor_steps': 50, 'success': 0.5, 'length': np.float64(12.25)})
  logger.write({'actor_steps': 100.0, 'success': 1, 'length': np.int64(13)})
  version, first, second = events(str(tmp_path / 'tensorboard' / 'actor'))
  assert version.file_version == 'brain.Event:2'
  assert first.step == 50 and second.step == 100
  assert scalars(first) == {'actor/success': 0.5, 'actor/length': 12.25}
  assert scalars(second) == {'actor/success': 1.0, 'actor/length': 13.0}
  assert 0 < version.wall_time <= first.wall_time <= second.wall_time


def test_what_is_not_finite_is_no_point_of_a_curve(tmp_path, logger):
  logger.write({'actor_steps': 1, 'a': math.nan, 'b': math.inf, 'c': 2.0})
  _, event = events(str(tmp_path / 'tensorboard' / 'actor'))
  assert scalars(event) == {'actor/c': 2.0}


def test_tensorboard_finds_the_files_by_their_name(tmp_path, logger):
  logger.write({'actor_steps': 1})
  path, = glob.glob(str(tmp_path / 'tensorboard' / 'actor' / '*'))
  assert os.path.basename(path).startswith('events.out.tfevents.')


def test_events_can_be_read_while_the_file_is_open(tmp_path):
  log = TensorBoardLogger(str(tmp_path), 'learner', 'updates')
  try:
    for step in range(3):
      log.write({'updates': step, 'loss': float(step)})
      found = events(str(tmp_path))
      assert [e.step for e in found[1:]] == list(range(step + 1))
  finally:
    log.close()


def test_rows_become_lines_of_csv(tmp_path, logger):
  logger.write({'actor_steps': 50, 'success': 0.5, 'age': math.nan})
  logger.write({'actor_steps': 100, 'success': 1.0, 'age': 3.0})
  rows = csv_rows(tmp_path)
  assert [float(row['actor_steps']) for row in rows] == [50, 100]
  assert [float(row['success']) for row in rows] == [0.5, 1.0]
  assert math.isnan(float(rows[0]['age'])) and float(rows[1]['age']) == 3.0


def test_a_resumed_run_appends_to_its_csv(tmp_path, logger):
  logger.write({'actor_steps': 50, 'success': 0.5})
  again = make_logger(str(tmp_path), 'actor')
  # The order of the columns is the file's, not the row's.
  again.write({'success': 1.0, 'actor_steps': 100})
  again.close()
  rows = csv_rows(tmp_path)
  assert [(float(r['actor_steps']), float(r['success'])) for r in rows] == [
      (50, 0.5), (100, 1.0)]


def write_as_one_start(tmp_path, *rows):
  """Writes rows as a run does from one start to the next."""
  log = make_logger(str(tmp_path), 'actor')
  for row in rows:
    log.write(row)
  log.close()


def test_a_resumed_run_may_have_other_columns(tmp_path):
  write_as_one_start(
      tmp_path,
      {'actor_steps': 50, 'episode_return': 0.25, 'success': 0.5},
      {'actor_steps': 100, 'episode_return': math.nan, 'success': 0.75})
  write_as_one_start(
      tmp_path,
      # One is new, between the others, and one is gone.
      {'actor_steps': 150, 'grid_correlation': 0.9, 'success': 1.0},
      {'actor_steps': 200, 'grid_correlation': 0.8, 'success': 0.0})
  write_as_one_start(tmp_path, {'actor_steps': 250, 'success': 0.1})
  nan = math.nan
  columns = read_log(str(tmp_path), 'actor')
  assert sorted(columns) == [
      'actor_steps', 'episode_return', 'grid_correlation', 'success']
  np.testing.assert_equal(columns['actor_steps'], [50, 100, 150, 200, 250])
  np.testing.assert_equal(columns['success'], [0.5, 0.75, 1.0, 0.0, 0.1])
  np.testing.assert_equal(
      columns['grid_correlation'], [nan, nan, 0.9, 0.8, nan])
  np.testing.assert_equal(columns['episode_return'], [0.25] + [nan] * 4)
  assert os.listdir(tmp_path / 'logs' / 'actor') == ['logs.csv']


def test_rows_of_one_start_have_the_columns_of_its_first(tmp_path):
  write_as_one_start(
      tmp_path, {'actor_steps': 50, 'success': 0.5},
      {'actor_steps': 100, 'length': 7.0, 'success': 0.75},
      {'actor_steps': 150})
  columns = read_log(str(tmp_path), 'actor')
  assert sorted(columns) == ['actor_steps', 'success']
  np.testing.assert_equal(columns['success'], [0.5, 0.75, math.nan])


def test_columns_are_found_by_name_in_whatever_order(tmp_path):
  path = tmp_path / 'logs' / 'actor' / 'logs.csv'
  path.parent.mkdir(parents=True)
  path.write_text('success,actor_steps\n0.5,50\n')
  write_as_one_start(tmp_path, {'actor_steps': 100, 'success': 1.0})
  columns = read_log(str(tmp_path), 'actor')
  np.testing.assert_equal(columns['actor_steps'], [50, 100])
  np.testing.assert_equal(columns['success'], [0.5, 1.0])
