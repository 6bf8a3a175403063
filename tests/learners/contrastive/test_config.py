"""Variants, presets, and what makes settings unusable."""

import dataclasses

import pytest

from learners.contrastive import config as config_lib
from learners.contrastive.config import ContrastiveConfig

BASE = config_lib.from_settings('contrastive_cpc', 'reference', {})


def names_of(found):
  """Returns the setting each problem is about."""
  return [problem.split(':')[0] for problem in found]


@pytest.mark.parametrize('alg, loss, twin_q, uses_td', [
    ('contrastive_cpc', 'cpc', False, False),
    ('contrastive_nce', 'nce', False, False),
    ('c_learning', 'td', True, True),
    ('nce+c_learning', 'td_mc', True, True),
])
def test_what_each_algorithm_switches_on(alg, loss, twin_q, uses_td):
  config = config_lib.from_settings(alg, 'reference', {})
  assert (config.loss, config.twin_q) == (loss, twin_q)
  assert config_lib.uses_td(config) == uses_td


def test_there_are_four_algorithms():
  assert set(config_lib.VARIANTS) == {
      'contrastive_cpc', 'contrastive_nce', 'c_learning', 'nce+c_learning'}


@pytest.mark.parametrize('alg', sorted(config_lib.VARIANTS))
@pytest.mark.parametrize('preset', sorted(config_lib.PRESETS))
def test_every_preset_of_every_algorithm_is_usable(alg, preset):
  assert config_lib.problems(config_lib.from_settings(alg, preset, {})) == []


ABLATIONS_OFF = dict(
    goal_neg_actor_steps=0, goal_pos_actor_steps=0, goal_pos_frac=0.05,
    perturbed_negatives_num=0, perturbed_negatives_goal_num=0,
    backward_loss=False, repr_norm=False, repr_temperature=1.0,
    monolithic_critic=False, use_residual_mlp=False, cold_q_init=False,
    cold_q_scale=1e-12, weight_reset_interval=0, Q_max=False, init_weight=None,
    save_init_weight=None)


def test_the_reference_preset_has_the_published_values():
  config = config_lib.from_settings('contrastive_cpc', 'reference', {})
  assert dataclasses.asdict(config) == dict(
      loss='cpc', twin_q=False, hidden_layer_sizes=(256, 256), repr_dim=64,
      batch_size=256, num_sgd_steps_per_step=64, learning_rate=3e-4,
      actor_learning_rate=3e-4, adam_epsilon=1e-7, discount=0.99, tau=0.005,
      eval_tau=1.0, logsumexp_penalty=0.01, random_goals=0.5,
      entropy_coefficient=0.0, target_entropy=0.0, samples_per_insert=256.0,
      min_replay_size=10_000, max_replay_size=1_000_000, **ABLATIONS_OFF)


def test_overrides_win_over_the_preset_and_the_preset_over_the_variant():
  config = config_lib.from_settings(
      'c_learning', 'reference', dict(batch_size=32, twin_q=False))
  assert config.batch_size == 32
  assert not config.twin_q
  assert config.num_sgd_steps_per_step == 64


@pytest.mark.parametrize('coefficient, adapts', [
    (None, True), (0.0, False), (0, False), (0.1, False)])
def test_only_none_adapts_the_entropy(coefficient, adapts):
  config = dataclasses.replace(BASE, entropy_coefficient=coefficient)
  assert config_lib.adapts_entropy(config) is adapts
  assert config_lib.problems(config) == []


def test_a_target_needs_an_entropy_that_adapts():
  adaptive = dataclasses.replace(
      BASE, entropy_coefficient=None, target_entropy=-2.0)
  assert config_lib.problems(adaptive) == []
  for coefficient in (0.0, 0.1):
    fixed = dataclasses.replace(adaptive, entropy_coefficient=coefficient)
    assert names_of(config_lib.problems(fixed)) == ['target_entropy']


@pytest.mark.parametrize('name, bad', [
    ('loss', 'infonce'),
    ('hidden_layer_sizes', ()),
    ('hidden_layer_sizes', (256, 0)),
    ('random_goals', 0.25),
    ('discount', 0.0), ('discount', 1.0), ('discount', float('nan')),
    ('batch_size', 1),
    ('repr_dim', 0),
    ('num_sgd_steps_per_step', 0),
    ('min_replay_size', 0),
    ('learning_rate', 0.0),
    ('actor_learning_rate', -1e-3),
    ('adam_epsilon', 0.0),
    ('tau', 0.0),
    ('tau', 1.5),
    ('eval_tau', 0.0), ('eval_tau', 1.01),
    ('samples_per_insert', 0.0),
    ('logsumexp_penalty', -0.1),
    ('max_replay_size', 9_999),
    ('entropy_coefficient', -0.1),
    ('goal_neg_actor_steps', -1), ('goal_neg_actor_steps', 10_000),
    ('goal_pos_actor_steps', -1), ('goal_pos_actor_steps', 1),
    ('goal_pos_frac', 0.0), ('goal_pos_frac', 1.0),
    ('goal_pos_frac', float('nan')),
    ('perturbed_negatives_num', -1), ('perturbed_negatives_goal_num', -2),
    ('weight_reset_interval', -1), ('weight_reset_interval', 2**31),
    ('repr_temperature', 0.0), ('repr_temperature', 0.5),
    ('cold_q_scale', 0.0), ('cold_q_scale', float('inf')),
    ('init_weight', '/no/such/file'), ('init_weight', '/'),
    ('save_init_weight', '/no/such/folder/critic.npz'),
    ('save_init_weight', '/'),
])
def test_a_bad_value_is_told_with_its_name_and_value(name, bad):
  found = config_lib.problems(dataclasses.replace(BASE, **{name: bad}))
  assert names_of(found) == [name]
  assert f'got {bad!r}' in found[0]


@pytest.mark.parametrize('name, good', [
    ('hidden_layer_sizes', (1,)), ('random_goals', 0.0), ('random_goals', 1.0),
    ('batch_size', 2), ('tau', 1.0), ('logsumexp_penalty', 0.0),
    ('max_replay_size', 10_000), ('num_sgd_steps_per_step', 1),
    ('goal_neg_actor_steps', 10_001), ('weight_reset_interval', 2**31 - 1),
    ('save_init_weight', 'critic.npz')])
def test_a_value_at_the_edge_is_fine(name, good):
  assert config_lib.problems(dataclasses.replace(BASE, **{name: good})) == []


@pytest.mark.parametrize('settings, name, words', [
    (dict(goal_neg_actor_steps=20_000, loss='nce'), 'goal_neg_actor_steps',
     ['got 20000', 'not nce', '--alg=contrastive_cpc']),
    (dict(perturbed_negatives_num=2, loss='td'), 'perturbed_negatives_num',
     ['got 2', 'not td']),
    (dict(perturbed_negatives_goal_num=3, backward_loss=True),
     'perturbed_negatives_goal_num', ['got 3', 'backward_loss', 'drop one']),
    (dict(backward_loss=True, loss='td_mc'), 'backward_loss', ['not td_mc']),
    (dict(goal_pos_actor_steps=20_000, loss='td'), 'goal_pos_actor_steps',
     ['not td', 'contrastive_nce']),
    (dict(goal_pos_actor_steps=20_000, goal_pos_frac=0.001), 'goal_pos_frac',
     ['got 0.001', '256 (batch_size)']),
    (dict(goal_pos_actor_steps=20_000, goal_pos_frac=float('nan')),
     'goal_pos_frac', ['got nan']),
    (dict(use_residual_mlp=True, hidden_layer_sizes=(16, 32)),
     'use_residual_mlp', ['(16, 32)', 'hidden_layer_sizes']),
    (dict(repr_norm=True, monolithic_critic=True), 'repr_norm',
     ['monolithic_critic']),
    (dict(cold_q_init=True, repr_norm=True), 'cold_q_init', ['repr_norm']),
    (dict(cold_q_init=True, init_weight=__file__), 'cold_q_init',
     ['init_weight']),
    (dict(repr_temperature=0.1), 'repr_temperature', ['got 0.1', 'repr_norm']),
])
def test_what_excludes_each_other_is_told(settings, name, words):
  problem, = config_lib.problems(dataclasses.replace(BASE, **settings))
  assert problem.startswith(f'{name}: ')
  for word in words:
    assert word in problem, problem


@pytest.mark.parametrize('settings', [
    dict(goal_pos_actor_steps=20_000, loss='nce'),
    dict(repr_norm=True, repr_temperature=0.1, use_residual_mlp=True,
         perturbed_negatives_num=1),
    dict(monolithic_critic=True, cold_q_init=True, Q_max=True, loss='td'),
    dict(init_weight=__file__, weight_reset_interval=5, backward_loss=True),
])
def test_what_goes_together_is_fine(settings):
  assert config_lib.problems(dataclasses.replace(BASE, **settings)) == []


def test_all_problems_are_told_together():
  config = dataclasses.replace(
      BASE, loss='x', batch_size=0, discount=2.0, tau=-1.0,
      entropy_coefficient=0.1, target_entropy=1.0)
  assert sorted(names_of(config_lib.problems(config))) == [
      'batch_size', 'discount', 'loss', 'target_entropy', 'tau']


def test_settings_cannot_be_changed():
  with pytest.raises(dataclasses.FrozenInstanceError):
    BASE.batch_size = 3


def test_every_setting_on_the_command_line_has_a_help_text():
  for field in dataclasses.fields(ContrastiveConfig):
    if field.name != 'loss':
      assert field.metadata['help']


@pytest.mark.parametrize('batch_size, samples_per_insert, expected', [
    (256, 256.0, 1.0), (256, 64.0, 4.0), (128, 256.0, 0.5)])
def test_environment_steps_that_pay_for_an_update(
    batch_size, samples_per_insert, expected):
  config = dataclasses.replace(
      BASE, batch_size=batch_size, samples_per_insert=samples_per_insert)
  assert config_lib.environment_steps_per_update(config) == expected
