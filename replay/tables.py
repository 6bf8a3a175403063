"""Reverb tables and their rate limiters."""

import dataclasses
from typing import Any, Dict, List, Mapping, Optional

from learners.agent import Column, EpisodePacing, ReplaySpec

TABLE = 'episodes'
# Episodes that nothing is learned from.
HELD_OUT_TABLE = 'held_out'
# Reverb wants a number; nobody is ever this many samples ahead.
UNBOUNDED = 1e15


@dataclasses.dataclass(frozen=True)
class TableLimits:
  """Size and pacing of a table, counted in items (whole episodes).

  Attributes:
    min_items: items present before the first sample.
    max_items: items kept.
    samples_per_insert: items sampled per item inserted, in the long run; None
      where only the minimum counts.
    error_buffer: samples that inserts may be ahead of that ratio.
    max_held_out: items kept in the table of held-out episodes; 0 is no table.
  """
  min_items: int
  max_items: int
  samples_per_insert: Optional[float]
  error_buffer: float
  max_held_out: int = 0


def table_limits(replay: ReplaySpec, steps_per_item: int,
                 updates_per_call: int) -> TableLimits:
  """Turns an agent's needs, counted in steps, into limits counted in items.

  A learner call draws `n = episodes_per_batch` items and consumes
  `updates_per_call * transitions_per_update` transitions, for which
  `samples_per_insert` asks that `m = transitions / samples_per_insert / L`
  items of L steps be inserted. So n / m items are sampled per item inserted.
  With the reference's values (64 updates of 256 transitions at 256 samples per
  insert, n = 64 * 256 / L) that is 256.

  Reverb's limiter lets inserts go on while

    samples_per_insert * (inserts - min_items) - samples <= error_buffer

  and samples while the same difference is at least minus a buffer of theirs.
  Both buffers are open, so the limiter only asks for the minimum and records
  the ratio: replay/pacing.py paces both sides, by steps stored and updates
  made. The limiter counts something else, and what it counts drifts away from
  those: episodes that end early are more items than their steps pay for, a
  batch fetched by a killed learner was sampled but not learned from, and a
  learner that resumes from an older checkpoint than replay's has made fewer
  updates. With a bound on either side both would in the end wait for each
  other; and a bound in replay's checkpoint outlives the settings it was made
  for, such as the number of actors.

  Where learning keeps pace with episodes there is nothing to add to that pace,
  and the limiter only asks for one item.

  Args:
    replay: what the agent needs.
    steps_per_item: L, environment steps in one full episode.
    updates_per_call: SGD steps in one learner call.

  Returns:
    The limits.
  """
  pacing = replay.pacing
  if replay.max_items is not None:
    max_items = replay.max_items
  else:
    assert replay.max_steps is not None
    max_items = max(1, replay.max_steps // steps_per_item)
  max_held_out = 0
  if replay.held_out_every:
    max_held_out = max(
        replay.held_out_per_batch, max_items // replay.held_out_every)
  if isinstance(pacing, EpisodePacing):
    return TableLimits(1, max_items, None, 0.0, max_held_out)
  consumed = updates_per_call * pacing.transitions_per_update
  items_paid = consumed / pacing.samples_per_insert / steps_per_item
  samples_per_insert = replay.episodes_per_batch / items_paid
  min_items = max(1, pacing.min_steps // steps_per_item)
  return TableLimits(
      min_items=min_items,
      max_items=max(min_items, max_items),
      samples_per_insert=samples_per_insert,
      error_buffer=UNBOUNDED,
      max_held_out=max_held_out)


def make_tables(replay: ReplaySpec, limits: TableLimits) -> List[Any]:
  """Builds the Reverb tables; runs inside the replay node."""
  # Reverb brings TensorFlow along, so only the nodes that need it import it.
  import reverb

  layout = signature(replay.columns)
  removers = {'oldest': reverb.selectors.Fifo,
              'lowest_priority': reverb.selectors.MinHeap}
  if limits.samples_per_insert is None:
    limiter = reverb.rate_limiters.MinSize(limits.min_items)
  else:
    limiter = reverb.rate_limiters.SampleToInsertRatio(
        samples_per_insert=limits.samples_per_insert,
        min_size_to_sample=limits.min_items,
        error_buffer=(
            -UNBOUNDED,
            limits.samples_per_insert * limits.min_items
            + limits.error_buffer))
  made = [
      reverb.Table(
          name=TABLE,
          sampler=reverb.selectors.Uniform(),
          # A full table inserts first and removes then, so that an item of the
          # lowest priority removes itself.
          remover=removers[replay.remover](),
          max_size=limits.max_items,
          rate_limiter=limiter,
          signature=layout)
  ]
  if limits.max_held_out:
    made.append(reverb.Table(
        name=HELD_OUT_TABLE,
        sampler=reverb.selectors.Uniform(),
        remover=reverb.selectors.Fifo(),
        max_size=limits.max_held_out,
        rate_limiter=reverb.rate_limiters.MinSize(1),
        signature=layout))
  return made


def signature(columns: Mapping[str, Column]) -> Dict[str, Any]:
  """Returns the `tf.TensorSpec` of each array of an item."""
  import tensorflow as tf
  return {name: tf.TensorSpec(column.shape, tf.dtypes.as_dtype(column.dtype))
          for name, column in columns.items()}
