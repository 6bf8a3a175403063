"""Presets and what makes settings unusable."""

import dataclasses

import pytest

from learners.tabular import config as config_lib
from learners.tabular.config import TabularConfig
from learners.tabular.environments import ENVIRONMENTS


def names_of(found):
  """Returns the setting each problem is about."""
  return [problem.split(':')[0] for problem in found]


@pytest.mark.parametrize('env', sorted(ENVIRONMENTS))
def test_the_default_preset_of_every_environment_is_usable(env):
  assert config_lib.problems(config_lib.from_settings(env, None, {})) == []


@pytest.mark.parametrize('preset', sorted(config_lib.PRESETS))
def test_every_preset_is_usable(preset):
  config = config_lib.from_settings('four_rooms', preset, {})
  assert config_lib.problems(config) == []


@pytest.mark.parametrize('env, values', [
    ('four_rooms', (16, 1, 1e-2, 50, 500, 1, 128)),
    ('hanoi_3', (16, 5, 1e-3, 20, 2000, 100, 128)),
    ('hanoi_4', (16, 5, 1e-3, 30, 30_000, 2000, 128)),
    ('spiral', (16, 5, 1e-3, 100, 50_001, 1000, 128))])
def test_presets_have_the_published_values(env, values):
  config = config_lib.from_settings(env, None, {})
  assert (config.repr_dim, config.episodes_per_update, config.learning_rate,
          config.max_steps, config.episodes, config.eval_interval,
          config.batch_size) == values
  assert (config.discount, config.temperature, config.max_trajectories,
          config.init, config.loss, config.offset_zero) == (
              0.99, 0.1, 1000, 'near_goal', 'backward', True)


def test_overrides_win_over_the_preset():
  config = config_lib.from_settings('four_rooms', 'jax', dict(max_steps=7))
  assert (config.max_steps, config.batch_size) == (7, 1024)


@pytest.mark.parametrize('settings, names', [
    (dict(representation='phi'), ['representation']),
    (dict(loss='sideways', init='far', goal='three'), ['loss', 'init', 'goal']),
    (dict(batch_size=1, max_trajectories=1), ['batch_size',
                                              'max_trajectories']),
    (dict(episodes=0, max_steps=0, repr_dim=0, eval_interval=0,
          episodes_per_update=0),
     ['repr_dim', 'episodes', 'max_steps', 'episodes_per_update',
      'eval_interval']),
    (dict(learning_rate=float('nan'), temperature=0.0),
     ['learning_rate', 'temperature']),
    (dict(discount=1.0, env_noise=1.5), ['discount', 'env_noise']),
    (dict(representation='none', goal='imaginary'), ['goal']),
    (dict(env='five_rooms'), ['env']),
    (dict(env='empty', goal='two', init='orthogonal_rooms'), ['goal', 'init']),
    (dict(absorbing='0,6'), ['absorbing']),
    (dict(absorbing='0,6:4,10'), ['absorbing']),
    (dict(absorbing='0,0:9,9'), ['absorbing', 'absorbing']),
    (dict(absorbing='9,6:9,7', goal='two'), ['absorbing']),
    (dict(env='hanoi_3', absorbing='0,0:1,1'), ['absorbing']),
])
def test_unusable_settings(settings, names):
  config = dataclasses.replace(TabularConfig(), **settings)
  assert names_of(config_lib.problems(config)) == names
