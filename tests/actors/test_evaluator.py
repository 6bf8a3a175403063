"""The evaluator: whole episodes, newest parameters, one last round."""

import jax
import numpy as np
import pytest

from actors import evaluator as evaluator_lib
from actors.evaluator import Evaluator
from actors.loop import EnvironmentLoop
from actors.observers import EpisodeObserver, PathObserver
from actors.policy import Policy
from envs.vector import StackedEnvironments
from tests import fakes

NUM_ENVS = 3
LENGTH = 4
NUM_PATHS = 2


class FakeLearner:
  """Serves its updates as parameters; it has no other method."""

  def __init__(self, updates=0):
    self.updates = updates
    self.asked = []

  def get_variables(self, have, for_evaluation=False):
    assert for_evaluation
    self.asked.append(have)
    return None if have == self.updates else (self.updates, self.updates / 8)


class FakeSink:
  """Takes results; it has no other method, so nothing can be stored in it."""

  def __init__(self):
    self.rounds = []

  def record_evaluation(self, updates, metrics, paths):
    self.rounds.append((updates, metrics, paths))


class FakeFilms:
  """Keeps what it is shown."""

  def __init__(self):
    self.shown = []
    self.closed = False

  def show(self, updates, variables):
    self.shown.append((updates, variables))

  def close(self):
    self.closed = True


class Actions:
  """An observer that keeps the actions."""

  def __init__(self):
    self.taken = []

  def observe_first(self, step):
    del step

  def observe(self, step):
    self.taken.append(float(step.action[0, 0]))

  def get_metrics(self, finished):
    del finished
    return {}


class Setup:
  """An evaluator of counting environments and the fakes around it."""

  def __init__(self, interval=0.0):
    environments = [fakes.CountingEnvironment(LENGTH) for _ in range(NUM_ENVS)]
    spec = environments[0].spec
    self.learner, self.sink = FakeLearner(), FakeSink()
    self.actions, self.films = Actions(), FakeFilms()
    paths = PathObserver(spec, NUM_PATHS)
    policy = Policy(
        init=lambda key, num_envs: (),
        act=lambda params, observation, state, key, is_first: (
            params + 0.0 * observation[:, :2], state))
    self.evaluator = Evaluator(
        EnvironmentLoop(
            StackedEnvironments(environments, spec), jax.random.key(0),
            [EpisodeObserver(NUM_ENVS), paths, self.actions]),
        policy, paths, self.learner, self.sink, interval,
        films=self.films)


def test_a_round_is_whole_episodes_from_their_reset():
  setup = Setup()
  assert setup.evaluator.fetch()
  returned = setup.evaluator.evaluate()
  (updates, metrics, paths), = setup.sink.rounds
  assert updates == 0
  assert {name: value.tolist() for name, value in metrics.items()} == {
      'success': [1.0] * NUM_ENVS,
      'episode_return': [10.0] * NUM_ENVS,  # 1 + 2 + 3 + 4
      'episode_length': [LENGTH] * NUM_ENVS}
  np.testing.assert_equal(returned, metrics)
  # Steps and the reset, environments, (episode, time).
  assert paths.tolist() == [
      [[0.0, t]] * NUM_PATHS for t in range(LENGTH + 1)]


def test_every_round_has_its_own_episodes_and_parameters():
  setup = Setup()
  for updates in (2, 5, 6):
    setup.learner.updates = updates
    assert setup.evaluator.fetch()
    setup.evaluator.evaluate()
  assert [updates for updates, _, _ in setup.sink.rounds] == [2, 5, 6]
  assert setup.actions.taken == (
      [2 / 8] * LENGTH + [5 / 8] * LENGTH + [6 / 8] * LENGTH)
  for episode, (_, metrics, paths) in enumerate(setup.sink.rounds):
    assert metrics['episode_length'].tolist() == [LENGTH] * NUM_ENVS
    assert paths[:, 0].tolist() == [[episode, t] for t in range(LENGTH + 1)]


def test_films_see_every_round_and_its_parameters():
  setup = Setup()
  for setup.learner.updates in (2, 5):
    assert setup.evaluator.fetch()
    setup.evaluator.evaluate()
  assert setup.films.shown == [(2, 2 / 8), (5, 5 / 8)]
  assert not setup.films.closed
  setup.evaluator.close()
  assert setup.films.closed


def test_parameters_are_evaluated_once():
  setup = Setup()
  assert setup.evaluator.fetch()
  assert not setup.evaluator.fetch()
  setup.learner.updates = 3
  assert setup.evaluator.fetch()
  assert not setup.evaluator.fetch()
  assert setup.learner.asked == [-1, 0, 0, 3]


def run(setup, schedule):
  """Runs until the parameters of `schedule` have each had one rest.

  Args:
    setup: the evaluator.
    schedule: the learner's updates after each rest; the program stops in the
      last one.

  Returns:
    The rests, in seconds.
  """
  schedule = list(schedule)
  rests = []

  def wait(seconds):
    rests.append(seconds)
    setup.learner.updates = schedule.pop(0)

  setup.evaluator.run(lambda: not schedule, wait)
  return rests


def test_no_round_without_new_parameters():
  setup = Setup()
  run(setup, [0, 0, 4, 4, 4])
  assert [updates for updates, _, _ in setup.sink.rounds] == [0, 4]


def test_a_last_round_after_the_stop_has_the_last_parameters():
  setup = Setup()
  run(setup, [0, 4, 9])
  assert [updates for updates, _, _ in setup.sink.rounds] == [0, 4, 9]


def test_no_last_round_when_its_parameters_are_evaluated_already():
  setup = Setup()
  run(setup, [0, 4, 4])
  assert [updates for updates, _, _ in setup.sink.rounds] == [0, 4]


def test_a_program_that_stops_at_once_is_evaluated_once():
  setup = Setup()
  setup.learner.updates = 7
  setup.evaluator.run(lambda: True, lambda seconds: None)
  assert [updates for updates, _, _ in setup.sink.rounds] == [7]


@pytest.mark.parametrize('interval, busy, rest', [
    (5.0, 0.1, 5.0), (5.0, 2.0, 18.0), (0.0, 1.0, 9.0)])
def test_rests_leave_the_core_to_the_learner(
    monkeypatch, interval, busy, rest):
  clock = [100.0]

  class Clock:
    @staticmethod
    def monotonic():
      return clock[0]

  monkeypatch.setattr(evaluator_lib, 'time', Clock)
  setup = Setup(interval=interval)

  def evaluate():
    clock[0] += busy

  monkeypatch.setattr(setup.evaluator, 'fetch', lambda: True)
  monkeypatch.setattr(setup.evaluator, 'evaluate', evaluate)
  rests = run(setup, [0, 0, 0])
  # The first round compiles; then a tenth of the time is the evaluator's.
  assert rests == pytest.approx([interval, rest, rest])


def test_further_policies_are_measured_beside_the_first():
  setup = Setup()
  setup.evaluator._path_observer = None
  setup.evaluator._policies = {'half': Policy(
      init=lambda key, num_envs: (),
      act=lambda params, observation, state, key, is_first: (
          params / 2 + 0.0 * observation[:, :2], state))}
  setup.learner.updates = 4
  assert setup.evaluator.fetch()
  metrics = setup.evaluator.evaluate()
  (_, reported, paths), = setup.sink.rounds
  assert paths is None
  assert set(metrics) == set(reported) == {
      prefix + name for prefix in ('', 'half_')
      for name in ('success', 'episode_return', 'episode_length')}
  assert setup.actions.taken == [4 / 8] * LENGTH + [2 / 8] * LENGTH
