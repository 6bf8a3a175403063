"""Episodes of what was saved: in the right world, and of them one film."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actors.loop import EnvironmentLoop, run_episodes
from actors.policy import Policy, uniform_policy
from envs import registry
from envs.point_maze import PointMaze
from envs.vector import StackedEnvironments
from launch import episodes, eval_agent, factory, report, run_folder, video
from launch.experiment import Experiment
from learners import checkpoint
from learners.registry import ALGORITHMS
from tests import fakes

pytestmark = pytest.mark.usefixtures('quick_compile')

# From the start to where the goal is after the change: right, down, right, up.
NEW_WAY = np.repeat([3, 1, 3, 0], [1, 9, 9, 9]).astype(np.int32)


def a_run(folder, alg, env, settings, **more):
  """Makes the folder of a run; returns that and its agent's first state."""
  experiment = Experiment(
      env=env, alg=alg, seed=1, preset='cpu',
      agent=ALGORITHMS[alg].configure(alg, 'cpu', settings, env),
      num_steps=1000, run_name='run', log_dir_path=str(folder), **more)
  path = os.path.abspath(run_folder.prepare(experiment))
  return path, factory.make_agent(experiment).init(jax.random.key(0))


def along(way):
  """Returns a policy that takes the actions `way`, then the last one."""

  def act(params, observation, taken, key, is_first):
    del params, observation, key
    taken = jnp.where(is_first, 0, taken)
    action = jnp.asarray(way)[jnp.minimum(taken, len(way) - 1)]
    return action, taken + 1

  return Policy(init=lambda key, num: jnp.zeros(num, jnp.int32), act=act)


@pytest.fixture(scope='module')
def changing(tmp_path_factory):
  """Returns a run in a world that changes after 30,000 steps, and a state."""
  return a_run(tmp_path_factory.mktemp('rooms'), 'rainbow',
               'grid_FourRoomsChanging', {})


def newest(path):
  return video.newest(report.load(path))


@pytest.mark.parametrize('load, steps, returned, length', [
    (eval_agent.load, 90_000, 1.0, len(NEW_WAY)),
    (newest, 30_000, 1.0, len(NEW_WAY)),
    (newest, 29_999, 0.0, 200),
    (eval_agent.load, None, 0.0, 200)])
def test_the_world_is_as_it_was_when_it_was_saved(
    changing, load, steps, returned, length):
  path, state = changing
  meta = {} if steps is None else {'counter': {'counts': {
      'actor_steps': steps}}}
  checkpoint.save(run_folder.checkpoint_dir(path), 5, state, meta)
  saved = load(path)
  assert saved.steps == (steps or 0)
  metrics, frames = episodes.run(saved, along(NEW_WAY), 3, 0)
  np.testing.assert_array_equal(metrics['episode_return'], [returned] * 3)
  np.testing.assert_array_equal(metrics['episode_length'], [length] * 3)
  assert frames == []


class Counters(StackedEnvironments):
  """Counting environments; the picture is the state of the first one."""

  def __init__(self, lengths):
    self._counters = [fakes.CountingEnvironment(20, terminate_at=length)
                      for length in lengths]
    super().__init__(self._counters, self._counters[0].spec)

  def render(self):
    return self._counters[0]._observation()[:2]


@pytest.mark.parametrize('lengths', [(7,), (7, 2, 20, 1), (6, 20), (1, 3)])
def test_the_first_episode_is_filmed_and_no_other(lengths):
  environment = Counters(lengths)
  camera = episodes.FrameObserver(environment)
  loop = EnvironmentLoop(environment, jax.random.key(0), [camera])
  run_episodes(loop, uniform_policy(2), None)
  # The beginning, every third step, and the end.
  wanted = sorted({*range(0, lengths[0] + 1, 3), lengths[0]})
  np.testing.assert_array_equal(camera.frames, [(0, t) for t in wanted])


class DrawnMaze(PointMaze):
  """A maze whose picture is where its first agent is."""

  def render(self):
    return self._position[0].copy()


def test_regions_hold_whoever_is_filmed_too(tmp_path, monkeypatch):
  path, state = a_run(
      tmp_path, 'contrastive_cpc', 'point_Small',
      dict(hidden_layer_sizes=(4,), repr_dim=2),
      region_bounds='0.4,0:4,2.5', use_absorbing_failure=True)
  checkpoint.save(run_folder.checkpoint_dir(path), 5, state, {})
  monkeypatch.setattr(episodes, 'choose_backend', lambda: None)
  monkeypatch.setattr(
      registry, 'make', lambda name, num_envs, seed, *_: DrawnMaze(
          'Small', num_envs, seed))
  saved = video.newest(report.load(path))
  down = Policy(
      init=lambda key, num: (),
      act=lambda params, observation, state, key, is_first: (
          jnp.tile(jnp.array([1.0, 0.0]), (len(observation), 1)), state))
  saved = saved._replace(
      agent=dataclasses.replace(saved.agent, eval_policy=down))
  film, outcome = video.film(saved, seed=0)
  assert outcome == 'no success' and len(film) == 18
  # Each step is almost one cell, and the maze has four.
  assert 0.4 < film[1][0] < 4
  np.testing.assert_array_equal(film[1:], [film[1]] * 17)
  _, frames = episodes.run(saved, down, 4, 0, film=True)
  np.testing.assert_array_equal(frames[1:], [frames[1]] * 17)
