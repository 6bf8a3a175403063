"""The environment loop: who is told what, and when."""

from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from actors import policy as policy_lib
from actors.loop import EnvironmentLoop, run_episodes
from actors.policy import Policy
from envs.vector import StackedEnvironments
from tests import fakes

FIRST, LAST = dm_env.StepType.FIRST, dm_env.StepType.LAST
# Lengths of the episodes of three environments; the last one terminates.
LENGTHS = (2, 5, 3)


def ragged_environments():
  environments = [fakes.CountingEnvironment(2), fakes.CountingEnvironment(5),
                  fakes.CountingEnvironment(9, terminate_at=3)]
  return StackedEnvironments(environments, environments[0].spec)


class Memory(NamedTuple):
  """Memory of a `recording_policy`: what it was last told."""
  calls: jax.Array
  is_first: jax.Array
  observation: jax.Array


def recording_policy(traces, value=0.5):
  """Returns a policy that acts by its memory and lists its traces."""

  def init(key, num_envs):
    del key
    return Memory(jnp.zeros((), jnp.int32), jnp.zeros(num_envs, bool),
                  jnp.zeros((num_envs, 4)))

  def act(params, observation, memory, key, is_first):
    del key
    traces.append(observation.shape)
    action = jnp.full((observation.shape[0], 2), value) * params
    return action, Memory(memory.calls + 1, is_first, observation)

  return Policy(init, act)


class Watcher:
  """An observer that remembers everything."""

  def __init__(self, name='watched'):
    self.calls = []
    self.asked = []
    self._name = name

  def observe_first(self, step):
    self.calls.append(('first', step))

  def observe(self, step):
    self.calls.append(('step', step))

  def get_metrics(self, finished):
    self.asked.append(finished.tolist())
    return {self._name: finished * 10}


def make(observers=(), seed=0):
  return EnvironmentLoop(
      ragged_environments(), jax.random.key(seed), observers)


def test_policies_are_told_exactly_which_environments_have_reset():
  loop, policy = make(), recording_policy([])
  previous = loop.reset()
  observation = previous.timestep.observation
  for _ in range(20):
    step = loop.step(policy, 1.0)
    np.testing.assert_array_equal(
        step.policy_state.is_first, previous.timestep.step_type == FIRST)
    np.testing.assert_array_equal(step.policy_state.observation, observation)
    previous, observation = step, step.timestep.observation


def test_first_and_last_mark_the_ends_of_ragged_episodes():
  loop, policy = make(), recording_policy([])
  loop.reset()
  for t in range(1, 25):
    step = loop.step(policy, 1.0)
    # An episode of T steps and the reset after it take T + 1 calls.
    place = [t % (length + 1) for length in LENGTHS]
    np.testing.assert_array_equal(step.first, [p == 0 for p in place])
    np.testing.assert_array_equal(
        step.last, [p == length for p, length in zip(place, LENGTHS)])


def test_the_first_step_resets():
  loop, policy = make(), recording_policy([])
  step = loop.step(policy, 1.0)
  assert step.first.all() and not step.last.any()
  assert step.action is None
  assert np.all(step.timestep.observation[:, :2] == 0.0)
  assert loop.step(policy, 1.0).timestep.observation[:, 1].tolist() == [1.0] * 3


def test_a_new_policy_starts_fresh_and_hears_that_everybody_has_reset():
  loop = make()
  one, other = recording_policy([]), recording_policy([], value=-0.5)
  loop.reset()
  for _ in range(4):
    loop.step(one, 1.0)
  for policy, value in ((other, -0.5), (one, 0.5)):
    step = loop.step(policy, 1.0)
    assert int(step.policy_state.calls) == 1
    assert np.all(step.policy_state.is_first)
    assert np.all(step.action == value)
    was_first = step.first
    step = loop.step(policy, 1.0)
    assert int(step.policy_state.calls) == 2
    np.testing.assert_array_equal(step.policy_state.is_first, was_first)


def test_changing_the_policy_ends_no_episode():
  changed, steady = make(), make()
  one, other = recording_policy([]), recording_policy([])
  changed.reset()
  steady.reset()
  for t in range(12):
    left = changed.step(one if t % 3 else other, 1.0)
    right = steady.step(one, 1.0)
    np.testing.assert_equal(left.timestep._asdict(), right.timestep._asdict())


def test_reset_starts_the_policy_afresh():
  loop, policy = make(), recording_policy([])
  loop.reset()
  for _ in range(4):
    loop.step(policy, 1.0)
  assert loop.reset().first.all()
  step = loop.step(policy, 1.0)
  assert int(step.policy_state.calls) == 1
  assert np.all(step.policy_state.is_first)


def test_observers_see_every_step_in_order():
  watchers = [Watcher(), Watcher()]
  loop, policy = make(watchers), recording_policy([])
  steps = [loop.reset()] + [loop.step(policy, 1.0) for _ in range(13)]
  expected = [('first', steps[0])]
  for step in steps[1:]:
    if step.first.any():
      expected.append(('first', step))
    expected.append(('step', step))
  for watcher in watchers:
    assert len(watcher.calls) == len(expected)
    for (kind, step), (expected_kind, expected_step) in zip(
        watcher.calls, expected):
      assert kind == expected_kind
      assert step is expected_step


def test_metrics_are_asked_for_finished_environments_only():
  one, other = Watcher('one'), Watcher('other')
  loop, policy = make([one, other]), recording_policy([])
  loop.reset()
  expected = []
  for t in range(1, 24):
    step = loop.step(policy, 1.0)
    if not step.last.any():
      continue
    finished = [i for i, length in enumerate(LENGTHS)
                if t % (length + 1) == length]
    expected.append(finished)
    metrics = loop.metrics(step)
    assert set(metrics) == {'one', 'other'}
    for value in metrics.values():
      assert value.tolist() == [10 * i for i in finished]
  assert one.asked == other.asked == expected
  assert [0, 1, 2] in expected  # all three end with call 11


def test_each_policy_is_traced_once():
  traces, other_traces = [], []
  policy, other = recording_policy(traces), recording_policy(other_traces)
  loop = make()
  loop.reset()
  for t in range(12):
    loop.step(policy if t % 4 < 2 else other, jnp.float32(t))
  loop.reset()
  loop.step(policy, jnp.float32(0.5))
  assert traces == [(3, 4)]
  assert other_traces == [(3, 4)]


def test_parameters_take_effect_at_the_next_step():
  loop, policy = make(), recording_policy([], value=1.0)
  loop.reset()
  for params in (0.25, -0.5, 0.0, 1.0):
    assert np.all(loop.step(policy, params).action == params)


def test_a_policy_gets_the_part_of_the_variables_that_it_selects():
  policy = Policy(
      init=lambda key, num_envs: (),
      act=lambda params, observation, state, key, is_first: (
          jnp.broadcast_to(params, (observation.shape[0], 2)), state),
      select=lambda variables: variables['policy']['mean'])
  loop = make()
  loop.reset()
  variables = {'policy': {'mean': jnp.array([0.5, -0.25])}, 'critic': 3.0}
  assert loop.step(policy, variables).action.tolist() == [[0.5, -0.25]] * 3


def actions(seed, num_steps=8):
  loop = make(seed=seed)
  policy = policy_lib.uniform_policy(2)
  loop.reset()
  return np.stack([loop.step(policy, None).action for _ in range(num_steps)])


def test_actions_follow_from_the_key():
  drawn = actions(seed=3)
  np.testing.assert_array_equal(drawn, actions(seed=3))
  assert not np.any(drawn == actions(seed=4))
  # Every environment and every step has its own draw.
  assert len(np.unique(drawn)) == drawn.size
  assert np.all(np.abs(drawn) <= 1.0)


def test_run_episodes_measures_one_episode_of_every_environment():
  watcher = Watcher()
  loop = make([watcher])
  loop.step(recording_policy([]), 1.0)
  results = run_episodes(loop, recording_policy([]), 1.0)
  # Environments end at calls 2, 3 and 5; the second end of the first one, at
  # call 5 too, does not count.
  assert [r['watched'].tolist() for r in results] == [[0], [20], [10]]


def test_run_episodes_starts_with_a_reset():
  watcher = Watcher()
  loop, policy = make([watcher]), recording_policy([])
  for _ in range(3):
    loop.step(policy, 1.0)
  watcher.calls.clear()
  run_episodes(loop, policy, 1.0)
  kind, step = watcher.calls[0]
  assert kind == 'first' and step.first.all() and step.action is None


def test_a_memory_is_told_the_reward_that_led_to_what_is_seen():
  def init(key, num_envs):
    del key
    return jnp.zeros(num_envs), jnp.zeros(num_envs, bool)

  def observe(memory, reward, is_first):
    return jnp.where(is_first, 0.0, memory[0]) + reward, is_first

  policy = Policy(
      init=init, observe=observe,
      act=lambda params, observation, memory, key, is_first: (
          jnp.zeros((observation.shape[0], 2)), memory))
  loop = make()
  previous = loop.reset()
  for _ in range(20):
    step = loop.step(policy, None)
    # Step n pays n; what acted on it had been paid 1 + ... + n.
    elapsed = previous.timestep.observation[:, 1]
    np.testing.assert_array_equal(
        step.policy_state[0], elapsed * (elapsed + 1) / 2)
    np.testing.assert_array_equal(
        step.policy_state[1], previous.timestep.step_type == FIRST)
    previous = step
