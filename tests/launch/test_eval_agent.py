"""Evaluating a checkpoint: its policies, given commands, a grid, a film."""

import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from launch import (
  episodes,
  eval_agent,
  factory,
  report,
  run_folder,
  summary,
  video,
)
from launch.experiment import Experiment
from learners import checkpoint
from learners.agent import HELD_OUT
from learners.registry import ALGORITHMS
from tests.launch.processes import LP_RUN

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
  """Returns the folder of a run with two checkpoints; the first is better."""
  folder = tmp_path_factory.mktemp('runs')
  experiment = Experiment(
      env='cartpole', alg='udrl', seed=1, preset='cpu',
      agent=ALGORITHMS['udrl'].configure(
          'udrl', 'cpu', dict(hidden_sizes=(4, 5)), 'cartpole'),
      num_steps=1000, run_name='run', log_dir_path=str(folder))
  path = run_folder.prepare(experiment)
  agent = factory.make_agent(experiment)
  state = agent.init(jax.random.key(0))
  for step, score, best in ((10, 5.0, 30.0), (20, 1.0, 50.0)):
    state = agent.hear(state, {
        'episode_return': np.array([best], np.float32),
        'episode_length': np.array([best], np.float32),
        HELD_OUT: np.zeros(1, np.float32)}, np.ones(1, bool))
    checkpoint.save(run_folder.checkpoint_dir(path), step, state, {},
                    score=score)
  return path


def test_the_policies_of_the_agent(run_dir, capsys):
  assert eval_agent.main([run_dir, '--episodes=3']) == 0
  output = capsys.readouterr().out
  assert 'run after 20 updates, 3 episodes each' in output
  for name in ('evaluation', 'greedy', 'reference'):
    assert f'| {name} |' in output


def test_the_newest_the_best_and_a_given_checkpoint(run_dir):
  assert eval_agent.load(run_dir).updates == 20
  assert eval_agent.load(run_dir, best=True).updates == 10
  first = checkpoint.checkpoints(run_folder.checkpoint_dir(run_dir))[0]
  saved = eval_agent.load(first)
  assert saved.updates == 10
  assert saved.run.experiment.alg == 'udrl'


def test_a_grid_of_commands_is_drawn(run_dir, capsys):
  assert eval_agent.main(
      [run_dir, '--episodes=4', '--grid=10,40', '--horizon=9']) == 0
  assert 'over 4 commands from 10 to 40' in capsys.readouterr().out
  path = os.path.join(run_folder.figures_dir(run_dir), 'command_grid.png')
  assert os.path.getsize(path) > 0
  saved = eval_agent.load(run_dir)
  metrics, _ = episodes.run(
      saved, eval_agent.commanded(saved, 10.0, 40.0, 9.0, False), 4, 0)
  assert sorted(metrics['commanded_return'].tolist()) == [
      10.0, 20.0, 30.0, 40.0]
  assert metrics['commanded_horizon'].tolist() == [9.0] * 4
  assert np.all(metrics['episode_return'] >= 1)


def test_one_command_for_all(run_dir, capsys):
  assert eval_agent.main(
      [run_dir, '--episodes=2', '--commanded_return=25', '--greedy']) == 0
  assert '| as commanded |' in capsys.readouterr().out


def test_the_evaluator_asks_for_a_grid_of_commands(run_dir):
  saved = eval_agent.load(run_dir)
  experiment = dataclasses.replace(
      saved.run.experiment, eval_episodes=5, run_name='evaluated')
  run_dir = run_folder.prepare(experiment)

  class Learner:

    def get_variables(self, have, for_evaluation):
      del have, for_evaluation
      return saved.updates, saved.variables

  counter = factory.make_counter(experiment)
  evaluator = factory.make_evaluator(experiment, 0, Learner(), counter)
  assert evaluator.fetch()
  metrics = evaluator.evaluate()
  counter.close()
  assert sorted(metrics['grid_commanded_return']) == [0, 125, 250, 375, 500]
  assert np.all(metrics['commanded_return'] == metrics['commanded_return'][0])
  logged = summary.read_log(run_dir, 'evaluator')['grid_correlation']
  np.testing.assert_equal(logged, metrics['grid_correlation'])

  assert report.main([run_dir]) == 0
  path = os.path.join(run_folder.figures_dir(run_dir), 'command_grid.png')
  assert os.path.getsize(path) > 0
  axes, = report.command_grid_figure(report.load(run_dir), saved.agent).axes
  dots, = [line for line in axes.lines if line.get_label() == 'episodes']
  np.testing.assert_equal(
      dots.get_xydata(), np.stack([metrics['grid_commanded_return'],
                                   metrics['grid_episode_return']], axis=1))


def test_lp_run_evaluates(run_dir, tmp_path):
  ended = subprocess.run(
      [sys.executable, LP_RUN, f'--eval_agent={run_dir}', '--eval_episodes=2',
       '--commanded_return=25', '--horizon=9'],
      cwd=tmp_path, capture_output=True, text=True, timeout=120)
  assert ended.returncode == 0, ended.stderr
  assert 'run after 20 updates, 2 episodes each' in ended.stdout
  assert '| as commanded |' in ended.stdout
  assert os.listdir(tmp_path) == []


def test_lp_run_evaluates_with_no_flag_that_it_does_not_heed(tmp_path):
  ended = subprocess.run(
      [sys.executable, LP_RUN, '--eval_agent=logs/run', '--horizon=9', 'best',
       '--env=cartpole', '--noserial', '--lp_launch_type=local_mt',
       '--batch_size=3', '--seed=3', '--verbosity=0'],
      cwd=tmp_path, capture_output=True, text=True, timeout=120)
  assert ended.returncode == 2, ended.stderr
  assert "unexpected argument 'best'" in ended.stderr
  refused = {line[len('  - '):].split(':')[0]
             for line in ended.stderr.splitlines() if ': is for runs' in line}
  assert refused == {'env', 'serial', 'lp_launch_type', 'batch_size'}
  assert '5 problem(s)' in ended.stderr and ended.stdout == ''


def test_what_cannot_be_is_said(run_dir, tmp_path, capsys):
  assert eval_agent.main([run_dir, '--episodes=1', '--gif']) == 1
  assert 'cartpole cannot be filmed' in capsys.readouterr().err
  assert eval_agent.main([str(tmp_path)]) == 2
  assert 'no run folder' in capsys.readouterr().err


@pytest.mark.parametrize('given, names', [
    ('--horizon=9', ['horizon']),
    ('--greedy --horizon=9 --episodes=0', ['episodes', 'horizon', 'greedy']),
    ('--grid=1,2 --commanded_return=1', ['commanded_return']),
    ('--grid=1,2 --gif', ['gif'])])
def test_options_that_would_do_nothing_are_refused(
    run_dir, capsys, given, names):
  assert eval_agent.main([run_dir, *given.split()]) == 2
  output = capsys.readouterr()
  assert output.out == ''
  said = [line[len('  - '):].split(':')[0]
          for line in output.err.splitlines()[1:]]
  assert said == names


def test_a_checkpoint_is_no_choice_of_the_best(run_dir, capsys):
  first = checkpoint.checkpoints(run_folder.checkpoint_dir(run_dir))[0]
  assert eval_agent.main([first, '--best']) == 2
  assert 'best: ' in capsys.readouterr().err


def test_a_horizon_is_for_agents_that_follow_one(run_dir):
  saved = eval_agent.load(run_dir)
  returns_alone = saved._replace(agent=dataclasses.replace(
      saved.agent, command_names=('return',)))
  with pytest.raises(report.Missing, match='no horizon, but: return'):
    eval_agent.commanded(returns_alone, 1.0, 2.0, 9.0, False)


def test_a_lander_is_filmed_without_a_display(tmp_path):
  experiment = Experiment(
      env='lunarlander', alg='rcp_r', seed=1, preset='cpu',
      agent=ALGORITHMS['rcp_r'].configure(
          'rcp_r', 'cpu', dict(hidden_sizes=(4,)), 'lunarlander'),
      num_steps=1000, run_name='lander', log_dir_path=str(tmp_path))
  path = run_folder.prepare(experiment)
  agent = factory.make_agent(experiment)
  checkpoint.save(run_folder.checkpoint_dir(path), 1,
                  agent.init(jax.random.key(0)), {})
  run = report.load(path)
  frames, outcome = video.film(video.newest(run), seed=0)
  assert frames.dtype == np.uint8 and frames.ndim == 4 and len(frames) > 5
  assert outcome.startswith('a return of ')
  saved = eval_agent.load(path)
  assert dataclasses.replace(saved.agent, commanded=None).commanded is None
  metrics, frames = episodes.run(
      saved, saved.agent.eval_policy, 2, 0, film=True)
  assert len(metrics['episode_return']) == 2 and len(frames) > 5
