"""Reverb tables and their rate limiters."""

import dataclasses
from typing import Any, Dict, List, Tuple

from learners.agent import ReplaySpec

TABLE = 'episodes'
# Reverb wants a number; nobody is ever this many samples ahead.
UNBOUNDED = 1e15


@dataclasses.dataclass(frozen=True)
class TableLimits:
  """Size and pacing of a table, counted in items (whole episodes).

  Attributes:
    min_items: items present before the first sample.
    max_items: items kept.
    samples_per_insert: items sampled per item inserted, in the long run.
    error_buffer: samples that inserts may be ahead of that ratio.
  """
  min_items: int
  max_items: int
  samples_per_insert: float
  error_buffer: float


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

  Args:
    replay: what the agent needs.
    steps_per_item: L, environment steps in one full episode.
    updates_per_call: SGD steps in one learner call.

  Returns:
    The limits.
  """
  consumed = updates_per_call * replay.transitions_per_update
  items_paid = consumed / replay.samples_per_insert / steps_per_item
  samples_per_insert = replay.episodes_per_batch / items_paid
  min_items = max(1, replay.min_steps // steps_per_item)
  return TableLimits(
      min_items=min_items,
      max_items=max(min_items, replay.max_steps // steps_per_item),
      samples_per_insert=samples_per_insert,
      error_buffer=UNBOUNDED)


def make_tables(replay: ReplaySpec, limits: TableLimits) -> List[Any]:
  """Builds the Reverb tables; runs inside the replay node."""
  # Reverb brings TensorFlow along, so only the nodes that need it import it.
  import reverb
  import tensorflow as tf

  signature = {
      name: tf.TensorSpec(column.shape, tf.dtypes.as_dtype(column.dtype))
      for name, column in replay.columns.items()}
  return [
      reverb.Table(
          name=TABLE,
          sampler=reverb.selectors.Uniform(),
          remover=reverb.selectors.Fifo(),
          max_size=limits.max_items,
          rate_limiter=reverb.rate_limiters.SampleToInsertRatio(
              samples_per_insert=limits.samples_per_insert,
              min_size_to_sample=limits.min_items,
              error_buffer=(
                  -UNBOUNDED,
                  limits.samples_per_insert * limits.min_items
                  + limits.error_buffer)),
          signature=signature)
  ]


def dtypes_and_shapes(
    replay: ReplaySpec) -> Tuple[Dict[str, Any], Dict[str, Any]]:
  """Returns TensorFlow dtypes and shapes of an item."""
  import tensorflow as tf
  dtypes = {n: tf.dtypes.as_dtype(c.dtype) for n, c in replay.columns.items()}
  shapes = {n: tf.TensorShape(c.shape) for n, c in replay.columns.items()}
  return dtypes, shapes
