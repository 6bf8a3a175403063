"""Settings of the contrastive agents."""

import dataclasses
import math
from typing import Any, Dict, List, Mapping, Optional, Tuple

from learners.settings import setting

# What each algorithm name switches on.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    'contrastive_cpc': dict(loss='cpc', twin_q=False),
    'contrastive_nce': dict(loss='nce', twin_q=False),
    'c_learning': dict(loss='td', twin_q=True),
    'nce+c_learning': dict(loss='td_mc', twin_q=True),
}

LOSSES = ('cpc', 'nce', 'td', 'td_mc')
RANDOM_GOALS = (0.0, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class ContrastiveConfig:
  """Settings of one contrastive agent; the defaults suit a few CPU cores."""
  # Follows from the algorithm's name, so the command line does not offer it.
  loss: str = 'cpc'
  twin_q: bool = setting(False, 'two critics; the actor takes their minimum')
  hidden_layer_sizes: Tuple[int, ...] = setting(
      (256, 256), 'hidden layers of the encoders and the actor')
  repr_dim: int = setting(64, 'length of a representation')
  batch_size: int = setting(64, 'transitions per SGD step')
  num_sgd_steps_per_step: int = setting(
      16, 'SGD steps fused into one learner call')
  learning_rate: float = setting(1e-3, 'Adam step size of the critic')
  actor_learning_rate: float = setting(1e-3, 'Adam step size of the actor')
  adam_epsilon: float = setting(1e-7, 'Adam epsilon')
  discount: float = setting(0.99, 'discount, and decay of the goal offset')
  tau: float = setting(0.005, 'Polyak rate of the target critic (td losses)')
  logsumexp_penalty: float = setting(
      0.01, 'weight of the squared log-partition (cpc)')
  random_goals: float = setting(
      0.5, 'goals of the actor loss: 0 own future, 1 another row, 0.5 both')
  entropy_coefficient: Optional[float] = setting(
      None, 'weight of the entropy bonus; 0.0 is no bonus, "none" adapts it')
  target_entropy: float = setting(0.0, 'target of the adaptive entropy, nats')
  samples_per_insert: float = setting(
      8.0, 'transitions learned from per environment step stored')
  min_replay_size: int = setting(
      10_000, 'environment steps stored before learning starts')
  max_replay_size: int = setting(1_000_000, 'environment steps kept')


# The values of the reference implementation.
REFERENCE: Mapping[str, Any] = dict(
    batch_size=256, num_sgd_steps_per_step=64, samples_per_insert=256.0,
    learning_rate=3e-4, actor_learning_rate=3e-4, entropy_coefficient=0.0,
    min_replay_size=10_000)

PRESETS: Mapping[str, Mapping[str, Any]] = {
    'cpu': {},
    'reference': REFERENCE,
}


def uses_td(config: ContrastiveConfig) -> bool:
  """Tells whether the loss bootstraps from a target critic."""
  return config.loss in ('td', 'td_mc')


def adapts_entropy(config: ContrastiveConfig) -> bool:
  """Tells whether the entropy coefficient is learned. 0.0 is a number."""
  return config.entropy_coefficient is None


def environment_steps_per_update(config: ContrastiveConfig) -> float:
  """Environment steps that pay for one SGD step."""
  return config.batch_size / config.samples_per_insert


def problems(config: ContrastiveConfig) -> List[str]:
  """Lists what is wrong with the settings; empty when nothing is."""
  found = []

  def check(ok: bool, name: str, allowed: str) -> None:
    if not ok:
      found.append(f'{name}: got {getattr(config, name)!r}, needs {allowed}')

  check(config.loss in LOSSES, 'loss', f'one of {", ".join(LOSSES)}')
  check(bool(config.hidden_layer_sizes) and min(config.hidden_layer_sizes) > 0,
        'hidden_layer_sizes', 'one or more positive widths')
  check(config.random_goals in RANDOM_GOALS, 'random_goals', '0, 0.5 or 1')
  check(0.0 < config.discount < 1.0, 'discount', 'a number between 0 and 1')
  check(config.batch_size >= 2, 'batch_size', 'at least 2: rows are each '
        "other's negatives")
  for name in ('repr_dim', 'num_sgd_steps_per_step', 'min_replay_size'):
    check(getattr(config, name) >= 1, name, 'at least 1')
  check(0.0 < config.tau <= 1.0, 'tau', 'more than 0 and at most 1')
  for name in ('learning_rate', 'actor_learning_rate', 'adam_epsilon',
               'samples_per_insert'):
    check(0 < getattr(config, name) < math.inf, name, 'a positive number')
  check(config.logsumexp_penalty >= 0, 'logsumexp_penalty', '0 or more')
  check(config.max_replay_size >= config.min_replay_size, 'max_replay_size',
        f'at least min_replay_size ({config.min_replay_size})')
  if config.entropy_coefficient is not None:
    check(config.entropy_coefficient >= 0, 'entropy_coefficient',
          "0 or more, or 'none' to adapt it")
    check(config.target_entropy == 0.0, 'target_entropy',
          'to be 0 when entropy_coefficient is a fixed number')
  return found


def from_settings(alg: str, preset: str,
                  overrides: Dict[str, Any]) -> ContrastiveConfig:
  """Builds the config of `alg`: variant, then preset, then overrides."""
  values = {**VARIANTS[alg], **PRESETS[preset], **overrides}
  return ContrastiveConfig(**values)
