"""Success, return, length, distance and paths, worked out by hand."""

import dataclasses
from typing import NamedTuple

import dm_env
import numpy as np

from actors.loop import Step
from actors.observers import (
  CellObserver,
  DistanceObserver,
  EpisodeObserver,
  OptionObserver,
  PathObserver,
  PlaceObserver,
)
from envs.spec import EnvSpec

FIRST, MID, LAST = (int(t) for t in dm_env.StepType)

# The state is (speed, x, y); x and y are the position and, swapped, the goal.
SPEC = EnvSpec(
    name='plane', obs_dim=3, action_dim=2, goal_indices=(2, 1),
    position_indices=(1, 2), step_limit=4, success_radius=1.0)


class Inside(NamedTuple):
  """A policy state with options under way."""
  option: np.ndarray


def feed(observer, step_types, rewards=None, observations=None, reset=False,
         policy_state=()):
  """Shows an observer one vectorised step, or a reset, as the loop does."""
  step_type = np.array(step_types, np.int32)
  num_envs = len(step_type)
  rewards = np.zeros(num_envs) if rewards is None else rewards
  if observations is None:
    observations = np.zeros((num_envs, SPEC.observation_dim))
  step = Step(
      timestep=dm_env.TimeStep(
          step_type, np.array(rewards, np.float32),
          np.ones(num_envs, np.float32), np.array(observations, np.float32)),
      action=np.zeros((num_envs, 2)), policy_state=policy_state,
      first=step_type == FIRST, last=step_type == LAST)
  if step.first.any():
    observer.observe_first(step)
  if not reset:
    observer.observe(step)


def finished(observer, *environments):
  """Returns the metrics of `environments` as lists."""
  return {name: value.tolist() for name, value in observer.get_metrics(
      np.array(environments, int)).items()}


def test_returns_and_lengths_of_ragged_episodes():
  observer = EpisodeObserver(3)
  feed(observer, [FIRST, FIRST, FIRST], [9.0, 9.0, 9.0], reset=True)
  feed(observer, [MID, MID, MID], [0.0, 0.25, -1.0])
  feed(observer, [LAST, MID, MID], [0.5, 0.25, 4.0])
  assert finished(observer, 0) == {
      'success': [0.0], 'episode_return': [0.5], 'episode_length': [2]}
  feed(observer, [FIRST, MID, LAST], [9.0, 0.25, -2.5])
  assert finished(observer, 2) == {
      'success': [0.0], 'episode_return': [0.5], 'episode_length': [3]}
  feed(observer, [LAST, LAST, FIRST], [1.5, 0.25, 9.0])
  assert finished(observer, 0, 1) == {
      'success': [1.0, 1.0], 'episode_return': [1.5, 1.0],
      'episode_length': [1, 4]}
  feed(observer, [FIRST, FIRST, LAST], [9.0, 9.0, 0.0])
  assert finished(observer, 2) == {
      'success': [0.0], 'episode_return': [0.0], 'episode_length': [1]}


def test_one_rewarded_step_is_a_success_wherever_it_was():
  observer = EpisodeObserver(2)
  feed(observer, [FIRST, FIRST], reset=True)
  feed(observer, [MID, MID], [1.0, 0.0])
  feed(observer, [MID, MID], [0.0, 0.0])
  feed(observer, [LAST, LAST], [0.0, 0.0])
  assert finished(observer, 0, 1)['success'] == [1.0, 0.0]


def test_metrics_handed_out_do_not_change_with_the_next_episode():
  observer = EpisodeObserver(1)
  feed(observer, [FIRST], reset=True)
  feed(observer, [LAST], [1.0])
  metrics = observer.get_metrics(np.array([0]))
  feed(observer, [FIRST])
  feed(observer, [MID], [5.0])
  assert {k: v.tolist() for k, v in metrics.items()} == {
      'success': [1.0], 'episode_return': [1.0], 'episode_length': [1]}


def place(x, y, goal):
  """Returns an observation at (x, y) whose goal is given as (y, x)."""
  return [7.0, x, y, *goal]


def test_distances_of_ragged_episodes():
  observer = DistanceObserver(SPEC, 2)
  near, far = (0.0, 0.0), (12.0, 5.0)
  # Environment 0 goes 5, 10, 1, 13 away; environment 1 goes 13, 0, then anew.
  feed(observer, [FIRST, FIRST],
       observations=[place(3, 4, near), place(0, 0, far)], reset=True)
  feed(observer, [MID, LAST],
       observations=[place(6, 8, near), place(5, 12, far)])
  assert finished(observer, 1) == {
      'init_dist': [13.0], 'final_dist': [0.0], 'delta_dist': [13.0],
      'min_dist': [0.0]}
  feed(observer, [MID, FIRST],
       observations=[place(0, -1, near), place(5, 10, far)])
  feed(observer, [LAST, LAST],
       observations=[place(-5, 12, near), place(5, 8, far)])
  assert finished(observer, 0, 1) == {
      'init_dist': [5.0, 2.0], 'final_dist': [13.0, 4.0],
      'delta_dist': [-8.0, -2.0], 'min_dist': [1.0, 2.0]}


def test_the_least_distance_may_be_the_first():
  observer = DistanceObserver(SPEC, 1)
  feed(observer, [FIRST], observations=[place(0, 1, (0, 0))], reset=True)
  feed(observer, [LAST], observations=[place(0, 2, (0, 0))])
  assert finished(observer, 0)['min_dist'] == [1.0]
  feed(observer, [FIRST], observations=[place(0, 3, (0, 0))])
  feed(observer, [LAST], observations=[place(0, 4, (0, 0))])
  assert finished(observer, 0)['min_dist'] == [3.0]


def test_paths_follow_the_first_environments_from_their_reset():
  observer = PathObserver(SPEC, num_paths=2)
  for episode in range(2):
    for t in range(4):
      step_type = FIRST if t == 0 else LAST if t == 3 else MID
      feed(observer, [step_type] * 3, observations=[
          [0, 100 * episode + 10 * env + t, -t, 0, 0] for env in range(3)],
           reset=episode == t == 0)
  paths = observer.paths()
  # Steps, environments, (x, y); the reset position included.
  assert paths.shape == (4, 2, 2)
  assert paths[:, 0].tolist() == [[100, 0], [101, -1], [102, -2], [103, -3]]
  assert paths[:, 1].tolist() == [[110, 0], [111, -1], [112, -2], [113, -3]]
  assert observer.get_metrics(np.array([0])) == {}


def test_paths_do_not_change_with_the_environment_s_arrays():
  observer = PathObserver(SPEC, num_paths=1)
  observations = np.ones((1, 5), np.float32)
  for step_type in (FIRST, LAST):
    step = Step(
        dm_env.TimeStep(np.array([step_type]), np.zeros(1), np.ones(1),
                        observations),
        np.zeros((1, 2)), (), np.array([step_type == FIRST]),
        np.array([step_type == LAST]))
    if step_type == FIRST:
      observer.observe_first(step)
    else:
      observer.observe(step)
    observations.fill(5.0)
  assert observer.paths().tolist() == [[[1.0, 1.0]], [[5.0, 5.0]]]


def test_steps_are_counted_by_cell():
  spec = dataclasses.replace(SPEC, bounds=((0.0, -1.0), (3.0, 1.0)))
  observer = CellObserver(spec, 2)
  # Cells of a 3 x 2 maze whose columns begin at -1; a reset is no step.
  feed(observer, [FIRST, FIRST],
       observations=[place(2.5, -0.5, (0, 0)), place(0, 0.5, (0, 0))],
       reset=True)
  feed(observer, [MID, MID],
       observations=[place(0.9, -0.1, (0, 0)), place(3, 1, (0, 0))])
  feed(observer, [LAST, MID],
       observations=[place(0.1, -1, (0, 0)), place(1.5, 0, (0, 0))])
  counted = observer.get_metrics(np.array([0]))['cell_visits']
  assert counted.tolist() == [[[2, 0], [0, 0], [0, 0]]]
  feed(observer, [FIRST, LAST],
       observations=[place(1, 0.5, (0, 0)), place(1.2, 0.7, (0, 0))])
  assert observer.get_metrics(np.array([1, 0]))['cell_visits'].tolist() == [
      [[0, 0], [0, 2], [0, 1]], [[0, 0], [0, 0], [0, 0]]]
  # What was handed out stays as it was.
  assert counted.sum() == 2


def test_the_distance_is_measured_where_success_is():
  # The second goal entry is x; y, wherever it is, does not count.
  observer = DistanceObserver(
      dataclasses.replace(SPEC, success_indices=(1,)), 1)
  feed(observer, [FIRST], observations=[place(3, 40, (-90, 1))], reset=True)
  feed(observer, [LAST], observations=[place(-4, 7, (-90, 1))])
  assert finished(observer, 0) == {
      'init_dist': [2.0], 'final_dist': [5.0], 'delta_dist': [-3.0],
      'min_dist': [2.0]}


def test_without_goals_there_is_no_success_and_returns_may_be_discounted():
  observer = EpisodeObserver(1, has_goals=False, discount=0.5)
  for _ in range(2):
    feed(observer, [FIRST], reset=True)
    for step_type, reward in ((MID, 1.0), (MID, 2.0), (LAST, 3.0)):
      feed(observer, [step_type], [reward])
    # 1 + 2 / 2 + 3 / 4
    assert finished(observer, 0) == {
        'episode_return': [6.0], 'episode_length': [3],
        'discounted_return': [2.75]}


class Walkers:
  """Says where its environments are."""

  def places(self):
    return np.array(self.now)


def test_places_count_once_in_an_episode_and_once_ever():
  walkers = Walkers()
  observer = PlaceObserver(walkers, num_places=5, num_envs=2)
  walkers.now = [0, 0]
  feed(observer, [FIRST, FIRST], reset=True)
  for walkers.now in ([1, 0], [0, 4], [1, 4]):
    feed(observer, [MID, MID])
  assert finished(observer, 0, 1) == {'places': [2, 2], 'places_ever': [3, 3]}
  walkers.now = [0, 3]
  feed(observer, [FIRST, MID])
  assert finished(observer, 0, 1) == {'places': [1, 3], 'places_ever': [4, 4]}


def test_steps_inside_options_are_a_share_of_the_episode():
  observer = OptionObserver(2)
  feed(observer, [FIRST, FIRST], reset=True)
  feed(observer, [MID, MID], policy_state=Inside(np.array([3, -1])))
  # A warm-up has no options.
  feed(observer, [MID, MID])
  feed(observer, [MID, LAST], policy_state=Inside(np.array([0, 0])))
  assert finished(observer, 1) == {'inside_options': [1 / 3]}
  # The reset of one environment is no step of its next episode.
  feed(observer, [LAST, FIRST], policy_state=Inside(np.array([-1, 2])))
  assert finished(observer, 0) == {'inside_options': [2 / 4]}
  feed(observer, [FIRST, LAST], policy_state=Inside(np.array([1, 1])))
  assert finished(observer, 1) == {'inside_options': [1.0]}
