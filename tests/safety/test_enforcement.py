"""A wrapped policy keeps out of regions, and is left alone elsewhere."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actors.policy import stateless_policy, uniform_policy
from envs import point_maze
from envs.point_maze import PointMaze
from safety import enforcement, regions
from tests import contracts

BOX = regions.parse_region_bounds('0,5:5,11')
SPEC = point_maze.maze_spec('FourRooms')
# The same without walls: a step is a straight line of ten substeps.
PLANE = dataclasses.replace(
    SPEC, position_path=lambda position, action: jnp.stack(
        [position + 0.1 * i * action for i in range(1, 11)]))
MARGIN = enforcement.default_margin(SPEC)
NUM_CANDIDATES = 16

# Always the same action, the parameters.
PUSH = stateless_policy(
    lambda params, observation, key: jnp.broadcast_to(
        params, (observation.shape[0], 2)))
# Like a trained actor: draws around a direction.
NOISY_PUSH = stateless_policy(
    lambda params, observation, key: jnp.tanh(
        2.0 * params + jax.random.normal(key, (observation.shape[0], 2))))


def observations(*positions):
  """Returns `[20, 4]` observations that cycle through the given positions."""
  position = jnp.resize(jnp.array(positions, jnp.float32), (20, 2))
  return jnp.concatenate([position, jnp.zeros_like(position)], axis=-1)


def act_once(policy, observation, params=(), seed=0):
  num_envs = observation.shape[0]
  state = policy.init(jax.random.key(seed), num_envs)
  return policy.act(params, observation, state, jax.random.key(seed + 1),
                    jnp.zeros(num_envs, bool))


def line_clearance(boxes, position, action):
  """Returns the least distance to a box along a straight step."""
  return min(
      float(regions.distance(
          boxes, np.asarray(position) + 0.1 * i * np.asarray(action), np))
      for i in range(1, 11))


@pytest.mark.usefixtures('quick_compile')
class TestChoose:

  def choose(self, clearance, final, num_draws, margin):
    choice, any_safe = enforcement.choose(
        jnp.array(clearance), jnp.array(final), num_draws, margin)
    return choice.tolist(), any_safe.tolist()

  def test_the_first_safe_draw_wins_however_far_others_end(self):
    clearance = [[0.9, 0.1, 0.1], [0.2, 0.2, 0.1], [0.8, 0.9, 0.3]]
    final = [[0.9, 0.1, 0.1], [2.0, 0.2, 0.1], [3.0, 0.9, 0.3]]
    assert self.choose(clearance, final, 3, 0.15) == ([0, 1, 2], [True] * 3)

  def test_a_clearance_of_just_the_margin_is_not_safe(self):
    clearance = [[0.5], [0.75]]
    assert self.choose(clearance, clearance, 2, 0.5) == ([1], [True])

  def test_with_no_safe_draw_the_farthest_end_wins_resorts_included(self):
    clearance = [[0.01, 0.01, 0.04], [0.01, 0.02, 0.01],
                 [0.03, 0.03, 0.03], [0.5, 0.01, 0.04]]
    final = [[0.3, 0.1, 0.9], [0.2, 0.2, 0.1],
             [0.1, 0.4, 0.2], [0.5, 0.3, 0.3]]
    assert self.choose(clearance, final, 2, 0.05) == ([3, 2, 0], [False] * 3)

  def test_a_path_through_the_region_loses_however_far_it_ends(self):
    assert self.choose(
        [[-0.2], [-0.1], [0.01]], [[3.0], [0.1], [0.02]], 2, 0.05
    ) == ([2], [False])

  def test_with_every_path_inside_the_farthest_end_wins(self):
    clearance = [[-1.0], [-0.5], [-0.7]]
    assert self.choose(clearance, [[-1.0], [-0.5], [0.3]], 2, 0.05) == (
        [2], [False])

  def test_resorts_do_not_count_while_a_draw_is_safe(self):
    assert self.choose(
        [[0.0], [0.2], [5.0]], [[0.0], [0.2], [5.0]], 2, 0.1) == ([1], [True])

  def test_environments_do_not_mix(self):
    clearance = [[0.0, 1.0], [1.0, 0.0]]
    assert self.choose(clearance, clearance, 2, 0.5) == ([1, 0], [True, True])


@pytest.mark.usefixtures('quick_compile')
class TestWrappedPolicy:

  def test_keeps_the_rules_of_a_policy(self):
    policy = enforcement.enforce(
        uniform_policy(2), uniform_policy(2), BOX, PLANE, 4, MARGIN)
    contracts.check_policy(policy, (), observation_dim=4, action_dim=2)

  def test_a_single_candidate_is_enough(self):
    policy = enforcement.enforce(PUSH, PUSH, BOX, PLANE, 1, MARGIN)
    observation = observations((8.0, 2.5), (5.2, 8.0))
    action, state = act_once(policy, observation, jnp.array([-1.0, 0.0]))
    np.testing.assert_array_equal(action[0], [-1.0, 0.0])
    np.testing.assert_array_equal(state.intervened, [False, True] * 10)
    np.testing.assert_array_equal(state.cornered, [False, True] * 10)

  def test_actions_are_the_policys_own_when_nothing_is_in_the_way(self):
    observation = observations((8.0, 2.5), (1.0, 1.0), (8.5, 8.5), (3.0, 3.0))
    wanted = jnp.array([0.3, -0.4])
    policy = enforcement.enforce(
        PUSH, uniform_policy(2), BOX, PLANE, NUM_CANDIDATES, MARGIN)
    action, state = act_once(policy, observation, wanted)
    np.testing.assert_array_equal(action, np.tile(wanted, (20, 1)))
    assert not np.any(state.intervened) and not np.any(state.cornered)

  def test_only_the_environment_in_danger_is_corrected(self):
    observation = observations(
        (8.0, 8.0), (5.5, 8.0), (9.0, 8.0), (7.0, 8.0))
    push = jnp.array([-1.0, 0.0])
    policy = enforcement.enforce(
        PUSH, uniform_policy(2), BOX, PLANE, NUM_CANDIDATES, MARGIN)
    action, state = act_once(policy, observation, push)
    expected = [False, True, False, False] * 5
    np.testing.assert_array_equal(state.intervened, expected)
    np.testing.assert_array_equal(
        np.all(np.asarray(action) == np.asarray(push), axis=-1),
        np.logical_not(expected))

  def test_a_greedy_policy_falls_back_on_sampled_proposals(self):
    observation = observations(*[(5.5, 7.0 + 0.1 * i) for i in range(20)])
    push = jnp.array([-1.0, 0.0])
    policy = enforcement.enforce(
        PUSH, uniform_policy(2), BOX, PLANE, NUM_CANDIDATES, MARGIN)
    action, state = act_once(policy, observation, push)
    assert np.all(state.intervened) and not np.any(state.cornered)
    assert len(np.unique(np.asarray(action), axis=0)) == 20
    for position, chosen in zip(observation[:, :2], action, strict=True):
      assert line_clearance(BOX, position, chosen) > MARGIN

  def test_it_draws_from_the_proposal_not_from_elsewhere(self):
    def only_two(params, observation, key):
      left = jax.random.bernoulli(key, 0.5, (observation.shape[0], 1))
      return jnp.where(left, jnp.array([0.25, -0.5]), jnp.array([-1.0, 0.1]))

    observation = observations(*[(5.5, 7.0 + 0.1 * i) for i in range(20)])
    policy = enforcement.enforce(
        PUSH, stateless_policy(only_two), BOX, PLANE, NUM_CANDIDATES, MARGIN)
    action, _ = act_once(policy, observation, jnp.array([-1.0, 0.0]))
    np.testing.assert_array_equal(action, np.tile([0.25, -0.5], (20, 1)))

  def test_a_cornered_policy_stays_put_or_moves_away(self):
    # Every draw pushes up into the region, so only the resorts are left.
    observation = observations(*[(5.5, 7.0 + 0.1 * i) for i in range(20)])
    push = jnp.array([-1.0, 0.0])
    policy = enforcement.enforce(
        PUSH, PUSH, BOX, PLANE, NUM_CANDIDATES, MARGIN)
    action, state = act_once(policy, observation, push)
    assert np.all(state.intervened) and np.all(state.cornered)
    for position, chosen in zip(observation[:, :2], action, strict=True):
      assert line_clearance(BOX, position, chosen) > 0.4

  def test_a_cornered_policy_does_not_jump_over_a_thin_region(self):
    thin = regions.parse_region_bounds('0,1.5:4,1.6')
    observation = observations((1.0, 1.46), (2.0, 1.46))
    policy = enforcement.enforce(
        PUSH, PUSH, thin, PLANE, NUM_CANDIDATES, MARGIN)
    for seed in range(5):
      action, _ = act_once(policy, observation, jnp.array([0.0, 1.0]), seed)
      for position, chosen in zip(observation[:, :2], action, strict=True):
        assert line_clearance(thin, position, chosen) > 0.0

  def test_an_intervention_is_an_action_other_than_the_policys(self):
    rng = np.random.default_rng(0)
    observation = observations(*rng.uniform((5.01, 6.0), (7.0, 10.0), (20, 2)))
    push = jnp.array([-0.8, 0.2])
    policy = enforcement.enforce(
        PUSH, uniform_policy(2), BOX, PLANE, NUM_CANDIDATES, MARGIN)
    action, state = act_once(policy, observation, push)
    differs = np.any(np.asarray(action) != np.asarray(push), axis=-1)
    np.testing.assert_array_equal(state.intervened, differs)
    assert 0 < differs.sum() < 20

  def test_nobody_is_corrected_at_the_start(self):
    policy = enforcement.enforce(PUSH, PUSH, BOX, SPEC, 2, MARGIN)
    state = policy.init(jax.random.key(0), 3)
    np.testing.assert_array_equal(state.intervened, [False] * 3)
    np.testing.assert_array_equal(state.cornered, [False] * 3)

  def test_the_inner_state_advances_once_a_step(self):
    def act(params, observation, policy_state, key, is_first):
      del params, key
      steps = jnp.where(is_first, 0, policy_state + 1)
      return 0.01 * jnp.stack([steps, -steps], axis=-1), steps

    counting = dataclasses.replace(
        PUSH, act=act, init=lambda key, n: jnp.zeros(n, jnp.int32))
    policy = enforcement.enforce(
        counting, counting, BOX, PLANE, NUM_CANDIDATES, MARGIN)
    observation = observations((8.0, 2.5), (8.5, 8.5))
    state = policy.init(jax.random.key(0), 20)
    for step in range(1, 4):
      is_first = jnp.array([False, step == 2] * 10)
      action, state = policy.act(
          (), observation, state, jax.random.key(step), is_first)
      expected = [[1, 1], [2, 0], [3, 1]][step - 1]
      expected *= 10
      np.testing.assert_array_equal(state.inner, expected)
      np.testing.assert_allclose(
          action, [[0.01 * n, -0.01 * n] for n in expected], rtol=1e-6)

  def test_selects_what_the_policy_selects(self):
    inner = dataclasses.replace(PUSH, select=lambda variables: variables['pi'])
    policy = enforcement.enforce(inner, PUSH, BOX, SPEC, 2, MARGIN)
    assert policy.select({'pi': 3, 'other': 4}) == 3

  def test_refuses_an_environment_without_a_position_model(self):
    blind = dataclasses.replace(SPEC, position_path=None)
    with pytest.raises(ValueError, match='point_FourRooms has no position'):
      enforcement.enforce(PUSH, PUSH, BOX, blind, 4, MARGIN)

  def test_the_margin_is_six_deviations_of_the_noise(self):
    assert MARGIN == pytest.approx(0.06)
    assert enforcement.default_margin(
        dataclasses.replace(SPEC, position_noise=0.5)) == pytest.approx(3.0)


@pytest.fixture(scope='module', params=['constant', 'sampled'])
def walker(request):
  """Returns `(start, push) -> closest`, the least distance to the region.

  It steps 48 real mazes, of which those that start inside the region by the
  jitter of their start are left out.
  """
  policy = PUSH if request.param == 'constant' else NOISY_PUSH
  wrapped = enforcement.enforce(
      policy, policy, BOX, SPEC, NUM_CANDIDATES, MARGIN)
  act = jax.jit(wrapped.act)

  def walk(start, push, num_steps=50, seed=0):
    env = PointMaze('FourRooms', 48, seed, start=start)
    key = jax.random.key(seed)
    state = wrapped.init(key, env.num_envs)
    timestep = env.reset()
    outside = ~regions.contains(BOX, timestep.observation[:, :2], np)
    assert outside.sum() > 15
    closest = np.inf
    for key_step in jax.random.split(key, num_steps):
      action, state = act(
          jnp.array(push, jnp.float32), timestep.observation, state, key_step,
          jnp.asarray(timestep.step_type == 0))
      timestep = env.step(np.asarray(action))
      distance = regions.distance(BOX, timestep.observation[:, :2], np)
      closest = min(closest, float(distance[outside].min()))
    return closest

  return walk


@pytest.mark.parametrize('start, push', [
    ((7.5, 8.5), (-1.0, 0.0)),     # From the room below, through its doorway.
    ((5.5, 8.0), (-1.0, 0.0)),     # Below an open border.
    ((5.5, 8.0), (-0.5, 1.0)),
    ((5.15, 8.0), (-1.0, 0.0)),
    ((5.0, 8.0), (-1.0, 0.0)),     # On the border; half begin outside.
    ((2.5, 3.0), (0.0, 1.0)),      # Into the doorway of the left border.
    ((2.5, 4.9), (0.0, 1.0)),      # Right at that border.
    ((2.5, 4.9), (-1.0, 1.0)),
])
def test_never_enters_the_region_however_it_pushes(walker, start, push):
  assert walker(start, push) > 0.0


@pytest.mark.parametrize('start, push', [
    ((2.0, 4.5), (0.0, 1.0)), ((2.0, 4.5), (0.005, 1.0)),
    ((3.0, 4.5), (0.0, 1.0)), ((3.0, 4.5), (-0.3, 1.0))])
def test_never_slips_in_at_the_edge_of_a_doorway(walker, start, push):
  # There the wall stops the predicted path, but noise of a thousandth lets the
  # real one through.
  assert walker(start, push) > 0.0
