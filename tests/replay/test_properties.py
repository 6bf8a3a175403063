"""Properties of what is written to replay and relabelled from it."""

import dm_env
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from learners.agent import Column
from replay import relabel
from replay.episodes import EpisodeBuffer
from tests.fakes import numbered_episodes

SOME = settings(max_examples=40, deadline=None, database=None)
EPISODES, LENGTH, ROWS = 6, 9, 32
DISCOUNTS = (0.01, 0.9, 0.9999)

relabelled = jax.jit(
    relabel.sample_transitions,
    static_argnames=('batch_size', 'discount', 'obs_dim', 'goal_indices'))


@pytest.mark.usefixtures('quick_compile')
class TestRelabelling:

  @SOME
  @given(lengths=st.lists(st.integers(1, LENGTH), min_size=EPISODES,
                          max_size=EPISODES),
         seed=st.integers(0, 2**31), discount=st.sampled_from(DISCOUNTS))
  def test_goals_lie_ahead_in_the_same_episode(self, lengths, seed, discount):
    episodes = numbered_episodes(lengths, LENGTH)
    rows = relabelled(jax.random.key(seed), episodes, batch_size=ROWS,
                      discount=discount, obs_dim=2, goal_indices=(0, 1))
    episode, t = np.asarray(rows.state).T
    # Entries past an episode's end are NaN, so none was read.
    assert set(episode) <= set(range(EPISODES))
    limit = np.array(lengths)[episode.astype(int)]
    assert (t >= 0).all() and (t < limit).all()
    np.testing.assert_array_equal(
        rows.next_state, np.stack([episode, t + 1], 1))
    np.testing.assert_array_equal(rows.action[:, 0], episode)
    np.testing.assert_array_equal(rows.action[:, 1], t)
    goal_episode, goal_time = np.asarray(rows.goal).T
    np.testing.assert_array_equal(goal_episode, episode)
    assert (goal_time > t).all() and (goal_time <= limit).all()

  @SOME
  @given(uniform=st.floats(0, 1, exclude_max=True, width=32),
         left=st.integers(1, 10**6), discount=st.floats(1e-6, 1 - 1e-9))
  def test_offsets_never_leave_the_episode(self, uniform, left, discount):
    offset = relabel.geometric_offset(
        np.float32(uniform), np.int32(left), discount)
    assert 1 <= int(offset) <= left


COLUMNS = {
    'observation': Column((LENGTH + 1, 2)), 'action': Column((LENGTH, 1)),
    'reward': Column((LENGTH,)), 'discount': Column((LENGTH,)),
    'length': Column((), 'int32')}
# The lengths of each environment's episodes, one after the other.
SCHEDULES = st.lists(st.lists(st.integers(1, LENGTH), min_size=1, max_size=4),
                     min_size=1, max_size=4)


def steps_of(schedules, stop):
  """Yields vectorised steps, `(timestep, action)`, of given episode lengths.

  The observation is (episode, time); the action is the time it was taken at and
  the reward ten times that; the last step's discount is zero.
  """
  num = len(schedules)
  episode, time = np.zeros(num, int), np.zeros(num, int)
  for step in range(stop):
    length = np.array([s[e % len(s)] for s, e in zip(schedules, episode)])
    over = time == length
    if step:
      episode, time = episode + over, np.where(over, 0, time + 1)
      length = np.array([s[e % len(s)] for s, e in zip(schedules, episode)])
    kind = np.where(time == 0, dm_env.StepType.FIRST, np.where(
        time == length, dm_env.StepType.LAST, dm_env.StepType.MID))
    action = (time - 1)[:, np.newaxis].astype(np.float32)
    yield dm_env.TimeStep(
        step_type=kind, reward=10.0 * action[:, 0],
        discount=np.where(kind == dm_env.StepType.LAST, 0.0, 1.0),
        observation=np.stack([episode, time], 1).astype(np.float32)), (
            action if step else None)


@SOME
@given(schedules=SCHEDULES, stop=st.integers(1, 40))
def test_every_finished_episode_is_written_once_and_whole(schedules, stop):
  buffer = EpisodeBuffer(COLUMNS, len(schedules))
  written, steps = [], 0
  for timestep, action in steps_of(schedules, stop):
    episodes = buffer.add(timestep, action)
    steps += int((timestep.step_type != dm_env.StepType.FIRST).sum())
    for i in range(0 if episodes is None else len(episodes['length'])):
      written.append({name: value[i] for name, value in episodes.items()})
  stored = sum(int(e['length']) for e in written)
  assert stored + buffer.unstored_steps == steps
  for item in written:
    length = int(item['length'])
    number = item['observation'][0, 0]
    for t in range(length + 1):
      assert item['observation'][t].tolist() == [number, t]
    assert item['action'][:length, 0].tolist() == list(range(length))
    assert item['reward'][:length].tolist() == [10.0 * t for t in range(length)]
    assert item['discount'][:length].tolist() == [1.0] * (length - 1) + [0.0]
    # Nothing of an earlier, longer episode shows through.
    for name in ('action', 'reward', 'discount'):
      assert not item[name][length:].any()
    assert not item['observation'][length + 1:].any()
  # As many as the schedules say, with the lengths they say.
  expected = []
  for schedule in schedules:
    left, e = stop - 1, 0
    while left >= schedule[e % len(schedule)]:
      expected.append(schedule[e % len(schedule)])
      left -= schedule[e % len(schedule)] + 1
      e += 1
  assert sorted(int(item['length']) for item in written) == sorted(expected)
