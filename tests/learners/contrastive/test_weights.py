"""Critic parameters in a file: written at the start, and started from."""

import os

import jax
import numpy as np
import pytest

from launch import eval_agent, factory, report, run_folder
from launch.experiment import Experiment
from learners import registry
from learners.contrastive import weights
from tests import contracts
from tests.learners.contrastive.by_hand import make

pytestmark = pytest.mark.usefixtures('quick_compile')


def critic(seed=0, **overrides):
  agent, _ = make('contrastive_cpc', **overrides)
  return agent.init(jax.random.key(seed)).critic_params


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'critic.npz')


class TestFile:

  @pytest.mark.parametrize('overrides', [
      {}, dict(twin_q=True), dict(monolithic_critic=True),
      dict(use_residual_mlp=True, hidden_layer_sizes=(4,) * 6)])
  def test_comes_back_as_it_was(self, path, overrides):
    saved = critic(0, **overrides)
    weights.save(path, saved)
    contracts.assert_same_values(
        weights.load(path, critic(1, **overrides)), saved, 'other weights')
    assert os.listdir(os.path.dirname(path)) == ['critic.npz']

  def test_is_overwritten(self, path):
    weights.save(path, critic(0))
    weights.save(path, critic(1))
    contracts.assert_same_values(
        weights.load(path, critic(0)), critic(1), 'the old weights')

  @pytest.mark.parametrize('overrides, words', [
      (dict(repr_dim=3), ["['phi'][0]['linear']['w'] is float32[6, 4], needs "
                          'float32[6, 3]', 'other settings']),
      (dict(twin_q=True), ["['psi'][1]['linear']['b'] is missing"]),
      (dict(monolithic_critic=True), ["['q'][0]['linear']['b'] is missing",
                                      "['psi'][0]['linear']['b'] is not"]),
  ])
  def test_of_other_settings_is_refused(self, path, overrides, words):
    weights.save(path, critic(0))
    with pytest.raises(ValueError) as error:
      weights.load(path, critic(0, **overrides))
    for word in words:
      assert word in str(error.value)

  def test_of_something_else_is_refused(self, path):
    template = critic()
    assert 'no .npz archive' in weights.problems(path, template)[0]
    with open(path, 'w', encoding='utf-8') as f:
      f.write('nothing')
    assert 'no .npz archive' in weights.problems(path, template)[0]
    # Arrays of objects are pickles, which run code when they are read.
    np.savez(path, thing=np.array([{}], object))
    assert 'allow_pickle' in weights.problems(path, template)[0]


def test_a_run_starts_from_the_file(path):
  saved = critic(5)
  weights.save(path, saved)
  for alg in ('contrastive_cpc', 'c_learning'):
    plain, _ = make(alg, twin_q=False)
    agent, config = make(alg, twin_q=False, init_weight=path)
    state = registry.ALGORITHMS[alg].on_start(
        config, agent.init(jax.random.key(0)))
    expected = plain.init(jax.random.key(0))._replace(critic_params=saved)
    if alg == 'c_learning':
      expected = expected._replace(target_params=saved)
    contracts.assert_same_values(state, expected, 'another start')


def prepared(name, seed=1, **settings):
  """Returns the experiment of a new run, whose folder is there."""
  alg = 'c_learning'
  experiment = Experiment(
      env='point_Small', alg=alg, seed=seed, preset='cpu', num_steps=100,
      run_name=name, agent=registry.ALGORITHMS[alg].configure(alg, 'cpu', dict(
          hidden_layer_sizes=(4,), repr_dim=3, **settings)))
  run_folder.prepare(experiment)
  return experiment


def make_learner(experiment):
  return factory.make_learner(
      experiment, factory.make_counter(experiment), lambda: None)


def test_only_a_new_run_writes_the_file(path, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  experiment = prepared('run', save_init_weight=path)
  learner = make_learner(experiment)
  contracts.assert_same_values(
      weights.load(path, learner.state.critic_params),
      learner.state.critic_params, 'not the start')
  learner.save()
  os.remove(path)
  make_learner(experiment)
  assert not os.path.exists(path)


def test_only_a_new_run_needs_the_file(path, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  first = make_learner(prepared('first', save_init_weight=path))
  experiment = prepared('second', seed=2, init_weight=path)
  learner = make_learner(experiment)
  for params in (learner.state.critic_params, learner.state.target_params):
    contracts.assert_same_values(
        params, first.state.critic_params, 'another start')
  learner.save()
  os.remove(path)
  contracts.assert_same_values(
      make_learner(experiment).state, learner.state, 'not what was saved')
  run = report.load(os.path.join('logs', 'second'))
  contracts.assert_same_values(
      report.load_checkpoint(run).state, learner.state, 'not what was saved')
  assert eval_agent.load(run.path).updates == 0
  with pytest.raises(ValueError, match='critic.npz cannot be read'):
    make_learner(prepared('third', init_weight=path))
