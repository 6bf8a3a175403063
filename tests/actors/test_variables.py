"""An actor's link to counter and learner: what is reported, fetched, aged."""

import threading
import time

import jax
import numpy as np
import pytest

from actors.variables import Link, PatientSource, Repeater

PATIENCE = 20.0


class FakeCounter:
  """Counts like the run's counter; fails while `down` is an error."""

  def __init__(self, actor_steps=0, learner_updates=0):
    self.counts = {'actor_steps': actor_steps, 'actor_episodes': 0,
                   'learner_updates': learner_updates}
    self.down = None
    self.recorded = []
    self.reports = []
    self.step_reports = []

  def get_counts(self):
    if self.down is not None:
      raise self.down
    return dict(self.counts)

  def record_steps(self, steps, report):
    if self.down is not None:
      raise self.down
    self.step_reports.append((steps, report))
    self.counts['actor_steps'] += steps
    return dict(self.counts)

  def record_episodes(self, metrics, actor, report, count_steps=True):
    if self.down is not None:
      raise self.down
    self.recorded.append((metrics, actor))
    self.reports.append(report)
    if count_steps:
      self.counts['actor_steps'] += int(metrics['episode_length'].sum())
    return dict(self.counts)


class FakeLearner:
  """Serves the number of its updates as parameters; lists who asked."""

  def __init__(self, updates=0):
    self.updates = updates
    self.asked = []
    self.portions = []
    self.down = None

  def get_variables(self, have, for_evaluation=False, portion=None):
    assert not for_evaluation
    self.asked.append(have)
    self.portions.append(portion)
    if self.down is not None:
      raise self.down
    if have == self.updates:
      return None
    params = {'w': np.full(3, self.updates, np.float32)}
    return self.updates, params if portion is None else (portion, params)


@pytest.fixture
def connect():
  """Yields a factory of links; those started end with the test."""
  links = []

  def make(counter, learner, period=0.005, patience=PATIENCE):
    links.append(Link('actor', counter, learner, period, patience))
    return links[-1]

  before = set(threading.enumerate())
  yield make
  for link in links:
    for repeater in link._repeaters:
      repeater._stop.set()
  for thread in set(threading.enumerate()) - before:
    thread.join(PATIENCE)


def episodes(*lengths):
  return {'episode_length': np.array(lengths)}


def wait_until(condition):
  deadline = time.monotonic() + PATIENCE
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.002)


def test_nothing_is_known_at_first(connect):
  assert connect(FakeCounter(), FakeLearner()).latest() == ({}, None)


def test_a_round_brings_counts_and_parameters(connect):
  link = connect(FakeCounter(30, learner_updates=7), FakeLearner(7))
  link.refresh()
  counts, snapshot = link.latest()
  assert counts == {'actor_steps': 30, 'actor_episodes': 0,
                    'learner_updates': 7}
  assert snapshot.updates == 7
  assert isinstance(snapshot.params['w'], jax.Array)
  assert snapshot.params['w'].tolist() == [7.0] * 3


def test_parameters_are_fetched_only_when_there_are_newer_ones(connect):
  counter, learner = FakeCounter(), FakeLearner()
  link = connect(counter, learner)
  link.refresh()
  for _ in range(3):
    link.refresh()
  assert learner.asked == [-1]
  counter.counts['learner_updates'] = learner.updates = 4
  for _ in range(3):
    link.refresh()
  assert learner.asked == [-1, 0]
  assert link.latest()[1].updates == 4


def test_parameters_ahead_of_the_counts_are_taken_as_they_are(connect):
  counter, learner = FakeCounter(learner_updates=4), FakeLearner(8)
  link = connect(counter, learner)
  link.refresh()
  assert link.latest()[1].updates == 8
  # The counts catch up: asked again in vain, then no more.
  link.refresh()
  counter.counts['learner_updates'] = 8
  link.refresh()
  assert learner.asked == [-1, 8]
  assert link.latest()[1].params['w'].tolist() == [8.0] * 3


def test_a_learner_that_went_back_to_its_checkpoint_is_followed(connect):
  counter, learner = FakeCounter(learner_updates=9), FakeLearner(9)
  link = connect(counter, learner)
  link.refresh()
  counter.counts['learner_updates'] = learner.updates = 5
  link.refresh()
  assert link.latest()[1].updates == 5
  assert link.latest()[1].params['w'].tolist() == [5.0] * 3


def test_episodes_are_reported_in_order_with_the_next_round(connect):
  counter = FakeCounter()
  link = connect(counter, FakeLearner())
  link.refresh()
  reports = [(episodes(3, 4), {'wait_fraction': 0.1}),
             (episodes(5), {'wait_fraction': 0.2})]
  for report in reports:
    link.record_episodes(*report)
  assert counter.recorded == []
  link.refresh()
  link.refresh()
  assert counter.recorded == reports
  assert link.latest()[0]['actor_steps'] == 12


def test_steps_count_locally_before_they_are_reported(connect):
  counter = FakeCounter(actor_steps=100)
  link = connect(counter, FakeLearner())
  link.refresh()
  link.record_episodes(episodes(3, 4), {})
  assert link.latest()[0]['actor_steps'] == 107
  counter.counts['actor_steps'] += 50
  link.refresh()
  assert link.latest()[0]['actor_steps'] == 157
  link.refresh()
  assert link.latest()[0]['actor_steps'] == 157


def test_no_step_counts_twice_or_vanishes_while_a_round_is_under_way(connect):
  counter, learner = FakeCounter(actor_steps=100), FakeLearner()
  link = connect(counter, learner)
  link.refresh()
  seen = []

  def look():
    seen.append(link.latest()[0]['actor_steps'])

  record, serve = counter.record_episodes, learner.get_variables

  def record_and_look(metrics, actor, report, count_steps):
    counts = record(metrics, actor, report, count_steps)
    look()
    return counts

  def serve_and_look(have):
    look()
    return serve(have)

  counter.record_episodes = record_and_look
  learner.get_variables = serve_and_look
  counter.counts['learner_updates'] = learner.updates = 3
  link.record_episodes(episodes(3), {})
  link.record_episodes(episodes(4), {})
  link.refresh()
  # While the first, the second report and the parameters are on their way.
  assert seen == [107, 107, 107]
  assert link.latest()[0]['actor_steps'] == 107


def test_episodes_are_reported_exactly_once_when_the_counter_fails(connect):
  counter = FakeCounter()
  link = connect(counter, FakeLearner())
  link.refresh()
  reports = [(episodes(n), {'n': n}) for n in range(1, 7)]
  for report in reports[:2]:
    link.record_episodes(*report)
  counter.down = ConnectionError('no counter')
  for report, known in zip(reports[2:4], (1 + 2 + 3, 1 + 2 + 3 + 4)):
    with pytest.raises(ConnectionError):
      link.refresh()
    link.record_episodes(*report)
    assert link.latest()[0]['actor_steps'] == known
  counter.down = None
  link.refresh()
  for report in reports[4:]:
    link.record_episodes(*report)
  link.refresh()
  assert counter.recorded == reports
  assert link.latest()[0]['actor_steps'] == 21


def test_a_report_keeps_its_number_until_its_reply_has_come(connect):
  counter = FakeCounter()
  link = connect(counter, FakeLearner())
  record = counter.record_episodes

  def lose_the_reply(metrics, actor, report, count_steps):
    record(metrics, actor, report, count_steps)
    raise TimeoutError('no reply')

  counter.record_episodes = lose_the_reply
  link.record_episodes(episodes(1), {})
  link.record_episodes(episodes(2), {})
  with pytest.raises(TimeoutError):
    link.refresh()
  counter.record_episodes = record
  link.refresh()
  assert counter.reports == [('actor', 0), ('actor', 0), ('actor', 1)]


def test_counts_go_on_while_parameters_are_on_their_way(connect):
  counter, learner = FakeCounter(), FakeLearner()
  link = connect(counter, learner)
  link.refresh()
  slow = threading.Event()

  def fetch(have):
    slow.wait(PATIENCE)
    return learner.updates, {'w': np.zeros(3, np.float32)}

  learner.get_variables = fetch
  link.start()
  for updates in (10, 20):
    counter.counts['learner_updates'] = learner.updates = updates
    wait_until(lambda: link.latest()[0]['learner_updates'] == updates)
    # So the actor can tell that its parameters are too old.
    assert link.latest()[1].updates == 0
  slow.set()
  wait_until(lambda: link.latest()[1].updates == 20)


def test_episodes_are_reported_once_when_the_learner_fails(connect):
  counter, learner = FakeCounter(), FakeLearner()
  link = connect(counter, learner)
  link.refresh()
  counter.counts['learner_updates'] = learner.updates = 3
  learner.down = ConnectionError('no learner')
  link.record_episodes(episodes(4), {})
  for _ in range(2):
    with pytest.raises(ConnectionError):
      link.refresh()
  learner.down = None
  link.refresh()
  assert len(counter.recorded) == 1
  assert link.latest()[0]['actor_steps'] == 4
  assert link.latest()[1].updates == 3


def test_the_thread_outlives_an_outage(connect):
  counter, learner = FakeCounter(), FakeLearner()
  link = connect(counter, learner)
  link.start()
  wait_until(lambda: link.latest()[1] is not None)
  failures = []

  class Down(ConnectionError):
    def __str__(self):
      failures.append(True)
      return 'no counter'

  counter.down = Down()
  link.record_episodes(episodes(2, 2), {})
  wait_until(lambda: len(failures) >= 3)
  assert link.latest()[1].updates == 0
  counter.down = None
  wait_until(lambda: counter.recorded)
  link.stop()
  assert [m['episode_length'].tolist() for m, _ in counter.recorded] == [[2, 2]]


@pytest.mark.parametrize('who', ['counter', 'learner'])
def test_the_link_gives_up_after_its_patience_and_says_why(connect, who):
  counter, learner = FakeCounter(), FakeLearner()
  cause = ConnectionError(f'no {who}')
  (counter if who == 'counter' else learner).down = cause
  link = connect(counter, learner, patience=0.02)
  link.start()

  def gave_up():
    try:
      link.latest()
      return False
    except RuntimeError as e:
      assert e.__cause__ is cause
      assert 'link' in str(e)
      return True

  wait_until(gave_up)
  assert gave_up(), 'it must stay so'


def test_patience_starts_anew_after_each_success():
  outcomes = iter([0, 1, 0, 1, 0, 1, 0])
  calls = []

  def fail_now_and_then():
    ok = next(outcomes, 1)
    calls.append(ok)
    if not ok:
      raise ConnectionError('now and then')

  repeater = Repeater(fail_now_and_then, 0.001, patience=0.0, name='repeater')
  repeater.start()
  wait_until(lambda: len(calls) > 10)
  repeater.check()
  repeater.stop(PATIENCE)


def test_a_patient_source_asks_again_for_a_while():
  outcomes = iter([ConnectionError('no answer'), TimeoutError('none yet'), None,
                   (3, 'parameters'), (3, 'averages'), (3, 'piece')])
  asked = []

  class Source:

    def get_variables(self, have, for_evaluation, portion):
      asked.append((for_evaluation, portion))
      outcome = next(outcomes)
      if isinstance(outcome, Exception):
        raise outcome
      return outcome

  source = PatientSource(Source(), PATIENCE, pause=0.0)
  assert source.get_variables(2) is None
  assert source.get_variables(2) == (3, 'parameters')
  assert source.get_variables(2, for_evaluation=True) == (3, 'averages')
  assert source.get_variables(2, portion=1) == (3, 'piece')
  assert asked == [(False, None)] * 4 + [(True, None), (False, 1)]


def test_patience_with_a_source_ends():
  learner = FakeLearner()
  learner.down = ConnectionError('no learner')
  with pytest.raises(ConnectionError, match='no learner'):
    PatientSource(learner, patience=0.02, pause=0.005).get_variables(0)
  assert len(learner.asked) > 1


def test_a_stopped_repeater_calls_no_more():
  calls = []
  repeater = Repeater(lambda: calls.append(1), 0.001, 1.0, 'repeater')
  repeater.start()
  wait_until(lambda: calls)
  repeater.stop(PATIENCE)
  num_calls = len(calls)
  time.sleep(0.02)
  assert len(calls) == num_calls


def test_ages_are_the_most_that_parameters_in_use_have_lagged(connect):
  counter, learner = FakeCounter(), FakeLearner()
  link = connect(counter, learner)
  link.refresh()
  assert link.take_ages() == []  # nothing was in use before
  link.refresh()
  counter.counts['learner_updates'] = learner.updates = 5
  link.refresh()
  link.refresh()
  counter.counts['learner_updates'] = learner.updates = 12
  link.refresh()
  assert link.take_ages() == [0, 5, 0, 7]
  assert link.take_ages() == []


def test_ages_grow_while_the_learner_has_nothing_new_to_serve(connect):
  counter, learner = FakeCounter(), FakeLearner()
  link = connect(counter, learner)
  link.refresh()
  for updates in (3, 6):
    counter.counts['learner_updates'] = updates
    link.refresh()
  assert link.take_ages() == [3, 6]
  # Parameters newer than the counts are not of a negative age.
  learner.updates = 20
  link.refresh()
  counter.counts['learner_updates'] = 15
  link.refresh()
  assert link.take_ages() == [6, 0]


def test_stop_reports_what_is_left(connect):
  counter = FakeCounter()
  link = connect(counter, FakeLearner())
  link.start()
  wait_until(lambda: link.latest()[0])
  for n in range(4):
    link.record_episodes(episodes(n), {})
  link.stop()
  assert [int(m['episode_length'][0]) for m, _ in counter.recorded] == [
      0, 1, 2, 3]


def test_who_waits_for_news_is_woken_by_them(connect):
  link = connect(FakeCounter(), FakeLearner())
  woken = threading.Event()

  def wait():
    link.wait_for_news(PATIENCE)
    woken.set()

  thread = threading.Thread(target=wait)
  thread.start()
  while not woken.wait(0.01):
    link.refresh()
  thread.join()
  link.wait_for_news(timeout=0.001)


def test_reports_made_while_others_are_on_their_way_are_not_lost(connect):
  counter = FakeCounter()
  link = connect(counter, FakeLearner(), period=0.0)
  link.start()
  wait_until(lambda: link.latest()[0])
  seen = []
  for n in range(300):
    link.record_episodes(episodes(1), {'n': n})
    seen.append(link.latest()[0]['actor_steps'])
  link.stop()
  assert [actor['n'] for _, actor in counter.recorded] == list(range(300))
  # One actor sees each of its own steps once, reported or not.
  assert seen == list(range(1, 301))


def test_steps_count_at_once_and_are_reported_once():
  """Also if the report fails first, and more steps are made meanwhile."""
  counter = FakeCounter()
  link = Link('a', counter, FakeLearner(), period=10.0, patience=10.0)
  link.refresh()
  link.record_steps(3)
  link.record_steps(2)
  assert link.latest()[0]['actor_steps'] == 5
  counter.down = RuntimeError('away')
  with pytest.raises(RuntimeError, match='away'):
    link.refresh()
  link.record_steps(4)
  assert link.latest()[0]['actor_steps'] == 9
  counter.down = None
  link.record_episodes({'episode_length': np.array([7])}, {},
                       count_steps=False)
  link.refresh()
  link.refresh()
  assert counter.step_reports == [(5, ('a, steps', 0)), (4, ('a, steps', 1))]
  assert link.latest()[0]['actor_steps'] == counter.counts['actor_steps'] == 9
