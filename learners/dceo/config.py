"""Settings of Rainbow with Laplacian options, and of Rainbow alone."""

import dataclasses
import math
from typing import Any, Dict, List, Mapping, Optional

from learners.dceo.laplacian import KINDS
from learners.dceo.networks import TORSOS
from learners.settings import checker, setting

# What each algorithm name switches on. Without options nothing needs the
# representation either.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    'dceo': dict(options=True),
    'rainbow': dict(options=False),
}

EPSILON_MODES = ('ladder', 'anneal')
AUX_SAMPLINGS = ('uniform', 'prioritized')
OPTION_SIGNS = ('pos', 'both')


@dataclasses.dataclass(frozen=True)
class DCEOConfig:
  """Settings of one agent; the defaults suit grid rooms on a few CPU cores.

  Periods are counted in environment steps of the agent, of all actors together,
  unless they say otherwise.
  """
  # Follows from the algorithm's name, so the command line does not offer it.
  options: bool = True
  batch_size: int = setting(32, 'items per SGD step')
  learning_rate: float = setting(1e-3, 'Adam step size of the value networks')
  adam_epsilon: float = setting(1.5e-4, 'Adam epsilon')
  discount: float = setting(0.99, 'discount per step')
  n_step: int = setting(3, 'steps before the bootstrap')
  num_atoms: int = setting(51, 'atoms of the return distribution')
  vmax: float = setting(2.0, 'largest return the distribution can hold; the '
                        'least is its negative')
  distributional: bool = setting(
      True, 'learn the distribution of returns (C51); without it the value is '
      'the sum of the logits, and errors count by the Huber loss')
  dueling: bool = setting(True, 'value and advantage heads')
  double: bool = setting(True, 'the online network picks the next action')
  noisy: bool = setting(
      False, 'dense layers with learned noise; training epsilon is then 0')
  torso: str = setting('auto', 'convolutions: ' + ', '.join(TORSOS) + ', or '
                       'auto, which goes by the size of the frames')
  stack: int = setting(1, 'frames in a state')
  clip_rewards: bool = setting(True, 'learn from rewards clipped to [-1, 1]')
  importance_exponent: float = setting(
      0.5, 'beta of the weights that make up for prioritised draws')
  initial_priority: float = setting(
      2.0, 'priority of items until one has a larger; about '
      'sqrt(ln(num_atoms))')
  update_period: int = setting(4, 'environment steps per SGD step')
  target_period: int = setting(100, 'environment steps between target copies')
  num_sgd_steps_per_step: int = setting(
      4, 'SGD steps fused into one learner call')
  min_replay_size: int = setting(
      1000, 'environment steps stored before learning starts')
  max_replay_size: int = setting(100_000, 'items kept, about one per '
                                 'environment step')

  eps_mode: str = setting('anneal', 'epsilon in training: ladder (Ape-X: from '
                          '0.4 to 0.0007 over all environments) or anneal')
  eps_least: float = setting(0.05, 'epsilon after annealing')
  eps_decay: int = setting(10_000, 'environment steps that annealing takes '
                           'after min_replay_size')
  eps_eval: float = setting(0.001, 'epsilon in evaluation')
  option_action_eps: Optional[float] = setting(
      None, "epsilon inside options; 'none' takes that of training")
  option_start_eps: Optional[float] = setting(
      None, "what option_prob is multiplied by; 'none' takes the epsilon of "
      'training')

  num_options: int = setting(5, 'options, each with a value network')
  option_prob: float = setting(
      0.9, 'chance that an option starts when exploring, mu')
  option_duration: float = setting(10.0, 'mean steps of an option')
  option_learning_rate: Optional[float] = setting(
      3e-3, "Adam step size of options; 'none' takes learning_rate")
  option_discount: Optional[float] = setting(
      0.9, "discount of intrinsic rewards, for which options last as long as "
      "option_duration says; 'none' takes discount")
  option_n_step: Optional[int] = setting(
      1, "steps before the bootstrap of options; 'none' takes n_step")
  option_target_period: int = setting(
      30, "SGD steps of an option between its target's copies")
  option_vmax: float = setting(
      4.0, 'largest return of intrinsic rewards')
  option_signs: str = setting(
      'pos', 'pos: one option per dimension; both: one up and one down it')
  skip_first_dim: bool = setting(
      True, 'no option for the first dimension, the constant function where '
      'the objective orders them')
  options_per_step: int = setting(1, 'options that learn in one SGD step')
  carry_options: bool = setting(
      False, 'options go on in the next episode')

  laplacian: str = setting('allo', 'objective of the representation: '
                           + ', '.join(KINDS))
  rep_dim: int = setting(6, 'entries of the representation')
  rep_batch_size: int = setting(
      64, 'pairs of the representation per SGD step, and states drawn twice')
  rep_learning_rate: float = setting(
      2e-3, 'Adam step size of the representation')
  rep_gap_decay: Optional[float] = setting(
      0.9, "gaps of pairs: 'none' for n_step, or a geometric distribution "
      'with this decay')
  rep_max_gap: int = setting(50, 'largest gap of a geometric distribution')
  dual_learning_rate: float = setting(1e-3, "step size of allo's multipliers")
  barrier_rate: float = setting(
      0.0, "step size of allo's barrier; with the few states of a batch it "
      'soon outweighs what is to be smooth')
  mask_terminal_pairs: bool = setting(
      True, 'steps that end an episode for good neither pull states together '
      'nor reward options')
  aux_sampling: str = setting(
      'uniform', 'how representation and options draw: uniform, or prioritized '
      'like the main network')


# Dopamine's Rainbow for Atari, spread over actors.
ATARI: Mapping[str, Any] = dict(
    learning_rate=6.25e-5, vmax=10.0, stack=4, target_period=8000,
    num_sgd_steps_per_step=1, min_replay_size=20_000,
    max_replay_size=1_000_000, eps_mode='ladder', eps_least=0.01,
    eps_decay=250_000, option_learning_rate=None, option_discount=None,
    option_n_step=None, option_target_period=8000, option_vmax=10.0,
    rep_batch_size=128, rep_learning_rate=3e-4)

# The published implementation of DCEO: one actor, all draws prioritised.
REFERENCE: Mapping[str, Any] = dict(
    ATARI, eps_mode='anneal', initial_priority=1.0,
    skip_first_dim=False, carry_options=True, laplacian='ggdo_log', rep_dim=20,
    rep_batch_size=32, rep_learning_rate=6.25e-5, rep_gap_decay=None,
    mask_terminal_pairs=False, aux_sampling='prioritized')

# By preset and by how the environment's name begins.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    'cpu': {'': {}, 'atari_': ATARI},
    'reference': {'': REFERENCE},
}


def from_settings(alg: str, preset: str, overrides: Dict[str, Any],
                  env: str = '') -> DCEOConfig:
  """Builds the config of `alg`: variant, then preset, then overrides."""
  nearest = max(filter(env.startswith, PRESETS[preset]), key=len)
  return DCEOConfig(
      **{**VARIANTS[alg], **PRESETS[preset][nearest], **overrides})


def num_options(config: DCEOConfig) -> int:
  """Returns the number of options there are."""
  return config.num_options if config.options else 0


def first_dim(config: DCEOConfig) -> int:
  """Returns the first dimension that options follow."""
  return int(config.skip_first_dim)


def option_dims(config: DCEOConfig) -> List[int]:
  """Returns the dimension each option follows."""
  share = 2 if config.option_signs == 'both' else 1
  return [first_dim(config) + o // share for o in range(num_options(config))]


def option_directions(config: DCEOConfig) -> List[float]:
  """Returns 1 for options that follow their dimension up, -1 for down."""
  both = config.option_signs == 'both'
  return [-1.0 if both and o % 2 else 1.0 for o in range(num_options(config))]


def of_options(config: DCEOConfig, name: str) -> Any:
  """Returns `option_<name>`, or `<name>` where options have none of their own.

  Args:
    config: of the agent.
    name: 'learning_rate', 'discount' or 'n_step'.
  """
  own = getattr(config, f'option_{name}')
  return getattr(config, name) if own is None else own


def target_updates(config: DCEOConfig) -> int:
  """Returns the SGD steps between copies of the main target."""
  return max(1, config.target_period // config.update_period)


def environment_steps(config: DCEOConfig, updates: Any) -> Any:
  """Returns the run's environment steps after `updates` SGD steps.

  Pacing keeps both in proportion, so the one follows from the other.
  """
  return config.min_replay_size + updates * config.update_period


def problems(config: DCEOConfig) -> List[str]:
  """Lists what is wrong with the settings; empty when nothing is."""
  found: List[str] = []
  check = checker(config, found)
  def one_of(name: str, allowed: Any) -> None:
    check(getattr(config, name) in allowed, name,
          f'one of {", ".join(allowed)}')

  one_of('torso', ('auto', *TORSOS))
  one_of('eps_mode', EPSILON_MODES)
  one_of('laplacian', KINDS)
  one_of('aux_sampling', AUX_SAMPLINGS)
  one_of('option_signs', OPTION_SIGNS)
  for name in ('batch_size', 'n_step', 'stack', 'update_period',
               'target_period', 'num_sgd_steps_per_step', 'min_replay_size',
               'option_target_period', 'rep_dim', 'rep_batch_size',
               'rep_max_gap', 'eps_decay'):
    check(getattr(config, name) >= 1, name, 'at least 1')
  check(config.num_atoms >= 2, 'num_atoms', 'at least 2')
  for name in ('learning_rate', 'rep_learning_rate', 'adam_epsilon', 'vmax',
               'option_vmax', 'initial_priority', 'dual_learning_rate'):
    check(0 < getattr(config, name) < math.inf, name, 'a positive number')
  check(0 < config.discount < 1, 'discount', 'a number between 0 and 1')
  check(config.option_discount is None or 0 < config.option_discount < 1,
        'option_discount', "'none', or a number between 0 and 1")
  check(config.option_n_step is None or config.option_n_step >= 1,
        'option_n_step', "'none', or at least 1")
  check(config.option_learning_rate is None
        or 0 < config.option_learning_rate < math.inf,
        'option_learning_rate', "'none', or a positive number")
  for name in ('eps_least', 'eps_eval', 'option_prob', 'importance_exponent',
               'option_action_eps', 'option_start_eps'):
    value = getattr(config, name)
    check(value is None or 0 <= value <= 1, name, 'a number from 0 to 1')
  check(config.barrier_rate >= 0, 'barrier_rate', '0 or more')
  check(config.option_duration >= 1, 'option_duration', 'at least 1')
  check(config.max_replay_size >= config.min_replay_size, 'max_replay_size',
        f'at least min_replay_size ({config.min_replay_size})')
  if config.rep_gap_decay is not None:
    check(0 < config.rep_gap_decay < 1, 'rep_gap_decay',
          "'none', or a number between 0 and 1")
  return found + (_option_problems(config) if config.options else [])


def _option_problems(config: DCEOConfig) -> List[str]:
  """Lists what is wrong with the settings of options."""
  found = []
  if config.num_options < 1:
    found.append(f'num_options: got {config.num_options}, needs at least 1; '
                 '--alg=rainbow has none')
  elif not 1 <= config.options_per_step <= config.num_options:
    found.append(f'options_per_step: got {config.options_per_step}, needs 1 to '
                 f'num_options ({config.num_options})')
  dims = max(option_dims(config), default=0) + 1
  if config.rep_dim < dims:
    found.append(f'rep_dim: got {config.rep_dim}, needs at least {dims} for '
                 f'{config.num_options} options; raise it or lower num_options')
  if config.noisy and config.option_start_eps is None:
    found.append('noisy: sets epsilon to 0, with which no option starts; give '
                 'option_start_eps, or drop it')
  if config.aux_sampling == 'prioritized':
    found += [f'{name}: prioritised draws are windows of n_step steps; use '
              "--aux_sampling=uniform or 'none'"
              for name in ('rep_gap_decay', 'option_n_step')
              if getattr(config, name) is not None]
  return found
