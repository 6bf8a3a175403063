"""Settings of tabular contrastive RL."""

import dataclasses
import math
from typing import Any, List, Mapping, Optional

from learners.settings import checker, setting
from learners.tabular import environments
from learners.tabular.losses import LOSSES

REPRESENTATIONS = ('psi', 'none')
INITS = ('near_goal', 'uniform_around_goal', 'distance_aware',
         'fully_random', 'orthogonal_rooms')
GOALS = ('single', 'two', 'imaginary', 'random')


@dataclasses.dataclass(frozen=True)
class TabularConfig:
  """Settings of one agent; the defaults are the published class's.

  Attributes:
    env: a key of `environments.ENVIRONMENTS`.
  """
  env: str = 'four_rooms'
  representation: str = setting(
      'psi', 'psi: unit rows whose inner products are the scores; none: a free '
      'score for every pair of states')
  loss: str = setting('backward', 'InfoNCE: backward, forward or both')
  init: str = setting('near_goal', 'how rows of psi begin: ' + ', '.join(INITS))
  goal: str = setting(
      'single', 'what acting pursues: single goal; the mean of two; imaginary, '
      'a direction no state has; random, another state each episode')
  absorbing: Optional[str] = setting(
      None, f'maze region that nothing leaves, {environments.REGION_FORMAT}')
  repr_dim: int = setting(16, 'length of a row of psi')
  episodes: int = setting(50_000, 'training episodes')
  max_steps: int = setting(100, 'steps per episode')
  episodes_per_update: int = setting(5, 'episodes per gradient step')
  learning_rate: float = setting(1e-3, 'step size, times a sum over the batch')
  batch_size: int = setting(128, 'pairs per gradient step')
  discount: float = setting(0.99, 'decay of the offset to the future')
  offset_zero: bool = setting(True, 'a state may be its own future')
  temperature: float = setting(0.1, 'of the softmax over actions')
  max_trajectories: int = setting(1000, 'trajectories kept')
  eval_interval: int = setting(100, 'episodes per greedy episode and snapshot')
  env_noise: float = setting(0.0, 'chance that a random action replaces one')
  continuing: bool = setting(
      False, 'episodes begin where the last ended, instead of at the start')
  init_scale: float = setting(0.1, "noise on the goal's row, and on others")
  near_var: float = setting(
      0.2, 'times init_scale: noise of uniform_around_goal everywhere, of '
      'distance_aware at the goal')
  far_var: float = setting(
      1.0, 'times init_scale: noise of distance_aware farthest from the goal')
  distance_power: float = setting(
      1.0, 'power of the relative distance in distance_aware')


_MAZE: Mapping[str, Any] = dict(
    learning_rate=1e-2, episodes_per_update=1, max_steps=50, episodes=500,
    eval_interval=1)

# The published notebooks, the sweep behind the figures, and the JAX variant.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    'maze': _MAZE,
    'absorbing': {**_MAZE, 'max_steps': 500, 'batch_size': 512},
    'hanoi_3': dict(max_steps=20, episodes=2000, eval_interval=100),
    'hanoi_4': dict(max_steps=30, episodes=30_000, eval_interval=2000),
    # Not published; twice the 31 moves it takes, as for four discs.
    'hanoi_5': dict(max_steps=62, episodes=50_000, eval_interval=2000),
    'sweep': dict(episodes=50_001, eval_interval=1000),
    'jax': dict(init='fully_random', max_steps=250, batch_size=1024,
                max_trajectories=50_000, episodes=10_000_000,
                eval_interval=10_000),
}


def default_preset(env: str) -> str:
  """Returns the preset an environment was published with."""
  if env in PRESETS:
    return env
  return 'maze' if env == 'four_rooms' else 'sweep'


def from_settings(env: str, preset: Optional[str],
                  overrides: Mapping[str, Any]) -> TabularConfig:
  """Builds a config: defaults, then preset, then overrides."""
  values = {**PRESETS[preset or default_preset(env)], **overrides}
  return TabularConfig(env=env, **values)


def problems(config: TabularConfig) -> List[str]:
  """Lists what is wrong with the settings; empty when nothing is."""
  found: List[str] = []
  check = checker(config, found)
  for name, known in (('representation', REPRESENTATIONS), ('loss', LOSSES),
                      ('init', INITS), ('goal', GOALS)):
    check(getattr(config, name) in known, name, f'one of {", ".join(known)}')
  check(config.batch_size >= 2, 'batch_size', "at least 2: rows are each "
        "other's negatives")
  check(config.max_trajectories >= 2, 'max_trajectories', 'at least 2')
  for name in ('repr_dim', 'episodes', 'max_steps', 'episodes_per_update',
               'eval_interval'):
    check(getattr(config, name) >= 1, name, 'at least 1')
  for name in ('learning_rate', 'temperature', 'init_scale', 'near_var',
               'far_var', 'distance_power'):
    check(0 < getattr(config, name) < math.inf, name, 'a positive number')
  check(0.0 < config.discount < 1.0, 'discount', 'a number between 0 and 1')
  check(0.0 <= config.env_noise <= 1.0, 'env_noise', 'a chance, 0 to 1')
  check(config.representation == 'psi' or config.goal != 'imaginary', 'goal',
        'representation psi: a score table has no directions')
  if config.env in environments.ENVIRONMENTS:
    found += _environment_problems(config)
  else:
    check(False, 'env', f'one of {", ".join(environments.ENVIRONMENTS)}')
  return found


def _environment_problems(config: TabularConfig) -> List[str]:
  """Lists settings that the environment has no meaning for."""
  environment = environments.ENVIRONMENTS[config.env]()
  found = []
  if config.goal == 'two' and environment.second_goal is None:
    found.append(f'goal: {config.env} has no second goal, four_rooms has')
  if config.init == 'orthogonal_rooms' and config.env != 'four_rooms':
    found.append(f'init: {config.env} has no such rooms, four_rooms has')
  if config.absorbing is None:
    return found
  if not environments.is_maze(environment):
    return found + [f'absorbing: {config.env} is no maze']
  try:
    _, _, *last = environments.parse_region(config.absorbing)
  except ValueError as e:
    return found + [f'absorbing: {e}']
  if last[0] >= environment.shape[0] or last[1] >= environment.shape[1]:
    return found + [f"absorbing: got '{config.absorbing}', which leaves the "
                    f'{environment.shape[0]} by {environment.shape[1]} cells '
                    f'of {config.env}']
  inside = environments.region_mask(environment, config.absorbing)
  pursued = ('goal', 'second_goal') if config.goal == 'two' else ('goal',)
  for name in ('start', *pursued):
    state = getattr(environment, name)
    if state is not None and inside[state]:
      found.append(f"absorbing: '{config.absorbing}' holds the {name}")
  return found
