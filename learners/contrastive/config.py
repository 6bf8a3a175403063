"""Settings of the contrastive agents."""

import dataclasses
import math
import os
from typing import Any, Dict, List, Mapping, Optional, Tuple

from learners.settings import checker, setting

# What each algorithm name switches on.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    'contrastive_cpc': dict(loss='cpc', twin_q=False),
    'contrastive_nce': dict(loss='nce', twin_q=False),
    'c_learning': dict(loss='td', twin_q=True),
    'nce+c_learning': dict(loss='td_mc', twin_q=True),
}

LOSSES = ('cpc', 'nce', 'td', 'td_mc')
RANDOM_GOALS = (0.0, 0.5, 1.0)
# Settings that add columns of negatives.
EXTRA_NEGATIVES = ('goal_neg_actor_steps', 'perturbed_negatives_num',
                   'perturbed_negatives_goal_num')
# What the counter of SGD steps can hold.
MAX_COUNT = 2**31 - 1


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
  actor_learning_rate: float = setting(3e-4, 'Adam step size of the actor')
  adam_epsilon: float = setting(1e-7, 'Adam epsilon')
  discount: float = setting(0.99, 'discount, and decay of the goal offset')
  tau: float = setting(0.005, 'Polyak rate of the target critic (td losses)')
  eval_tau: float = setting(
      0.005, 'Polyak rate of the actor that evaluation uses; 1.0 takes the '
      'newest')
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

  # Ablations; README.md says what each is for.
  goal_neg_actor_steps: int = setting(
      0, 'environment steps until which the commanded goal is one more '
      'negative of every row (cpc); told by the SGD steps done and what they '
      'are paid with: min_replay_size, then batch_size / samples_per_insert '
      'each')
  goal_pos_actor_steps: int = setting(
      0, 'environment steps, told in the same way, until which some rows get '
      'the commanded goal as their future, and a random action (cpc, nce)')
  goal_pos_frac: float = setting(
      0.05, 'share of those rows in the batch of each SGD step')
  perturbed_negatives_num: int = setting(
      0, 'negatives added to every row: goals within 2 of its state, per entry '
      '(cpc)')
  perturbed_negatives_goal_num: int = setting(
      0, 'negatives added to every row: the commanded goal, seen from states '
      'within 2 of its own, per entry (cpc)')
  backward_loss: bool = setting(
      False, 'every goal must pick its row, rather than every row its goal '
      '(cpc); logsumexp_penalty then weighs the partition of the goals')
  repr_norm: bool = setting(
      False, 'representations of length 1, also those that masking puts in')
  repr_temperature: float = setting(
      1.0, 'what similarities of length-1 representations are divided by')
  monolithic_critic: bool = setting(
      False, 'Q is one network of state, action and goal, without '
      'representations')
  use_residual_mlp: bool = setting(
      False, 'layer norm, swish, and a shortcut every 4 layers after the first')
  cold_q_init: bool = setting(
      False, "start from Q near 0: the critic's last weights are tiny")
  cold_q_scale: float = setting(1e-12, 'bound of those weights')
  weight_reset_interval: int = setting(
      0, 'SGD steps between new draws of all weights, optimizers included; '
      '0 never')
  Q_max: bool = setting(
      False, 'act by the best of 20 values per action entry under the critic, '
      'in training too, instead of the actor')
  init_weight: Optional[str] = setting(
      None, 'file with the critic to start from, written by save_init_weight')
  save_init_weight: Optional[str] = setting(
      None, 'file that gets the critic the run starts with (.npz)')


# The values of the reference implementation.
REFERENCE: Mapping[str, Any] = dict(
    batch_size=256, num_sgd_steps_per_step=64, samples_per_insert=256.0,
    learning_rate=3e-4, actor_learning_rate=3e-4, entropy_coefficient=0.0,
    eval_tau=1.0, min_replay_size=10_000)

PRESETS: Mapping[str, Mapping[str, Any]] = {
    'cpu': {},
    'reference': REFERENCE,
}


def uses_td(config: ContrastiveConfig) -> bool:
  """Tells whether the loss bootstraps from a target critic."""
  return config.loss in ('td', 'td_mc')


def adds_negatives(config: ContrastiveConfig) -> bool:
  """Tells whether rows have negatives besides each other's goals."""
  return any(getattr(config, name) for name in EXTRA_NEGATIVES)


def num_goal_rows(config: ContrastiveConfig) -> int:
  """Rows of a batch that `goal_pos_actor_steps` gives the commanded goal."""
  return round(config.goal_pos_frac * config.batch_size)


def updates_before(config: ContrastiveConfig, actor_steps: int) -> int:
  """SGD steps made before the environments have made `actor_steps`.

  Pacing keeps both in proportion, so the one follows from the other.
  """
  updates = math.ceil((actor_steps - config.min_replay_size)
                      / environment_steps_per_update(config))
  return min(max(0, updates), MAX_COUNT)


def averages_policy(config: ContrastiveConfig) -> bool:
  """Tells whether evaluation uses an average of the actor's parameters."""
  return config.eval_tau < 1.0 and not config.Q_max


def adapts_entropy(config: ContrastiveConfig) -> bool:
  """Tells whether the entropy coefficient is learned. 0.0 is a number."""
  return config.entropy_coefficient is None


def environment_steps_per_update(config: ContrastiveConfig) -> float:
  """Environment steps that pay for one SGD step."""
  return config.batch_size / config.samples_per_insert


def once_started(config: ContrastiveConfig) -> ContrastiveConfig:
  """Returns the settings less the files that only a new run opens."""
  return dataclasses.replace(config, init_weight=None, save_init_weight=None)


def problems(config: ContrastiveConfig) -> List[str]:
  """Lists what is wrong with the settings; empty when nothing is."""
  found: List[str] = []
  check = checker(config, found)
  check(config.loss in LOSSES, 'loss', f'one of {", ".join(LOSSES)}')
  check(bool(config.hidden_layer_sizes) and min(config.hidden_layer_sizes) > 0,
        'hidden_layer_sizes', 'one or more positive widths')
  check(config.random_goals in RANDOM_GOALS, 'random_goals', '0, 0.5 or 1')
  check(0.0 < config.discount < 1.0, 'discount', 'a number between 0 and 1')
  check(config.batch_size >= 2, 'batch_size', 'at least 2: rows are each '
        "other's negatives")
  for name in ('repr_dim', 'num_sgd_steps_per_step', 'min_replay_size'):
    check(getattr(config, name) >= 1, name, 'at least 1')
  for name in ('tau', 'eval_tau'):
    check(0.0 < getattr(config, name) <= 1.0, name, 'more than 0, at most 1')
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
  return found + _ablation_problems(config)


def _ablation_problems(config: ContrastiveConfig) -> List[str]:
  """Lists ablations that are out of range or exclude each other."""
  found: List[str] = []
  check = checker(config, found)
  for name in (*EXTRA_NEGATIVES, 'goal_pos_actor_steps',
               'weight_reset_interval'):
    check(0 <= getattr(config, name) <= MAX_COUNT, name, f'0 to {MAX_COUNT:,}')
  for name in ('goal_neg_actor_steps', 'goal_pos_actor_steps'):
    # Learning starts later, so the setting would do nothing.
    check(not 0 < getattr(config, name) <= config.min_replay_size, name,
          f'more than min_replay_size ({config.min_replay_size}), or 0')
  share = 0.0 < config.goal_pos_frac < 1.0
  check(share, 'goal_pos_frac', 'a number between 0 and 1')
  if config.goal_pos_actor_steps and share:
    check(0 < num_goal_rows(config) < config.batch_size, 'goal_pos_frac',
          f'a share that leaves rows of both kinds in {config.batch_size} '
          '(batch_size)')
  for name in ('repr_temperature', 'cold_q_scale'):
    check(0 < getattr(config, name) < math.inf, name, 'a positive number')
  if config.repr_temperature > 0:
    check(config.repr_temperature in (1.0, math.inf) or config.repr_norm,
          'repr_temperature', 'to be 1 unless repr_norm is true')
  check(config.init_weight is None or os.path.isfile(config.init_weight),
        'init_weight', 'a file that save_init_weight wrote')
  path = config.save_init_weight
  check(path is None or (os.path.isdir(os.path.dirname(path) or '.')
                         and not os.path.isdir(path)),
        'save_init_weight', 'a file name in a folder that exists')
  return found + _conflicts(config)


def _conflicts(config: ContrastiveConfig) -> List[str]:
  """Lists ablations that exclude each other or the loss."""
  found = []

  def check(ok: bool, name: str, needs: str) -> None:
    value = getattr(config, name)
    if value and not ok:
      found.append(f'{name}: got {value!r}, {needs}')

  only_cpc = f'needs the loss cpc, not {config.loss}: use --alg=contrastive_cpc'
  for name in EXTRA_NEGATIVES:
    check(config.loss == 'cpc', name, only_cpc)
    check(not config.backward_loss, name, 'excludes backward_loss, where goals '
          'pick rows and these have none: drop one')
  check(config.loss == 'cpc', 'backward_loss', only_cpc)
  check(not uses_td(config), 'goal_pos_actor_steps', 'needs a loss whose '
        f'positives are futures, not {config.loss}: use --alg=contrastive_cpc '
        'or contrastive_nce')
  check(len(set(config.hidden_layer_sizes)) == 1, 'use_residual_mlp',
        'needs layers of one width, which shortcuts can add up, not '
        f'{config.hidden_layer_sizes}: change hidden_layer_sizes')
  check(not config.monolithic_critic, 'repr_norm',
        'excludes monolithic_critic, which has no representations: drop one')
  check(not config.repr_norm, 'cold_q_init', 'excludes repr_norm, which undoes '
        'the scale of the weights: drop one')
  check(config.init_weight is None, 'cold_q_init',
        'excludes init_weight, which brings weights of its own: drop one')
  return found


def from_settings(alg: str, preset: str, overrides: Dict[str, Any],
                  env: str = '') -> ContrastiveConfig:
  """Builds the config of `alg`: variant, then preset, then overrides."""
  del env
  values = {**VARIANTS[alg], **PRESETS[preset], **overrides}
  return ContrastiveConfig(**values)
