"""Actors as they are built for a run."""

import jax
import numpy as np
import pytest

from actors.variables import Link
from launch import factory
from launch.experiment import Experiment
from learners.dceo import config as dceo_config
from replay.stream_memory import StreamMemory
from tests.actors.test_variables import FakeCounter, FakeLearner

pytestmark = pytest.mark.usefixtures('quick_compile')

UPDATES = 250


def actors(num_actors, **settings):
  """Builds the actors of a run that has been learning for a while."""
  config = dceo_config.from_settings('dceo', 'cpu', settings)
  experiment = Experiment(
      env='grid_FourRooms', alg='dceo', seed=3, preset='cpu', agent=config,
      num_steps=10_000, run_name='run', num_actors=num_actors, envs_per_actor=2)
  agent = factory.make_agent(experiment)
  variables = jax.device_get(agent.variables(agent.init(jax.random.key(0))))
  learner = FakeLearner(UPDATES)
  learner.get_variables = lambda have, *_: (UPDATES, variables)
  for index in range(num_actors):
    counter = FakeCounter(config.min_replay_size + 4 * UPDATES, UPDATES)
    link = Link(f'actor/{index}', counter, learner, period=0.0, patience=0.0,
                portions=agent.portions)
    actor = factory.make_actor(
        experiment, agent, index, 1, StreamMemory(agent.replay, 0), link)
    link.refresh()
    yield actor


def test_an_actor_that_starts_past_the_warm_up_acts():
  actor, = actors(1)
  for _ in range(3):
    assert actor.ready() and actor.step()


def test_epsilons_form_one_ladder_over_all_actors():
  epsilons = []
  for actor in actors(2, eps_mode='ladder'):
    assert actor.step() and actor.step()
    epsilons.append(actor._loop._policy_state.epsilon)
  np.testing.assert_allclose(
      np.concatenate(epsilons), [0.4**(1 + 7 * i / 3) for i in range(4)],
      rtol=1e-5)
