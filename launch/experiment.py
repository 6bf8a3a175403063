"""Everything a run is, in one frozen value."""

import dataclasses
import json
import math
import os
from typing import Any, Dict, List, Mapping, Optional, Tuple

from envs import registry as env_registry
from envs.spec import EnvSpec
from learners import registry as learner_registry
from safety import regions as region_lib
from safety.enforcement import default_margin
from safety.masking import SafetyMask

# Settings a resumed run may change.
CHANGEABLE = frozenset({
    'num_steps', 'num_actors', 'max_parameter_age', 'eval_episodes',
    'eval_interval', 'eval_steps', 'film_minutes', 'log_interval',
    'time_delta_minutes', 'max_actor_restarts', 'hang_minutes', 'log_dir_path',
    'checkpoints_kept'})


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A run: what is learned, where, how, and how far.

  Attributes:
    env: environment name.
    alg: algorithm name.
    seed: all randomness follows from it.
    preset: named set of algorithm settings.
    agent: the algorithm's config.
    num_steps: environment steps of the run.
    sample_goals: draw start and goal of training episodes.
    fixed_goal: overrides the environment's goal.
    region_bounds: regions to keep out of.
    negative_goal_repr: goals in a region get -psi(g*) rather than +0.5 psi(g*).
    stop_grad_fixed: no gradient through that substitute.
    use_absorbing_failure: regions hold whoever enters until the episode ends;
      instead of masking.
    safety_enforcement: keep the acting policy out of the regions.
    safety_candidates: draws the enforced policy chooses from.
    safety_margin: distance to keep; None derives it from the noise.
    visit_bounds: regions whose visits are counted; None means region_bounds.
    num_actors: actor processes.
    envs_per_actor: environments each of them steps.
    max_parameter_age: SGD steps the acting parameters may lag behind.
    eval_episodes: episodes per evaluation round.
    eval_interval: least seconds between rounds.
    eval_steps: environment steps between rounds of a serial run.
    film_minutes: least minutes between films of evaluation; 0 films none.
    log_dir_path: folder of all runs.
    run_name: this run's folder in it.
    time_delta_minutes: minutes between checkpoints.
    checkpoints_kept: newest checkpoints that stay, beside the best.
    log_interval: seconds between log rows.
    max_actor_restarts: times dead actors are started again, in all.
    hang_minutes: a node that does nothing for so long counts as dead.
  """
  env: str
  alg: str
  seed: int
  preset: str
  agent: Any
  num_steps: int
  run_name: str
  sample_goals: bool = False
  fixed_goal: Optional[Tuple[float, ...]] = None
  region_bounds: Optional[str] = None
  negative_goal_repr: bool = True
  stop_grad_fixed: bool = True
  use_absorbing_failure: bool = False
  safety_enforcement: bool = False
  safety_candidates: int = 16
  safety_margin: Optional[float] = None
  visit_bounds: Optional[str] = None
  num_actors: int = 4
  envs_per_actor: int = 2
  max_parameter_age: int = 1000
  eval_episodes: int = 100
  eval_interval: float = 10.0
  eval_steps: int = 2500
  film_minutes: float = 0.0
  log_dir_path: str = 'logs'
  time_delta_minutes: float = 5.0
  checkpoints_kept: int = 3
  log_interval: float = 10.0
  max_actor_restarts: int = 10
  hang_minutes: float = 10.0


def run_dir(experiment: Experiment) -> str:
  """Returns the run's folder."""
  return os.path.join(experiment.log_dir_path, experiment.run_name)


def visits_dir(experiment: Experiment) -> str:
  """Returns where region visits are written."""
  return os.path.join('safety_region_visits_data',
                      f'{experiment.env}_{experiment.seed}')


def regions(experiment: Experiment) -> region_lib.Regions:
  """Returns the regions to keep out of."""
  return region_lib.parse_region_bounds(experiment.region_bounds)


def margin(experiment: Experiment) -> float:
  """Returns the distance enforcement keeps from a region."""
  if experiment.safety_margin is not None:
    return experiment.safety_margin
  return default_margin(env_registry.spec(experiment.env))


def audited_regions(experiment: Experiment) -> region_lib.Regions:
  """Returns the regions whose visits are counted."""
  text = experiment.visit_bounds or experiment.region_bounds
  return region_lib.parse_region_bounds(text) or region_lib.DEFAULT_AUDITED


def safety_mask(experiment: Experiment, spec: EnvSpec) -> SafetyMask:
  """Returns how the agent represents goals inside the regions."""
  # Absorbing regions are learned from what happens there.
  masked = () if experiment.use_absorbing_failure else regions(experiment)
  return SafetyMask(
      masked, spec.goal, experiment.negative_goal_repr,
      experiment.stop_grad_fixed)


def to_json(experiment: Experiment) -> str:
  """Returns the experiment as JSON text."""
  return json.dumps(dataclasses.asdict(experiment), indent=2, sort_keys=True)


def from_json(text: str) -> Experiment:
  """Reads back what `to_json` wrote.

  Raises:
    ValueError: if it is nothing that `to_json` could have written.
  """
  try:
    values = json.loads(text)
    config_class = learner_registry.ALGORITHMS[values['alg']].config_class
    agent = {k: _tupled(v) for k, v in values.pop('agent').items()}
    return Experiment(agent=config_class(**agent),
                      **{k: _tupled(v) for k, v in values.items()})
  except (AttributeError, KeyError, TypeError) as e:
    raise ValueError(f'no settings of a run: {e!r}') from e


def changed_settings(old: Experiment, new: Experiment) -> List[str]:
  """Lists settings that differ and may not, with both values."""
  found = []
  before, after = flat_settings(old), flat_settings(new)
  for name in sorted(set(before) | set(after)):
    if name not in CHANGEABLE and before.get(name) != after.get(name):
      found.append(f'{name}: the run has {before.get(name)!r}, '
                   f'got {after.get(name)!r}')
  return found


def problems(experiment: Experiment) -> List[str]:
  """Lists everything wrong with the experiment; empty when nothing is.

  An unknown environment or algorithm is left to whoever read its name; what
  does not depend on it is still checked.
  """
  found: List[str] = []
  if experiment.alg in learner_registry.ALGORITHMS:
    algorithm = learner_registry.ALGORITHMS[experiment.alg]
    found += algorithm.problems(experiment.agent)
  for name, least in _LEAST.items():
    value = getattr(experiment, name)
    # Not `value < least`, which NaN would pass.
    if not least <= value < math.inf:
      found.append(f'{name}: got {value}, needs at least {least}')
  if not experiment.log_dir_path.strip() or '\0' in experiment.log_dir_path:
    found.append(f'log_dir_path: got {experiment.log_dir_path!r}, needs the '
                 "path of a folder, such as 'logs/'")
  unreadable = []
  for name in ('region_bounds', 'visit_bounds'):
    try:
      region_lib.parse_region_bounds(getattr(experiment, name))
    except ValueError as e:
      unreadable.append(str(e).replace('region_bounds', name, 1))
  found += unreadable
  if experiment.env in env_registry.ENVIRONMENTS:
    goal_problems = _goal_problems(experiment) or _missing_facts(experiment)
    found += goal_problems
    if not unreadable and not goal_problems:
      found += _safety_problems(experiment)
      found += _agent_problems(experiment)
  return found


_LEAST: Mapping[str, float] = {
    'seed': 0, 'num_steps': 1, 'num_actors': 1, 'envs_per_actor': 1,
    'max_parameter_age': 1, 'eval_episodes': 1, 'eval_interval': 0,
    'eval_steps': 1, 'film_minutes': 0,
    'time_delta_minutes': 0, 'checkpoints_kept': 1, 'log_interval': 0.1,
    'safety_candidates': 1, 'max_actor_restarts': 0, 'hang_minutes': 0.05,
}


def _missing_facts(experiment: Experiment) -> List[str]:
  """Lists settings about goals or positions that the environment has not."""
  spec = env_registry.spec(experiment.env)
  found = []

  def given(name: str) -> bool:
    value = getattr(experiment, name)
    # Not `bool(value)`: a margin of 0 was given.
    return value is not None and value is not False

  if not spec.has_goals:
    found += [f'{name}: {experiment.env} has no goals; drop it'
              for name in ('sample_goals', 'fixed_goal')
              if given(name)]
  if not (spec.has_goals and spec.has_position):
    found += [f'{name}: {experiment.env} has no goals or no (x, y) position, '
              'which regions are about; drop it'
              for name in ('region_bounds', 'visit_bounds', 'safety_margin',
                           'safety_enforcement', 'use_absorbing_failure')
              if given(name)]
  return found


def _goal_problems(experiment: Experiment) -> List[str]:
  goal = experiment.fixed_goal
  if goal is None or not env_registry.spec(experiment.env).has_goals:
    return []
  if experiment.sample_goals:
    return ['fixed_goal and sample_goals exclude each other; drop one']
  spec = env_registry.spec(experiment.env)
  if len(goal) != spec.goal_dim:
    return [f'fixed_goal: got {len(goal)} numbers, {experiment.env} needs '
            f'{spec.goal_dim}']
  if spec.bounds is not None:
    lower, upper = spec.bounds
    if not all(lo <= g <= hi for lo, g, hi in zip(lower, goal, upper)):
      return [f'fixed_goal: {goal} lies outside {experiment.env}, which spans '
              f'{lower} to {upper}']
  return []


def _safety_problems(experiment: Experiment) -> List[str]:
  boxes = regions(experiment)
  found = []
  if experiment.safety_margin is not None and not (
      0 <= experiment.safety_margin < math.inf):
    found.append(f'safety_margin: got {experiment.safety_margin}, needs a '
                 'finite number, 0 or more')
  if not boxes:
    return found + [
        f'{name} needs region_bounds'
        for name in ('safety_enforcement', 'use_absorbing_failure')
        if getattr(experiment, name)]
  spec = env_registry.spec(
      experiment.env, experiment.sample_goals, experiment.fixed_goal)
  if spec.goal is None:
    remedy = 'drop sample_goals' if experiment.sample_goals else (
        'give fixed_goal')
    return found + ['region_bounds needs a fixed goal, whose representation '
                    f'regions are masked with; {remedy}']
  if experiment.safety_enforcement and spec.position_path is None:
    found.append(f'safety_enforcement: {experiment.env} has no position model; '
                 'use --nosafety_enforcement to mask only')
  return found + [f'region_bounds: {p}' for p in region_lib.problems_with(
      boxes, spec.start, spec.goal_position, spec.start_jitter)]


def _agent_problems(experiment: Experiment) -> List[str]:
  """Lists what the algorithm's settings need of the environment."""
  if experiment.alg not in learner_registry.ALGORITHMS:
    return []
  spec = env_registry.spec(
      experiment.env, experiment.sample_goals, experiment.fixed_goal)
  return learner_registry.ALGORITHMS[experiment.alg].environment_problems(
      experiment.agent, spec, safety_mask(experiment, spec))


def flat_settings(experiment: Experiment) -> Dict[str, Any]:
  """Returns all settings by name, the algorithm's as `agent.<name>`."""
  values = dataclasses.asdict(experiment)
  agent = values.pop('agent')
  return {**values, **{f'agent.{k}': v for k, v in agent.items()}}


def _tupled(value: Any) -> Any:
  """JSON has no tuples; configs have no lists."""
  return tuple(value) if isinstance(value, list) else value
