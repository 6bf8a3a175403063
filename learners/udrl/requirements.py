"""What the settings need of the environment."""

from typing import List

from envs.spec import EnvSpec
from learners.udrl.config import UDRLConfig
from safety.masking import SafetyMask


def problems(config: UDRLConfig, spec: EnvSpec,
             mask: SafetyMask) -> List[str]:
  """Lists settings that do not suit the environment; empty when all do."""
  del config, mask
  if spec.has_goals or not spec.num_actions:
    return ['env: upside-down RL needs discrete actions and no goals, '
            f'{spec.name} is of another kind: use cartpole, lunarlander or '
            'lunarlander-sparse']
  return []
