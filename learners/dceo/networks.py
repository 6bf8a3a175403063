"""The Rainbow value network and the representation network, for pixels.

Both see stacks of frames, newest last, as uint8; they scale them to [0, 1].
"""

from typing import Any, Callable, NamedTuple, Optional, Tuple

import haiku as hk
import jax
import jax.numpy as jnp

Params = Any

TORSOS = ('nature', 'data_efficient', 'small')
# Frames with a shorter side are too small for the strides of 'nature'.
NATURE_SIDE = 40
# Initial deviation of noisy layers, before it is divided by sqrt(fan_in).
NOISE_SCALE = 0.1

_GLOROT = hk.initializers.VarianceScaling(1.0, 'fan_avg', 'uniform')
# (channels, kernel, stride) of each convolution, and the width after them.
_CONVOLUTIONS = {
    'nature': (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
    # Van Hasselt et al. 2019: an eighth of the work of 'nature'.
    'data_efficient': (((32, 5, 5), (64, 5, 5)), 256),
    'small': (((16, 3, 2), (32, 3, 2)), 128),
}


class Networks(NamedTuple):
  """Pure functions of the value and the representation networks.

  Attributes:
    init_q: `key -> params` of one value network.
    q_logits: `(params, frames [B, H, W, S], noise_key) -> [B, A, Z]`, the
      logits of the return distribution. The key is None where noise is off.
    init_phi: `key -> params` of the representation.
    phi: `(params, frames [B, H, W, S]) -> [B, d]`.
  """
  init_q: Callable[[jax.Array], Params]
  q_logits: Callable[[Params, jax.Array, Optional[jax.Array]], jax.Array]
  init_phi: Callable[[jax.Array], Params]
  phi: Callable[[Params, jax.Array], jax.Array]


def choose_torso(frame_shape: Tuple[int, ...]) -> str:
  """Returns the torso that suits frames `(H, W)`."""
  return 'nature' if min(frame_shape) >= NATURE_SIDE else 'small'


def make_networks(frame_shape: Tuple[int, int], stack: int, num_actions: int,
                  num_atoms: int, rep_dim: int, torso: str,
                  dueling: bool = True, noisy: bool = False) -> Networks:
  """Builds the networks of one agent (see `Networks`).

  Args:
    frame_shape: (H, W) of a frame.
    stack: frames in a stack, S.
    num_actions: A.
    num_atoms: atoms of the return distribution, Z.
    rep_dim: entries of the representation, d.
    torso: one of `TORSOS`.
    dueling: value and advantage heads instead of one head per action.
    noisy: dense layers of the value network have learned noise.
  """
  if torso not in TORSOS:
    raise ValueError(f'torso: got {torso!r}, needs one of {TORSOS}')
  width = _CONVOLUTIONS[torso][1]

  def q_net(frames, noise_key):
    def dense(size):
      return (_NoisyLinear(size, noise_key) if noisy
              else hk.Linear(size, w_init=_GLOROT))
    hidden = jax.nn.relu(dense(width)(_convolve(frames, torso)))
    # Both heads read the same hidden vector.
    advantage = dense(num_actions * num_atoms)(hidden).reshape(
        -1, num_actions, num_atoms)
    if not dueling:
      return advantage
    value = dense(num_atoms)(hidden)[:, jnp.newaxis]
    return value + advantage - jnp.mean(advantage, axis=1, keepdims=True)

  def phi_net(frames):
    hidden = jax.nn.relu(
        hk.Linear(width, w_init=_GLOROT)(_convolve(frames, torso)))
    return hk.Linear(rep_dim, w_init=_GLOROT)(hidden)

  q_fn: Any = hk.without_apply_rng(hk.transform(q_net))
  phi_fn: Any = hk.without_apply_rng(hk.transform(phi_net))
  example = jnp.zeros((1, *frame_shape, stack), jnp.uint8)

  return Networks(
      init_q=lambda key: q_fn.init(key, example, None),
      q_logits=q_fn.apply,
      init_phi=lambda key: phi_fn.init(key, example),
      phi=phi_fn.apply)


def _convolve(frames: jax.Array, torso: str) -> jax.Array:
  """Applies the convolutions, `[B, H, W, S]` uint8 to `[B, features]`."""
  if frames.ndim != 4 or frames.dtype != jnp.uint8:
    raise ValueError('frames: expected [B, H, W, S] uint8, got '
                     f'{frames.shape} {frames.dtype}')
  hidden = frames.astype(jnp.float32) / 255.0
  for channels, kernel, stride in _CONVOLUTIONS[torso][0]:
    hidden = jax.nn.relu(_Convolution(channels, kernel, stride)(hidden))
  return hk.Flatten()(hidden)


class _Convolution(hk.Module):
  """`hk.Conv2D` with SAME padding, and a gradient that CPUs are fast at.

  XLA's own gradient of strided convolutions is a plain loop there, a hundred
  times slower than the product of matrices used instead.
  """

  def __init__(self, channels: int, kernel: int, stride: int):
    super().__init__(name='conv2_d')
    self._channels, self._kernel, self._stride = channels, kernel, stride

  def __call__(self, inputs: jax.Array) -> jax.Array:
    shape = (self._kernel, self._kernel, inputs.shape[-1], self._channels)
    w = hk.get_parameter('w', shape, init=_GLOROT)
    b = hk.get_parameter('b', (self._channels,), init=jnp.zeros)
    if jax.default_backend() != 'cpu':
      strides = (self._stride, self._stride)
      return b + jax.lax.conv_general_dilated(
          inputs, w, strides, 'SAME', dimension_numbers=('NHWC', 'HWIO',
                                                         'NHWC'))
    patches = image_patches(inputs, self._kernel, self._stride)
    return b + patches @ w.reshape(-1, self._channels)


def image_patches(images: jax.Array, kernel: int, stride: int) -> jax.Array:
  """Returns what a convolution with SAME padding sees at each place.

  Args:
    images: `[B, H, W, C]`.
    kernel: side of a patch.
    stride: between patches.

  Returns:
    `[B, H', W', kernel * kernel * C]`, H' and W' being H and W divided by the
    stride and rounded up.
  """
  sizes = [-(-side // stride) for side in images.shape[1:3]]
  pads = []
  for side, size in zip(images.shape[1:3], sizes):
    total = max(0, (size - 1) * stride + kernel - side)
    pads.append((total // 2, total - total // 2))
  padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
  rows, columns = ((size - 1) * stride + 1 for size in sizes)
  return jnp.concatenate([
      padded[:, i:i + rows:stride, j:j + columns:stride]
      for i in range(kernel) for j in range(kernel)], axis=-1)


class _NoisyLinear(hk.Module):
  """A dense layer with factorised Gaussian noise; none without a key.

  Layers of one forward pass share its key, and a batch shares the draw.
  """

  def __init__(self, size: int, noise_key: Optional[jax.Array]):
    super().__init__(name='noisy_linear')
    self._size = size
    self._key = noise_key

  def __call__(self, inputs: jax.Array) -> jax.Array:
    fan_in, size = inputs.shape[-1], self._size
    bound = 1.0 / fan_in**0.5
    uniform = hk.initializers.RandomUniform(-bound, bound)
    constant = hk.initializers.Constant(NOISE_SCALE * bound)
    w = hk.get_parameter('w', (fan_in, size), init=uniform)
    b = hk.get_parameter('b', (size,), init=uniform)
    w_scale = hk.get_parameter('w_scale', (fan_in, size), init=constant)
    b_scale = hk.get_parameter('b_scale', (size,), init=constant)
    if self._key is None:
      return inputs @ w + b
    key_in, key_out = jax.random.split(self._key)
    noise_in = _signed_root(jax.random.normal(key_in, (fan_in,)))
    noise_out = _signed_root(jax.random.normal(key_out, (size,)))
    w = w + w_scale * noise_in[:, jnp.newaxis] * noise_out
    return inputs @ w + b + b_scale * noise_out


def _signed_root(x: jax.Array) -> jax.Array:
  return jnp.sign(x) * jnp.sqrt(jnp.abs(x))
