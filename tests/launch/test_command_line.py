"""The command line: what it builds, and how it refuses what it cannot."""

import os
import re
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver
import pytest

from launch import command_line
from launch.errors import ConfigError
from learners import settings
from learners.registry import ALGORITHMS
from tests.launch.processes import LP_RUN

FLAGS = flags.FLAGS


@pytest.fixture(scope='module')
def defined():
  """Defines the flags for the tests of this module."""
  before = set(FLAGS)
  if 'env' not in before:
    command_line.define_flags()
  yield
  for name in set(FLAGS) - before:
    delattr(FLAGS, name)


@pytest.fixture
def build(defined):
  """Yields `*flags -> Experiment`; the flags' values are put back after."""
  del defined

  def experiment(*arguments):
    FLAGS.unparse_flags()
    rest = FLAGS(['lp_run.py', *arguments])
    assert rest == ['lp_run.py']
    return command_line.experiment_from_flags()

  with flagsaver.flagsaver():
    yield experiment


REGION = '--region_bounds=0,5:5,11'

# What is given, and the words that must be in the answer.
BAD = [
    ('--env=point_FourRoom', ['env', "'point_FourRoom'", 'point_FourRooms']),
    ('--env=fourrooms', ['env', 'nearest', 'point_FourRooms']),
    ('--env=~~', ['env', 'point_Cross', 'point_Wall11x11']),
    ('--alg=contrastive_cp', ['alg', "'contrastive_cp'", 'contrastive_cpc']),
    ('--alg=~~', ['alg', 'c_learning', 'contrastive_nce', 'nce+c_learning']),
    ('--preset=gpu', ['preset', "'gpu'", 'cpu, reference']),
    ('--batch_size=many', ['batch_size', "'many'", 'a whole number']),
    ('--batch_size=2.5', ['batch_size', "'2.5'", 'a whole number']),
    ('--batch_size=1', ['batch_size', 'got 1', 'at least 2']),
    ('--alg=udrl --env=cartpole --command_grid=3',
     ['command_grid', 'two numbers']),
    ('--alg=udrl --env=cartpole --command_grid=3,1',
     ['command_grid', 'smaller one first']),
    ('--learning_rate=fast', ['learning_rate', "'fast'", 'a number']),
    ('--learning_rate=0', ['learning_rate', 'got 0.0', 'positive']),
    ('--actor_learning_rate=-1', ['actor_learning_rate', 'positive']),
    ('--learning_rate=nan', ['learning_rate', 'nan', 'positive']),
    ('--twin_q=maybe', ['twin_q', "'maybe'", 'true or false']),
    ('--hidden_layer_sizes=256x256', [
        'hidden_layer_sizes', "'256x256'", "whole numbers like '256,256'"]),
    ('--hidden_layer_sizes=', ['hidden_layer_sizes', 'whole numbers']),
    ('--hidden_layer_sizes=16,0', ['hidden_layer_sizes', 'positive widths']),
    ('--discount=1', ['discount', 'got 1.0', 'between 0 and 1']),
    ('--random_goals=0.3', ['random_goals', '0.3', '0, 0.5 or 1']),
    ('--entropy_coefficient=auto', [
        'entropy_coefficient', "'auto'", "'none'"]),
    ('--entropy_coefficient=-1', ['entropy_coefficient', '-1', "'none'"]),
    ('--target_entropy=-2 --entropy_coefficient=0.0', [
        'target_entropy', 'entropy_coefficient']),
    ('--max_replay_size=100', [
        'max_replay_size', '100', 'min_replay_size (10000)']),
    ('--min_replay_size=0', ['min_replay_size', 'at least 1']),
    ('--num_sgd_steps_per_step=0', ['num_sgd_steps_per_step', 'at least 1']),
    ('--num_steps=0', ['num_steps', 'got 0', 'at least 1']),
    ('--seed=-1', ['seed', 'got -1', 'at least 0']),
    ('--num_actors=0', ['num_actors', 'at least 1']),
    ('--envs_per_actor=0', ['envs_per_actor', 'at least 1']),
    ('--eval_episodes=0', ['eval_episodes', 'at least 1']),
    ('--log_interval=0', ['log_interval', 'at least 0.1']),
    ('--max_actor_restarts=-1', ['max_actor_restarts', 'at least 0']),
    ('--safety_candidates=0', ['safety_candidates', 'at least 1']),
    ('--fixed_goal=here', ['fixed_goal', "'here'", "'10,8'"]),
    ('--fixed_goal=1', ['fixed_goal', 'got 1 numbers', 'needs 2']),
    ('--fixed_goal=1,2,3', ['fixed_goal', 'got 3 numbers', 'needs 2']),
    ('--fixed_goal=20,20', ['fixed_goal', 'outside', '(11.0, 11.0)']),
    ('--fixed_goal=nan,1', ['fixed_goal', 'outside']),
    ('--fixed_goal=1,1 --sample_goals', ['fixed_goal', 'sample_goals']),
    ('--region_bounds=0,5', ['region_bounds', "':'", "'0,5:5,11'"]),
    ('--region_bounds=0,5:5', ['region_bounds', 'needs 2 numbers']),
    ('--region_bounds=a,b:5,11', ['region_bounds', 'not made of numbers']),
    ('--region_bounds=5,11:0,5', ['region_bounds', 'lower corner above']),
    ('--region_bounds=0,5:inf,11', ['region_bounds', 'not finite']),
    ('--region_bounds=-1,-1:1,1', ['region_bounds', 'holds the start']),
    ('--region_bounds=9,7:11,9', ['region_bounds', 'holds the goal']),
    ('--visit_bounds=0,5', ['visit_bounds', "':'"]),
    ('--safety_enforcement', ['safety_enforcement', 'needs region_bounds']),
    ('--use_absorbing_failure', [
        'use_absorbing_failure', 'needs region_bounds']),
    (f'{REGION} --sample_goals', ['region_bounds', 'sample_goals']),
    (f'{REGION} --safety_margin=-1', ['safety_margin', '-1', '0 or more']),
    # A comparison with NaN is false, also the one that keeps a policy safe.
    (f'{REGION} --safety_margin=nan', ['safety_margin', 'nan']),
    # Nowhere is far enough away.
    (f'{REGION} --safety_margin=inf', ['safety_margin', 'inf']),
    ('--time_delta_minutes=nan', ['time_delta_minutes', 'nan']),
    ('--log_interval=nan', ['log_interval', 'nan']),
    ('--eval_interval=nan', ['eval_interval', 'nan']),
    ('--samples_per_insert=inf', ['samples_per_insert', 'inf']),
    ('--learning_rate=inf', ['learning_rate', 'inf']),
    ('--goal_neg_actor_steps=5000', [
        'goal_neg_actor_steps', '5000', 'min_replay_size (10000)']),
    ('--goal_neg_actor_steps=20000 --alg=contrastive_nce', [
        'goal_neg_actor_steps', '20000', 'nce', 'contrastive_cpc']),
    ('--goal_neg_actor_steps=20000 --sample_goals', [
        'goal_neg_actor_steps', '20000', 'fixed goal', 'sample_goals']),
    (f'--monolithic_critic=true {REGION}', [
        'monolithic_critic', 'region_bounds', 'drop one']),
    ('--repr_temperature=0.1', ['repr_temperature', '0.1', 'repr_norm']),
    ('--init_weight=nowhere.npz', ['init_weight', "'nowhere.npz'", 'a file']),
    (f'--init_weight={__file__}', ['init_weight', __file__, 'no .npz archive']),
    ('--save_init_weight=no/such/critic.npz', [
        'save_init_weight', 'no/such/critic.npz', 'folder']),
    ('--Q_max=yes', ['Q_max', "'yes'", 'true or false']),
    ('--commanded_return=5', ['commanded_return', 'needs --eval_agent']),
    ('--horizon=0', ['horizon', 'needs --eval_agent']),
    ('--num_step=5', ['num_step', 'num_steps']),
    ('--num_steps=many', ['num_steps', 'many']),
    ('--loss=td', ['loss']),
]


@pytest.mark.parametrize('given, words', BAD, ids=[given for given, _ in BAD])
def test_bad_flags_are_refused_with_what_to_do(build, given, words):
  with pytest.raises((ConfigError, flags.Error)) as error:
    build(*given.split())
  message = str(error.value)
  for word in words:
    assert word in message, message
  if isinstance(error.value, ConfigError):
    assert len(error.value.problems) == 1, message


@pytest.mark.parametrize('given, names', [
    ('--env=point --alg=c', ['env', 'alg']),
    ('--env=point --preset=x', ['env', 'preset']),
    ('--batch_size=a --twin_q=b --fixed_goal=c',
     ['twin_q', 'batch_size', 'fixed_goal']),
    ('--batch_size=1 --num_steps=0 --region_bounds=1',
     ['batch_size', 'num_steps', 'region_bounds']),
    # Whatever each of them is found by.
    ('--env=point_FourRoom --num_steps=0', ['env', 'num_steps']),
    ('--batch_size=a --num_steps=0', ['batch_size', 'num_steps']),
    ('--env=point_FourRoom --batch_size=a', ['env', 'batch_size']),
    ('--num_steps=0 --region_bounds=-1,-1:1,1', ['num_steps', 'region_bounds']),
    ('--goal_pos_actor_steps=20000 --sample_goals --backward_loss=true '
     '--alg=contrastive_nce', ['goal_pos_actor_steps', 'backward_loss']),
])
def test_all_problems_are_listed_at_once(build, given, names):
  with pytest.raises(ConfigError) as error:
    build(*given.split())
  found = error.value.problems
  assert len(found) == len(names), found
  for name in names:
    assert any(problem.startswith(name) for problem in found), found


def test_the_defaults_are_a_run(build):
  experiment = build()
  assert (experiment.env, experiment.alg, experiment.preset) == (
      'point_FourRooms', 'contrastive_cpc', 'cpu')
  assert experiment.run_name == 'contrastive_cpc_point_FourRooms_42'
  assert experiment.agent.hidden_layer_sizes == (256, 256)
  assert not experiment.safety_enforcement


def test_the_help_says_whose_default_is_which(defined):
  del defined
  helps = command_line._agent_flags()
  for name, found in helps.items():
    owners = {}
    for alg in ALGORITHMS.values():
      for field in settings.fields(alg.config_class):
        if field.name == name:
          owners[alg.config_class.__name__[:-len('Config')].lower()] = field
    for family, field in owners.items():
      own = f'{field.metadata["help"]} (default: {field.default})'
      # Its family's name is the last one before its text.
      before = found[:found.index(own)].split('; ')[-1]
      assert before == '' if len(owners) == 1 else (
          family in before.rstrip(': ').split(', ')), (name, found)
  assert helps['discount'].startswith('contrastive: discount, and decay')
  assert '; rcp: discount of returns' in helps['discount']
  assert helps['option_prob'].startswith('chance that')
  assert 'config.json' in FLAGS['preset'].help


def test_flags_reach_the_experiment(build):
  experiment = build(
      '--env=point_Small', '--alg=c_learning', '--seed=3', '--num_steps=77',
      '--fixed_goal=1.5,2', '--num_actors=2', '--envs_per_actor=5',
      '--time_delta_minutes=0.5', '--log_dir_path=elsewhere',
      '--visit_bounds=0,2:1,3')
  assert experiment.env == 'point_Small'
  assert experiment.seed == 3
  assert experiment.num_steps == 77
  assert experiment.fixed_goal == (1.5, 2.0)
  assert (experiment.num_actors, experiment.envs_per_actor) == (2, 5)
  assert experiment.time_delta_minutes == 0.5
  assert experiment.log_dir_path == 'elsewhere'
  assert experiment.visit_bounds == '0,2:1,3'
  assert experiment.run_name == 'c_learning_point_Small_3'
  assert experiment.agent.loss == 'td' and experiment.agent.twin_q


def test_settings_of_the_algorithm_are_parsed_by_their_type(build):
  agent = build(
      '--hidden_layer_sizes=32,16,8', '--batch_size=48', '--learning_rate=2e-3',
      '--twin_q=TRUE', '--entropy_coefficient=None', '--target_entropy=-2',
      '--discount=0.5').agent
  assert agent.hidden_layer_sizes == (32, 16, 8)
  assert agent.batch_size == 48 and type(agent.batch_size) is int
  assert agent.learning_rate == 2e-3
  assert agent.twin_q is True
  assert agent.entropy_coefficient is None
  assert agent.target_entropy == -2.0


def test_ablations_are_off_until_asked_for(build):
  agent = build().agent
  assert not agent.Q_max and agent.save_init_weight is None
  agent = build(
      '--Q_max=true', '--goal_neg_actor_steps=50000', '--repr_norm=true',
      '--repr_temperature=0.1', '--save_init_weight=critic.npz').agent
  assert agent.Q_max is True and agent.repr_norm is True
  assert agent.goal_neg_actor_steps == 50_000
  assert agent.repr_temperature == 0.1
  assert agent.save_init_weight == 'critic.npz'


def test_a_flag_overrules_the_preset(build):
  assert build('--preset=reference').agent.batch_size == 256
  agent = build('--preset=reference', '--batch_size=32').agent
  assert agent.batch_size == 32 and agent.num_sgd_steps_per_step == 64


@pytest.mark.parametrize('given, enforced', [
    ((), False), ((REGION,), True), ((REGION, '--nosafety_enforcement'), False),
    ((REGION, '--safety_enforcement'), True),
    ((REGION, '--use_absorbing_failure'), False),
    ((REGION, '--use_absorbing_failure', '--safety_enforcement'), True)])
def test_regions_are_enforced_unless_told_otherwise(build, given, enforced):
  assert build(*given).safety_enforcement is enforced


def test_a_uid_gives_a_run_a_folder_of_its_own(build):
  name = build('--add_uid', '--seed=5').run_name
  assert re.fullmatch(
      r'contrastive_cpc_point_FourRooms_5_\d{8}-\d{6}', name)


def test_a_refused_command_starts_nothing(tmp_path):
  result = subprocess.run(
      [sys.executable, LP_RUN, '--num_steps=0', '--batch_size=1',
       '--region_bounds=0,5'],
      cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
  assert result.returncode == 2, result.stderr
  for words in ('3 problem(s)', 'num_steps: got 0', 'batch_size: got 1',
                "region_bounds '0,5'"):
    assert words in result.stderr, result.stderr
  assert 'Traceback' not in result.stderr
  assert result.stdout == ''
  assert os.listdir(tmp_path) == []
