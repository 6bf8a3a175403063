"""The agent: networks, update and policies assembled into an `Agent`."""

from typing import Any, Dict, List

import jax
import jax.numpy as jnp

from actors import policy as policy_lib
from actors.portions import Portions
from envs.spec import EnvSpec
from learners.agent import Agent, Column, StepPacing
from learners.dceo import config as config_lib
from learners.dceo import learning, policies
from learners.dceo import networks as networks_lib
from learners.dceo.config import DCEOConfig
from learners.dceo.networks import Networks
from learners.stream_spec import (
  PairItems,
  StreamSpec,
  StreamTable,
  WindowItems,
)
from safety.masking import SafetyMask


def make_networks(config: DCEOConfig, spec: EnvSpec) -> Networks:
  """Returns the networks of one agent in one environment."""
  torso = config.torso
  if torso == 'auto':
    torso = networks_lib.choose_torso(spec.frame_shape)
  height, width = spec.frame_shape
  return networks_lib.make_networks(
      (height, width), config.stack, spec.num_actions, config.num_atoms,
      config.rep_dim, torso, config.dueling, config.noisy)


def make_agent(config: DCEOConfig, spec: EnvSpec,
               mask: SafetyMask = SafetyMask()) -> Agent:
  """Builds the agent for one environment."""
  del mask  # There are no goals to mask.
  networks = make_networks(config, spec)
  replay = replay_spec(config, spec)
  parts = learning.make_parts(
      config, networks, replay.tables['main'].items_per_batch)
  return Agent(
      # Many small operations: compiled together they start a run far sooner.
      init=jax.jit(parts.init),
      update=learning.make_update(
          config, parts, learning.read_draws(config)),
      variables=lambda state: variables(state, config),
      policy=policies.make_policy(config, networks, replay, evaluation=False),
      eval_policy=policies.make_policy(
          config, networks, replay, evaluation=True),
      warmup_policy=policy_lib.uniform_discrete_policy(spec.num_actions),
      replay=replay,
      updates_per_call=config.num_sgd_steps_per_step,
      priorities=lambda state: {'main': state.priorities},
      acts_by_options=config_lib.num_options(config) > 0,
      eval_variables=lambda state: {'main': state.main.params},
      portions=portions(config) if config_lib.num_options(config) else None,
      insert_priority=lambda variables: (
          config.initial_priority if variables is None
          else variables['max_priority']))


def variables(state: learning.TrainingState,
              config: DCEOConfig) -> Dict[str, Any]:
  """Returns what actors fetch of a training state."""
  return {
      'main': state.main.params,
      # Apart, so that actors need not cut one out of the stack at each step.
      'options': tuple(
          learning.at_option(state.options.params, jnp.array(o))
          for o in range(config_lib.num_options(config))),
      'updates': state.main.steps,
      'max_priority': state.max_priority,
  }


def portions(config: DCEOConfig) -> Portions:
  """Returns how actors fetch variables: the main network, and one option."""

  def take(variables, portion):
    return {**variables, 'options': (portion, variables['options'][portion])}

  def put(variables, piece):
    portion, option = piece['options']
    options = list(variables['options'])
    options[int(portion)] = option
    return {**piece, 'options': tuple(options)}

  return Portions(num=config_lib.num_options(config),
                  in_use=lambda state: state.option, take=take, put=put)


def replay_spec(config: DCEOConfig, spec: EnvSpec) -> StreamSpec:
  """Returns what the agent needs of replay.

  With uniform sampling, options and representation draw from tables of their
  own; with prioritised sampling all draws are from the main one. Either way
  the learner keeps pace with environment steps, not with draws.
  """
  calls, windows = config.num_sgd_steps_per_step, WindowItems(config.n_step)
  size, reps = config.batch_size, config.rep_batch_size
  prior = config.aux_sampling == 'prioritized'
  options = bool(config_lib.num_options(config))
  main = size + (3 * reps + size if prior and options else 0)
  tables = {'main': StreamTable(windows, calls * main, prioritized=True)}
  if options and not prior:
    gaps = (PairItems(config.n_step) if config.rep_gap_decay is None else
            PairItems(config.rep_max_gap, config.rep_gap_decay))
    tables['pairs'] = StreamTable(gaps, calls * 3 * reps)
    tables['options'] = StreamTable(
        WindowItems(config_lib.of_options(config, 'n_step')), calls * size)
  return StreamSpec(
      frame=Column(spec.frame_shape, spec.observation_dtype),
      stack=config.stack,
      tables=tables,
      max_items=config.max_replay_size,
      pacing=StepPacing(
          min_steps=config.min_replay_size,
          transitions_per_update=size,
          samples_per_insert=size / config.update_period))


def environment_problems(config: DCEOConfig, spec: EnvSpec,
                         mask: SafetyMask) -> List[str]:
  """Lists what the settings need that the environment has not."""
  del config, mask
  if spec.frame_shape and spec.num_actions:
    return []
  return [f'alg: dceo and rainbow need pictures and discrete actions, which '
          f'{spec.name} has not; use an environment named grid_... or '
          'atari_...']
