"""The behaviour function: which action leads from a state to a command."""

import dataclasses
import math
from typing import Any, Callable, Sequence, Tuple

import haiku as hk
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Networks:
  """Pure functions of the behaviour function.

  Attributes:
    init: `key -> params`.
    logits: `(params, state [B, S], command [B, 2]) -> [B, A]`; a command is
      (return, horizon), unscaled.
  """
  init: Callable[[jax.Array], Any]
  logits: Callable[[Any, jax.Array, jax.Array], jax.Array]


def linear(size: int, fan_in: int, name: str,
           gain: float = 0.0) -> hk.Linear:
  """Returns a layer whose bias is uniform within +-1 / sqrt(fan_in).

  Args:
    size: outputs.
    fan_in: inputs.
    name: of the layer.
    gain: of orthogonal weights; 0 draws weights as the bias is drawn.
  """
  bound = 1.0 / math.sqrt(fan_in)
  uniform = hk.initializers.RandomUniform(-bound, bound)
  return hk.Linear(
      size, name=name, b_init=uniform,
      w_init=hk.initializers.Orthogonal(gain) if gain else uniform)


def make_networks(state_dim: int, num_actions: int,
                  hidden_sizes: Sequence[int],
                  scale: Tuple[float, float]) -> Networks:
  """Returns the gated behaviour function of the UDRL papers.

  The state is embedded, the embedding gated elementwise by the command, and
  what is left goes through ReLU layers.

  Args:
    state_dim: number of state entries, S.
    num_actions: number of actions, A.
    hidden_sizes: width of the embedding, then of the hidden layers.
    scale: factors on commanded return and horizon.
  """

  def behave(state, command):
    if state.ndim != 2 or command.shape != (state.shape[0], 2):
      raise ValueError('expected state [B, S] and command [B, 2], got '
                       f'{state.shape} and {command.shape}')
    width = hidden_sizes[0]
    embedding = jnp.tanh(linear(width, state_dim, 'state', gain=1.0)(state))
    gate = jax.nn.sigmoid(linear(width, 2, 'command', gain=1.0)(
        command * jnp.array(scale)))
    x = embedding * gate
    for i, size in enumerate(hidden_sizes[1:]):
      layer = linear(size, x.shape[-1], f'hidden_{i}', gain=math.sqrt(2.0))
      x = jax.nn.relu(layer(x))
    return linear(num_actions, x.shape[-1], 'logits')(x)

  network: Any = hk.without_apply_rng(hk.transform(behave))
  return Networks(
      init=lambda key: network.init(
          key, jnp.zeros((1, state_dim)), jnp.zeros((1, 2))),
      logits=network.apply)
