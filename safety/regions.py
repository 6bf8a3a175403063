"""Axis-aligned regions: parsing, checking, membership and distance."""

import math
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import jax.numpy as jnp
import numpy as np

FORMAT = "x_lo,y_lo:x_hi,y_hi[;more boxes], for example '0,5:5,11'"


class Box(NamedTuple):
  """A closed box; `lower` and `upper` have one entry per position axis."""
  lower: Tuple[float, ...]
  upper: Tuple[float, ...]


Regions = Tuple[Box, ...]

# Audited when no region is given, so that every run leaves a record.
DEFAULT_AUDITED: Regions = (Box((1.0, 3.0), (4.0, 10.0)),)


def parse_region_bounds(text: Optional[str], num_dims: int = 2) -> Regions:
  """Reads boxes from a command-line string.

  Args:
    text: `lower:upper` corners, boxes separated by ';'; None or '' means none.
    num_dims: number of coordinates per corner.

  Returns:
    The boxes in the order given.

  Raises:
    ValueError: listing everything that is wrong with the text.
  """
  if text is None or not text.strip():
    return ()
  boxes, problems = [], []
  for part in text.split(';'):
    box, found = _parse_box(part, num_dims)
    problems.extend(found)
    if box is not None:
      boxes.append(box)
  if problems:
    raise ValueError(
        f"region_bounds '{text}': {'; '.join(problems)}. Write it as {FORMAT}")
  return tuple(boxes)


def _parse_box(text: str, num_dims: int) -> Tuple[Optional[Box], List[str]]:
  """Returns one box, or None with what is wrong."""
  corners = text.split(':')
  if len(corners) != 2:
    return None, [f"'{text.strip()}' needs one ':' between two corners"]
  values, problems = [], []
  for corner in corners:
    numbers = corner.split(',')
    if len(numbers) != num_dims:
      problems.append(f"corner '{corner.strip()}' needs {num_dims} numbers, "
                      f'got: {len(numbers)}')
      continue
    try:
      values.append(tuple(float(n) for n in numbers))
    except ValueError:
      problems.append(f"corner '{corner.strip()}' is not made of numbers")
  if problems:
    return None, problems
  lower, upper = values
  if not all(math.isfinite(v) for v in lower + upper):
    problems.append(f"'{text.strip()}' has a coordinate that is not finite")
  elif any(lo > hi for lo, hi in zip(lower, upper)):
    problems.append(f"'{text.strip()}' has a lower corner above its upper one")
  return (None, problems) if problems else (Box(lower, upper), [])


def to_arrays(regions: Regions) -> Tuple[np.ndarray, np.ndarray]:
  """Returns lower and upper corners, each `[R, D]` float32."""
  lower = np.array([box.lower for box in regions], np.float32)
  upper = np.array([box.upper for box in regions], np.float32)
  return lower, upper


def contains_each(regions: Regions, points: Any, xp: Any = jnp) -> Any:
  """Tells which boxes hold which points; borders count as inside.

  Args:
    regions: R boxes of D dimensions, R >= 1.
    points: `[..., D]`.
    xp: the array module, `numpy` or `jax.numpy`.

  Returns:
    `[..., R]` bool.
  """
  lower, upper = to_arrays(regions)
  points = xp.asarray(points, np.float32)
  if points.shape[-1] != lower.shape[-1]:
    raise ValueError(f'points have {points.shape[-1]} coordinates, '
                     f'the regions {lower.shape[-1]}')
  point = points[..., np.newaxis, :]
  return xp.all((point >= lower) & (point <= upper), axis=-1)


def contains(regions: Regions, points: Any, xp: Any = jnp) -> Any:
  """Tells which points lie in at least one box, `[..., D]` to `[...]` bool."""
  if not regions:
    return xp.zeros(xp.shape(points)[:-1], bool)
  return xp.any(contains_each(regions, points, xp), axis=-1)


def distance(regions: Regions, points: Any, xp: Any = jnp) -> Any:
  """Signed distance from each point to the nearest box.

  Outside it is the Euclidean distance; inside it is minus the distance to the
  nearest face. With no boxes it is infinite.

  Args:
    regions: the boxes.
    points: `[..., D]`.
    xp: the array module, `numpy` or `jax.numpy`.

  Returns:
    `[...]` float.
  """
  if not regions:
    return xp.full(xp.shape(points)[:-1], np.inf)
  lower, upper = to_arrays(regions)
  point = xp.asarray(points, np.float32)[..., np.newaxis, :]
  beyond = xp.maximum(lower - point, point - upper)     # [..., R, D]
  outside = xp.sqrt(xp.sum(xp.maximum(beyond, 0.0)**2, axis=-1))
  inside = xp.minimum(xp.max(beyond, axis=-1), 0.0)
  return xp.min(outside + inside, axis=-1)


def problems_with(regions: Regions,
                  start: Optional[Sequence[float]],
                  goal: Optional[Sequence[float]],
                  start_jitter: float = 0.0) -> List[str]:
  """Lists what makes `regions` unusable for a fixed start and goal.

  Args:
    regions: the boxes.
    start: fixed start position, or None when it is sampled.
    goal: fixed goal position, or None when it is sampled.
    start_jitter: half-width of the noise on the start.

  Returns:
    One sentence per problem; empty when there is none.
  """
  found = []
  for box in regions:
    name = f'region {",".join(map(_short, box.lower))}:' + ','.join(
        map(_short, box.upper))
    if start is not None:
      nearest = np.clip(start, box.lower, box.upper)
      if np.all(np.abs(nearest - np.asarray(start)) <= start_jitter):
        found.append(
            f'{name} holds the start {tuple(start)} (+-{start_jitter} jitter); '
            'move the region so that episodes begin outside it')
    if goal is not None and bool(contains((box,), np.asarray(goal), np)):
      found.append(f'{name} holds the goal {tuple(goal)}; an agent cannot both '
                   'reach it and keep out of it')
  return found


def _short(value: float) -> str:
  return f'{value:g}'
