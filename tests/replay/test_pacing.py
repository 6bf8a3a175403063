"""Pacing: what updates pay for, and that nobody waits for ever."""

import random

import pytest

from learners.agent import ReplaySpec, StepPacing
from replay import tables
from replay.dataset import PREFETCH
from replay.pacing import amount, EPISODES, may_step, Pace, update_due


@pytest.mark.parametrize('stored, own, updates, allowed', [
    # Before learning: 100 + 20 steps are free.
    (0, 0, 0, True),
    (119, 0, 0, True),
    (120, 0, 0, False),
    # Three actors, each taken to be as far as this one.
    (60, 19, 0, True),
    (60, 20, 0, False),
    # Each update pays for half a step.
    (120, 0, 1, True),
    (121, 0, 1, False),
    (121, 0, 2, False),
    (121, 0, 3, True),
    (619, 0, 1000, True),
    (620, 0, 1000, False),
    (560, 19, 1000, True),
    (560, 20, 1000, False),
    # Long ahead of the updates, after a restart without its replay perhaps.
    (10_000, 0, 0, False),
])
def test_may_step_by_hand(stored, own, updates, allowed):
  pace = Pace(minimum=100, per_update=0.5, slack=20, num_actors=3)
  assert may_step(pace, stored, own, updates) is allowed


@pytest.mark.parametrize('done, updates, due', [
    (99, 0, False),
    (100, 0, True),
    (100, 1, False),
    (101, 2, True),
    (599, 1000, False),
    (600, 1000, True),
])
def test_update_due_by_hand(done, updates, due):
  pace = Pace(minimum=100, per_update=0.5, slack=20, num_actors=3)
  assert update_due(pace, done, updates) is due


class Simulation:
  """Actors, the replay table's limiter and a learner, in random turns.

  Each actor steps E environments whose episodes have L steps or, with `early`,
  end sooner, and stores them together; an insert that the limiter holds back
  blocks the actor.
  """

  def __init__(self, num_actors, num_envs, episode_length, replay,
               updates_per_call, slack_waves=1.0, seed=0, early=False):
    self.num_envs, self.episode_length = num_envs, episode_length
    self.replay, self.updates_per_call = replay, updates_per_call
    self.early = early
    wave = num_actors * num_envs * episode_length
    self.pace = Pace(
        minimum=replay.pacing.min_steps,
        per_update=(replay.pacing.transitions_per_update
                          / replay.pacing.samples_per_insert),
        slack=int(slack_waves * wave),
        num_actors=num_actors)
    self.limits = tables.table_limits(
        replay, episode_length, updates_per_call)
    self.random = random.Random(seed)
    self.unstored = [0] * num_actors
    self.to_insert = [0] * num_actors
    self.steps_to_insert = [0] * num_actors
    self.stored = self.updates = self.inserts = self.samples = self.lost = 0
    self.fetched = 0

  @property
  def taken(self):
    """Steps taken that still count for something."""
    return self.stored + sum(self.unstored) + sum(self.steps_to_insert)

  @property
  def paid(self):
    return self.replay.pacing.min_steps + self.updates * self.pace.per_update

  def ahead(self, inserts, samples):
    return samples - self.limits.samples_per_insert * (
        inserts - self.limits.min_items)

  def act(self, i):
    """One turn of actor `i`; False if it can do nothing."""
    if self.to_insert[i]:
      if (self.inserts >= self.limits.min_items
          and self.ahead(self.inserts + 1, self.samples)
          < -self.limits.error_buffer):
        return False
      self.inserts += 1
      self.to_insert[i] -= 1
      if not self.to_insert[i]:
        self.stored += self.steps_to_insert[i]
        self.steps_to_insert[i] = 0
      return True
    if not may_step(self.pace, self.stored, self.unstored[i], self.updates):
      return False
    self.unstored[i] += self.num_envs
    if (self.unstored[i] == self.num_envs * self.episode_length
        or self.early and self.random.random() < 0.3):
      self.steps_to_insert[i] = self.unstored[i]
      self.unstored[i], self.to_insert[i] = 0, self.num_envs
    return True

  def learn(self):
    """One turn of the learner; False if it can do nothing."""
    if self.inserts < self.limits.min_items:
      return False
    while self.fetched < 1 + PREFETCH:
      self.samples += self.replay.episodes_per_batch
      self.fetched += 1
    if not update_due(self.pace, self.stored, self.updates):
      return False
    self.fetched -= 1
    self.updates += self.updates_per_call
    return True

  def resume(self):
    """All roles start again; fetched batches and unstored steps are lost."""
    self.fetched = 0
    for i in range(len(self.unstored)):
      self.kill(i)

  def kill(self, i):
    """Actor `i` dies and starts again; what it had not stored is lost."""
    self.lost += self.unstored[i]
    self.unstored[i] = self.to_insert[i] = self.steps_to_insert[i] = 0

  def roll_back(self, stored, updates):
    """Counts go back to an older checkpoint, replay's own counts do not."""
    self.resume()
    self.stored, self.updates = stored, updates

  def run(self, steps, killing=0.0, resuming=0.0):
    """Runs until `steps` are stored; False when everybody waits."""
    roles = [*range(len(self.unstored)), 'learner']
    while self.stored < steps:
      self.random.shuffle(roles)
      moved = [self.learn() if role == 'learner' else self.act(role)
               for role in roles]
      if not any(moved):
        return False
      # At the moment of its last step each actor took the others to be as far
      # as itself, so all of them together are one vectorised step ahead.
      assert self.taken <= (self.paid + self.pace.slack
                            + len(self.unstored) * self.num_envs)
      if self.random.random() < killing:
        self.kill(self.random.randrange(len(self.unstored)))
      if self.random.random() < resuming:
        self.resume()
    return True


def replay_spec(episodes_per_batch, min_steps, transitions, samples_per_insert):
  return ReplaySpec(
      {}, episodes_per_batch,
      StepPacing(min_steps, transitions, samples_per_insert), max_steps=10**6)


CASES = {
    # actors, environments each, steps an episode, replay, updates a call
    'reference': (4, 1, 50, replay_spec(328, 10_000, 256, 256.0), 64),
    'four waves to begin with': (2, 2, 10, replay_spec(26, 160, 16, 16.0), 16),
    'less than a wave to begin with': (
        5, 4, 10, replay_spec(8, 30, 8, 8.0), 10),
    'minimum is no whole wave': (3, 3, 10, replay_spec(8, 125, 8, 8.0), 10),
    'few updates a step': (2, 2, 10, replay_spec(32, 100, 32, 2.0), 4),
    'many updates a step': (2, 2, 10, replay_spec(32, 100, 32, 320.0), 40),
    'one actor, one environment': (1, 1, 10, replay_spec(8, 50, 8, 8.0), 1),
    'a call takes more than a wave': (
        2, 1, 10, replay_spec(64, 100, 64, 8.0), 64),
}


def simulation(name, **kwargs):
  return Simulation(*CASES[name], **kwargs)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('seed', [0, 1])
def test_nobody_waits_for_ever(name, seed):
  run = simulation(name, seed=seed)
  assert run.run(steps=4 * run.replay.pacing.min_steps + 2000)


@pytest.mark.parametrize('name', CASES)
def test_steps_lost_with_dead_actors_do_not_stall(name):
  run = simulation(name)
  assert run.run(run.replay.pacing.min_steps + 4000, killing=0.02)
  assert run.lost > 20


@pytest.mark.parametrize('name', CASES)
def test_a_run_may_be_resumed_any_number_of_times(name):
  run = simulation(name)
  assert run.run(run.replay.pacing.min_steps + 4000, resuming=0.05)
  # What the limiter takes for learned from is far more than what was.
  drawn = run.samples / run.replay.episodes_per_batch
  assert drawn > run.updates / run.updates_per_call + 20


@pytest.mark.parametrize('name', CASES)
def test_episodes_that_end_early_do_not_stall(name):
  run = simulation(name, early=True)
  assert run.run(run.replay.pacing.min_steps + 6000)
  # More items than a limiter that counts whole episodes has room for.
  assert run.inserts > 2 * run.stored / run.episode_length


@pytest.mark.parametrize('name', CASES)
def test_a_learner_older_than_its_replay_does_not_stall(name):
  run = simulation(name)
  assert run.run(run.replay.pacing.min_steps + 500)
  while run.learn():
    continue
  older = run.stored, run.updates
  for _ in range(40):
    # Replay is saved with the actors as far ahead as they may be.
    while any([run.act(i) for i in range(len(run.unstored))]):
      continue
    run.roll_back(*older)
  assert run.run(older[0] + 2000)


@pytest.mark.parametrize('name', CASES)
def test_updates_come_as_steps_pay_for_them(name):
  run = simulation(name)
  steps = 8 * run.replay.pacing.min_steps + 4000
  assert run.run(steps)
  expected = (steps - run.replay.pacing.min_steps) / run.pace.per_update
  # Actors may be a wave ahead, and the last call may be still to come.
  ahead = ((run.pace.slack + len(run.unstored) * run.num_envs)
           / run.pace.per_update)
  assert run.updates >= expected - ahead
  assert run.updates <= expected + run.updates_per_call + 1


def test_without_slack_everybody_waits_for_ever():
  # Two stored waves of 90 steps are more than 125; one is too few to learn
  # from, and the second can never be finished.
  run = simulation('minimum is no whole wave', slack_waves=0.0)
  assert not run.run(1000)


def test_learning_in_pace_with_episodes_by_hand():
  # Two updates an episode, once ten are stored; two more may be under way.
  pace = Pace(minimum=10, per_update=0.5, slack=2, num_actors=1, unit=EPISODES)
  counts = {'actor_steps': 999, 'actor_episodes': 11}
  assert amount(pace, counts) == 11
  for stored, updates, due, may in [
      (0, 0, False, True), (9, 0, False, True), (10, 0, True, True),
      (11, 0, True, True), (12, 0, True, False), (12, 1, True, True),
      (10, 1, False, True), (11, 2, True, True), (11, 3, False, True)]:
    assert update_due(pace, stored, updates) == due, (stored, updates)
    # However long the episodes under way are.
    for unstored in (0, 10_000):
      assert may_step(pace, stored, unstored, updates) == may, (stored, updates)
