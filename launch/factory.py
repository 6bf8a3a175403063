"""The composition root: builds every role's parts from an experiment."""

import dataclasses
import functools
import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

import jax
import numpy as np

from actors.actor import Actor, ActorConfig, Recorder
from actors.commands import CommandObserver, GRID, grid_figures
from actors.evaluator import Evaluator
from actors.loop import EnvironmentLoop, Metrics, Observer
from actors.observers import (
  CellObserver,
  DistanceObserver,
  EpisodeObserver,
  OptionObserver,
  PathObserver,
  PlaceObserver,
)
from actors.policy import Policy
from actors.variables import Link, VariableSource
from envs import registry as env_registry
from envs.spec import EnvSpec
from envs.vector import Changing, Located, VectorEnvironment
from launch import experiment as experiment_lib
from launch import run_folder
from launch.counter import Counter
from launch.experiment import Experiment
from launch.films import Films
from launch.loggers import make_logger
from learners import registry as learner_registry
from learners.agent import Agent, Batch, EpisodePacing
from learners.learner import Learner, LearnerConfig, SetPriorities
from learners.stream_spec import StreamSpec
from replay import dataset, stream_reverb, tables
from replay.episodes import EpisodeBuffer, EpisodeRecorder, ReverbWriter
from replay.memory import MemoryTables
from replay.pacing import EPISODES, Pace
from replay.stream_memory import StreamMemory
from replay.streams import StreamRecorder
from replay.tables import table_limits, TableLimits
from safety.absorbing import AbsorbingRegions
from safety.enforcement import enforce
from safety.visits import (
  InterventionObserver,
  RegionVisitObserver,
  VisitLog,
)

# Example paths the evaluator keeps for figures.
NUM_PATHS = 20

# Steps each environment may be ahead of the updates, where steps count at once.
_STREAM_SLACK = 32

# Keeps the random streams of the roles apart.
_ROLE_IDS = {'learner': 0, 'actor': 1, 'evaluator': 2, 'replay': 3}


def role_seed(experiment: Experiment, role: str, index: int = 0,
              generation: int = 0) -> int:
  """Returns the seed of one role's own stream.

  Args:
    experiment: the run.
    role: 'learner', 'actor', 'evaluator' or 'replay'.
    index: which of several.
    generation: differs each time the role starts again, so that a restarted
      actor does not repeat its episodes.
  """
  sequence = np.random.SeedSequence(
      [experiment.seed, _ROLE_IDS[role], index, generation])
  return int(sequence.generate_state(1)[0])


def make_spec(experiment: Experiment) -> EnvSpec:
  """Returns the facts of the training environment."""
  return env_registry.spec(
      experiment.env, experiment.sample_goals, experiment.fixed_goal)


def make_environment(experiment: Experiment, num_envs: int, seed: int,
                     sample_goals: bool) -> VectorEnvironment:
  """Builds environments; regions absorb in them if so asked."""
  environment = env_registry.make(
      experiment.env, num_envs, seed, sample_goals, experiment.fixed_goal)
  if not experiment.use_absorbing_failure:
    return environment
  return AbsorbingRegions(environment, experiment_lib.regions(experiment))


def make_agent(experiment: Experiment) -> Agent:
  """Builds the agent; its policies keep out of the regions if so asked."""
  spec = make_spec(experiment)
  boxes = experiment_lib.regions(experiment)
  algorithm = learner_registry.ALGORITHMS[experiment.alg]
  agent = algorithm.make_agent(
      experiment.agent, spec, experiment_lib.safety_mask(experiment, spec))
  if not (boxes and experiment.safety_enforcement):
    return agent

  def safe(policy: Policy, proposal: Policy) -> Policy:
    return enforce(policy, proposal, boxes, spec, experiment.safety_candidates,
                   experiment_lib.margin(experiment))

  return dataclasses.replace(
      agent,
      policy=safe(agent.policy, agent.policy),
      eval_policy=safe(agent.eval_policy, agent.policy),
      warmup_policy=safe(agent.warmup_policy, agent.warmup_policy))


def make_limits(experiment: Experiment, agent: Agent) -> TableLimits:
  """Returns sizes and pacing of the replay tables."""
  return table_limits(
      agent.replay, make_spec(experiment).step_limit, agent.updates_per_call)


def make_pace(experiment: Experiment, agent: Agent) -> Pace:
  """Returns how much acting the updates pay for."""
  pacing = agent.replay.pacing
  wave = experiment.num_actors * experiment.envs_per_actor
  if isinstance(pacing, EpisodePacing):
    return Pace(
        minimum=pacing.min_episodes,
        per_update=1.0 / pacing.updates_per_episode,
        slack=wave,
        num_actors=experiment.num_actors,
        unit=EPISODES)
  per_update = pacing.transitions_per_update / pacing.samples_per_insert
  if isinstance(agent.replay, StreamSpec):
    # Every step counts at once, so that nobody has to wait for an episode; but
    # counts are some steps late.
    return Pace(
        minimum=pacing.min_steps,
        per_update=per_update,
        slack=int(_STREAM_SLACK * wave
                  + 2 * per_update * agent.updates_per_call),
        num_actors=experiment.num_actors)
  return Pace(
      minimum=pacing.min_steps,
      per_update=per_update,
      # With a second wave nobody would wait, but updates would lag behind: six
      # runs of each came to 90 % in 41,000 and 65,000 steps on average.
      slack=wave * make_spec(experiment).step_limit,
      num_actors=experiment.num_actors)


def make_memory_tables(experiment: Experiment,
                       agent: Agent) -> Union[MemoryTables, StreamMemory]:
  """Builds replay in this process's memory."""
  seed = role_seed(experiment, 'replay')
  if isinstance(agent.replay, StreamSpec):
    return StreamMemory(agent.replay, seed)
  return MemoryTables(agent.replay, make_limits(experiment, agent), seed)


def reverb_tables(experiment: Experiment,
                  agent: Agent) -> Callable[[], List[Any]]:
  """Returns what builds the tables, to be called in the replay node."""
  if isinstance(agent.replay, StreamSpec):
    return functools.partial(stream_reverb.make_tables, agent.replay)
  return functools.partial(
      tables.make_tables, agent.replay, make_limits(experiment, agent))


def make_reverb_writer(agent: Agent, client: Any,
                       should_stop: Callable[[], bool]) -> Any:
  """Builds what writes to the replay server `client`, a `reverb.Client`."""
  if isinstance(agent.replay, StreamSpec):
    return stream_reverb.ReverbStreams(client, agent.replay, should_stop)
  return ReverbWriter(
      client, agent.replay.columns, should_stop, agent.replay.priority)


def make_batches(agent: Agent, server_address: str) -> Iterator[Batch]:
  """Yields the batches of the agent's updates from a replay server."""
  if isinstance(agent.replay, StreamSpec):
    return stream_reverb.stream_batches(server_address, agent.replay)
  return dataset.reverb_batches(server_address, agent.replay)


def make_observers(experiment: Experiment, agent: Agent,
                   environment: VectorEnvironment) -> List[Observer]:
  """Returns what is measured of every episode: what applies to it."""
  spec, num_envs = environment.spec, environment.num_envs
  discounted = 'discounted_return' in agent.reports
  observers: List[Observer] = [EpisodeObserver(
      num_envs, spec.has_goals, agent.discount if discounted else None)]
  if agent.command_names:
    observers.append(CommandObserver(agent.command_names, num_envs))
  if agent.acts_by_options:
    observers.append(OptionObserver(num_envs))
  if spec.has_goals:
    observers.append(DistanceObserver(spec, num_envs))
  if isinstance(environment, Located):
    observers.append(PlaceObserver(environment, spec.num_places, num_envs))
  if spec.has_position:
    observers += [
        RegionVisitObserver(
            experiment_lib.audited_regions(experiment), spec, num_envs),
        InterventionObserver(num_envs),
    ]
  return observers


def make_actor(experiment: Experiment, agent: Agent, index: int,
               generation: int, writer: Any, link: Link) -> Actor:
  """Builds one actor of `agent`; the writer is that of its kind of replay."""
  seed = role_seed(experiment, 'actor', index, generation)
  pace = make_pace(experiment, agent)
  environment = make_environment(
      experiment, experiment.envs_per_actor, seed, experiment.sample_goals)
  observers = make_observers(experiment, agent, environment)
  if env_registry.lookup(experiment.env).walls is not None:
    observers.append(CellObserver(environment.spec, experiment.envs_per_actor))
  return Actor(
      config=ActorConfig(
          pace=pace,
          warmup=pace.minimum,
          max_parameter_age=experiment.max_parameter_age),
      loop=EnvironmentLoop(environment, jax.random.key(seed), observers,
                           rank=ranks(experiment, index)),
      policy=agent.policy,
      warmup_policy=agent.warmup_policy,
      recorder=make_recorder(experiment, agent, index, seed, writer),
      link=link)


def ranks(experiment: Experiment, index: int) -> np.ndarray:
  """Returns where actor `index`'s environments stand among all, 0 to 1."""
  num_envs = experiment.envs_per_actor
  last = experiment.num_actors * num_envs - 1
  numbers = index * num_envs + np.arange(num_envs, dtype=np.float32)
  return numbers / max(last, 1)


def make_recorder(experiment: Experiment, agent: Agent, index: int, seed: int,
                  writer: Any) -> Recorder:
  """Builds what actor number `index` stores its steps with."""
  num_envs, replay = experiment.envs_per_actor, agent.replay
  if isinstance(replay, StreamSpec):
    return StreamRecorder(
        replay, num_envs, writer, seed, first_stream=index * num_envs,
        priority=lambda params: float(agent.insert_priority(params)))
  return EpisodeRecorder(
      EpisodeBuffer(replay.columns, num_envs, replay.held_out_every), writer)


def make_evaluator(experiment: Experiment, generation: int,
                   variables: VariableSource, sink: Any) -> Evaluator:
  """Builds the evaluator: fixed goal, greedy."""

  def run_steps() -> int:
    return int(sink.get_counts()['actor_steps'])

  seed = role_seed(experiment, 'evaluator', 0, generation)
  environment = make_environment(
      experiment, experiment.eval_episodes, seed, sample_goals=False)
  agent = make_agent(experiment)
  observers = make_observers(experiment, agent, environment)
  paths = None
  if environment.spec.has_position:
    paths = PathObserver(
        environment.spec, min(NUM_PATHS, experiment.eval_episodes))
    observers.append(paths)
  films = None
  if experiment.film_minutes:
    films = Films(os.path.abspath(experiment_lib.run_dir(experiment)),
                  60.0 * experiment.film_minutes, run_steps)
  return Evaluator(
      loop=EnvironmentLoop(environment, jax.random.key(seed), observers),
      policy=agent.eval_policy,
      policies=agent.eval_policies,
      path_observer=paths,
      variables=variables,
      sink=sink,
      run_steps=run_steps if isinstance(environment, Changing) else None,
      interval=experiment.eval_interval,
      films=films,
      figures=_evaluation_figures(agent))


def _evaluation_figures(
    agent: Agent) -> Optional[Callable[[Metrics], Metrics]]:
  """Returns what is computed of a whole round of evaluation, if anything."""
  if GRID not in agent.eval_policies:
    return None
  return lambda metrics: grid_figures(metrics, agent.command_names[0])


def make_learner(experiment: Experiment, counts: Any,
                 save_replay: Callable[[], Any],
                 set_priorities: Optional[SetPriorities] = None) -> Learner:
  """Builds the learner, from the newest checkpoint if there is one."""
  run_dir = experiment_lib.run_dir(experiment)
  algorithm = learner_registry.ALGORITHMS[experiment.alg]
  return Learner(
      agent=make_agent(experiment),
      config=LearnerConfig(
          checkpoint_dir=run_folder.checkpoint_dir(run_dir),
          checkpoint_interval=60.0 * experiment.time_delta_minutes,
          log_interval=experiment.log_interval,
          keep=experiment.checkpoints_kept),
      key=jax.random.key(role_seed(experiment, 'learner')),
      counts=counts,
      save_replay=save_replay,
      set_priorities=set_priorities,
      on_start=functools.partial(algorithm.on_start, experiment.agent))


def counter_arguments(experiment: Experiment) -> Dict[str, Any]:
  """Returns the arguments of `Counter`; it resumes the newest checkpoint."""
  run_dir = experiment_lib.run_dir(experiment)
  saved = run_folder.saved_counter(run_dir)
  num_episodes = int(saved['counts'].get('actor_episodes', 0)) if saved else 0
  spec = make_spec(experiment)
  visits = None
  if spec.has_position:
    visits = VisitLog(
        experiment_lib.visits_dir(experiment),
        experiment_lib.audited_regions(experiment), num_episodes,
        owner=run_folder.run_id(run_dir))

  def save_round(actor_steps: int, metrics: Metrics,
                 paths: Optional[np.ndarray]) -> None:
    _save(run_folder.evaluation_path(run_dir), actor_steps, metrics)
    if paths is not None:
      _save(run_folder.eval_paths_path(run_dir), actor_steps, {'paths': paths})

  return dict(
      run_loggers={r: make_logger(run_dir, r)
                   for r in ('actor', 'learner', 'evaluator')},
      visits=visits,
      num_steps=experiment.num_steps,
      log_interval=experiment.log_interval,
      saved=saved,
      save_round=save_round)


def _save(path: str, actor_steps: int, arrays: Metrics) -> None:
  """Writes arrays, and the environment steps that they are of."""
  with open(path + '.tmp', 'wb') as f:
    np.savez(f, actor_steps=actor_steps, **arrays)
  os.replace(path + '.tmp', path)


def make_counter(experiment: Experiment) -> Counter:
  """Builds the counter, from the newest checkpoint if there is one."""
  return Counter(**counter_arguments(experiment))
