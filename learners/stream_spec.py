"""What an agent that learns from single steps needs of replay."""

import dataclasses
from typing import Mapping, NamedTuple, Optional, Union

from learners.agent import Column, StepPacing


class WindowItems(NamedTuple):
  """Items are windows of consecutive steps.

  Such an item has `frames [stack + steps, ...]`: the first `stack` of them are
  the state that the window begins with. `action []` is what was done there;
  `reward`, `discount` and `real` are `[steps]`. Where `real` is 0 the episode
  was over, and the frame of that step is empty.

  Attributes:
    steps: n.
  """
  steps: int


class PairItems(NamedTuple):
  """Items are pairs of states of one episode.

  Such an item has `frames [stack, ...]`, `later_frames [stack, ...]`, and the
  `discount []` of the step that led to the later one.

  Attributes:
    max_gap: the most steps between both.
    decay: P(gap) is proportional to decay^gap, cut off at `max_gap` and at the
      end of the episode. None means as far as that allows.
  """
  max_gap: int
  decay: Optional[float] = None


class StreamTable(NamedTuple):
  """One table of items; a batch has them by its name.

  A batch of a prioritised table also has `probability [B]`, with which each
  item was drawn, and `key [B, 2]` uint32, by which its priority is changed.

  Attributes:
    items: what they are.
    items_per_batch: in the batch of one `Agent.update`.
    prioritized: items are drawn in proportion to their priority, not uniformly.
  """
  items: Union[WindowItems, PairItems]
  items_per_batch: int
  prioritized: bool = False


@dataclasses.dataclass(frozen=True)
class StreamSpec:
  """What an agent needs of replay. Items are made of single steps.

  Attributes:
    frame: shape and type of an observation.
    stack: frames that make up a state.
    tables: by name.
    max_items: items kept in each table; the oldest go first.
    pacing: how learning and acting keep pace.
  """
  frame: Column
  stack: int
  tables: Mapping[str, StreamTable]
  max_items: int
  pacing: StepPacing
