"""The policy that is conditioned on a command, and the value network."""

import dataclasses
import math
from typing import Any, Callable, Sequence

import haiku as hk
import jax
import jax.numpy as jnp

VALUE_WIDTHS = (128, 64)


@dataclasses.dataclass(frozen=True)
class Networks:
  """Pure functions of policy and value.

  Attributes:
    init_policy: `key -> params` of the policy.
    init_value: `key -> params` of the value network.
    logits: `(policy_params, state [B, S], command [B, 1]) -> [B, A]`.
    value: `(value_params, state [B, S]) -> [B]`.
  """
  init_policy: Callable[[jax.Array], Any]
  init_value: Callable[[jax.Array], Any]
  logits: Callable[[Any, jax.Array, jax.Array], jax.Array]
  value: Callable[[Any, jax.Array], jax.Array]


def _linear(size: int, fan_in: int, name: str) -> hk.Linear:
  """Returns a layer that starts uniform within +-1 / sqrt(fan_in)."""
  bound = 1.0 / math.sqrt(fan_in)
  uniform = hk.initializers.RandomUniform(-bound, bound)
  return hk.Linear(size, name=name, w_init=uniform, b_init=uniform)


def make_networks(state_dim: int, num_actions: int,
                  hidden_sizes: Sequence[int]) -> Networks:
  """Returns a policy whose hidden layers are each gated by the command.

  Args:
    state_dim: number of state entries, S.
    num_actions: number of actions, A.
    hidden_sizes: of the policy.
  """

  def act(state, command):
    if state.ndim != 2 or command.shape != (state.shape[0], 1):
      raise ValueError('expected state [B, S] and command [B, 1], got '
                       f'{state.shape} and {command.shape}')
    h = state
    for i, size in enumerate(hidden_sizes):
      gate = jax.nn.sigmoid(_linear(size, 1, f'gate_{i}')(command))
      h = jax.nn.relu(_linear(size, h.shape[-1], f'hidden_{i}')(h)) * gate
    return _linear(num_actions, h.shape[-1], 'logits')(h)

  def evaluate(state):
    h = state
    for i, size in enumerate(VALUE_WIDTHS):
      h = jax.nn.relu(_linear(size, h.shape[-1], f'hidden_{i}')(h))
    return _linear(1, h.shape[-1], 'value')(h)[..., 0]

  policy: Any = hk.without_apply_rng(hk.transform(act))
  value: Any = hk.without_apply_rng(hk.transform(evaluate))
  state, command = jnp.zeros((1, state_dim)), jnp.zeros((1, 1))
  return Networks(
      init_policy=lambda key: policy.init(key, state, command),
      init_value=lambda key: value.init(key, state),
      logits=policy.apply,
      value=value.apply)
