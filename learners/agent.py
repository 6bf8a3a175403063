"""The contract between an algorithm and the system."""

import dataclasses
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

import jax
import numpy as np

from actors.policy import Policy

State = Any
Batch = Mapping[str, jax.Array]
Metrics = Dict[str, jax.Array]


class Column(NamedTuple):
  """Shape and NumPy dtype name of one array of a replay item."""
  shape: Tuple[int, ...]
  dtype: str = 'float32'


class Representations(NamedTuple):
  """What a goal-conditioned critic makes of points, for figures.

  Attributes:
    of_points: `[K, N]`, psi of each point taken as a goal.
    of_goal: `[N]`, psi of the commanded goal g*.
    of_actions: `[K, N]`, phi of each point and the greedy action there.
  """
  of_points: np.ndarray
  of_goal: np.ndarray
  of_actions: np.ndarray


@dataclasses.dataclass(frozen=True)
class ReplaySpec:
  """What an agent needs of replay. Items are whole episodes.

  Attributes:
    columns: the arrays of one item; names are those actors know how to write.
    episodes_per_batch: items in the batch of one `Agent.update`.
    min_steps: environment steps that must be stored before learning starts.
    max_steps: environment steps kept; the oldest episodes go first.
    transitions_per_update: transitions consumed by one SGD step.
    samples_per_insert: transitions consumed per environment step stored.
  """
  columns: Mapping[str, Column]
  episodes_per_batch: int
  min_steps: int
  max_steps: int
  transitions_per_update: int
  samples_per_insert: float


@dataclasses.dataclass(frozen=True)
class Agent:
  """One algorithm: pure functions and static facts.

  Everything that changes in learning lives in the state, so a checkpoint is
  that one value.

  Attributes:
    init: `key -> state`.
    update: `(state, batch) -> (state, metrics)`, jittable; metrics are scalars.
    variables: `state -> variables`, what actors fetch.
    policy: acts in training.
    eval_policy: acts in evaluation.
    warmup_policy: acts until replay holds its minimum.
    replay: what it needs of replay.
    updates_per_call: SGD steps in one `update`.
    eval_variables: `state -> variables`, what the evaluator fetches; None means
      what actors do.
  """
  init: Callable[[jax.Array], State]
  update: Callable[[State, Batch], Tuple[State, Metrics]]
  variables: Callable[[State], Any]
  policy: Policy
  eval_policy: Policy
  warmup_policy: Policy
  replay: ReplaySpec
  updates_per_call: int
  eval_variables: Optional[Callable[[State], Any]] = None

  def variables_for_evaluation(self, state: State) -> Any:
    """Returns what `eval_policy` acts with."""
    return (self.eval_variables or self.variables)(state)
