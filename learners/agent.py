"""The contract between an algorithm and the system."""

import dataclasses
from typing import (
  Any,
  Callable,
  Dict,
  Mapping,
  NamedTuple,
  Optional,
  Tuple,
  Union,
)

import jax
import numpy as np

from actors.policy import Policy
from actors.portions import Portions

State = Any
# Arrays by column; `HELD_OUT` holds a second such mapping where there is one.
Batch = Mapping[str, Any]
Metrics = Dict[str, jax.Array]

# Where a batch keeps the items that nothing is learned from.
HELD_OUT = 'held_out'

# Which item goes when a table is full: the oldest, or the one of the lowest
# priority (the oldest among equals).
REMOVERS = ('oldest', 'lowest_priority')


# Stands for a priority that stays.
UNCHANGED = np.float32(-1.0)


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


class StepPacing(NamedTuple):
  """Learning keeps pace with environment steps.

  Attributes:
    min_steps: environment steps that must be stored before learning starts.
    transitions_per_update: transitions consumed by one SGD step.
    samples_per_insert: transitions consumed per environment step stored.
  """
  min_steps: int
  transitions_per_update: int
  samples_per_insert: float


class EpisodePacing(NamedTuple):
  """Learning keeps pace with episodes, however long they are.

  Attributes:
    min_episodes: episodes that must be stored before learning starts.
    updates_per_episode: SGD steps paid for by one episode stored.
  """
  min_episodes: int
  updates_per_episode: float


@dataclasses.dataclass(frozen=True)
class ReplaySpec:
  """What an agent needs of replay. Items are whole episodes.

  Attributes:
    columns: the arrays of one item; names are those actors know how to write.
    episodes_per_batch: items in the batch of one `Agent.update`.
    pacing: how learning and acting keep pace.
    max_steps: environment steps kept, counted as if every episode were full; or
      give `max_items`.
    max_items: items kept.
    remover: which item goes first when there are more, one of `REMOVERS`.
    priority: the scalar column that is an item's priority; None gives all the
      same.
    held_out_every: of every actor's episodes the first of each so many goes to
      a table apart, which nothing is learned from; 0 keeps none.
    held_out_per_batch: items of that table in a batch, under `HELD_OUT`.
  """
  columns: Mapping[str, Column]
  episodes_per_batch: int
  pacing: Union[StepPacing, EpisodePacing]
  max_steps: Optional[int] = None
  max_items: Optional[int] = None
  remover: str = 'oldest'
  priority: Optional[str] = None
  held_out_every: int = 0
  held_out_per_batch: int = 1

  def __post_init__(self):
    if (self.max_steps is None) == (self.max_items is None):
      raise ValueError('replay needs either max_steps or max_items, got: '
                       f'{self.max_steps} and {self.max_items}')
    if self.remover not in REMOVERS:
      raise ValueError(f"remover: got '{self.remover}', needs one of "
                       + ', '.join(REMOVERS))
    if self.priority is not None and self.columns[self.priority].shape != ():
      raise ValueError(f"priority: column '{self.priority}' is no scalar")
    if self.remover == 'lowest_priority' and self.priority is None:
      raise ValueError('remover: lowest_priority needs a priority column')


@dataclasses.dataclass(frozen=True)
class Agent:
  """One algorithm: pure functions and static facts.

  Everything that changes in learning lives in the state, so a checkpoint is
  that one value.

  Attributes:
    init: `key -> state`.
    update: `(state, batch) -> (state, metrics)`, jittable; metrics are scalars.
    variables: `state -> variables`, what actors fetch: parameters, and with
      them anything else that has to match them.
    policy: acts in training.
    eval_policy: acts in evaluation.
    warmup_policy: acts until replay holds its minimum.
    replay: what it needs of replay: a `ReplaySpec` where it learns from whole
      episodes, or a `StreamSpec` (stream_spec.py) where from single steps.
    updates_per_call: SGD steps in one `update`.
    reports: names of the episode metrics that `hear` is told.
    hear: `(state, reports, valid) -> state`, jittable: told of every finished
      training episode once, in the order they were reported, before the update
      that follows. `reports` are `[R]` arrays by name; only the rows in the
      mask `valid [R]`, the first ones, are episodes.
    eval_policies: further policies to evaluate, by the prefix of their figures.
    command_names: names of the entries of the commands its policies follow,
      which are measured then.
    commanded: `(lowest, highest, horizon, greedy) -> policy`, whose commands
      climb from `lowest` in the first environment to `highest` in the last; a
      horizon of None is the agent's own. None where no command is followed.
    acts_by_options: its policy state says which option is under way, which is
      measured then.
    priorities: `state -> {table: [B]}`, new priorities of the items in the
      batch of the last update, by prioritised table; `UNCHANGED` leaves one
      as it is.
    insert_priority: `variables -> priority` of new items.
    eval_variables: `state -> variables`, what the evaluator fetches; None means
      what actors do.
    portions: of the variables, where actors are not to fetch all of them each
      time.
    discount: of the episode metric `discounted_return`, for agents that ask for
      it in `reports`.
  """
  init: Callable[[jax.Array], State]
  update: Callable[[State, Batch], Tuple[State, Metrics]]
  variables: Callable[[State], Any]
  policy: Policy
  eval_policy: Policy
  warmup_policy: Policy
  replay: Any
  updates_per_call: int
  reports: Tuple[str, ...] = ()
  hear: Optional[Callable[[State, Mapping[str, jax.Array], jax.Array],
                          State]] = None
  eval_policies: Mapping[str, Policy] = dataclasses.field(default_factory=dict)
  command_names: Tuple[str, ...] = ()
  acts_by_options: bool = False
  commanded: Optional[Callable[[float, float, Optional[float], bool],
                               Policy]] = None
  priorities: Callable[[State], Mapping[str, jax.Array]] = lambda state: {}
  insert_priority: Callable[[Any], Any] = lambda variables: 1.0
  eval_variables: Optional[Callable[[State], Any]] = None
  portions: Optional[Portions] = None
  discount: float = 1.0

  def variables_for_evaluation(self, state: State) -> Any:
    """Returns what `eval_policy` acts with."""
    return (self.eval_variables or self.variables)(state)
