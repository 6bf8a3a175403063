"""Presets, what follows from settings, and what is refused."""

import dataclasses

import pytest

from learners.dceo import agent as agent_lib
from learners.dceo import config as config_lib
from learners.stream_spec import PairItems, WindowItems
from tests.learners.dceo import batches


def make(alg='dceo', preset='cpu', **overrides):
  return config_lib.from_settings(alg, preset, overrides)


@pytest.mark.parametrize('alg', sorted(config_lib.VARIANTS))
@pytest.mark.parametrize('preset', sorted(config_lib.PRESETS))
@pytest.mark.parametrize('env', ['grid_FourRooms', 'atari_Pong'])
def test_every_preset_is_sound(alg, preset, env):
  config = config_lib.from_settings(alg, preset, {}, env)
  assert config_lib.problems(config) == []


def test_defaults_go_by_the_kind_of_environment():
  rooms, atari = (config_lib.from_settings('dceo', 'cpu', {}, env)
                  for env in ('grid_NineRooms', 'atari_Pong'))
  assert (rooms.stack, rooms.vmax, rooms.target_period) == (1, 2.0, 100)
  assert (atari.stack, atari.vmax, atari.target_period) == (4, 10.0, 8000)
  assert (rooms.option_vmax, atari.option_vmax) == (4.0, 10.0)
  assert rooms == make()


def test_the_reference_preset_has_the_published_values():
  config = make(preset='reference')
  wanted = dict(
      batch_size=32, learning_rate=6.25e-5, adam_epsilon=1.5e-4, discount=0.99,
      n_step=3, num_atoms=51, vmax=10.0, dueling=True, double=True, noisy=False,
      stack=4, clip_rewards=True, importance_exponent=0.5, initial_priority=1.0,
      update_period=4, target_period=8000, num_sgd_steps_per_step=1,
      min_replay_size=20_000, max_replay_size=1_000_000, eps_mode='anneal',
      eps_least=0.01, eps_decay=250_000, eps_eval=0.001, num_options=5,
      option_prob=0.9, option_duration=10.0, option_target_period=8000,
      option_vmax=10.0, option_signs='pos', skip_first_dim=False,
      options_per_step=1, laplacian='ggdo_log', rep_dim=20, rep_batch_size=32,
      rep_learning_rate=6.25e-5, rep_gap_decay=None, option_discount=None,
      aux_sampling='prioritized')
  values = dataclasses.asdict(config)
  assert {name: values[name] for name in wanted} == wanted


def test_periods_are_turned_into_updates():
  config = make(preset='reference')
  assert config_lib.target_updates(config) == 2000
  assert config_lib.environment_steps(config, 0) == 20_000
  assert config_lib.environment_steps(config, 62_500) == 270_000


def test_options_follow_their_dimensions():
  plain = make(preset='reference')
  assert config_lib.option_dims(plain) == [0, 1, 2, 3, 4]
  assert config_lib.option_directions(plain) == [1.0] * 5
  both = make(option_signs='both', num_options=4)
  assert config_lib.option_dims(both) == [1, 1, 2, 2]
  assert config_lib.option_directions(both) == [1.0, -1.0, 1.0, -1.0]
  assert config_lib.option_dims(make('rainbow')) == []


def test_all_draws_of_an_update_are_in_its_tables():
  spec = agent_lib.replay_spec(make(preset='reference'), batches.SPEC)
  (name, table), = spec.tables.items()
  assert (name, table.items_per_batch, table.prioritized) == ('main', 160, True)
  assert spec.pacing == (20_000, 32, 8.0)
  spec = agent_lib.replay_spec(
      make(rep_gap_decay=0.9, rep_batch_size=128, option_n_step=1,
           num_sgd_steps_per_step=2), batches.SPEC)
  assert {n: (t.items, t.items_per_batch, t.prioritized)
          for n, t in spec.tables.items()} == {
              'main': (WindowItems(3), 64, True),
              'pairs': (PairItems(50, 0.9), 768, False),
              'options': (WindowItems(1), 64, False)}
  spec = agent_lib.replay_spec(make('rainbow'), batches.SPEC)
  assert list(spec.tables) == ['main']


@pytest.mark.parametrize('settings, word', [
    (dict(torso='vgg'), 'torso'),
    (dict(laplacian='ggdo'), 'laplacian'),
    (dict(eps_mode='linear'), 'eps_mode'),
    (dict(option_signs='neg'), 'option_signs'),
    (dict(aux_sampling='fifo'), 'aux_sampling'),
    (dict(batch_size=0), 'batch_size'),
    (dict(vmax=float('nan')), 'vmax'),
    (dict(discount=1.0), 'discount'),
    (dict(option_prob=1.5), 'option_prob'),
    (dict(num_options=0), 'num_options'),
    (dict(num_options=6), 'rep_dim'),
    (dict(options_per_step=9), 'options_per_step'),
    (dict(noisy=True), 'noisy'),
    (dict(max_replay_size=10), 'max_replay_size'),
    (dict(aux_sampling='prioritized', option_n_step=None,
          rep_gap_decay=0.9), 'rep_gap_decay'),
    (dict(aux_sampling='prioritized', option_n_step=1,
          rep_gap_decay=None), 'option_n_step'),
    (dict(option_discount=1.0), 'option_discount'),
    (dict(option_learning_rate=0.0), 'option_learning_rate'),
    (dict(rep_gap_decay=1.0), 'rep_gap_decay'),
])
def test_what_is_wrong_is_named(settings, word):
  found = config_lib.problems(make(**settings))
  assert len(found) == 1 and found[0].startswith(f'{word}:')


def test_all_problems_come_together():
  found = config_lib.problems(make(torso='x', n_step=0, discount=2.0))
  assert [line.split(':')[0] for line in found] == [
      'torso', 'n_step', 'discount']
