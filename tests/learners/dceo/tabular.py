"""Four rooms as a table: its true eigenfunctions, and losses on all states."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from envs import grid_rooms


def transitions():
  """Returns start and end `[N]` of every move in every cell of four rooms."""
  free = np.argwhere(~grid_rooms.LAYOUTS['FourRooms'].walls)
  index = {tuple(cell): i for i, cell in enumerate(free)}
  pairs = [(i, index.get(tuple(np.add(cell, move)), i))
           for cell, i in index.items() for move in grid_rooms.MOVES]
  start, end = np.array(pairs).T
  return start, end


def eigenvectors(num):
  """Returns the `num` least eigenvalues of I - P and the unit vectors."""
  start, end = transitions()
  walk = np.zeros((start.max() + 1,) * 2)
  np.add.at(walk, (start, end), 1.0 / grid_rooms.NUM_ACTIONS)
  values, vectors = np.linalg.eigh(np.eye(len(walk)) - walk)
  return values[:num], vectors[:, :num]


def minimise(loss, rep_dim, num_steps):
  """Minimises `loss(table [104, d])` by Adam, with falling step sizes."""
  table = 0.05 * jax.random.normal(jax.random.key(0), (104, rep_dim))
  # It soon forgets the large gradients of the beginning.
  optimizer = optax.adam(
      optax.exponential_decay(0.02, num_steps, 0.1), b2=0.95)

  def body(carry, _):
    table, opt = carry
    updates, opt = optimizer.update(jax.grad(loss)(table), opt)
    return (optax.apply_updates(table, updates), opt), None

  @jax.jit
  def run(table):
    return jax.lax.scan(
        body, (table, optimizer.init(table)), None, length=num_steps)[0][0]

  return np.asarray(run(table))


def cosines(table, vectors):
  """Returns |cos| between each column and the vector of the same number."""
  unit = table / np.linalg.norm(table, axis=0)
  return np.abs(np.sum(unit * vectors, axis=0))


def principal_cosines(table, vectors):
  """Returns the cosines between the spaces that the columns span."""
  basis, _ = np.linalg.qr(table)
  return np.linalg.svd(basis.T @ vectors, compute_uv=False)


def all_pairs(table):
  """Returns u and v `[104 * 104, d]`, every state with every state."""
  num = table.shape[0]
  return jnp.repeat(table, num, axis=0), jnp.tile(table, (num, 1))
