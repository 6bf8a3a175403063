"""Keeps acting and learning even in time.

Reverb's limiter counts episodes and acts when one is inserted or sampled: by
itself it lets actors run whole episodes at full speed on one set of parameters
and then wait, and it takes a batch that a killed learner had fetched for one
that was learned from. Pacing counts what is stored and updates made, which a
checkpoint restores exactly, and acts before every vectorised step and every
call of the learner. What is stored is counted in environment steps, or in
episodes where an agent learns so much from each, however long it is.
"""

import dataclasses
from typing import Mapping

STEPS = 'actor_steps'
EPISODES = 'actor_episodes'


@dataclasses.dataclass(frozen=True)
class Pace:
  """How much acting a number of updates pays for.

  Attributes:
    minimum: what is stored before learning starts.
    per_update: what is paid for by one SGD step.
    slack: how much actors may be ahead; at least one episode in every
      environment of every actor, so that what the learner waits for can always
      be stored.
    num_actors: actors that share the budget.
    unit: which of the run's counts it is about, `STEPS` or `EPISODES`.
  """
  minimum: int
  per_update: float
  slack: int
  num_actors: int
  unit: str = STEPS


def amount(pace: Pace, counts: Mapping[str, float]) -> int:
  """Returns what all actors have stored, in the pace's unit."""
  return int(counts[pace.unit])


def may_step(pace: Pace, stored: int, own_unstored_steps: int,
             updates: int) -> bool:
  """Tells whether an actor may take its next vectorised step.

  Steps count as done once stored in replay; each actor takes the others to be
  as far into their episodes as itself. Steps lost with a dead actor were never
  counted, so they cannot stall the run. An episode counts when it has ended.

  Args:
    pace: the static facts.
    stored: what all actors have stored in replay.
    own_unstored_steps: steps of this actor in unfinished episodes.
    updates: SGD steps done.
  """
  done = stored
  if pace.unit == STEPS:
    done += pace.num_actors * own_unstored_steps
  return done < _paid(pace, updates) + pace.slack


def update_due(pace: Pace, done: int, updates: int) -> bool:
  """Tells whether the learner may make its next call.

  It may once the first update of that call is due: were the whole call asked
  for, actors could be held back by `may_step` before it is.

  Args:
    pace: the static facts.
    done: what of all actors counts; what is stored, unless all roles take turns
      in one thread.
    updates: SGD steps done.
  """
  return done >= _paid(pace, updates)


def _paid(pace: Pace, updates: int) -> float:
  return pace.minimum + updates * pace.per_update
