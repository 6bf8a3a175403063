"""Keeps a policy out of regions by choosing among its own draws."""

from typing import Any, NamedTuple, Tuple

import jax
import jax.numpy as jnp

from actors.policy import Policy
from envs.spec import EnvSpec
from safety import regions as region_lib

# The default margin covers this many standard deviations of position noise.
MARGIN_SIGMAS = 6.0


class SafetyState(NamedTuple):
  """Policy state with the safety record of the last step.

  Attributes:
    inner: the wrapped policy's own state.
    intervened: `[E]` bool, the first draw was not the one carried out.
    cornered: `[E]` bool, no draw of the policy was safe.
  """
  inner: Any
  intervened: jax.Array
  cornered: jax.Array


def default_margin(spec: EnvSpec) -> float:
  """Returns the distance to keep from a region, from the position noise."""
  return MARGIN_SIGMAS * spec.position_noise


def enforce(policy: Policy,
            proposal: Policy,
            regions: region_lib.Regions,
            spec: EnvSpec,
            num_candidates: int,
            margin: float) -> Policy:
  """Wraps `policy` so that its predicted path stays out of `regions`.

  Each step draws `num_candidates` actions: the first from `policy`, the others
  from `proposal`, its sampling twin. A candidate whose predicted path comes
  within `margin` of a region is given the masked representation, which has the
  lowest similarity to the goal there is, so it is never preferred to one that
  is not; among those, the first draw wins, which is a draw of the policy
  conditioned on safety. If no draw is safe the candidate that ends farthest
  from the regions is taken, and staying put and uniform actions compete too,
  because a policy that has settled on one direction draws nothing else.

  Args:
    policy: decides the first candidate.
    proposal: decides the others; may be `policy` itself.
    regions: at least one box.
    spec: the environment; needs a `position_path`.
    num_candidates: number of draws, at least 1.
    margin: distance to keep from a region.

  Returns:
    A policy whose state is a `SafetyState`.

  Raises:
    ValueError: if the environment has no position model.
  """
  if spec.position_path is None:
    raise ValueError(f'{spec.name} has no position model: safety enforcement '
                     'needs one')
  position_path = spec.position_path
  position_indices = jnp.array(spec.position_indices)

  def init(key, num_envs):
    nobody = jnp.zeros(num_envs, bool)
    return SafetyState(policy.init(key, num_envs), nobody, nobody)

  def act(params, observation, policy_state, key, is_first):
    key_policy, key_proposal, key_uniform = jax.random.split(key, 3)
    first, inner = policy.act(
        params, observation, policy_state.inner, key_policy, is_first)

    def draw(key_draw):
      return proposal.act(
          params, observation, policy_state.inner, key_draw, is_first)[0]

    others = jax.vmap(draw)(jax.random.split(key_proposal, num_candidates - 1))
    draws = jnp.concatenate([first[jnp.newaxis], others])
    uniform = jax.random.uniform(
        key_uniform, draws.shape, draws.dtype, minval=-1.0, maxval=1.0)
    resorts = jnp.concatenate([jnp.zeros_like(first)[jnp.newaxis], uniform])

    position = observation[:, position_indices]
    clearance, final = _clearance(
        regions, position_path, position, jnp.concatenate([draws, resorts]))
    choice, safe = choose(clearance[:num_candidates], final, margin)
    candidates = jnp.concatenate([draws, resorts])
    action = jnp.take_along_axis(
        candidates, choice[jnp.newaxis, :, jnp.newaxis], axis=0)[0]
    state = SafetyState(inner, intervened=choice != 0, cornered=~safe)
    return action, state

  return Policy(init=init, act=act, select=policy.select)


def choose(clearance: jax.Array, final: jax.Array,
           margin: float) -> Tuple[jax.Array, jax.Array]:
  """Picks the first safe draw, else the candidate that ends farthest away.

  Args:
    clearance: `[K, E]` smallest distance to a region along each draw's path.
    final: `[C, E]`, C >= K, distance to a region at the end of each candidate's
      path; the draws come first.
    margin: a draw is safe when its clearance exceeds this.

  Returns:
    `[E]` int index of the candidate, and `[E]` bool whether a draw was safe.
  """
  safe = clearance > margin
  any_safe = jnp.any(safe, axis=0)
  choice = jnp.where(
      any_safe, jnp.argmax(safe, axis=0), jnp.argmax(final, axis=0))
  return choice, any_safe


def _clearance(regions, position_path, position, candidates):
  """Returns least and final distance to a region, each `[C, E]`."""
  paths = position_path(
      jnp.broadcast_to(position, candidates.shape[:2] + position.shape[-1:]),
      candidates)                                        # [S, C, E, P]
  distances = region_lib.distance(regions, paths)        # [S, C, E]
  return jnp.min(distances, axis=0), distances[-1]
