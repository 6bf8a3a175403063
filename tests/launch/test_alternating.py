"""Command-conditioned agents in one thread, side by side and in turns."""

import dataclasses
import os

import numpy as np
import pytest

from launch import alternating, factory, run_folder, serial
from launch.experiment import Experiment
from learners import checkpoint
from learners.registry import ALGORITHMS
from replay import hindsight
from tests.learners.udrl.reference import Buffer, pairs

pytestmark = pytest.mark.usefixtures('quick_compile')

TINY = dict(hidden_sizes=(4, 5), batch_size=16, num_sgd_steps_per_step=5,
            episodes_per_call=8, warmup_episodes=25, updates_per_episode=1.0,
            max_replay_episodes=30)


def make(seed=1, alg='udrl', num_actors=1, **settings):
  agent = ALGORITHMS[alg].configure(alg, 'cpu', TINY, 'cartpole')
  return Experiment(**{**dict(
      env='cartpole', alg=alg, seed=seed, preset='cpu', agent=agent,
      num_steps=100_000, run_name='run', num_actors=num_actors,
      envs_per_actor=1, eval_episodes=2, log_interval=1e9), **settings})


def prepared(folder, program, monkeypatch, experiment):
  os.makedirs(folder, exist_ok=True)
  monkeypatch.chdir(folder)
  run_folder.prepare(experiment, serial=True)
  return program(experiment)


def held(program):
  """Returns the episodes in memory, best first, the newest before equals."""
  saved = program._replay.save()
  arrays = saved['arrays']
  order = np.lexsort((-arrays['_order'], -arrays['episode_return']))
  return [{name: arrays[name][i] for name in (
      'episode_return', 'length', 'reward')} for i in order]


class Watched:
  """Counts what the learner is made to do, and feeds the reference buffer."""

  def __init__(self, program):
    self.events = []
    learner, step, hear = program.learner, program.learner.step, (
        program.learner.hear)

    def watch_step(batch, waited):
      self.events.append(('update', program.num_episodes))
      return step(batch, waited)

    def watch_hear(num_episodes):
      self.events.append(('hear', num_episodes))
      return hear(num_episodes)

    learner.step, learner.hear = watch_step, watch_hear


def test_epochs_learn_and_then_collect(tmp_path, monkeypatch):
  program = prepared(str(tmp_path), alternating.AlternatingProgram,
                     monkeypatch, make())
  watched = Watched(program)
  evaluations = []
  monkeypatch.setattr(
      program, '_evaluate', lambda: evaluations.append(program.num_episodes))
  for _ in range(3):
    program.step()
  # 5 + 20 episodes before there are 25; 20 updates, in calls of 5, an epoch.
  assert watched.events == [
      event for episodes in (5, 25, 45)
      for event in [('hear', episodes)] + [('update', episodes)] * 4]
  assert program.num_episodes == 65
  assert evaluations == [25]
  assert program.learner.updates == 60


def test_both_schedules_agree_with_the_reference_buffer(tmp_path, monkeypatch):
  for schedule in (alternating.AlternatingProgram, serial.SerialProgram):
    experiment = make()
    program = prepared(
        str(tmp_path / schedule.__name__), schedule, monkeypatch, experiment)
    monkeypatch.setattr(program, '_evaluate', lambda: None)
    while int(program.counter.get_counts()['actor_episodes']) < 60:
      program.step()
    program.learner.hear(10**6)
    _, told = program.counter.get_episodes(
        0, ['episode_return', 'episode_length', 'held_out'])
    config = experiment.agent
    buffer = Buffer(config.max_replay_episodes, config.max_replay_steps)
    for episode_return, length, apart in zip(*(
        told[n].tolist()
        for n in ('episode_return', 'episode_length', 'held_out'))):
      if not apart:
        buffer.insert(episode_return, length)
    assert sum(told['held_out']) >= 3
    # What is held is what is on record, and commands follow from it.
    episodes = held(program)
    assert [(e['episode_return'], e['length']) for e in episodes] == (
        buffer.episodes)
    record = program.learner.state.record
    num = len(buffer.episodes)
    assert record.returns[:num].tolist() == [r for r, _ in buffer.episodes]
    assert record.lengths[:num].tolist() == [n for _, n in buffer.episodes]
    _, stats = program.learner.agent.variables(program.learner.state)
    np.testing.assert_allclose(
        [stats.mean, stats.std, stats.horizon],
        buffer.statistics(config.last_few), rtol=1e-4, atol=1e-4)
    # So are the targets of every step.
    rewards = np.stack([e['reward'] for e in episodes])
    lengths = np.array([e['length'] for e in episodes])
    to_go = np.asarray(hindsight.returns_to_go(rewards, lengths))
    for row, reward, length in zip(to_go, rewards, lengths):
      expected = [r for r, _ in pairs(reward[:length].tolist())]
      np.testing.assert_allclose(row[:length], expected, rtol=1e-5)


def test_a_run_repeats_itself_and_resumes_with_its_commands(
    tmp_path, monkeypatch):
  states = []
  for name in ('one', 'again'):
    experiment = make(num_actors=2)
    program = prepared(
        str(tmp_path / name), serial.SerialProgram, monkeypatch, experiment)
    monkeypatch.setattr(program, '_evaluate', lambda: None)
    while int(program.counter.get_counts()['actor_episodes']) < 40:
      program.step()
    states.append(checkpoint._flatten(program.learner.state))
  np.testing.assert_equal(states[0], states[1])
  assert program.learner.updates >= 15

  program.learner.finish()
  resumed = prepared(
      str(tmp_path / 'again'), serial.SerialProgram, monkeypatch, experiment)
  np.testing.assert_equal(
      checkpoint._flatten(resumed.learner.state), states[1])
  np.testing.assert_equal(resumed._replay.save(), program._replay.save())
  _, (_, before) = program.learner.get_variables(-1)
  _, (_, after) = resumed.learner.get_variables(-1)
  # One was computed inside the update, the other alone.
  np.testing.assert_allclose(
      [*after], [*before], rtol=1e-6, atol=1e-6)
  heard = []
  monkeypatch.setattr(
      resumed.counter, 'get_episodes',
      lambda since, names: heard.append(since) or (since, {
          name: np.zeros(0) for name in names}))
  resumed.learner.hear(10**6)
  assert heard == [int(program.counter.get_counts()['actor_episodes'])]


def test_what_cannot_take_turns_is_refused():
  assert alternating.problems(make(), factory.make_agent(make())) == []
  experiment = make(num_actors=2, envs_per_actor=3)
  found = alternating.problems(experiment, factory.make_agent(experiment))
  assert [p.split(':')[0] for p in found] == ['num_actors', 'envs_per_actor']
  experiment = make()
  experiment = dataclasses.replace(experiment, agent=dataclasses.replace(
      experiment.agent, warmup_episodes=20))
  problem, = alternating.problems(experiment, factory.make_agent(experiment))
  assert problem.startswith('warmup_episodes')
  contrastive = dataclasses.replace(
      make(), alg='contrastive_cpc', env='point_Small',
      agent=ALGORITHMS['contrastive_cpc'].configure(
          'contrastive_cpc', 'cpu', {}))
  problem, = alternating.problems(
      contrastive, factory.make_agent(contrastive))
  assert 'does not keep pace with episodes' in problem
