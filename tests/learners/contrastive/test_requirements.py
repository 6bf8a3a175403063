"""What settings need of the environment and of the regions in it."""

import dataclasses
import os
import subprocess
import sys

import jax
import pytest

from learners.contrastive import requirements, weights
from tests.learners.contrastive.by_hand import make, MASK, NO_MASK, SPEC

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *['..'] * 3))
ANYWHERE = dataclasses.replace(SPEC, goal=None)


def critic(**overrides):
  agent, _ = make('contrastive_cpc', **overrides)
  return agent.init(jax.random.key(0)).critic_params


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'critic.npz')


@pytest.mark.parametrize('name, value', [
    ('goal_neg_actor_steps', 50), ('goal_pos_actor_steps', 60),
    ('perturbed_negatives_goal_num', 2)])
def test_some_settings_need_a_fixed_goal(name, value):
  _, config = make('contrastive_cpc', **{name: value}, goal_pos_frac=0.25)
  assert requirements.problems(config, SPEC, MASK) == []
  problem, = requirements.problems(config, ANYWHERE, NO_MASK)
  assert problem.startswith(f'{name}: got {value}, needs a fixed goal')
  assert 'sample_goals' in problem


def test_others_do_not():
  _, config = make('contrastive_cpc', perturbed_negatives_num=2, repr_norm=True)
  assert requirements.problems(config, ANYWHERE, NO_MASK) == []


def test_regions_need_representations():
  _, config = make('contrastive_cpc', monolithic_critic=True)
  assert requirements.problems(config, SPEC, NO_MASK) == []
  problem, = requirements.problems(config, SPEC, MASK)
  assert problem.startswith('monolithic_critic: got True')
  assert 'region_bounds' in problem


class TestInitWeight:

  def test_a_file_that_fits_is_fine(self, path):
    weights.save(path, critic())
    _, config = make('contrastive_cpc', init_weight=path)
    assert requirements.problems(config, SPEC, NO_MASK) == []

  def test_a_file_that_does_not_fit_is_named(self, path):
    weights.save(path, critic(repr_dim=9))
    _, config = make('contrastive_cpc', init_weight=path)
    problem, = requirements.problems(config, SPEC, NO_MASK)
    assert problem.startswith(f'init_weight: {path} holds the critic of other')

  def test_looking_at_it_takes_no_device(self, path):
    weights.save(path, critic())
    code = (
        'from tests.learners.contrastive.by_hand import make, NO_MASK, SPEC\n'
        'from learners.contrastive import requirements, config\n'
        'import sys\n'
        'given = config.ContrastiveConfig(hidden_layer_sizes=(6,), repr_dim=4,'
        ' init_weight=sys.argv[1])\n'
        'print(requirements.problems(given, SPEC, NO_MASK))\n')
    # Any use of a device fails on a platform that does not exist.
    result = subprocess.run(
        [sys.executable, '-c', code, path], cwd=ROOT,
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, 'JAX_PLATFORMS': 'no_such_platform'})
    assert result.stdout.strip() == '[]', result.stderr
