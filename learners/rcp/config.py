"""Settings of reward-conditioned policies."""

import dataclasses
import math
from typing import Any, Dict, List, Mapping, Optional, Tuple

from learners.settings import checker, is_range, setting
from replay.hindsight import RULES

# What each algorithm name is conditioned on.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    'rcp_r': dict(conditioned_on='return'),
    'rcp_a': dict(conditioned_on='advantage'),
}
STATISTICS = ('max', 'quantile', 'mean_plus_std')
VALUE_STATES = ('paths', 'uniform')


@dataclasses.dataclass(frozen=True)
class RCPConfig:
  """Settings of one reward-conditioned agent."""
  # Follows from the algorithm's name, so the command line does not offer it.
  conditioned_on: str = 'return'
  hidden_sizes: Tuple[int, ...] = setting(
      (64, 64), 'hidden layers of the policy, each gated by the command')
  learning_rate: float = setting(1e-3, 'Adam step size')
  max_grad_norm: float = setting(100.0, 'gradients are clipped to this norm')
  batch_size: int = setting(256, 'steps of episodes per SGD step')
  num_sgd_steps_per_step: int = setting(
      50, 'SGD steps fused into one learner call')
  discount: float = setting(0.99, 'discount of returns and values')
  expo_weighting: bool = setting(
      True, 'weigh steps exponentially by what they achieved')
  beta: float = setting(1.0, 'temperature of these weights')
  max_weight: float = setting(20.0, 'largest of these weights')
  pair_sampling: str = setting(
      'step_uniform', 'how steps are drawn: step_uniform, or episode_uniform')
  updates_per_episode: float = setting(50.0, 'SGD steps per episode stored')
  warmup_episodes: int = setting(
      70, 'episodes that act at random before learning starts')
  max_replay_episodes: int = setting(300, 'newest episodes kept')
  episodes_per_call: int = setting(
      256, 'episodes a learner call draws its steps from')
  held_out_every: int = setting(
      20, 'one of so many episodes is only used for the validation loss')
  normalize_command: bool = setting(
      False, 'give commands to the network less their mean and by their '
      'standard deviation, both running')
  normalizer_rate: float = setting(
      0.01, 'share of each batch in these running figures, and in those that '
      'commands of advantage are drawn from')
  command_grid: Tuple[float, float] = setting(
      (-100.0, 200.0), 'least and largest of the commands that evaluation '
      'gives to compare them with what comes of it')

  # Conditioned on returns.
  latest_episodes: int = setting(
      20, 'newest episodes that commanded returns are drawn from (rcp_r)')
  decrement_command: bool = setting(
      False, 'a commanded return shrinks with every reward, as it does in what '
      'is learned (rcp_r)')

  # Conditioned on advantages.
  gae_lambda: float = setting(0.95, 'lambda of the value targets (rcp_a)')
  use_lambda_td: bool = setting(
      True, 'targets are TD(lambda) rather than discounted returns (rcp_a)')
  value_interval: int = setting(
      5, 'the value network learns at every so many SGD steps (rcp_a)')
  value_states: str = setting(
      'paths', 'what it learns from: paths, which lead from steps drawn to the '
      'end of their episodes, or uniform, steps alone (rcp_a)')
  value_paths: int = setting(4, 'such paths per SGD step (rcp_a)')
  value_episodes: int = setting(
      32, 'episodes of a learner call that such states are drawn from; the '
      'targets of all their steps are computed in each (rcp_a)')
  separate_value_optimizer: bool = setting(
      False, 'the gradient of the value network is clipped and applied by '
      'itself (rcp_a)')
  value_learning_rate: float = setting(
      1e-3, 'Adam step size of a separate value optimizer (rcp_a)')
  max_advantage: Optional[float] = setting(
      None, 'bound on advantages; "none" has none (rcp_a)')
  command_statistic: str = setting(
      'max', 'mean of the advantages commanded: the largest of a batch within '
      'command_window SGD steps (max), or running over batches their quantile, '
      'or mean_plus_std (rcp_a)')
  command_window: int = setting(
      1000, 'SGD steps after which the largest is looked for anew (rcp_a)')
  command_quantile: float = setting(
      0.95, 'which quantile (rcp_a)')
  redraw_command: bool = setting(
      True, 'draw the commanded advantage anew at every step (rcp_a)')


# The stabilised RCP-A: the best of those that README.md compares.
_STABLE: Mapping[str, Any] = dict(
    command_statistic='quantile', normalize_command=True,
    separate_value_optimizer=True, value_states='uniform')
_CART_POLE: Mapping[str, Any] = dict(
    warmup_episodes=50, updates_per_episode=10.0, num_sgd_steps_per_step=10,
    episodes_per_call=64, max_replay_episodes=200, normalize_command=True)
_CART_POLE_RETURNS: Mapping[str, Any] = dict(
    _CART_POLE, command_grid=(0.0, 100.0))

# By preset, algorithm and environment; '' holds for every environment.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    'cpu': {
        'rcp_r': {'cartpole': _CART_POLE_RETURNS},
        'rcp_a': {'': _STABLE,
                  'cartpole': dict(_CART_POLE, redraw_command=False)},
    },
    'reference': {'rcp_r': {}, 'rcp_a': {}},
}


def from_settings(alg: str, preset: str, overrides: Dict[str, Any],
                  env: str = '') -> RCPConfig:
  """Builds the config of `alg`: variant, preset, then overrides."""
  presets = PRESETS[preset][alg]
  return RCPConfig(**{**VARIANTS[alg], **presets.get('', {}),
                      **presets.get(env, {}), **overrides})


def uses_advantage(config: RCPConfig) -> bool:
  """Tells whether the policy is conditioned on advantages."""
  return config.conditioned_on == 'advantage'


def problems(config: RCPConfig) -> List[str]:
  """Lists what is wrong with the settings; empty when nothing is."""
  found: List[str] = []
  check = checker(config, found)
  check(bool(config.hidden_sizes) and min(config.hidden_sizes) > 0,
        'hidden_sizes', 'one or more positive widths')
  for name in ('learning_rate', 'max_grad_norm', 'beta', 'max_weight',
               'updates_per_episode', 'value_learning_rate'):
    check(0 < getattr(config, name) < math.inf, name, 'a positive number')
  for name in ('num_sgd_steps_per_step', 'warmup_episodes',
               'max_replay_episodes', 'episodes_per_call', 'latest_episodes',
               'value_interval', 'value_paths', 'value_episodes',
               'command_window'):
    check(getattr(config, name) >= 1, name, 'at least 1')
  check(config.batch_size >= 2, 'batch_size', 'at least 2: weights are '
        'relative to the others')
  check(config.held_out_every >= 2, 'held_out_every', 'at least 2')
  for name in ('discount', 'gae_lambda'):
    check(0.0 <= getattr(config, name) <= 1.0, name, 'a number from 0 to 1')
  for name in ('normalizer_rate', 'command_quantile'):
    check(0.0 < getattr(config, name) <= 1.0, name, 'above 0, at most 1')
  for name, allowed in (('pair_sampling', RULES),
                        ('command_statistic', STATISTICS),
                        ('value_states', VALUE_STATES)):
    check(getattr(config, name) in allowed, name,
          'one of ' + ', '.join(allowed))
  check(is_range(config.command_grid), 'command_grid',
        'two finite numbers, the smaller one first')
  check(config.max_advantage is None or math.isfinite(config.max_advantage),
        'max_advantage', "a number or 'none'")
  if uses_advantage(config):
    check(not config.decrement_command, 'decrement_command', '--alg=rcp_r')
  return found
