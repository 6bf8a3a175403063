"""Flags, and the experiment they describe."""

import dataclasses
import datetime
import difflib
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

from absl import flags

from envs import registry as env_registry
from launch import experiment as experiment_lib
from launch import run_folder, where
from launch.errors import ConfigError
from launch.experiment import Experiment
from learners import registry as learner_registry
from learners import settings

FLAGS = flags.FLAGS

RESTARTS = ('resume', 'restart', 'overwrite')
_STEPS = 200_000
# What --eval_agent is told besides itself.
_COMMANDS = ('commanded_return', 'horizon')
_OF_EVALUATION = ('eval_agent', 'eval_episodes', 'seed', *_COMMANDS)


def define_flags() -> None:
  """Defines every flag of `lp_run.py`, in the order `--help` shows them."""
  flags.DEFINE_string('env', 'point_FourRooms', 'environment, one of: '
                      + env_registry.summary())
  flags.DEFINE_string('alg', 'contrastive_cpc', 'algorithm, one of: '
                      + ', '.join(sorted(learner_registry.ALGORITHMS)))
  flags.DEFINE_integer('seed', 42, 'all randomness follows from it')
  flags.DEFINE_integer('num_steps', _STEPS, 'environment steps of the run')
  flags.DEFINE_string('preset', 'cpu', 'algorithm settings: cpu (for a few '
                      'cores) or reference (the published values). Both set '
                      'values by algorithm and environment over the defaults '
                      'shown here; config.json of a run has those in force')
  flags.DEFINE_bool('sample_goals', False,
                    'draw start and goal of training episodes')
  flags.DEFINE_string('fixed_goal', None, "goal of every episode, 'a,b'")

  flags.DEFINE_string('region_bounds', None, 'regions to keep out of, '
                      "'x_lo,y_lo:x_hi,y_hi[;more boxes]'; x is the row")
  flags.DEFINE_bool('negative_goal_repr', True, 'goals in a region are '
                    'represented by -psi(g*) rather than +0.5 psi(g*)')
  flags.DEFINE_bool('stop_grad_fixed', True,
                    'stop the gradient through that psi(g*)')
  flags.DEFINE_bool('use_absorbing_failure', False, 'regions hold whoever '
                    'enters until the episode ends, instead of masking')
  flags.DEFINE_bool('safety_enforcement', None, 'keep the acting policy out of '
                    'the regions (default: on when there are regions that do '
                    'not absorb)')
  flags.DEFINE_integer('safety_candidates', 16,
                       'draws the enforced policy chooses from')
  flags.DEFINE_float('safety_margin', None, 'distance to keep from a region '
                     "(default: six times the environment's position noise)")
  flags.DEFINE_string('visit_bounds', None, 'regions whose visits are counted '
                      '(default: region_bounds); for control runs')

  flags.DEFINE_integer('num_actors', 4, 'actor processes')
  flags.DEFINE_integer('envs_per_actor', 2, 'environments each actor steps')
  flags.DEFINE_integer('max_parameter_age', 1000, 'SGD steps the parameters '
                       'an actor uses may lag behind the learner')
  flags.DEFINE_integer('eval_episodes', 100, 'episodes per evaluation round')
  flags.DEFINE_float('eval_interval', 10.0, 'least seconds between rounds')
  flags.DEFINE_integer('eval_steps', 2500, 'environment steps between rounds '
                       'with --serial, which does not go by the clock')
  flags.DEFINE_float('film_minutes', 0.0, 'least minutes between films of an '
                     'episode of the evaluator, figures/episode_UPDATES.gif; '
                     '0 films none')
  flags.DEFINE_integer('max_actor_restarts', 10,
                       'times dead actors are started again, in all')
  flags.DEFINE_float('hang_minutes', 10.0, 'a process that does nothing for so '
                     'long counts as dead; more than one call of the learner, '
                     'compilation included, or one evaluation round takes')

  flags.DEFINE_string('log_dir_path', 'logs/', 'folder of all runs')
  flags.DEFINE_enum('restart', 'resume', list(RESTARTS), 'where the run folder '
                    'holds a run already: resume it; restart, keeping the old '
                    'one under another name; or overwrite it')
  flags.DEFINE_bool('add_uid', False,
                    'give the run a folder of its own, named by the time')
  flags.DEFINE_float('time_delta_minutes', 5.0, 'minutes between checkpoints')
  flags.DEFINE_integer('checkpoints_kept', 3, 'newest checkpoints that stay, '
                       'beside the best; analysis.py draws what changed over '
                       'them')
  flags.DEFINE_float('log_interval', 10.0, 'seconds between progress lines')
  flags.DEFINE_string('eval_agent', None, 'folder of a run or of a checkpoint: '
                      'evaluate it over --eval_episodes and train nothing; '
                      'launch/eval_agent.py can do more')
  flags.DEFINE_float('commanded_return', None, 'return (rcp_a: advantage) that '
                     '--eval_agent asks for (default: what was learned)')
  flags.DEFINE_float('horizon', None, 'steps that --eval_agent asks for '
                     '(default: what was learned)')
  for name, text in _agent_flags().items():
    flags.DEFINE_string(name, None, text)


def experiment_from_flags() -> Experiment:
  """Builds the experiment the flags describe.

  Raises:
    ConfigError: listing every problem with them.
  """
  found = _unknown_names()
  found += [f'{name}: needs --eval_agent' for name in _COMMANDS
            if FLAGS[name].value is not None]
  algorithm = learner_registry.ALGORITHMS.get(FLAGS.alg)
  agent = None
  if algorithm is not None:
    overrides = _agent_overrides(found)
    # A wrong name is reported already; any preset does to check the rest.
    known = FLAGS.preset in algorithm.presets
    preset = FLAGS.preset if known else next(iter(algorithm.presets))
    agent = algorithm.configure(FLAGS.alg, preset, overrides, FLAGS.env)
  name = f'{FLAGS.alg}_{FLAGS.env}_{FLAGS.seed}'
  if FLAGS.add_uid:
    name += datetime.datetime.now().strftime('_%Y%m%d-%H%M%S')
  enforcement = FLAGS.safety_enforcement
  if enforcement is None:
    enforcement = bool(FLAGS.region_bounds) and not FLAGS.use_absorbing_failure
  shared = {f.name for f in dataclasses.fields(Experiment)} & set(FLAGS)
  values: Dict[str, Any] = {n: FLAGS[n].value for n in shared}
  values.update(agent=agent, fixed_goal=_parse_goal(found), run_name=name,
                safety_enforcement=enforcement)
  experiment = Experiment(**values)
  found += experiment_lib.problems(_to_check(experiment))
  if found:
    raise ConfigError(found)
  return experiment


def restart() -> str:
  """Returns --restart; a job from the queue goes on with what it began."""
  if os.environ.get('SLURM_RESTART_COUNT', '0') != '0':
    return 'resume'
  return FLAGS.restart


def _to_check(experiment: Experiment) -> Experiment:
  """Returns the experiment, less what its run had from the start if it resumes.

  Files that it started from may be gone by now.
  """
  algorithm = learner_registry.ALGORITHMS.get(experiment.alg)
  if algorithm is None:
    return experiment
  agent = algorithm.once_started(experiment.agent)
  if (agent == experiment.agent or restart() != 'resume'
      or not run_folder.has_checkpoint(experiment_lib.run_dir(experiment))):
    return experiment
  return dataclasses.replace(experiment, agent=agent)


def unexpected(arguments: Sequence[str]) -> List[str]:
  """Lists what is wrong with arguments that are no flags: all of them."""
  return [f"unexpected argument '{a}'; settings are flags, see --help"
          for a in arguments]


def evaluation(arguments: Sequence[str] = ()) -> Optional[List[str]]:
  """Returns the arguments of `eval_agent.py`; None if the run is to train.

  Args:
    arguments: what the command line has besides flags.

  Raises:
    ConfigError: listing what was given that an evaluation does not heed.
  """
  if FLAGS.eval_agent is None:
    return None
  of_modules = FLAGS.flags_by_module_dict()
  settings_of_runs = ['lp_launch_type'] + [
      flag.name for module in (__name__, where.__name__)
      for flag in of_modules.get(module, ())]
  found = unexpected(arguments) + [
      f'{name}: is for runs, not for --eval_agent; drop one'
      for name in settings_of_runs
      if name in FLAGS and FLAGS[name].present and name not in _OF_EVALUATION]
  if found:
    raise ConfigError(found)
  return [FLAGS.eval_agent, f'--episodes={FLAGS.eval_episodes}',
          f'--seed={FLAGS.seed}'] + [
              f'--{name}={FLAGS[name].value}' for name in _COMMANDS
              if FLAGS[name].value is not None]


def _unknown_names() -> List[str]:
  """Lists unknown environment, algorithm and preset names."""
  found = []
  try:
    env_registry.lookup(FLAGS.env)
  except ValueError as e:
    found.append(f'env: {e}')
  known = list(learner_registry.ALGORITHMS)
  if FLAGS.alg not in known:
    near = difflib.get_close_matches(FLAGS.alg, known, 3, 0.3) or sorted(known)
    found.append(f"alg: unknown algorithm, got: '{FLAGS.alg}'; nearest: "
                 + ', '.join(near))
  else:
    presets = learner_registry.ALGORITHMS[FLAGS.alg].presets
    if FLAGS.preset not in presets:
      found.append(f"preset: {FLAGS.alg} has no preset '{FLAGS.preset}'; it "
                   f'has: {", ".join(sorted(presets))}')
  return found


def _agent_flags() -> Dict[str, str]:
  """Returns the help of every algorithm setting, by its name.

  One that several families of algorithms share is explained for each of them.
  """
  families: Dict[str, Dict[str, List[str]]] = {}
  for config_class in dict.fromkeys(
      a.config_class for a in learner_registry.ALGORITHMS.values()):
    family = config_class.__module__.split('.')[1]
    for field in settings.fields(config_class):
      text = f'{field.metadata["help"]} (default: {field.default})'
      families.setdefault(field.name, {}).setdefault(text, []).append(family)

  def explain(texts: Dict[str, List[str]]) -> str:
    if sum(map(len, texts.values())) == 1:
      return next(iter(texts))
    return '; '.join(f'{", ".join(who)}: {text}' for text, who in texts.items())

  return {name: explain(texts) for name, texts in families.items()}


def _agent_overrides(found: List[str]) -> Dict[str, Any]:
  """Parses the algorithm settings given; problems are added to `found`."""
  config_class = learner_registry.ALGORITHMS[FLAGS.alg].config_class
  texts = {name: FLAGS[name].value for name in _agent_flags()}
  known = {field.name for field in settings.fields(config_class)}
  found += [f'{name}: {FLAGS.alg} has no such setting'
            for name, text in texts.items()
            if text is not None and name not in known]
  return settings.parse(config_class, texts, found)


def _parse_goal(found: List[str]) -> Optional[Tuple[float, ...]]:
  if FLAGS.fixed_goal is None:
    return None
  try:
    return tuple(float(t) for t in FLAGS.fixed_goal.split(','))
  except ValueError:
    found.append(f"fixed_goal: got '{FLAGS.fixed_goal}', needs numbers like "
                 "'10,8'")
    return None
