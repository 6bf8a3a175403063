"""What the settings need of the environment."""

from typing import List

from envs.spec import EnvSpec
from learners.rcp.config import RCPConfig
from safety.masking import SafetyMask


def problems(config: RCPConfig, spec: EnvSpec, mask: SafetyMask) -> List[str]:
  """Lists settings that do not suit the environment; empty when all do."""
  del config, mask
  if spec.has_goals or not spec.num_actions:
    return ['env: reward-conditioned policies need discrete actions and no '
            f'goals, {spec.name} is of another kind: use cartpole, lunarlander '
            'or lunarlander-sparse']
  return []
