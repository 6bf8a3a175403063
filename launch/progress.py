"""The progress line."""

import dataclasses
import datetime
import math
from typing import Mapping

BAR_WIDTH = 20


@dataclasses.dataclass
class Figures:
  """What the progress line shows; NaN where nothing is known yet.

  Attributes:
    num_steps: environment steps of the whole run.
    steps: environment steps done.
    seconds: wall-clock seconds of the run, earlier processes included.
    steps_per_second: environment steps per second in the last interval.
    updates_per_second: SGD steps per second.
    actor_wait: share of time actors waited for the learner.
    learner_wait: share of time the learner waited for actors.
    parameter_age: SGD steps the acting parameters lagged behind.
    success: of the last 100 training episodes.
    eval_success: of the last evaluation round.
    episode_return: of the last 100 training episodes.
    eval_return: of the last evaluation round.
    visits: steps in regions per episode, last 100 episodes.
    interventions: enforced steps per episode, last 100 episodes.
  """
  num_steps: int
  steps: int = 0
  seconds: float = 0.0
  steps_per_second: float = 0.0
  updates_per_second: float = math.nan
  actor_wait: float = math.nan
  learner_wait: float = math.nan
  parameter_age: float = math.nan
  success: float = math.nan
  eval_success: float = math.nan
  episode_return: float = math.nan
  eval_return: float = math.nan
  visits: float = math.nan
  interventions: float = math.nan

  def update(self, row: Mapping[str, float]) -> None:
    """Takes over the actors' log row."""
    self.actor_wait = row['wait_fraction']
    self.parameter_age = row['parameter_age']
    self.success = row.get('success_100', math.nan)
    self.episode_return = row.get('episode_return_100', math.nan)
    self.visits = row.get('region_visits_100', math.nan)
    self.interventions = row.get('interventions_100', math.nan)


def progress_line(figures: Figures, bar: bool = False) -> str:
  """Returns one line that says where the run stands.

  Args:
    figures: what to show.
    bar: draw a bar too; for terminals.
  """
  share = min(1.0, figures.steps / max(1, figures.num_steps))
  left = figures.num_steps - figures.steps
  eta = (_clock(left / figures.steps_per_second)
         if figures.steps_per_second > 0 and left > 0 else '-')
  filled = round(BAR_WIDTH * share)
  drawing = f'[{"#" * filled}{"." * (BAR_WIDTH - filled)}] ' if bar else ''
  return (
      f'{drawing}{_clock(figures.seconds)} '
      f'step {figures.steps:,}/{figures.num_steps:,} ({share:.0%}) eta {eta} | '
      f'{figures.steps_per_second:,.0f} steps/s '
      f'{_number(figures.updates_per_second, ".0f")} updates/s | '
      f'wait actors {_number(figures.actor_wait, ".0%")} '
      f'learner {_number(figures.learner_wait, ".0%")} '
      f'age {_number(figures.parameter_age, ".0f")} | ' + _outcome(figures))


def _outcome(figures: Figures) -> str:
  """Returns what the agent achieves; the return where nothing is a success."""
  if math.isnan(figures.success) and not math.isnan(figures.episode_return):
    return (f'return {_number(figures.episode_return, ".1f")} '
            f'eval {_number(figures.eval_return, ".1f")}')
  return (f'success {_number(figures.success, ".2f")} '
          f'eval {_number(figures.eval_success, ".2f")} | '
          f'visits/ep {_number(figures.visits, ".2f")} '
          f'interventions/ep {_number(figures.interventions, ".1f")}')


def _clock(seconds: float) -> str:
  return str(datetime.timedelta(seconds=round(seconds)))


def _number(value: float, form: str) -> str:
  return '-' if math.isnan(value) else format(value, form)
