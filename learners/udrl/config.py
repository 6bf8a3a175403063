"""Settings of upside-down RL."""

import dataclasses
import math
from typing import Any, Dict, List, Mapping, Optional, Tuple

from learners.settings import checker, is_range, setting
from replay.hindsight import RULES

COMMANDS = ('return_to_go', 'cumulative_return')


@dataclasses.dataclass(frozen=True)
class UDRLConfig:
  """Settings of one UDRL agent; the defaults are those of LunarLander."""
  hidden_sizes: Tuple[int, ...] = setting(
      (32, 128, 128, 128), 'width of the gated embedding, then of the hidden '
      'layers')
  learning_rate: float = setting(3.5e-4, 'Adam step size')
  max_grad_norm: float = setting(100.0, 'gradients are clipped to this norm')
  batch_size: int = setting(768, 'steps of episodes per SGD step')
  num_sgd_steps_per_step: int = setting(
      20, 'SGD steps fused into one learner call')
  return_scale: float = setting(0.025, 'factor on the commanded return')
  horizon_scale: float = setting(0.01, 'factor on the commanded horizon')
  last_few: int = setting(
      75, 'best episodes, of distinct returns, that commands are drawn from')
  max_return: Optional[float] = setting(
      320.0, 'largest return that is commanded; "none" has no bound')
  command_spread: float = setting(
      1.0, 'standard deviations of the best returns that commanded ones may '
      'exceed their mean by')
  mu_minus_std: bool = setting(
      False, 'draw commanded returns from one standard deviation lower')
  inverse_temperature: float = setting(
      1.0, 'factor on the logits actions are sampled from')
  command: str = setting(
      'return_to_go', 'what is commanded besides the horizon: return_to_go, '
      'which shrinks with every reward, or cumulative_return, that of the '
      'whole episode at every step')
  pair_sampling: str = setting(
      'step_uniform', 'how steps are drawn: step_uniform, or episode_uniform')
  updates_per_episode: float = setting(5.0, 'SGD steps per episode stored')
  warmup_episodes: int = setting(
      70, 'episodes that act at random before learning starts')
  max_replay_episodes: int = setting(
      500, 'episodes kept, those of the highest returns')
  max_replay_steps: int = setting(
      100_000, 'of these, only the best that have this many steps together are '
      'learned from; 0 is no bound')
  episodes_per_call: int = setting(
      256, 'episodes a learner call draws its steps from')
  held_out_every: int = setting(
      20, 'one of so many episodes is only used for the validation loss')
  command_grid: Tuple[float, float] = setting(
      (-200.0, 300.0), 'least and largest of the returns that evaluation asks '
      'for to compare them with what comes of it')


# Values per environment; what is not named here keeps its default.
_LUNAR_LANDER: Mapping[str, Any] = {}
_LUNAR_LANDER_SPARSE: Mapping[str, Any] = dict(
    learning_rate=5e-4, batch_size=512, return_scale=0.015, horizon_scale=0.015,
    last_few=25)
_CART_POLE: Mapping[str, Any] = dict(
    learning_rate=1e-3, batch_size=256, return_scale=0.02, horizon_scale=0.02,
    last_few=10, max_return=500.0, hidden_sizes=(32, 64, 64),
    max_replay_episodes=100, max_replay_steps=0, warmup_episodes=50,
    updates_per_episode=5.0, episodes_per_call=64, num_sgd_steps_per_step=10,
    # Returns are lengths here, and commands of what was seen are kept to the
    # step: without asking for more, episodes hardly grow.
    command_spread=10.0, command_grid=(0.0, 500.0))

# By preset and environment.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    'cpu': {'lunarlander': _LUNAR_LANDER,
            # As good after half as many environment steps as with 5.
            'lunarlander-sparse': dict(
                _LUNAR_LANDER_SPARSE, updates_per_episode=25.0),
            'cartpole': _CART_POLE},
    'reference': {'lunarlander': _LUNAR_LANDER,
                  'lunarlander-sparse': _LUNAR_LANDER_SPARSE,
                  'cartpole': _CART_POLE},
}


def from_settings(alg: str, preset: str, overrides: Dict[str, Any],
                  env: str = '') -> UDRLConfig:
  """Builds the config: the preset for the environment, then overrides."""
  del alg
  return UDRLConfig(**{**PRESETS[preset].get(env, {}), **overrides})


def problems(config: UDRLConfig) -> List[str]:
  """Lists what is wrong with the settings; empty when nothing is."""
  found: List[str] = []
  check = checker(config, found)
  check(bool(config.hidden_sizes) and min(config.hidden_sizes) > 0,
        'hidden_sizes', 'one or more positive widths')
  for name in ('learning_rate', 'max_grad_norm', 'return_scale',
               'horizon_scale', 'inverse_temperature', 'updates_per_episode',
               'command_spread'):
    check(0 < getattr(config, name) < math.inf, name, 'a positive number')
  for name in ('batch_size', 'num_sgd_steps_per_step', 'last_few',
               'warmup_episodes', 'max_replay_episodes', 'episodes_per_call'):
    check(getattr(config, name) >= 1, name, 'at least 1')
  check(config.held_out_every >= 2, 'held_out_every', 'at least 2')
  check(config.max_replay_steps >= 0, 'max_replay_steps', '0 or more')
  check(config.max_return is None or math.isfinite(config.max_return),
        'max_return', "a number or 'none'")
  check(is_range(config.command_grid), 'command_grid',
        'two finite numbers, the smaller one first')
  check(config.command in COMMANDS, 'command',
        'one of ' + ', '.join(COMMANDS))
  check(config.pair_sampling in RULES, 'pair_sampling',
        'one of ' + ', '.join(RULES))
  return found
