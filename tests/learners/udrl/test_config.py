"""Settings of UDRL: presets by environment, and what is refused."""

import dataclasses

import pytest

from learners.udrl import config as config_lib
from learners.udrl.config import UDRLConfig


@pytest.mark.parametrize('preset', sorted(config_lib.PRESETS))
@pytest.mark.parametrize('env', ['', 'cartpole', 'lunarlander',
                                 'lunarlander-sparse'])
def test_presets_are_in_order(preset, env):
  config = config_lib.from_settings('udrl', preset, {}, env)
  assert config_lib.problems(config) == []


def test_the_published_values_of_lunar_lander():
  dense, sparse = (
      config_lib.from_settings('udrl', 'reference', {}, env)
      for env in ('lunarlander', 'lunarlander-sparse'))
  assert (dense.learning_rate, dense.batch_size, dense.return_scale,
          dense.horizon_scale, dense.last_few) == (
              3.5e-4, 768, 0.025, 0.01, 75)
  assert (sparse.learning_rate, sparse.batch_size, sparse.return_scale,
          sparse.horizon_scale, sparse.last_few) == (
              5e-4, 512, 0.015, 0.015, 25)
  for config in (dense, sparse):
    assert (config.hidden_sizes, config.max_return, config.max_grad_norm) == (
        (32, 128, 128, 128), 320.0, 100.0)
    assert (config.updates_per_episode, config.warmup_episodes,
            config.max_replay_steps) == (5.0, 70, 100_000)


def test_overrides_come_last():
  config = config_lib.from_settings('udrl', 'cpu', dict(last_few=3), 'cartpole')
  assert (config.last_few, config.max_return) == (3, 500.0)


@pytest.mark.parametrize('name, value', [
    ('hidden_sizes', ()), ('learning_rate', 0.0), ('batch_size', 0),
    ('command', 'both'), ('pair_sampling', 'random'), ('held_out_every', 1),
    ('max_replay_steps', -1), ('max_return', float('inf')),
    ('command_spread', 0.0), ('last_few', 0)])
def test_what_cannot_be_is_named(name, value):
  config = dataclasses.replace(UDRLConfig(), **{name: value})
  problem, = config_lib.problems(config)
  assert problem.startswith(f'{name}: got {value!r}, needs ')
