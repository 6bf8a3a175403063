"""What agents that act under commands of return or advantage share."""

from typing import Any, Callable, List, Mapping, Optional, Tuple, Union

import jax

from actors import policy as policy_lib
from actors.commands import Draw, GRID
from actors.policy import Policy
from envs.spec import EnvSpec
from learners.agent import (
  Agent,
  Batch,
  EpisodePacing,
  Metrics,
  ReplaySpec,
  State,
)
from learners.rcp.config import RCPConfig
from learners.udrl.config import UDRLConfig
from replay import hindsight
from safety.masking import SafetyMask

# Held-out episodes in a batch.
NUM_HELD_OUT = 8

Config = Union[RCPConfig, UDRLConfig]


def problems(config: Config, spec: EnvSpec, mask: SafetyMask) -> List[str]:
  """Lists settings that do not suit the environment; empty when all do."""
  del config, mask
  if spec.has_goals or not spec.num_actions:
    return ['env: agents that follow commands need discrete actions and no '
            f'goals, {spec.name} is of another kind: use cartpole, lunarlander '
            'or lunarlander-sparse']
  return []


def make_agent(
    config: Config, spec: EnvSpec, *,
    init: Callable[[jax.Array], State],
    update: Callable[[State, Batch], Tuple[State, Metrics]],
    variables: Callable[[State], Any],
    make_policy: Callable[[Draw, bool], Policy],
    drawn: Draw,
    expected: Draw,
    given: Callable[[float, float, Optional[float]], Draw],
    command_names: Tuple[str, ...],
    reports: Tuple[str, ...] = (),
    hear: Optional[Callable[[State, Mapping[str, jax.Array], jax.Array],
                            State]] = None,
    priority: Optional[str] = None,
    discount: float = 1.0) -> Agent:
  """Assembles an `Agent`, whose attributes explain what is not named here.

  Args:
    config: settings of the algorithm.
    spec: of the environment.
    init: see `Agent`.
    update: see `Agent`.
    variables: see `Agent`.
    make_policy: `(draw, greedy) -> policy` that follows what `draw` commands.
    drawn: the commands of training.
    expected: the commands of evaluation.
    given: `(lowest, highest, horizon) -> draw`, commands that climb, as those
      of `Agent.commanded`.
    command_names: see `Agent`.
    reports: see `Agent`.
    hear: see `Agent`.
    priority: the column by which the best episodes are kept; None keeps the
      newest.
    discount: see `Agent`.
  """

  def commanded(lowest, highest, horizon, greedy):
    return make_policy(given(lowest, highest, horizon), greedy)

  return Agent(
      init=init,
      update=update,
      variables=variables,
      policy=make_policy(drawn, False),
      eval_policy=make_policy(expected, False),
      eval_policies={'greedy': make_policy(expected, True),
                     'reference': make_policy(drawn, True),
                     GRID: commanded(*config.command_grid, None, False)},
      warmup_policy=policy_lib.uniform_discrete_policy(spec.num_actions),
      replay=ReplaySpec(
          columns=hindsight.columns(spec),
          episodes_per_batch=config.episodes_per_call,
          pacing=EpisodePacing(
              config.warmup_episodes, config.updates_per_episode),
          max_items=config.max_replay_episodes,
          remover='lowest_priority' if priority else 'oldest',
          priority=priority,
          held_out_every=config.held_out_every,
          held_out_per_batch=NUM_HELD_OUT),
      updates_per_call=config.num_sgd_steps_per_step,
      reports=reports,
      hear=hear,
      command_names=command_names,
      commanded=commanded,
      discount=discount)
