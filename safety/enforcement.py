"""Keeps a policy out of regions by choosing among its own draws."""

from typing import Any, NamedTuple, Tuple

import jax
import jax.numpy as jnp

from actors.policy import Policy
from envs.spec import EnvSpec, PositionPath
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
  from the regions is taken, among those whose path stays outside if there are
  any. Staying put and uniform actions compete then too, because a policy that
  has settled on one direction draws nothing else.

  Paths are predicted for the action itself and with the environment's action
  noise at its worst along each axis: at the edge of a doorway the noise decides
  whether a wall stops the agent, and no margin on the position covers that.

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

  def observe(policy_state, reward, is_first):
    return policy_state._replace(
        inner=policy.observe(policy_state.inner, reward, is_first))

  def clearance_of(observation, candidates):
    return _clearance(
        regions, position_path, observation[:, position_indices], candidates,
        MARGIN_SIGMAS * spec.action_noise)

  def act(params, observation, policy_state, key, is_first):
    key_policy, key_proposal, key_uniform = jax.random.split(key, 3)
    first, inner = policy.act(
        params, observation, policy_state.inner, key_policy, is_first)
    clearance, final = clearance_of(observation, first[jnp.newaxis])

    def correct():
      def draw(key_draw):
        return proposal.act(
            params, observation, policy_state.inner, key_draw, is_first)[0]

      draws = jax.vmap(draw)(jax.random.split(key_proposal, num_candidates - 1))
      uniform = jax.random.uniform(
          key_uniform, (num_candidates, *first.shape), first.dtype,
          minval=-1.0, maxval=1.0)
      others = jnp.concatenate([draws, jnp.zeros_like(first)[jnp.newaxis],
                                uniform])
      others_clearance, others_final = clearance_of(observation, others)
      choice, safe = choose(
          jnp.concatenate([clearance, others_clearance]),
          jnp.concatenate([final, others_final]), num_candidates, margin)
      candidates = jnp.concatenate([first[jnp.newaxis], others])
      action = jnp.take_along_axis(
          candidates, choice[jnp.newaxis, :, jnp.newaxis], axis=0)[0]
      return action, choice != 0, ~safe

    def leave():
      nobody = jnp.zeros(first.shape[0], bool)
      return first, nobody, nobody

    # Mostly nobody is in danger, and the other candidates cost far more.
    action, intervened, cornered = jax.lax.cond(
        jnp.all(clearance[0] > margin), leave, correct)
    return action, SafetyState(inner, intervened, cornered)

  return Policy(init=init, act=act, observe=observe, select=policy.select)


def choose(clearance: jax.Array, final: jax.Array, num_draws: int,
           margin: float) -> Tuple[jax.Array, jax.Array]:
  """Picks the first safe draw, else a candidate that ends far away.

  Args:
    clearance: `[C, E]` smallest distance to a region along each candidate's
      path; the policy's draws come first.
    final: `[C, E]` distance to a region at the end of each path.
    num_draws: how many candidates are draws of the policy.
    margin: a draw is safe when its clearance exceeds this.

  Returns:
    `[E]` int index of the candidate, and `[E]` bool whether a draw was safe.
  """
  safe = clearance[:num_draws] > margin
  any_safe = jnp.any(safe, axis=0)
  outside = clearance > 0.0
  # Without a path that stays outside, every end is as good as its distance.
  eligible = outside | ~jnp.any(outside, axis=0)
  last_resort = jnp.argmax(jnp.where(eligible, final, -jnp.inf), axis=0)
  return jnp.where(any_safe, jnp.argmax(safe, axis=0), last_resort), any_safe


def _clearance(regions: region_lib.Regions, position_path: PositionPath,
               position: jax.Array, candidates: jax.Array,
               deviation: float) -> Tuple[jax.Array, jax.Array]:
  """Returns least and final distance to a region, each `[C, E]`.

  Args:
    regions: the boxes.
    position_path: the one-step position model.
    position: `[E, P]`.
    candidates: `[C, E, A]` actions.
    deviation: how far the noise may move an action along one axis.
  """
  axes = deviation * jnp.eye(candidates.shape[-1])
  offsets = jnp.concatenate([jnp.zeros_like(axes[:1]), axes, -axes])
  actions = candidates + offsets[:, jnp.newaxis, jnp.newaxis]  # [1 + 2A, C, E]
  positions = jnp.broadcast_to(
      position, actions.shape[:-1] + position.shape[-1:])
  paths = position_path(positions, actions)             # [S, 1 + 2A, C, E, P]
  distances = region_lib.distance(regions, paths)
  return jnp.min(distances, axis=(0, 1)), jnp.min(distances[-1], axis=0)
