"""The audit: steps counted by hand, and files as the reference writes them."""

import json
import os

import dm_env
import numpy as np
import pytest

from actors.loop import Step
from envs.spec import EnvSpec
from safety import visits
from safety.enforcement import SafetyState
from safety.regions import parse_region_bounds
from safety.visits import (
  InterventionObserver,
  RegionVisitObserver,
  VisitLog,
)

FIRST, MID, LAST = (int(t) for t in dm_env.StepType)

# The state is (speed, x, y); the goal would be inside both regions.
SPEC = EnvSpec(
    name='plane', obs_dim=3, action_dim=2, goal_indices=(1, 2),
    position_indices=(1, 2), step_limit=4, success_radius=1.0)
REGIONS = parse_region_bounds('0,0:2,2;1,1:4,3')


def feed(observer, step_types, positions=None, state=(), reset=False):
  """Shows an observer one vectorised step, or a reset, as the loop does."""
  step_type = np.array(step_types, np.int32)
  num_envs = len(step_type)
  observation = np.ones((num_envs, SPEC.observation_dim), np.float32)
  if positions is not None:
    observation[:, 1:3] = positions
  step = Step(
      dm_env.TimeStep(step_type, np.zeros(num_envs), np.ones(num_envs),
                      observation),
      None if reset else np.zeros((num_envs, 2)), state,
      first=step_type == FIRST, last=step_type == LAST)
  if step.first.any():
    observer.observe_first(step)
  if not reset:
    observer.observe(step)


def visited(observer, *environments):
  return observer.get_metrics(
      np.array(environments))['region_visits'].tolist()


OUTSIDE, ONE, BOTH, TWO = (5, 5), (0.5, 0.5), (1.5, 1.5), (3, 2)


def test_steps_are_counted_in_each_region_they_end_in():
  observer = RegionVisitObserver(REGIONS, SPEC, 2)
  feed(observer, [FIRST, FIRST], [OUTSIDE, OUTSIDE], reset=True)
  feed(observer, [MID, MID], [ONE, OUTSIDE])
  feed(observer, [MID, MID], [BOTH, OUTSIDE])
  feed(observer, [LAST, MID], [TWO, TWO])
  assert visited(observer, 0) == [[2, 2]]
  feed(observer, [FIRST, LAST], [OUTSIDE, OUTSIDE])
  assert visited(observer, 1) == [[0, 1]]
  feed(observer, [LAST, FIRST], [ONE, OUTSIDE])
  assert visited(observer, 0) == [[1, 0]]


def test_the_position_an_episode_starts_from_is_not_counted():
  observer = RegionVisitObserver(REGIONS, SPEC, 2)
  feed(observer, [FIRST, FIRST], [BOTH, BOTH], reset=True)
  feed(observer, [LAST, MID], [OUTSIDE, OUTSIDE])
  feed(observer, [FIRST, LAST], [BOTH, BOTH])
  assert visited(observer, 1) == [[1, 1]]
  feed(observer, [LAST, FIRST], [TWO, BOTH])
  assert visited(observer, 0) == [[0, 1]]
  feed(observer, [FIRST, LAST], [BOTH, OUTSIDE])
  assert visited(observer, 1) == [[0, 0]]


def test_borders_count_as_inside():
  observer = RegionVisitObserver(REGIONS, SPEC, 5)
  feed(observer, [FIRST] * 5, reset=True)
  feed(observer, [LAST] * 5,
       [(0, 0), (2, 1), (4, 3), (2.0001, 0.5), (-0.0001, 0)])
  assert visited(observer, 0, 1, 2, 3, 4) == [
      [1, 0], [1, 1], [0, 1], [0, 0], [0, 0]]


def test_counts_handed_out_do_not_change_with_the_next_episode():
  observer = RegionVisitObserver(REGIONS, SPEC, 1)
  feed(observer, [FIRST], [OUTSIDE], reset=True)
  feed(observer, [LAST], [BOTH])
  metrics = observer.get_metrics(np.array([0]))
  feed(observer, [FIRST], [OUTSIDE])
  feed(observer, [MID], [TWO])
  assert metrics['region_visits'].tolist() == [[1, 1]]


def enforced(*flags):
  """Returns the policy state after a step; 'i' intervened, 'c' cornered."""
  return SafetyState(
      inner=(), intervened=np.array(['i' in f for f in flags]),
      cornered=np.array(['c' in f for f in flags]))


def interventions(observer, *environments):
  metrics = observer.get_metrics(np.array(environments))
  assert set(metrics) == {'interventions', 'cornered'}
  return [metrics[name].tolist() for name in ('interventions', 'cornered')]


def test_interventions_and_corners_of_ragged_episodes():
  observer = InterventionObserver(2)
  feed(observer, [FIRST, FIRST], reset=True)
  feed(observer, [MID, MID], state=enforced('i', ''))
  feed(observer, [LAST, MID], state=enforced('ic', 'i'))
  assert interventions(observer, 0) == [[2], [1]]
  # What was decided before a reset is not carried out.
  feed(observer, [FIRST, MID], state=enforced('ic', ''))
  feed(observer, [MID, LAST], state=enforced('', 'ic'))
  assert interventions(observer, 1) == [[2], [1]]
  feed(observer, [LAST, FIRST], state=enforced('', 'ic'))
  assert interventions(observer, 0) == [[0], [0]]
  feed(observer, [FIRST, LAST], state=enforced('ic', ''))
  assert interventions(observer, 0, 1) == [[0, 0], [0, 0]]


@pytest.mark.parametrize('state', [(), None, (True, True)])
def test_policies_without_enforcement_intervene_never(state):
  observer = InterventionObserver(1)
  feed(observer, [FIRST], reset=True)
  feed(observer, [LAST], state=state)
  assert interventions(observer, 0) == [[0], [0]]


def rows(first, num):
  """Returns `[num, 2]` counts that tell the episode they belong to."""
  numbers = np.arange(first, first + num)
  return np.stack([numbers % 50, numbers % 7], axis=1)


def block(directory, name):
  with open(os.path.join(directory, name), encoding='utf-8') as f:
    return json.load(f)


def files(directory):
  return sorted(os.listdir(directory))


FIRST_BLOCK = 'region_visits_000000-000999.json'
SECOND_BLOCK = 'region_visits_001000-001999.json'
THIRD_BLOCK = 'region_visits_002000-002999.json'


@pytest.fixture
def directory(tmp_path):
  return str(tmp_path / 'visits' / 'point_Small_1')


def test_files_have_the_reference_s_schema(directory):
  log = VisitLog(directory, REGIONS)
  log.append(np.array([[3, 0], [0, 12]]))
  log.flush()
  assert block(directory, FIRST_BLOCK) == {
      'episodes': [0, 1],
      'regions': [{'x': [0.0, 2.0], 'y': [0.0, 2.0]},
                  {'x': [1.0, 4.0], 'y': [1.0, 3.0]}],
      'counts_per_region': {'region0': [3, 0], 'region1': [0, 12]},
  }
  assert files(directory) == [FIRST_BLOCK]


def test_a_block_is_written_as_soon_as_it_is_full(directory):
  log = VisitLog(directory, REGIONS)
  log.append(rows(0, 999))
  assert files(directory) == []
  log.append(rows(999, 1))
  assert files(directory) == [FIRST_BLOCK]
  data = block(directory, FIRST_BLOCK)
  assert data['episodes'] == list(range(1000))
  assert data['counts_per_region']['region0'] == [i % 50 for i in range(1000)]


def test_a_block_that_is_not_full_is_flushed_and_goes_on(directory):
  log = VisitLog(directory, REGIONS)
  log.append(rows(0, 2300))
  assert files(directory) == [FIRST_BLOCK, SECOND_BLOCK]
  log.flush()
  log.flush()
  assert files(directory) == [FIRST_BLOCK, SECOND_BLOCK, THIRD_BLOCK]
  assert block(directory, THIRD_BLOCK)['episodes'] == list(range(2000, 2300))
  log.append(rows(2300, 10))
  log.flush()
  data = block(directory, THIRD_BLOCK)
  assert data['episodes'] == list(range(2000, 2310))
  assert data['counts_per_region']['region1'] == [
      i % 7 for i in range(2000, 2310)]


def test_an_empty_log_writes_nothing(directory):
  log = VisitLog(directory, REGIONS)
  log.append(np.zeros((0, 2), int))
  log.flush()
  assert files(directory) == [] and log.num_episodes == 0


def test_appends_of_several_actors_share_one_numbering(directory):
  log = VisitLog(directory, REGIONS)
  rng = np.random.default_rng(0)
  expected = []
  while len(expected) < 2500:
    num = int(rng.integers(1, 8))
    counts = rng.integers(0, 50, (num, 2))
    log.append(counts)
    expected.extend(counts.tolist())
    assert log.num_episodes == len(expected)
  log.flush()
  read = visits.read_visits(directory)
  assert read['episodes'].tolist() == list(range(len(expected)))
  assert read['counts'].tolist() == expected
  assert read['regions'] == block(directory, FIRST_BLOCK)['regions']


@pytest.mark.parametrize('recorded, resumed', [
    (300, 300), (1000, 1000), (1300, 1300), (2000, 2000),
    # The run went back to a checkpoint.
    (300, 120), (300, 0), (1300, 1000), (1300, 999), (1300, 300), (2300, 1000),
    (2300, 1700), (2000, 1000),
])
def test_a_reopened_log_goes_on_from_the_checkpoint(
    directory, recorded, resumed):
  log = VisitLog(directory, REGIONS)
  log.append(rows(0, recorded))
  log.flush()
  reopened = VisitLog(directory, REGIONS, num_episodes=resumed)
  assert reopened.num_episodes == resumed
  # Marked, to tell them from what is dropped.
  reopened.append(rows(resumed, 40) + 1000)
  reopened.flush()
  read = visits.read_visits(directory)
  assert read['episodes'].tolist() == list(range(resumed + 40))
  np.testing.assert_array_equal(read['counts'][:resumed], rows(0, resumed))
  np.testing.assert_array_equal(
      read['counts'][resumed:], rows(resumed, 40) + 1000)
  for begin, name in ((0, FIRST_BLOCK), (1000, SECOND_BLOCK),
                      (2000, THIRD_BLOCK)):
    assert (name in files(directory)) == (resumed + 40 > begin)


def test_a_rollback_drops_later_files_at_once(directory):
  log = VisitLog(directory, REGIONS)
  log.append(rows(0, 2300))
  log.flush()
  VisitLog(directory, REGIONS, num_episodes=1000)
  assert files(directory) == [FIRST_BLOCK]


def test_a_new_run_leaves_the_files_of_another_aside(directory):
  log = VisitLog(directory, REGIONS)
  log.append(rows(0, 1500))
  log.flush()
  VisitLog(directory, REGIONS)
  assert files(directory) == []
  aside, = [name for name in files(os.path.dirname(directory))
            if name != os.path.basename(directory)]
  assert aside.startswith('point_Small_1.until-')
  read = visits.read_visits(os.path.join(os.path.dirname(directory), aside))
  assert read['episodes'].tolist() == list(range(1500))


def test_runs_that_share_a_folder_keep_their_own_visits(directory):
  for owner, begin in (('one', 0), ('two', 5000)):
    log = VisitLog(directory, REGIONS, owner=owner)
    log.append(rows(begin, 1500))
    log.flush()
  # The first goes on, with its own history; then the second.
  for owner, begin in (('one', 0), ('two', 5000)):
    log = VisitLog(directory, REGIONS, num_episodes=1300, owner=owner)
    log.append(rows(begin, 10))
    log.flush()
    read = visits.read_visits(directory)
    assert read['episodes'].tolist() == list(range(1310))
    np.testing.assert_array_equal(read['counts'][:1300], rows(begin, 1300))
    np.testing.assert_array_equal(read['counts'][1300:], rows(begin, 10))


def test_a_run_goes_on_with_visits_that_have_no_owner(directory):
  log = VisitLog(directory, REGIONS)
  log.append(rows(0, 30))
  log.flush()
  log = VisitLog(directory, REGIONS, num_episodes=30, owner='one')
  log.append(rows(30, 5))
  log.flush()
  read = visits.read_visits(directory)
  np.testing.assert_array_equal(read['counts'], rows(0, 35))


def test_a_run_that_wrote_nothing_does_not_strand_another(directory):
  log = VisitLog(directory, REGIONS, owner='one')
  log.append(rows(0, 30))
  log.flush()
  VisitLog(directory, REGIONS, owner='two')
  log = VisitLog(directory, REGIONS, num_episodes=30, owner='one')
  log.append(rows(30, 5))
  log.flush()
  read = visits.read_visits(directory)
  assert read['episodes'].tolist() == list(range(35))
  np.testing.assert_array_equal(read['counts'], rows(0, 35))


def test_other_files_are_let_alone(directory):
  log = VisitLog(directory, REGIONS)
  log.append(rows(0, 3))
  log.flush()
  for name in ('notes.txt', 'region_visits.json', 'region_visits_1-2.json'):
    with open(os.path.join(directory, name), 'w', encoding='utf-8') as f:
      f.write('not ours')
  VisitLog(directory, REGIONS, num_episodes=2)
  assert len(files(directory)) == 4
  assert visits.read_visits(directory)['episodes'].tolist() == [0, 1, 2]


def test_reading_an_empty_folder_gives_no_episodes(tmp_path):
  read = visits.read_visits(str(tmp_path))
  assert read['episodes'].shape == (0,)
  assert read['regions'] == []
  assert len(read['counts']) == 0


@pytest.mark.parametrize('episode, name', [
    (0, FIRST_BLOCK), (999, FIRST_BLOCK), (1000, SECOND_BLOCK),
    (2999, THIRD_BLOCK), (123456, 'region_visits_123000-123999.json'),
    (1_234_567, 'region_visits_1234000-1234999.json')])
def test_blocks_are_named_by_their_first_and_last_episode(episode, name):
  assert visits.block_path('somewhere', episode) == f'somewhere/{name}'


def test_a_flush_never_leaves_half_a_file(directory, monkeypatch):
  log = VisitLog(directory, REGIONS)
  log.append(rows(0, 5))
  log.flush()
  before = block(directory, FIRST_BLOCK)
  log.append(rows(5, 5))

  def full_disk(data, file):
    file.write('{"episodes": [0, 1')
    raise OSError('no space left on device')

  monkeypatch.setattr(visits.json, 'dump', full_disk)
  with pytest.raises(OSError):
    log.flush()
  assert block(directory, FIRST_BLOCK) == before
  assert visits.read_visits(directory)['episodes'].tolist() == list(range(5))
