"""Encoders phi(s, a) and psi(g), and the tanh-Normal actor."""

import dataclasses
from typing import Any, Callable, NamedTuple, Sequence, Tuple

import haiku as hk
import jax
import jax.numpy as jnp

Params = Any

LOC_SCALE = 10.0
MIN_SCALE = 1e-6
# Outside +-TAIL the density of a squashed action is its averaged tail mass.
TAIL = 0.999


class TanhNormal(NamedTuple):
  """A diagonal Normal squashed by tanh; `loc` and `scale` are `[B, A]`."""
  loc: jax.Array
  scale: jax.Array


@dataclasses.dataclass(frozen=True)
class Networks:
  """Pure functions of the three networks.

  Attributes:
    init: `key -> (policy_params, critic_params)`.
    actor: `(policy_params, state [B, S], goal [B, G]) -> TanhNormal`.
    encode_state: `(critic_params, state [B, S], action [B, A]) -> [B, N, C]`,
      phi of each of the C critics.
    encode_goal: `(critic_params, goal [B, G]) -> [B, N, C]`, psi.
  """
  init: Callable[[jax.Array], Tuple[Params, Params]]
  actor: Callable[[Params, jax.Array, jax.Array], TanhNormal]
  encode_state: Callable[[Params, jax.Array, jax.Array], jax.Array]
  encode_goal: Callable[[Params, jax.Array], jax.Array]


def make_networks(obs_dim: int, goal_dim: int, action_dim: int,
                  hidden_layer_sizes: Sequence[int], repr_dim: int,
                  num_critics: int) -> Networks:
  """Builds the networks of one agent (see `Networks`)."""
  critic_init = hk.initializers.VarianceScaling(1.0, 'fan_avg', 'uniform')
  actor_init = hk.initializers.VarianceScaling(1.0, 'fan_in', 'uniform')

  def encoder(inputs):
    return hk.nets.MLP(
        [*hidden_layer_sizes, repr_dim], w_init=critic_init)(inputs)

  def actor_net(inputs):
    hidden = hk.nets.MLP(
        hidden_layer_sizes, w_init=actor_init, activate_final=True)(inputs)
    raw = hk.Linear(2 * action_dim, w_init=actor_init)(hidden)
    raw_loc, raw_scale = jnp.split(raw, 2, axis=-1)
    return TanhNormal(
        loc=LOC_SCALE * jnp.tanh(raw_loc / LOC_SCALE),
        scale=jax.nn.softplus(raw_scale) + MIN_SCALE)

  encoder_fn: Any = hk.without_apply_rng(hk.transform(encoder))
  actor_fn: Any = hk.without_apply_rng(hk.transform(actor_net))

  def init(key):
    key_policy, key_phi, key_psi = jax.random.split(key, 3)
    state_action = jnp.zeros((1, obs_dim + action_dim))
    goal = jnp.zeros((1, goal_dim))
    critic_params = {
        'phi': [encoder_fn.init(k, state_action)
                for k in jax.random.split(key_phi, num_critics)],
        'psi': [encoder_fn.init(k, goal)
                for k in jax.random.split(key_psi, num_critics)],
    }
    policy_params = actor_fn.init(
        key_policy, jnp.zeros((1, obs_dim + goal_dim)))
    return policy_params, critic_params

  def encode(params_of_critics, inputs):
    return jnp.stack(
        [encoder_fn.apply(p, inputs) for p in params_of_critics], axis=-1)

  return Networks(
      init=init,
      actor=lambda params, state, goal: actor_fn.apply(
          params, jnp.concatenate([state, goal], axis=-1)),
      encode_state=lambda params, state, action: encode(
          params['phi'], jnp.concatenate([state, action], axis=-1)),
      encode_goal=lambda params, goal: encode(params['psi'], goal))


def similarity(phi: jax.Array, psi: jax.Array) -> jax.Array:
  """Returns the matching inner products, `[B, N, C]` twice to `[B, C]`."""
  return jnp.einsum('bnc,bnc->bc', phi, psi)


def all_pairs(phi: jax.Array, psi: jax.Array) -> jax.Array:
  """Returns every inner product, `[B, N, C]` and `[K, N, C]` to `[B, K, C]`."""
  return jnp.einsum('bnc,knc->bkc', phi, psi)


def sample(key: jax.Array, distribution: TanhNormal) -> jax.Array:
  """Draws an action `[B, A]`; the key is consumed."""
  noise = jax.random.normal(key, distribution.loc.shape)
  return jnp.tanh(distribution.loc + distribution.scale * noise)


def mode(distribution: TanhNormal) -> jax.Array:
  """Returns the squashed location, `[B, A]`."""
  return jnp.tanh(distribution.loc)


def log_prob(distribution: TanhNormal, action: jax.Array) -> jax.Array:
  """Returns the log-density of squashed actions, `[B, A]` to `[B]`.

  Beyond +-TAIL the density is the tail's mass spread evenly over the tail, so
  that saturated actions have a finite log-density with useful gradients.
  """
  loc, scale = distribution
  bound = jnp.arctanh(TAIL)
  clipped = jnp.clip(action, -TAIL, TAIL)
  raw = jnp.arctanh(clipped)
  inside = (jax.scipy.stats.norm.logpdf(raw, loc, scale)
            - jnp.log1p(-clipped**2))
  log_width = jnp.log(1.0 - TAIL)
  left = jax.scipy.special.log_ndtr((-bound - loc) / scale) - log_width
  right = jax.scipy.special.log_ndtr((loc - bound) / scale) - log_width
  density = jnp.where(action <= -TAIL, left,
                      jnp.where(action >= TAIL, right, inside))
  return jnp.sum(density, axis=-1)
