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


def test_the_reference_preset_has_the_published_values():
  config = config_lib.from_settings('contrastive_cpc', 'reference', {})
  assert dataclasses.asdict(config) == dict(
      loss='cpc', twin_q=False, hidden_layer_sizes=(256, 256), repr_dim=64,
      batch_size=256, num_sgd_steps_per_step=64, learning_rate=3e-4,
      actor_learning_rate=3e-4, adam_epsilon=1e-7, discount=0.99, tau=0.005,
      logsumexp_penalty=0.01, random_goals=0.5, entropy_coefficient=0.0,
      target_entropy=0.0, samples_per_insert=256.0, min_replay_size=10_000,
      max_replay_size=1_000_000)


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
    ('samples_per_insert', 0.0),
    ('logsumexp_penalty', -0.1),
    ('max_replay_size', 9_999),
    ('entropy_coefficient', -0.1),
])
def test_a_bad_value_is_told_with_its_name_and_value(name, bad):
  found = config_lib.problems(dataclasses.replace(BASE, **{name: bad}))
  assert names_of(found) == [name]
  assert f'got {bad!r}' in found[0]


@pytest.mark.parametrize('name, good', [
    ('hidden_layer_sizes', (1,)), ('random_goals', 0.0), ('random_goals', 1.0),
    ('batch_size', 2), ('tau', 1.0), ('logsumexp_penalty', 0.0),
    ('max_replay_size', 10_000), ('num_sgd_steps_per_step', 1)])
def test_a_value_at_the_edge_is_fine(name, good):
  assert config_lib.problems(dataclasses.replace(BASE, **{name: good})) == []


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
