"""Keeps environment steps and updates even in time.

Reverb's limiter counts episodes and acts when one is inserted or sampled: by
itself it lets actors run whole episodes at full speed on one set of parameters
and then wait, and it takes a batch that a killed learner had fetched for one
that was learned from. Pacing counts steps stored and updates made, which a
checkpoint restores exactly, and acts before every vectorised step and every
call of the learner.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Pace:
  """How many environment steps a number of updates pays for.

  Attributes:
    min_steps: environment steps before learning starts.
    steps_per_update: environment steps paid for by one SGD step.
    slack: steps actors may be ahead; at least the steps of one episode in every
      environment of every actor, so that what the learner waits for can always
      be stored.
    num_actors: actors that share the budget.
  """
  min_steps: int
  steps_per_update: float
  slack: int
  num_actors: int


def may_step(pace: Pace, stored_steps: int, own_unstored_steps: int,
             updates: int) -> bool:
  """Tells whether an actor may take its next vectorised step.

  Steps count as done once stored in replay; each actor takes the others to be
  as far into their episodes as itself. Steps lost with a dead actor were never
  counted, so they cannot stall the run.

  Args:
    pace: the static facts.
    stored_steps: environment steps of all actors stored in replay.
    own_unstored_steps: steps of this actor in unfinished episodes.
    updates: SGD steps done.
  """
  done = stored_steps + pace.num_actors * own_unstored_steps
  return done < _paid(pace, updates) + pace.slack


def update_due(pace: Pace, done_steps: int, updates: int) -> bool:
  """Tells whether the learner may make its next call.

  It may once the first update of that call is due: were the whole call asked
  for, actors could be held back by `may_step` before it is.

  Args:
    pace: the static facts.
    done_steps: environment steps of all actors that count; those stored, unless
      all roles take turns in one thread.
    updates: SGD steps done.
  """
  return done_steps >= _paid(pace, updates)


def _paid(pace: Pace, updates: int) -> float:
  return pace.min_steps + updates * pace.steps_per_update
