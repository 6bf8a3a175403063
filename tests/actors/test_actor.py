"""When an actor steps, with which policy, and what it reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actors.actor import Actor, ActorConfig
from actors.loop import EnvironmentLoop
from actors.observers import EpisodeObserver
from actors.policy import Policy
from actors.variables import Snapshot
from envs.vector import StackedEnvironments
from learners.agent import Column
from replay.episodes import EpisodeBuffer, EpisodeRecorder
from replay.pacing import Pace
from tests import fakes

NUM_ENVS = 2
LENGTH = 3
WAVE = NUM_ENVS * LENGTH  # steps of one episode in every environment
COLUMNS = {
    'observation': Column((LENGTH + 1, 4)),
    'action': Column((LENGTH, 2)),
    'length': Column((), 'int32'),
}
PLENTY = Pace(minimum=10**6, per_update=1.0, slack=0, num_actors=1)

# Actions tell who chose them: the warm-up policy -1, the other its parameters.
WARMUP = Policy(
    init=lambda key, num_envs: (),
    act=lambda params, observation, state, key, is_first: (
        -jnp.ones((observation.shape[0], 2)), state))
POLICY = Policy(
    init=lambda key, num_envs: (),
    act=lambda params, observation, state, key, is_first: (
        jnp.broadcast_to(params, (observation.shape[0], 2)), state))


class FakeLink:
  """A link whose counts and parameters a test sets."""

  def __init__(self, updates=0, snapshot=None, actor_steps=0):
    self.counts = {'actor_steps': actor_steps, 'learner_updates': updates}
    self.snapshot = snapshot
    self.ages = []
    self.recorded = []
    self.calls = []
    self.used = []

  def start(self):
    self.calls.append('start')

  def stop(self):
    self.calls.append('stop')

  def latest(self):
    return dict(self.counts), self.snapshot

  def use(self, policy_state):
    self.used.append(policy_state)

  def record_steps(self, steps):
    self.counts['actor_steps'] += steps

  def record_episodes(self, metrics, actor, count_steps=True):
    self.recorded.append((metrics, actor))
    if count_steps:
      self.counts['actor_steps'] += int(metrics['episode_length'].sum())

  def take_ages(self):
    ages, self.ages = self.ages, []
    return ages

  def wait_for_news(self, timeout):
    assert timeout <= 1.0
    self.calls.append('wait')


class FakeWriter:
  """Keeps what it is given; a test may stop it or look at each write."""

  def __init__(self):
    self.written = []
    self.stopped = False
    self.on_write = lambda: None

  def write(self, episodes):
    self.on_write()
    if not self.stopped:
      self.written.append(episodes)
    return not self.stopped


class Setup:
  """An actor over `NUM_ENVS` environments and the fakes around it."""

  def __init__(self, link, pace=PLENTY, warmup_steps=0, max_parameter_age=100):
    environments = [fakes.CountingEnvironment(LENGTH) for _ in range(NUM_ENVS)]
    self.link, self.writer = link, FakeWriter()
    self.actions = []
    self.actor = Actor(
        ActorConfig(pace, warmup_steps, max_parameter_age),
        EnvironmentLoop(
            StackedEnvironments(environments, environments[0].spec),
            jax.random.key(0), [EpisodeObserver(NUM_ENVS), self]),
        POLICY, WARMUP,
        EpisodeRecorder(EpisodeBuffer(COLUMNS, NUM_ENVS), self.writer), link)

  # It watches its own loop.
  def observe_first(self, step):
    del step

  def observe(self, step):
    self.actions.append(float(step.action[0, 0]))

  def get_metrics(self, finished):
    del finished
    return {}

  def step_while_ready(self, limit):
    """Steps until the actor is not ready, at most `limit` times."""
    for i in range(limit):
      if not self.actor.ready():
        return i
      self.actor.step()
    return limit


def test_the_warmup_policy_acts_exactly_until_its_steps_are_counted():
  setup = Setup(FakeLink(snapshot=Snapshot(0, 0.5)), warmup_steps=2 * WAVE)
  # The reset, then L steps and a reset for each episode.
  assert setup.step_while_ready(1 + 3 * (LENGTH + 1)) == 13
  counted = 2 * (LENGTH + 1) - 1  # the second wave is stored with this action
  assert setup.actions == [-1.0] * counted + [0.5] * (12 - counted)


@pytest.mark.parametrize('warmup_steps, waves', [
    (1, 1), (WAVE, 1), (WAVE + 1, 2), (2 * WAVE, 2)])
def test_warmup_lasts_until_enough_is_stored(warmup_steps, waves):
  setup = Setup(
      FakeLink(snapshot=Snapshot(0, 0.5)), warmup_steps=warmup_steps)
  setup.step_while_ready(20)
  assert setup.actions.count(-1.0) == waves * (LENGTH + 1) - 1


def test_steps_of_other_actors_end_the_warmup_within_an_episode():
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link, warmup_steps=100)
  setup.step_while_ready(3)
  link.counts['actor_steps'] = 100
  setup.step_while_ready(2)
  assert setup.actions == [-1.0, -1.0, 0.5, 0.5]


def test_warmup_needs_no_parameters_and_what_follows_does():
  link = FakeLink()
  setup = Setup(link, warmup_steps=WAVE)
  assert setup.step_while_ready(100) == 1 + LENGTH
  assert not setup.actor.ready()
  link.snapshot = Snapshot(0, 0.5)
  assert setup.actor.ready()


def test_nothing_moves_before_the_counts_are_known():
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link, warmup_steps=WAVE)
  link.counts = {}
  assert not setup.actor.ready()


@pytest.mark.parametrize('updates, ready', [
    (7, True), (17, True), (18, False), (1000, False), (3, True)])
def test_parameters_that_are_too_old_block(updates, ready):
  setup = Setup(FakeLink(updates, Snapshot(7, 0.5)), max_parameter_age=10)
  assert setup.actor.ready() is ready


def test_the_age_of_parameters_nobody_uses_does_not_block():
  setup = Setup(FakeLink(1000, Snapshot(0, 0.5)), warmup_steps=WAVE,
                max_parameter_age=10)
  assert setup.step_while_ready(100) == 1 + LENGTH


def test_pace_blocks_until_updates_pay():
  # 6 + 2 steps are free, and each of two actors is as far as the other.
  pace = Pace(minimum=6, per_update=0.5, slack=2, num_actors=2)
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link, pace)
  # The reset and two steps of both environments: 2 * 2 < 8, but not 2 * 4.
  assert setup.step_while_ready(100) == 3
  assert setup.actor.unstored_steps == 4 and not setup.writer.written
  link.counts['learner_updates'] = 1
  # The last step, the reset and one step: 6 < 8.5, but not 6 + 2 * 2.
  assert setup.step_while_ready(100) == 3
  assert setup.actor.unstored_steps == 2 and len(setup.writer.written) == 1
  link.counts['learner_updates'] = 4
  assert not setup.actor.ready()
  link.counts['learner_updates'] = 5
  assert setup.actor.ready()


def test_new_parameters_act_at_the_next_step_of_the_same_episode():
  link = FakeLink(snapshot=Snapshot(0, 0.25))
  setup = Setup(link)
  setup.step_while_ready(2)
  link.snapshot = Snapshot(1, 0.75)
  setup.step_while_ready(1)
  link.snapshot = Snapshot(2, -0.5)
  setup.step_while_ready(1)
  assert setup.actions == [0.25, 0.75, -0.5]
  assert setup.writer.written[0]['action'][:, :, 0].tolist() == [
      [0.25, 0.75, -0.5]] * NUM_ENVS


def test_whole_episodes_are_written_and_then_reported():
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link)
  reported_at_write = []
  setup.writer.on_write = lambda: reported_at_write.append(len(link.recorded))
  setup.step_while_ready(1 + 2 * (LENGTH + 1))
  # Nothing is counted before it is stored.
  assert reported_at_write == [0, 1]
  assert len(link.recorded) == 2
  for episode, (metrics, _) in enumerate(link.recorded):
    written = setup.writer.written[episode]
    assert metrics['episode_length'].tolist() == [LENGTH] * NUM_ENVS
    assert metrics['episode_return'].tolist() == [6.0] * NUM_ENVS
    assert written['length'].tolist() == [LENGTH] * NUM_ENVS
    assert written['observation'][0, :, :2].tolist() == [
        [episode, t] for t in range(LENGTH + 1)]


def test_episodes_that_were_not_written_are_not_counted():
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link)
  assert all(setup.actor.step() for _ in range(LENGTH))
  setup.writer.stopped = True
  assert setup.actor.step() is False
  assert link.recorded == []
  assert link.counts['actor_steps'] == 0


def test_figures_of_the_parameters_in_use():
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link)
  link.ages = [2.0, 4.0, 9.0]
  setup.step_while_ready(1 + LENGTH)
  setup.step_while_ready(1 + LENGTH)
  (_, figures), (_, without_ages) = link.recorded
  assert figures['parameter_age'] == 5.0
  assert figures['max_parameter_age'] == 9.0
  assert figures['wait_fraction'] == 0.0
  assert np.isnan(without_ages['parameter_age'])
  assert np.isnan(without_ages['max_parameter_age'])


def stop_after(num_asked):
  asked = []

  def should_stop():
    asked.append(True)
    return len(asked) > num_asked

  return should_stop


def test_run_acts_until_it_should_stop():
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link)
  setup.actor.run(stop_after(1 + LENGTH))
  assert link.calls == ['start', 'stop']
  assert len(setup.actions) == LENGTH
  assert len(link.recorded) == 1


def test_run_waits_while_it_may_not_step():
  link = FakeLink()
  setup = Setup(link)
  setup.actor.run(stop_after(5))
  assert link.calls == ['start'] + ['wait'] * 5 + ['stop']
  assert setup.actions == []


def test_waiting_is_reported_as_a_share():
  link = FakeLink()
  setup = Setup(link)

  def news(timeout):
    del timeout
    link.snapshot = Snapshot(0, 0.5)

  link.wait_for_news = news
  setup.actor.run(stop_after(2 + LENGTH))
  (_, figures), = link.recorded
  assert 0.0 < figures['wait_fraction'] <= 1.0


def test_run_ends_when_the_program_stops_during_a_write():
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link)
  setup.writer.stopped = True
  setup.actor.run(lambda: False)
  assert link.calls == ['start', 'stop']
  assert link.recorded == []


def test_episodes_cut_short_by_termination_are_written_too():
  link = FakeLink(snapshot=Snapshot(0, 0.5))
  setup = Setup(link)
  environments = [fakes.CountingEnvironment(LENGTH, terminate_at=t)
                  for t in (1, 2)]
  actor = Actor(
      ActorConfig(PLENTY, 0, 100),
      EnvironmentLoop(StackedEnvironments(environments, environments[0].spec),
                      jax.random.key(0), [EpisodeObserver(NUM_ENVS)]),
      POLICY, WARMUP,
      EpisodeRecorder(EpisodeBuffer(COLUMNS, NUM_ENVS), setup.writer), link)
  for _ in range(7):
    assert actor.step()
  # Lengths 1 and 2 with a reset between: ends at calls 1, 2, 3, 5 and 5.
  assert [w['length'].tolist() for w in setup.writer.written] == [
      [1], [2], [1], [1, 2]]
  assert link.counts['actor_steps'] == 7
  assert actor.unstored_steps == 0
