"""What the settings need of the environment and of the regions in it."""

from typing import List

import jax

from envs.spec import EnvSpec
from learners.contrastive import config as config_lib
from learners.contrastive import weights
from learners.contrastive.agent import make_networks
from learners.contrastive.config import ContrastiveConfig
from safety.masking import SafetyMask

_NEED_A_GOAL = ('goal_neg_actor_steps', 'goal_pos_actor_steps',
                'perturbed_negatives_goal_num')


def problems(config: ContrastiveConfig, spec: EnvSpec,
             mask: SafetyMask) -> List[str]:
  """Lists settings that do not suit the environment; empty when all do.

  What is wrong anywhere is left to `config.problems`.
  """
  if not spec.has_goals or spec.num_actions:
    return [f'env: contrastive agents need goals and continuous actions, '
            f'{spec.name} has not: choose another environment or --alg']
  found = []
  for name in _NEED_A_GOAL:
    if getattr(config, name) and spec.goal is None:
      found.append(f'{name}: got {getattr(config, name)}, needs a fixed goal: '
                   'drop sample_goals, or give fixed_goal')
  if config.monolithic_critic and mask.regions:
    found.append('monolithic_critic: got True, excludes region_bounds, which '
                 'change the representations of goals: drop one (visit_bounds '
                 'counts visits without changing anything)')
  if config.init_weight is not None and not config_lib.problems(config):
    # Shapes only: nothing is computed, and no device taken.
    networks = make_networks(config, spec)
    _, critic_params = jax.eval_shape(lambda: networks.init(jax.random.key(0)))
    found += [f'init_weight: {problem}' for problem in weights.problems(
        config.init_weight, critic_params)]
  return found
