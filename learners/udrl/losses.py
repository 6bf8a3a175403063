"""What the behaviour function learns: the action that was taken."""

import jax
import optax


def action_losses(logits: jax.Array, action: jax.Array) -> jax.Array:
  """Returns the cross-entropy to the actions taken.

  Args:
    logits: `[B, A]`.
    action: `[B]` int.

  Returns:
    `[B]`, in nats.
  """
  if logits.ndim != 2 or action.shape != logits.shape[:1]:
    raise ValueError('expected logits [B, A] and action [B], got '
                     f'{logits.shape} and {action.shape}')
  return optax.softmax_cross_entropy_with_integer_labels(logits, action)
