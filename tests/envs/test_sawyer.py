"""Sawyer tasks: what they report, against Meta-World and by hand."""

import subprocess
import sys

from metaworld.env_dict import ALL_V3_ENVIRONMENTS
import mujoco
import numpy as np
import pytest
from scipy import stats

from benchmarks.sawyer import first_successes
from envs import registry
from envs.sawyer import goal_at, Sawyer, sawyer_spec, succeeds, TASKS
from tests import contracts

NAMES = sorted(TASKS)
MOVING = [name for name in NAMES if TASKS[name].target_moves]
DIMS = {'sawyer_bin': 7, 'sawyer_box': 11, 'sawyer_peg': 7}
# Written out from the tables: hand, gripper, object, quaternion.
GOALS = {
    'sawyer_bin': (.12, .7, .05, .4, .12, .7, .02),
    'sawyer_box': (0, .75, .163, .4, 0, .75, .133, .707, 0, 0, .707),
    # The peg's box stands at (-.3, .6, 0).
    'sawyer_peg': (-.14, .6, .16, .4, -.27, .6, .13),
}
# (lower, upper) of where objects and their targets are.
OBJECTS = {
    'sawyer_bin': ((-.21, .65), (-.03, .75)),
    'sawyer_box': ((-.05, .5), (.05, .55)),
    # The head is 10 cm from the peg's middle.
    'sawyer_peg': ((-.1, .5), (.1, .7)),
}
TARGETS = {
    'sawyer_bin': ((.12, .7, .02), (.12, .7, .02)),
    'sawyer_box': ((-.1, .7, .133), (.1, .8, .133)),
    'sawyer_peg': ((-.32, .4, .129), (-.22, .7, .131)),
}
STILL = np.zeros((1, 4), np.float32)


@pytest.fixture(scope='module', params=NAMES)
def name(request):
  return request.param


@pytest.fixture(scope='module')
def resets(name):
  """Observations of 60 resets, `[60, 2 * obs_dim]`."""
  env = Sawyer(name, num_envs=4, seed=3)
  return np.concatenate([env.reset().observation for _ in range(15)])


@pytest.fixture(scope='module')
def sampled_resets(name):
  env = Sawyer(name, num_envs=4, seed=3, sample_goals=True)
  return np.concatenate([env.reset().observation for _ in range(15)])


def halves(name, observation):
  return observation[..., :DIMS[name]], observation[..., DIMS[name]:]


def within(values, bounds, slack=2e-3):
  lower, upper = np.array(bounds)
  return np.all((values >= lower - slack) & (values <= upper + slack), axis=-1)


def test_keeps_the_rules_with_sampled_goals():
  contracts.check_vector_environment(
      lambda seed, num_envs: Sawyer(
          'sawyer_bin', num_envs, seed, sample_goals=True))


def test_the_facts_of_a_task(name):
  spec = sawyer_spec(name)
  assert (spec.obs_dim, spec.goal_dim, spec.action_dim) == (
      DIMS[name], DIMS[name], 4)
  assert spec.goal_indices == tuple(range(DIMS[name]))
  assert spec.step_limit == 150
  assert spec.success_radius == {
      'sawyer_bin': 0.05, 'sawyer_box': 0.08, 'sawyer_peg': 0.07}[name]


def test_the_goal_in_the_middle_is_that_of_the_table(name):
  np.testing.assert_allclose(goal_at(name), GOALS[name], atol=1e-12)


def test_only_the_bin_s_goal_is_the_same_in_every_episode():
  assert sawyer_spec('sawyer_bin').goal == pytest.approx(GOALS['sawyer_bin'])
  for moving in MOVING:
    assert sawyer_spec(moving).goal is None
  for sampled in NAMES:
    assert sawyer_spec(sampled, sample_goals=True).goal is None


def test_states_begin_where_meta_world_puts_them(name, resets):
  state, _ = halves(name, resets)
  np.testing.assert_allclose(
      state[:, :3], [(0, .6, .2)] * len(state), atol=8e-3)
  np.testing.assert_array_equal(state[:, 3], 1.0)
  straight = np.linalg.norm(
      state[:, 7:] - np.array(TASKS[name].quaternion), axis=-1) < 5e-3
  usual = straight & within(state[:, 4:6], OBJECTS[name])
  # Meta-World drops the lid where the last box was, so some are knocked askew.
  assert usual.all() if name != 'sawyer_box' else usual.mean() > 0.9
  extent = np.ptp(np.array(OBJECTS[name]), axis=0)
  assert np.all(np.ptp(state[usual, 4:6], axis=0) > 0.7 * extent)


def test_goals_are_at_the_episode_s_target(name, resets):
  _, goal = halves(name, resets)
  target = goal[:, 4:7]
  assert within(target, TARGETS[name], slack=1e-6).all()
  extent = np.ptp(np.array(TARGETS[name]), axis=0)
  # Boxes near the lid are drawn again, which leaves few there.
  assert np.all(np.ptp(target, axis=0)[:2] >= 0.5 * extent[:2])
  np.testing.assert_allclose(
      goal, [goal_at(name, t) for t in target.astype(float)], atol=1e-6)


def test_sampled_goals_lie_between_object_and_target(name, sampled_resets):
  state, goal = halves(name, sampled_resets)
  np.testing.assert_allclose(
      goal, [goal_at(name, t) for t in goal[:, 4:7].astype(float)], atol=1e-6)
  if name == 'sawyer_bin':
    ends = np.stack([state[:, 4:6], np.tile((.12, .7), (len(state), 1))])
    assert np.all(goal[:, 4:6] >= ends.min(axis=0) - .05)
    assert np.all(goal[:, 4:6] <= ends.max(axis=0) + .05)
    assert np.all((goal[:, 6] >= .03) & (goal[:, 6] <= .12))
    assert np.ptp(goal[:, 6]) > .07
  else:
    # Going on from the object through the goal leads to a height that targets
    # have, at a place that they may have.
    share = (goal[:, 6] - state[:, 6]) / (
        TARGETS[name][0][2] - state[:, 6])
    end = state[:, 4:6] + (
        goal[:, 4:6] - state[:, 4:6]) / share[:, np.newaxis]
    told = share > .2
    lower, upper = (np.array(corner[:2]) for corner in TARGETS[name])
    assert within(end[told], (lower, upper), slack=.01).all()
    assert stats.kstest(share, 'uniform').pvalue > 1e-3
  travel = np.linalg.norm(goal[:, 4:6] - state[:, 4:6], axis=-1)
  assert travel.min() < .06 and travel.max() > .2


def test_goals_differ_between_episodes_when_sampled(sampled_resets):
  assert len(np.unique(sampled_resets, axis=0)) == len(sampled_resets)


def test_a_given_goal_is_every_episode_s_and_has_its_receptacle_there(name):
  target = np.array(TARGETS[name]).mean(axis=0) + (.01, -.02, 0.0)
  goal = tuple(goal_at(name, target).tolist())
  env = Sawyer(name, num_envs=2, goal=goal)
  for _ in range(2):
    observation = env.reset().observation
    np.testing.assert_array_equal(halves(name, observation)[1],
                                  np.float32([goal, goal]))
    task = TASKS[name]
    for i in range(2):
      place = env.data(i).body(task.receptacle).xpos + task.target_offset
      # The bin stays; what is in it need not be in its middle.
      expected = target if task.target_moves else TARGETS[name][0]
      np.testing.assert_allclose(place, expected, atol=1e-9)


@pytest.mark.parametrize('task, moved, expected', [
    ('sawyer_bin', (.0499, 0, 0), True), ('sawyer_bin', (.0501, 0, 0), False),
    ('sawyer_bin', (.04, .04, 0), False), ('sawyer_bin', (0, 0, -.049), True),
    ('sawyer_box', (0, .0799, 0), True), ('sawyer_box', (0, .0801, 0), False),
    ('sawyer_peg', (.0699, 0, 0), True), ('sawyer_peg', (.0701, 0, 0), False),
    ('sawyer_peg', (0, .0349, 0), True), ('sawyer_peg', (0, .0351, 0), False),
    ('sawyer_peg', (0, 0, .0349), True), ('sawyer_peg', (0, 0, .0351), False)])
def test_success_is_about_the_object_s_position(task, moved, expected):
  goal = goal_at(task)
  state = goal.copy()
  # Where the hand is and what it holds does not count.
  state[:4] += 1.0
  state[4:7] += moved
  assert succeeds(TASKS[task], state, goal) == expected
  many = succeeds(TASKS[task], np.stack([state, goal]), np.stack([goal] * 2))
  assert many.tolist() == [expected, True]


@pytest.mark.parametrize('turn, expected', [(.079, True), (.081, False)])
def test_the_lid_has_to_lie_straight(turn, expected):
  goal = goal_at('sawyer_box')
  state = goal.copy()
  state[8] += turn
  assert succeeds(TASKS['sawyer_box'], state, goal) == expected


def test_steps_are_meta_world_s_own(name):
  task = TASKS[name]
  theirs = ALL_V3_ENVIRONMENTS[task.metaworld_name]()
  theirs._freeze_rand_vec, theirs.seeded_rand_vec = False, True
  theirs._set_task_called = True
  theirs._partially_observable = False
  # Was computed for the goal that is not observed.
  del theirs.sawyer_observation_space
  (sequence,) = np.random.SeedSequence(8).spawn(1)
  theirs.np_random = np.random.default_rng(sequence)
  mujoco.mj_resetData(theirs.model, theirs.data)
  theirs.reset_model()
  ours = Sawyer(name, seed=8)
  state, goal = halves(name, ours.reset().observation[0])
  target = TARGETS[name][0] if name == 'sawyer_bin' else theirs._target_pos
  np.testing.assert_allclose(goal[4:7], target, atol=1e-6)
  for action in contracts.actions_for(ours, 40):
    seen, _, _, _, info = theirs.step(action[0].astype(float))
    timestep = ours.step(action)
    state, goal = halves(name, timestep.observation[0])
    np.testing.assert_array_equal(state[:4], np.float32(seen[:4]))
    if name == 'sawyer_peg':
      np.testing.assert_array_equal(
          state[4:], np.float32(theirs.data.site('pegHead').xpos))
    else:
      np.testing.assert_array_equal(state[4:], np.float32(seen[4:4 + len(
          state[4:])]))
    assert bool(timestep.reward[0]) == bool(info['success'])


def test_the_fingers_and_the_hand_follow_the_action(name):
  env = Sawyer(name)
  before = env.reset().observation[0]
  for _ in range(20):
    after = env.step(np.array([[0.5, 0.0, 0.5, 1.0]])).observation[0]
  np.testing.assert_allclose(
      (after - before)[:3], (0.1, 0.0, 0.1), atol=0.03)
  # Closed on nothing.
  assert 0.25 < after[3] < 0.35


def test_actions_are_clipped():
  near, far = Sawyer('sawyer_bin'), Sawyer('sawyer_bin')
  for env, size in ((near, 1.0), (far, 7.0)):
    env.reset()
    for _ in range(3):
      timestep = env.step(np.full((1, 4), size))
    if env is near:
      expected = timestep.observation
  np.testing.assert_array_equal(timestep.observation, expected)


@pytest.mark.parametrize('solved, least', [
    ('sawyer_bin', 16), ('sawyer_box', 16), ('sawyer_peg', 10)])
@pytest.mark.filterwarnings('ignore:Constant')
def test_meta_world_s_own_policies_succeed(solved, least):
  steps = first_successes(solved, 20, seed=2)
  assert sum(s > 0 for s in steps) >= least, steps
  # Nothing is solved by chance.
  assert min(s for s in steps if s) > 40


def test_an_episode_is_truncated_after_150_steps():
  env = Sawyer('sawyer_bin')
  env.reset()
  for step in range(1, 151):
    timestep = env.step(STILL)
    assert timestep.step_type[0] == (2 if step == 150 else 1)
    assert timestep.discount[0] == 1.0
  # Many more than Meta-World's own limit of 500.
  for _ in range(4 * 151):
    timestep = env.step(STILL)
  assert timestep.step_type[0] == 2


def test_scenes_of_one_model_keep_their_own_boxes():
  env = Sawyer('sawyer_box', num_envs=3, seed=4)
  target = halves('sawyer_box', env.reset().observation)[1][:, 4:7]
  for _ in range(3):
    env.step(np.zeros((3, 4)))
  places = [env.data(i).body('boxbody').xpos[:2].copy() for i in range(3)]
  np.testing.assert_allclose(places, target[:, :2], atol=1e-6)
  assert len(np.unique(places, axis=0)) == 3


@pytest.mark.parametrize('shape', [(4,), (1, 4), (3, 4), (2, 3)])
def test_refuses_actions_of_the_wrong_shape(shape):
  env = Sawyer('sawyer_bin', num_envs=2)
  env.reset()
  with pytest.raises(ValueError, match='action shape'):
    env.step(np.zeros(shape))


def test_the_facts_are_known_without_meta_world():
  code = ('import sys; from envs import registry; registry.spec("sawyer_box"); '
          'registry.make("point_Small", 1, 0); '
          'print({"metaworld", "mujoco", "gymnasium"} & set(sys.modules))')
  result = subprocess.run([sys.executable, '-c', code], capture_output=True,
                          text=True, timeout=60, check=True)
  assert result.stdout.strip() == 'set()'


def test_the_registry_has_every_task():
  assert set(NAMES) <= set(registry.ENVIRONMENTS)
