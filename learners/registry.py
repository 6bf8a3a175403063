"""Algorithm names and what they build. A new algorithm is a line here."""

import dataclasses
from typing import Any, Callable, Dict, List, Mapping, Optional, Type

from learners import commanded
from learners.agent import Agent, Representations, State
from learners.contrastive import agent as contrastive_agent
from learners.contrastive import analysis as contrastive_analysis
from learners.contrastive import config as contrastive_config
from learners.contrastive import requirements as contrastive_requirements
from learners.dceo import agent as dceo_agent
from learners.dceo import config as dceo_config
from learners.rcp import agent as rcp_agent
from learners.rcp import config as rcp_config
from learners.udrl import agent as udrl_agent
from learners.udrl import config as udrl_config


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """One registered algorithm name.

  Attributes:
    config_class: its settings, a frozen dataclass of `settings.setting` fields.
    configure: `(alg, preset, overrides, env) -> config`; the environment's name
      chooses among presets that were tuned for one.
    problems: `config -> sentences`, what is wrong with the settings.
    make_agent: `(config, env_spec, safety_mask) -> Agent`.
    presets: preset names and the values they set.
    representations: `(config, env_spec, safety_mask, state, points [K, P]) ->
      Representations`, for figures; None where goals have no representation.
    environment_problems: `(config, env_spec, safety_mask) -> sentences`, what
      the settings need that the environment has not.
    on_start: `(config, state) -> state`, what a new run makes of the agent's
      first state.
    once_started: `config -> config`, without what only a new run needs.
  """
  config_class: Type[Any]
  configure: Callable[..., Any]
  problems: Callable[[Any], List[str]]
  make_agent: Callable[..., Agent]
  presets: Mapping[str, Mapping[str, Any]]
  representations: Optional[Callable[..., Representations]] = None
  environment_problems: Callable[..., List[str]] = lambda *args: []
  on_start: Callable[[Any, State], State] = lambda config, state: state
  once_started: Callable[[Any], Any] = lambda config: config


CONTRASTIVE = Algorithm(
    config_class=contrastive_config.ContrastiveConfig,
    configure=contrastive_config.from_settings,
    problems=contrastive_config.problems,
    make_agent=contrastive_agent.make_agent,
    presets=contrastive_config.PRESETS,
    representations=contrastive_analysis.representations,
    environment_problems=contrastive_requirements.problems,
    on_start=contrastive_agent.on_start,
    once_started=contrastive_config.once_started)

UDRL = Algorithm(
    config_class=udrl_config.UDRLConfig,
    configure=udrl_config.from_settings,
    problems=udrl_config.problems,
    make_agent=udrl_agent.make_agent,
    presets=udrl_config.PRESETS,
    environment_problems=commanded.problems)

RCP = Algorithm(
    config_class=rcp_config.RCPConfig,
    configure=rcp_config.from_settings,
    problems=rcp_config.problems,
    make_agent=rcp_agent.make_agent,
    presets=rcp_config.PRESETS,
    environment_problems=commanded.problems)

DCEO = Algorithm(
    config_class=dceo_config.DCEOConfig,
    configure=dceo_config.from_settings,
    problems=dceo_config.problems,
    make_agent=dceo_agent.make_agent,
    presets=dceo_config.PRESETS,
    environment_problems=dceo_agent.environment_problems)

ALGORITHMS: Dict[str, Algorithm] = {
    **{name: CONTRASTIVE for name in contrastive_config.VARIANTS},
    **{name: DCEO for name in dceo_config.VARIANTS},
    **{name: RCP for name in rcp_config.VARIANTS},
    'udrl': UDRL,
}
