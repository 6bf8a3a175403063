"""Encoders phi(s, a) and psi(g), and the tanh-Normal actor."""

import dataclasses
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import haiku as hk
import jax
import jax.numpy as jnp

Params = Any
Apply = Callable[[Params, jax.Array], jax.Array]

LOC_SCALE = 10.0
MIN_SCALE = 1e-6
# Layers between two shortcuts of a residual network.
SHORTCUT = 4
# Added to squared lengths, whose root has no gradient at 0.
NORM_EPSILON = 1e-12
# Outside +-TAIL the density of a squashed action is its averaged tail mass.
TAIL = 0.999


class TanhNormal(NamedTuple):
  """A diagonal Normal squashed by tanh; `loc` and `scale` are `[B, A]`."""
  loc: jax.Array
  scale: jax.Array


@dataclasses.dataclass(frozen=True)
class Networks:
  """Pure functions of actor and critic.

  The critic is Q(s, a, g) of representations phi(s, a) and psi(g). A monolithic
  one represents nothing: phi and psi are then its inputs, with N entries each,
  and the network is in the comparison.

  Attributes:
    init: `key -> (policy_params, critic_params)`.
    actor: `(policy_params, state [B, S], goal [B, G]) -> TanhNormal`.
    encode_state: `(critic_params, state [B, S], action [B, A]) -> [B, N, C]`,
      phi of each of the C critics.
    encode_goal: `(critic_params, goal [B, G]) -> [B, N, C]`, psi.
    compare: `(critic_params, phi [B, N, C], psi [B, N, C]) -> [B, C]`, Q of
      each row.
    compare_all: `(critic_params, phi [B, N, C], psi [K, N, C]) -> [B, K, C]`,
      Q of every row with every goal.
  """
  init: Callable[[jax.Array], Tuple[Params, Params]]
  actor: Callable[[Params, jax.Array, jax.Array], TanhNormal]
  encode_state: Callable[[Params, jax.Array, jax.Array], jax.Array]
  encode_goal: Callable[[Params, jax.Array], jax.Array]
  compare: Callable[[Params, jax.Array, jax.Array], jax.Array]
  compare_all: Callable[[Params, jax.Array, jax.Array], jax.Array]


def make_networks(obs_dim: int, goal_dim: int, action_dim: int,
                  hidden_layer_sizes: Sequence[int], repr_dim: int,
                  num_critics: int, residual: bool = False,
                  head_scale: Optional[float] = None,
                  monolithic: bool = False) -> Networks:
  """Builds the networks of one agent (see `Networks`).

  Args:
    obs_dim: entries of a state.
    goal_dim: entries of a goal.
    action_dim: entries of an action.
    hidden_layer_sizes: of the actor and of each encoder.
    repr_dim: entries of a representation.
    num_critics: C.
    residual: residual networks instead of plain ones.
    head_scale: bound of the critic's initial last weights; None derives it from
      the layer's size, as everywhere else.
    monolithic: one network of state, action and goal instead of two encoders.
  """
  fan_in = hk.initializers.VarianceScaling(1.0, 'fan_in', 'uniform')
  hidden_init = fan_in if residual else hk.initializers.VarianceScaling(
      1.0, 'fan_avg', 'uniform')
  head_init = hidden_init if head_scale is None else (
      hk.initializers.RandomUniform(-head_scale, head_scale))
  torso = residual_torso if residual else plain_torso

  def critic_net(inputs):
    hidden = torso(inputs, hidden_layer_sizes, hidden_init)
    size = 1 if monolithic else repr_dim
    return hk.Linear(size, w_init=head_init)(hidden)

  def actor_net(inputs):
    hidden = torso(inputs, hidden_layer_sizes, fan_in)
    raw = hk.Linear(2 * action_dim, w_init=fan_in)(hidden)
    raw_loc, raw_scale = jnp.split(raw, 2, axis=-1)
    return TanhNormal(
        loc=LOC_SCALE * jnp.tanh(raw_loc / LOC_SCALE),
        scale=jax.nn.softplus(raw_scale) + MIN_SCALE)

  critic_fn: Any = hk.without_apply_rng(hk.transform(critic_net))
  actor_fn: Any = hk.without_apply_rng(hk.transform(actor_net))
  state_action_dim = obs_dim + action_dim
  inputs = ({'q': state_action_dim + goal_dim} if monolithic else
            {'phi': state_action_dim, 'psi': goal_dim})

  def init(key):
    key_policy, *keys = jax.random.split(key, 1 + len(inputs))
    critic_params = {
        name: [critic_fn.init(k, jnp.zeros((1, size)))
               for k in jax.random.split(key_name, num_critics)]
        for key_name, (name, size) in zip(keys, inputs.items())}
    policy_params = actor_fn.init(
        key_policy, jnp.zeros((1, obs_dim + goal_dim)))
    return policy_params, critic_params

  def actor(params, state, goal):
    return actor_fn.apply(params, jnp.concatenate([state, goal], axis=-1))

  critic = _monolithic_critic if monolithic else _separable_critic
  return Networks(init=init, actor=actor, **critic(critic_fn.apply))


def plain_torso(inputs: jax.Array, sizes: Sequence[int],
                w_init: hk.initializers.Initializer) -> jax.Array:
  """Applies ReLU layers, `[B, D]` to `[B, sizes[-1]]`."""
  return hk.nets.MLP(sizes, w_init=w_init, activate_final=True)(inputs)


def residual_torso(inputs: jax.Array, sizes: Sequence[int],
                   w_init: hk.initializers.Initializer) -> jax.Array:
  """Applies normalised layers with shortcuts, `[B, D]` to `[B, sizes[-1]]`.

  After the first layer, each group of `SHORTCUT` layers adds what went into it.
  """
  hidden = inputs
  for i, size in enumerate(sizes):
    hidden = hk.Linear(size, w_init=w_init)(hidden)
    hidden = hk.LayerNorm(-1, create_scale=True, create_offset=True)(hidden)
    hidden = jax.nn.silu(hidden)
    if i == 0:
      shortcut = hidden
    elif i % SHORTCUT == 0:
      shortcut = hidden = hidden + shortcut
  return hidden


def _separable_critic(apply: Apply) -> Dict[str, Callable[..., jax.Array]]:
  """Returns the critic's part of `Networks`: an inner product of encoders."""

  def encode(params_of_critics, inputs):
    return jnp.stack(
        [apply(p, inputs) for p in params_of_critics], axis=-1)

  return dict(
      encode_state=lambda params, state, action: encode(
          params['phi'], jnp.concatenate([state, action], axis=-1)),
      encode_goal=lambda params, goal: encode(params['psi'], goal),
      compare=lambda params, phi, psi: similarity(phi, psi),
      compare_all=lambda params, phi, psi: all_pairs(phi, psi))


def _monolithic_critic(apply: Apply) -> Dict[str, Callable[..., jax.Array]]:
  """Returns the critic's part of `Networks`: one network of all inputs."""

  def compare(params, state_action, goal):
    inputs = jnp.concatenate([state_action, goal], axis=1)[..., 0]
    return jnp.concatenate([apply(p, inputs) for p in params['q']], axis=-1)

  def compare_all(params, state_action, goal):
    num_rows, num_goals = len(state_action), len(goal)
    values = compare(params, jnp.repeat(state_action, num_goals, axis=0),
                     jnp.tile(goal, (num_rows, 1, 1)))
    return values.reshape(num_rows, num_goals, -1)

  return dict(
      encode_state=lambda params, state, action: jnp.concatenate(
          [state, action], axis=-1)[..., jnp.newaxis],
      encode_goal=lambda params, goal: goal[..., jnp.newaxis],
      compare=compare,
      compare_all=compare_all)


def normalised(networks: Networks, temperature: float) -> Networks:
  """Returns the critic whose values are cosines divided by `temperature`.

  Phi gets length 1 / temperature, psi length 1.
  """

  def unit(representation):
    squares = jnp.sum(representation**2, axis=1, keepdims=True)
    return representation * jax.lax.rsqrt(squares + NORM_EPSILON)

  def encode_state(params, state, action):
    return unit(networks.encode_state(params, state, action)) / temperature

  return dataclasses.replace(
      networks, encode_state=encode_state,
      encode_goal=lambda params, goal: unit(networks.encode_goal(params, goal)))


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
