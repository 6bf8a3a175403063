"""Keeps environment steps and updates even in time.

Reverb's limiter acts when an episode is inserted, so by itself it lets actors
run whole episodes at full speed on one set of parameters and then wait. Pacing
acts before every vectorised step instead.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Pace:
  """How many environment steps a number of updates pays for.

  Attributes:
    min_steps: environment steps before learning starts.
    steps_per_update: environment steps paid for by one SGD step.
    slack: steps actors may be ahead; at least the steps of one episode in every
      environment of every actor, so that replay can always fill to what the
      learner waits for.
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
  paid = pace.min_steps + pace.slack + updates * pace.steps_per_update
  return done < paid
