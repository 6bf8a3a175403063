"""The run's counter: counts, running means, log rows, and the end of a run."""

import csv
import json
import math
import threading

import numpy as np
import pytest

from launch import counter as counter_lib
from launch.counter import Counter
from launch.loggers import make_logger
from safety import visits
from safety.regions import parse_region_bounds
from safety.visits import VisitLog

ROLES = ('actor', 'learner', 'evaluator')
REGIONS = parse_region_bounds('0,0:1,1;2,2:3,3')
FIGURES = {'wait_fraction': 0.25, 'parameter_age': 3.0,
           'max_parameter_age': 9.0}


class Rows:
  """A logger that keeps its rows."""

  def __init__(self):
    self.rows = []
    self.closed = False

  def write(self, data):
    self.rows.append(dict(data))

  def close(self):
    self.closed = True


@pytest.fixture
def logs():
  return {role: Rows() for role in ROLES}


def make(logs, num_steps=1000, log_interval=1e9, **kwargs):
  return Counter(logs, kwargs.pop('visits', None), num_steps, log_interval,
                 **kwargs)


def episodes(lengths, success=None, **metrics):
  """Returns metrics of episodes with the given lengths."""
  success = np.zeros(len(lengths)) if success is None else np.array(success)
  return {'success': success, 'episode_length': np.array(lengths), **metrics}


def test_counts_begin_at_zero(logs):
  assert make(logs).get_counts() == {
      'actor_steps': 0, 'actor_episodes': 0, 'learner_steps': 0,
      'learner_updates': 0}


def test_cells_are_added_up_over_the_run_and_its_parts(logs):
  counter = make(logs)
  assert counter.get_snapshot()['cell_visits'] is None
  first = np.array([[[1, 2], [0, 0]], [[0, 3], [4, 0]]])
  counter.record_episodes(episodes([3, 7], cell_visits=first), FIGURES)
  saved = json.loads(json.dumps(counter.get_snapshot()))
  assert saved['cell_visits'] == [[1, 5], [4, 0]]
  resumed = make(logs, saved=saved)
  second = episodes([5], cell_visits=np.array([[[5, 0], [0, 0]]]))
  resumed.record_episodes(second, FIGURES)
  assert resumed.get_snapshot()['cell_visits'] == [[6, 5], [4, 0]]
  assert 'cell_visits' in second
  resumed.log()
  assert not any('cell' in name for name in logs['actor'].rows[0])


def test_everybody_s_reports_are_counted(logs):
  counter = make(logs)
  assert counter.record_episodes(episodes([3, 4]), FIGURES) == {
      'actor_steps': 7, 'actor_episodes': 2, 'learner_steps': 0,
      'learner_updates': 0}
  counter.increment(learner_steps=1, learner_updates=64)
  counter.increment(learner_steps=1, learner_updates=64)
  counter.record_episodes(episodes([50]), FIGURES)
  assert counter.get_counts() == {
      'actor_steps': 57, 'actor_episodes': 3, 'learner_steps': 2,
      'learner_updates': 128}


def test_a_report_sent_twice_is_counted_once(logs):
  counter = make(logs)
  for sender, number in (('one', 0), ('one', 0), ('two', 0), ('one', 1),
                         ('two', 0)):
    counts = counter.record_episodes(
        episodes([3, 4]), FIGURES, (sender, number))
  assert (counts['actor_steps'], counts['actor_episodes']) == (21, 6)


def test_reports_of_several_threads_add_up(logs, tmp_path):
  log = VisitLog(str(tmp_path), REGIONS)
  counter = make(logs, visits=log)

  def report():
    for _ in range(50):
      counter.record_episodes(
          episodes([2, 3], region_visits=np.ones((2, 2), int)), FIGURES)
      counter.increment(learner_updates=1)

  threads = [threading.Thread(target=report) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  counts = counter.get_counts()
  assert counts['actor_steps'] == 4 * 50 * 5
  assert counts['actor_episodes'] == log.num_episodes == 4 * 50 * 2
  assert counts['learner_updates'] == 4 * 50


def random_metrics(seed, num):
  """Returns `num` single-episode reports."""
  rng = np.random.default_rng(seed)
  return [episodes(rng.integers(1, 51, 1), rng.integers(0, 2, 1),
                   final_dist=rng.uniform(0, 10, 1),
                   region_visits=rng.integers(0, 9, (1, 2)))
          for _ in range(num)]


def expected_row(reports, num_new):
  """Returns the means of a log row by the definition."""
  row = {}
  for name in reports[0]:
    # Visits of all regions are added up.
    values = np.array([np.sum(report[name]) for report in reports], float)
    row[name] = values[len(values) - num_new:].mean()
    for window in (10, 100, 1000):
      row[f'{name}_{window}'] = values[-window:].mean()
  return row


def assert_row(row, expected):
  for name, value in expected.items():
    assert row[name] == pytest.approx(value, nan_ok=True), name


@pytest.mark.parametrize('num', [1, 7, 10, 11, 150, 1300])
def test_rows_hold_means_of_the_interval_and_of_the_last_episodes(logs, num):
  counter = make(logs)
  reports = random_metrics(num, num + 5)
  for report in reports[:num]:
    counter.record_episodes(report, FIGURES)
  counter.log()
  for report in reports[num:]:
    counter.record_episodes(report, FIGURES)
  counter.log()
  first, second = logs['actor'].rows
  assert_row(first, expected_row(reports[:num], num))
  assert_row(second, expected_row(reports, 5))


def test_an_interval_without_episodes_has_no_mean_of_its_own(logs):
  counter = make(logs)
  counter.record_episodes(episodes([10], [1]), FIGURES)
  counter.log()
  counter.log()
  row = logs['actor'].rows[1]
  assert math.isnan(row['success']) and math.isnan(row['wait_fraction'])
  assert row['success_10'] == 1.0


def test_nothing_is_logged_before_the_first_episode(logs, capsys):
  make(logs).log()
  assert logs['actor'].rows == []
  assert 'step 0/1,000' in capsys.readouterr().out


def test_actor_figures_are_averaged_and_the_oldest_age_kept(logs):
  counter = make(logs)
  for figures in (
      {'wait_fraction': 0.1, 'parameter_age': 2.0, 'max_parameter_age': 5.0},
      {'wait_fraction': 0.5, 'parameter_age': math.nan,
       'max_parameter_age': math.nan},
      {'wait_fraction': 0.3, 'parameter_age': 8.0, 'max_parameter_age': 11.0}):
    counter.record_episodes(episodes([1]), figures)
  counter.log()
  assert_row(logs['actor'].rows[0], {
      'wait_fraction': 0.3, 'parameter_age': 5.0, 'max_parameter_age': 11.0})


def test_rows_of_all_roles_carry_the_counts(logs):
  counter = make(logs)
  counter.increment(learner_steps=2, learner_updates=8)
  counter.record_episodes(episodes([30, 20], [1, 0]), FIGURES)
  counter.log()
  counter.record_learner({'updates_per_second': 100.0, 'wait_fraction': 0.5,
                          'critic_loss': 1.25})
  counter.record_evaluation(
      6, episodes([5, 7, 9], [1, 0, 0], region_visits=np.array(
          [[1, 0], [2, 2], [0, 1]])), np.zeros((8, 2, 2)))
  counts = {'actor_steps': 50, 'actor_episodes': 2, 'learner_steps': 2,
            'learner_updates': 8}
  for role in ROLES:
    row, = logs[role].rows
    assert_row(row, counts)
    assert row['seconds'] >= 0.0
  assert_row(logs['actor'].rows[0], {'success': 0.5, 'episode_length': 25.0})
  assert_row(logs['learner'].rows[0], {
      'critic_loss': 1.25, 'updates_per_second': 100.0, 'wait_fraction': 0.5})
  assert_row(logs['evaluator'].rows[0], {
      'success': 1 / 3, 'episode_length': 7.0, 'region_visits': 2.0,
      'episodes': 3, 'parameter_updates': 6})


def test_the_line_shows_what_the_roles_reported(logs, capsys):
  counter = make(logs)
  counter.record_learner({'updates_per_second': 123.0, 'wait_fraction': 0.25})
  counter.record_evaluation(6, episodes([5, 7], [1, 0]), np.zeros((8, 2, 2)))
  counter.record_episodes(
      episodes([30, 20], [1, 1], region_visits=np.array([[1, 0], [2, 1]]),
               interventions=np.array([3, 4])), FIGURES)
  counter.log()
  line = capsys.readouterr().out
  for words in ('step 50/1,000 (5%)', '123 updates/s', 'actors 25%',
                'learner 25%', 'age 3 ', 'success 1.00', 'eval 0.50',
                'visits/ep 2.00', 'interventions/ep 3.5'):
    assert words in line, line
  assert line.count('\n') == 1


def read_csv(folder, role):
  with open(folder / 'logs' / role / 'logs.csv', newline='',
            encoding='utf-8') as f:
    return list(csv.DictReader(f))


def test_a_restored_counter_goes_on_as_one_that_never_stopped(tmp_path):
  def begin(name, saved=None):
    folder = tmp_path / name
    run_loggers = {role: make_logger(str(folder), role) for role in ROLES}
    saved_visits = saved['counts']['actor_episodes'] if saved else 0
    log = VisitLog(str(folder / 'visits'), REGIONS, saved_visits)
    return Counter(run_loggers, log, 10**6, 1e9, saved=saved)

  def first_part(counter):
    for report in random_metrics(0, 1100):
      counter.record_episodes(report, FIGURES)
    counter.increment(learner_steps=3, learner_updates=12)
    counter.record_evaluation(9, episodes([3], [1]), np.zeros((4, 1, 2)))
    counter.log()

  def second_part(counter):
    for report in random_metrics(1, 30):
      counter.record_episodes(report, FIGURES)
    counter.close()

  whole = begin('whole')
  first_part(whole)
  second_part(whole)

  parts = begin('parts')
  first_part(parts)
  snapshot = parts.get_snapshot()
  assert snapshot['score'] == 1.0
  text = json.dumps(snapshot)
  # What comes after the checkpoint is lost, visits included.
  parts.record_episodes(random_metrics(2, 1)[0], FIGURES)
  parts.flush()
  for logger in parts._loggers.values():
    logger.close()
  restored = begin('parts', json.loads(text))
  assert restored.get_counts() == snapshot['counts']
  assert restored.get_snapshot()['score'] == 1.0
  assert restored.get_snapshot()['seconds'] >= snapshot['seconds']
  second_part(restored)

  assert restored.get_counts() == whole.get_counts()
  left, right = (read_csv(tmp_path / name, 'actor')
                 for name in ('whole', 'parts'))
  assert len(left) == len(right) == 2
  timed = {'seconds', 'steps_per_second'}
  for a, b in zip(left, right):
    assert {k: v for k, v in a.items() if k not in timed} == {
        k: v for k, v in b.items() if k not in timed}
  read = [visits.read_visits(str(tmp_path / name / 'visits'))
          for name in ('whole', 'parts')]
  assert read[0]['episodes'].tolist() == list(range(1130))
  np.testing.assert_equal(read[0], read[1])


def test_rows_are_on_disk_at_once(tmp_path):
  counter = make({role: make_logger(str(tmp_path), role) for role in ROLES})
  counter.record_episodes(episodes([8], [1]), FIGURES)
  counter.log()
  row, = read_csv(tmp_path, 'actor')
  assert float(row['success']) == 1.0 and float(row['actor_steps']) == 8
  counter.close()
  assert len(read_csv(tmp_path, 'actor')) == 2


def test_the_score_is_the_last_evaluation_s_success(logs):
  counter = make(logs)
  assert counter.get_snapshot()['score'] is None
  for success in ([1, 1], [0, 1]):
    counter.record_evaluation(
        1, episodes([5, 5], success), np.zeros((6, 1, 2)))
  assert counter.get_snapshot()['score'] == 0.5


def test_rounds_are_kept_with_the_step_they_are_from(logs):
  kept = []
  counter = make(logs, save_round=lambda *what: kept.append(what))
  counter.record_episodes(episodes([7]), FIGURES)
  paths = np.arange(12.0).reshape(3, 2, 2)
  metrics = episodes([2], [1])
  counter.record_evaluation(1, metrics, paths)
  counter.record_evaluation(1, metrics, None)
  first, second = kept
  assert first == (7, metrics, paths) and second == (7, metrics, None)


def test_visits_are_recorded_in_the_order_of_the_reports(logs, tmp_path):
  log = VisitLog(str(tmp_path), REGIONS)
  counter = make(logs, visits=log)
  for first in (0, 2, 10):
    counter.record_episodes(
        episodes([1, 1], region_visits=np.array(
            [[first, 0], [first + 1, 0]])), FIGURES)
  assert log.num_episodes == 6
  # A checkpoint counts them, so they must be on disk by then.
  counter.get_snapshot()
  read = visits.read_visits(str(tmp_path))
  assert read['counts'][:, 0].tolist() == [0, 1, 2, 3, 10, 11]
  counter.record_episodes(
      episodes([1], region_visits=np.array([[12, 0]])), FIGURES)
  counter.close()
  assert len(visits.read_visits(str(tmp_path))['episodes']) == 7


def test_a_run_is_complete_with_its_last_step(logs):
  counter = make(logs, num_steps=10)
  counter.record_episodes(episodes([9]), FIGURES)
  assert not counter.complete()
  counter.record_episodes(episodes([1]), FIGURES)
  assert counter.complete()


class Watch:
  """What the counter watches the program with."""

  def __init__(self, on_wait, stop_after=math.inf):
    self.waits, self.stops = 0, 0
    self._on_wait, self._stop_after = on_wait, stop_after

  def should_stop(self):
    return self.waits >= self._stop_after

  def wait(self, seconds):
    assert seconds <= 1.0
    self.waits += 1
    self._on_wait()

  def stop_program(self):
    self.stops += 1

  def run(self, counter):
    counter.watch(self.should_stop, self.wait, self.stop_program)


def test_watching_stops_the_program_when_the_run_is_complete(logs):
  counter = make(logs, num_steps=10)
  watch = Watch(lambda: counter.record_episodes(episodes([3]), FIGURES))
  watch.run(counter)
  assert watch.waits == 4 and watch.stops == 1


def test_watching_ends_when_somebody_else_stops_the_program(logs):
  watch = Watch(lambda: None, stop_after=3)
  watch.run(make(logs))
  assert watch.waits == 3 and watch.stops == 0


def test_watching_logs_and_flushes_at_intervals(logs, tmp_path, monkeypatch):
  monkeypatch.setattr(counter_lib, 'VISIT_FLUSH_INTERVAL', 0.0)
  counter = make(logs, log_interval=0.0,
                 visits=VisitLog(str(tmp_path), REGIONS))
  on_disk = []

  def report():
    on_disk.append(len(visits.read_visits(str(tmp_path))['episodes']))
    counter.record_episodes(
        episodes([1], region_visits=np.zeros((1, 2), int)), FIGURES)

  Watch(report, stop_after=3).run(counter)
  assert [row['actor_episodes'] for row in logs['actor'].rows] == [1, 2, 3]
  assert on_disk == [0, 1, 2]


def test_closing_logs_what_is_left(logs):
  counter = make(logs)
  counter.record_episodes(episodes([4], [1]), FIGURES)
  counter.close()
  assert [row['actor_steps'] for row in logs['actor'].rows] == [4]
  assert all(logger.closed for logger in logs.values())


def test_episodes_are_handed_over_once_asked_for(logs):
  counter = make(logs)
  assert counter.get_episodes(0, ['success'])[0] == 0
  counter.record_episodes(episodes([3, 4], [0.0, 1.0]), FIGURES)
  counter.record_episodes(episodes([5], [0.5]), FIGURES)
  for since, lengths, success in [
      (0, [3, 4, 5], [0.0, 1.0, 0.5]), (2, [5], [0.5]), (3, [], []),
      (7, [], [])]:
    total, found = counter.get_episodes(
        since, ['episode_length', 'success', 'other'])
    assert total == 3
    assert {name: value.tolist() for name, value in found.items()} == {
        'episode_length': lengths, 'success': success,
        'other': [0.0] * len(lengths)}
  # A resumed run still has them.
  resumed = make(logs, saved=json.loads(json.dumps(counter.get_snapshot())))
  assert resumed.get_episodes(1, ['episode_length'])[1][
      'episode_length'].tolist() == [4, 5]


def test_no_more_episodes_are_handed_over_than_are_kept(logs):
  counter = make(logs)
  for _ in range(30):
    counter.record_episodes(episodes(list(range(50))), FIGURES)
  total, found = counter.get_episodes(0, ['episode_length'])
  assert total == 1500
  assert found['episode_length'].tolist() == list(range(50)) * 20


def test_where_nothing_is_a_success_the_return_tells_the_best(logs):
  counter = make(logs)
  counter.record_evaluation(
      7, {'episode_return': np.array([1.0, 3.0]),
          'episode_length': np.array([5, 5])}, None)
  assert counter.get_snapshot()['score'] == 2.0
  assert logs['evaluator'].rows[0]['episodes'] == 2


def test_steps_that_were_counted_before_are_not_counted_with_their_episode(
    logs):
  counter = make(logs)
  assert counter.record_steps(5, ('a, steps', 0))['actor_steps'] == 5
  assert counter.record_steps(5, ('a, steps', 0))['actor_steps'] == 5
  assert counter.record_steps(2, ('a, steps', 1))['actor_steps'] == 7
  counts = counter.record_episodes(
      episodes([6]), FIGURES, ('a', 0), count_steps=False)
  assert (counts['actor_steps'], counts['actor_episodes']) == (7, 1)
