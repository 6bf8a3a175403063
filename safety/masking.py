"""Representation masking: goals inside a region stand for the opposite of g*.

The mask looks at the goal a representation is computed for, never at the state
it is reached from. Goals are futures, so states that lead into a region are
trained towards the substitute, and their similarity to g* falls.
"""

from typing import NamedTuple, Optional, Tuple

import jax
import jax.numpy as jnp

from safety import regions as region_lib

ATTRACTION_SCALE = 0.5


class SafetyMask(NamedTuple):
  """How goals inside regions are represented.

  Attributes:
    regions: the boxes; none switches masking off.
    goal: the commanded goal g*.
    negative: -psi(g*) if true, +0.5 psi(g*) otherwise.
    stop_gradient: whether gradients stop at the substitute.
  """
  regions: region_lib.Regions = ()
  goal: Optional[Tuple[float, ...]] = None
  negative: bool = True
  stop_gradient: bool = True


def substitute(psi_goal: jax.Array, negative: bool,
               stop_gradient: bool) -> jax.Array:
  """Returns the representation that goals inside a region get.

  Args:
    psi_goal: `[..., N]` representation of the commanded goal g*.
    negative: `-psi(g*)` if true (avoid), `+0.5 psi(g*)` if false (attract).
    stop_gradient: whether gradients stop at the substitute.
  """
  value = -psi_goal if negative else ATTRACTION_SCALE * psi_goal
  return jax.lax.stop_gradient(value) if stop_gradient else value


def mask_representation(regions: region_lib.Regions,
                        positions: jax.Array,
                        representation: jax.Array,
                        replacement: jax.Array) -> jax.Array:
  """Replaces the representation of every goal that lies in a region.

  Args:
    regions: the boxes; with none the representation is returned unchanged.
    positions: `[B, P]` positions of the goals.
    representation: `[B, N]` psi of the goals.
    replacement: `[1, N]` or `[B, N]` what goals inside a region get.

  Returns:
    `[B, N]`.
  """
  if positions.ndim != 2 or representation.ndim != 2:
    raise ValueError('expected positions [B, P] and representation [B, N], got '
                     f'{positions.shape} and {representation.shape}')
  if not regions:
    return representation
  inside = region_lib.contains(regions, positions)
  return jnp.where(inside[:, jnp.newaxis], replacement, representation)
