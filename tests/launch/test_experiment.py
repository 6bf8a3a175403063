"""An experiment as JSON, what a resumed run may change, and what is wrong."""

import dataclasses
import json
import os

import pytest

from envs import registry as env_registry
from launch import experiment as experiment_lib
from launch.errors import ConfigError
from launch.experiment import CHANGEABLE, Experiment
from learners import registry
from learners.contrastive import config as contrastive_config
from learners.dceo import config as dceo_config
from safety.regions import Box


def make(alg='contrastive_cpc', agent=None, **settings):
  """Returns an experiment; `agent` overrides its algorithm's settings."""
  algorithm = registry.ALGORITHMS[alg]
  values = dict(
      env='point_FourRooms', alg=alg, seed=1, preset='cpu',
      agent=algorithm.configure(alg, 'cpu', agent or {}), num_steps=1000,
      run_name=f'{alg}_run')
  return Experiment(**{**values, **settings})


def another(value):
  """Returns a value of the same kind that differs."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, (int, float)):
    return value + 1
  if isinstance(value, tuple):
    return (*value, 3)
  return '1,1:2,2' if value is None else value + '_other'


@pytest.mark.parametrize('alg', sorted(registry.ALGORITHMS))
@pytest.mark.parametrize('settings', [
    {},
    dict(fixed_goal=(2.5, 3.0), region_bounds='0,5:5,11', safety_margin=0.25,
         safety_enforcement=True, visit_bounds='1,1:2,2', num_actors=7,
         log_dir_path='elsewhere/', eval_interval=0.5),
])
def test_json_and_back_is_the_same_experiment(alg, settings):
  experiment = make(alg, **settings)
  back = experiment_lib.from_json(experiment_lib.to_json(experiment))
  assert back == experiment
  assert type(back.agent) is registry.ALGORITHMS[alg].config_class
  assert hash(back) == hash(experiment)


@pytest.mark.parametrize('alg', sorted(registry.ALGORITHMS))
def test_every_setting_of_an_algorithm_survives_json(alg):
  experiment = make(alg)
  for field in dataclasses.fields(experiment.agent):
    changed = dataclasses.replace(experiment.agent, **{
        field.name: another(getattr(experiment.agent, field.name))})
    changed = dataclasses.replace(experiment, agent=changed)
    back = experiment_lib.from_json(experiment_lib.to_json(changed))
    assert back == changed
    assert experiment_lib.changed_settings(experiment, back) != []


def test_none_survives_json():
  experiment = make(agent={'entropy_coefficient': None})
  text = experiment_lib.to_json(experiment)
  assert json.loads(text)['agent']['entropy_coefficient'] is None
  assert json.loads(text)['fixed_goal'] is None
  assert experiment_lib.from_json(text) == experiment


def test_the_same_settings_are_not_changed():
  assert experiment_lib.changed_settings(make(), make()) == []


@pytest.mark.parametrize(
    'name', [f.name for f in dataclasses.fields(Experiment)
             if f.name not in ('agent', 'alg')])
def test_exactly_the_changeable_settings_may_change(name):
  experiment = make()
  value = getattr(experiment, name)
  changed = dataclasses.replace(experiment, **{name: another(value)})
  found = experiment_lib.changed_settings(experiment, changed)
  if name in CHANGEABLE:
    assert found == []
  else:
    message, = found
    assert message.startswith(f'{name}: ')
    assert repr(value) in message and repr(another(value)) in message


def test_every_changeable_setting_exists():
  assert CHANGEABLE <= {f.name for f in dataclasses.fields(Experiment)}


def test_every_changed_setting_is_named_with_both_values():
  found = experiment_lib.changed_settings(
      make(agent={'batch_size': 64, 'twin_q': True}, num_actors=2),
      make(agent={'batch_size': 128}, num_actors=3, seed=5))
  assert [line.split(':')[0] for line in found] == [
      'agent.batch_size', 'agent.twin_q', 'seed']
  assert found[0] == 'agent.batch_size: the run has 64, got 128'


def test_another_algorithm_is_a_change():
  found = experiment_lib.changed_settings(
      make('contrastive_cpc', run_name='run'),
      make('c_learning', run_name='run'))
  names = [line.split(':')[0] for line in found]
  assert {'alg', 'agent.loss', 'agent.twin_q'} <= set(names)


@pytest.mark.parametrize('alg', ['udrl', 'rcp_r', 'rcp_a'])
@pytest.mark.parametrize('env', ['cartpole', 'lunarlander-sparse'])
def test_nothing_is_wrong_with_agents_under_commands(alg, env):
  assert experiment_lib.problems(make(alg, env=env)) == []
  problem, = experiment_lib.problems(make(alg))
  assert 'needs discrete actions' in problem or (
      'need discrete actions' in problem)


@pytest.mark.parametrize('alg', sorted(contrastive_config.VARIANTS))
@pytest.mark.parametrize('settings', [
    {},
    dict(region_bounds='0,5:5,11', safety_enforcement=True),
    dict(region_bounds='0,5:5,11', safety_margin=0.0),
    dict(region_bounds='0,5:5,11;6,0:7,3', fixed_goal=(10.5, 9.5)),
    dict(sample_goals=True, visit_bounds='0,0:1,1'),
    dict(fixed_goal=(0.0, 11.0), eval_interval=0.0, max_actor_restarts=0),
])
def test_nothing_is_wrong_with_good_settings(alg, settings):
  assert experiment_lib.problems(make(alg, **settings)) == []


@pytest.mark.parametrize('alg', sorted(dceo_config.VARIANTS))
def test_agents_of_pictures_ask_for_them(alg):
  assert experiment_lib.problems(make(alg, env='grid_FourRooms')) == []
  assert experiment_lib.problems(make(alg, env='atari_Pong')) == []
  found = experiment_lib.problems(make(alg, env='cartpole'))
  assert len(found) == 1 and 'pictures' in found[0]


def test_all_problems_are_listed_at_once():
  found = experiment_lib.problems(make(
      agent={'batch_size': 1, 'discount': 1.5}, num_steps=0, seed=-1,
      num_actors=0, envs_per_actor=0, max_parameter_age=0, eval_episodes=0,
      eval_interval=-1.0, time_delta_minutes=-1.0, log_interval=0.0,
      safety_candidates=0, max_actor_restarts=-1, fixed_goal=(1.0,),
      region_bounds='nonsense', visit_bounds='1,1:0,0'))
  named = sorted(line.split(':')[0].split(' ')[0] for line in found)
  assert named == sorted([
      'discount', 'batch_size', 'seed', 'num_steps', 'num_actors',
      'envs_per_actor', 'max_parameter_age', 'eval_episodes', 'eval_interval',
      'time_delta_minutes', 'log_interval', 'safety_candidates',
      'max_actor_restarts', 'fixed_goal', 'region_bounds', 'visit_bounds'])


def test_problems_with_regions_are_listed_beside_others():
  found = experiment_lib.problems(make(
      num_steps=0, region_bounds='-1,-1:1,1', safety_margin=-0.5))
  for words in ('num_steps: got 0', 'safety_margin: got -0.5',
                'holds the start'):
    assert any(words in line for line in found), found


def test_regions_are_held_against_the_position_in_a_longer_goal():
  def problems(env, region_bounds):
    return experiment_lib.problems(make(env=env, region_bounds=region_bounds))

  # Hand above the target at (0.12, 0.7); the rest of a goal is no position.
  assert problems('sawyer_bin', '0.3,0.8:0.5,1') == []
  for env, region in (('sawyer_bin', '0.1,0.6:0.2,0.8'),
                      ('random_point_FourRooms', '9,7:11,9')):
    (problem,) = problems(env, region)
    assert 'holds the goal' in problem
  # The box is elsewhere in each episode.
  (problem,) = problems('sawyer_box', '0.3,0.8:0.5,1')
  assert 'give fixed_goal' in problem


def test_what_the_algorithm_needs_of_the_environment_is_listed_too():
  agent = {'goal_neg_actor_steps': 20_000, 'batch_size': 1}
  found = experiment_lib.problems(make(agent=agent, sample_goals=True))
  assert [line.split(':')[0] for line in found] == [
      'batch_size', 'goal_neg_actor_steps']
  assert experiment_lib.problems(make(agent={**agent, 'batch_size': 2})) == []


def test_an_error_names_every_problem():
  error = ConfigError(['one', 'two'])
  assert error.problems == ['one', 'two']
  assert str(error) == '2 problem(s) in the settings:\n  - one\n  - two'


def test_folders_follow_from_the_experiment():
  experiment = make(log_dir_path='some/where', run_name='run_7', seed=7)
  assert experiment_lib.run_dir(experiment) == os.path.join(
      'some', 'where', 'run_7')
  assert experiment_lib.visits_dir(experiment) == os.path.join(
      'safety_region_visits_data', 'point_FourRooms_7')


def test_the_margin_follows_from_the_noise_unless_it_is_given():
  # Ten substeps of 0.1, each moved by one draw of standard deviation 0.01.
  assert experiment_lib.margin(make()) == pytest.approx(6 * 0.01)
  assert experiment_lib.margin(make(safety_margin=0.0)) == 0.0


def test_regions_are_audited_by_default():
  box = Box((0.0, 5.0), (5.0, 11.0))
  other = Box((1.0, 1.0), (2.0, 2.0))
  assert experiment_lib.regions(make()) == ()
  assert experiment_lib.regions(make(region_bounds='0,5:5,11')) == (box,)
  # The reference's box, when there is none.
  assert experiment_lib.audited_regions(make()) == (
      Box((1.0, 3.0), (4.0, 10.0)),)
  assert experiment_lib.audited_regions(
      make(region_bounds='0,5:5,11')) == (box,)
  assert experiment_lib.audited_regions(make(
      region_bounds='0,5:5,11', visit_bounds='1,1:2,2')) == (other,)
  assert experiment_lib.audited_regions(make(visit_bounds='1,1:2,2')) == (
      other,)


@pytest.mark.parametrize('absorbing', [False, True])
def test_absorbing_regions_are_not_masked(absorbing):
  experiment = make(
      region_bounds='0,5:5,11', use_absorbing_failure=absorbing)
  spec = env_registry.spec('point_FourRooms')
  mask = experiment_lib.safety_mask(experiment, spec)
  assert mask.regions == (() if absorbing else (Box((0.0, 5.0), (5.0, 11.0)),))


def test_goals_and_regions_mean_nothing_where_there_are_none():
  experiment = make(
      env='cartpole', region_bounds='0,2:1,4', fixed_goal=(1.0, 2.0),
      safety_enforcement=True, safety_margin=0.0)
  found = experiment_lib.problems(experiment)
  for name in ('fixed_goal', 'region_bounds', 'safety_enforcement',
               'safety_margin'):
    problem, = [p for p in found if p.startswith(f'{name}:')]
    assert 'cartpole has no goals' in problem


def test_contrastive_agents_need_goals():
  found = experiment_lib.problems(make(env='cartpole'))
  assert len(found) == 1 and 'need goals and continuous actions' in found[0]
