"""Critic parameters as a file of arrays, to start other runs from."""

import os
from typing import Dict, List
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from learners import arrays
from learners.contrastive.networks import Params


def save(path: str, critic_params: Params) -> None:
  """Writes critic parameters, over what the file held before."""
  with open(path + '.tmp', 'wb') as f:
    np.savez(f, **{name: np.asarray(leaf)
                   for name, leaf in arrays.named(critic_params).items()})
  os.replace(path + '.tmp', path)


def load(path: str, template: Params) -> Params:
  """Reads what `save` wrote.

  Args:
    path: of the file.
    template: parameters of the structure, shapes and dtypes expected.

  Raises:
    ValueError: if the file cannot be read or holds something else.
  """
  found = problems(path, template)
  if found:
    raise ValueError('; '.join(found))
  stored = _read(path)
  return jax.tree.unflatten(
      jax.tree.structure(template),
      [jnp.asarray(stored[name]) for name in arrays.named(template)])


def problems(path: str, template: Params) -> List[str]:
  """Lists why a file cannot be loaded; empty when it can.

  Args:
    path: of the file.
    template: parameters expected, or their shapes.
  """
  try:
    stored = _read(path)
  except (OSError, EOFError, ValueError, zipfile.BadZipFile) as e:
    return [f'{path} cannot be read as arrays: {e}']
  found = arrays.misfits(arrays.named(template), stored)
  if not found:
    return []
  return [f'{path} holds the critic of other settings: ' + '; '.join(found)]


def _read(path: str) -> Dict[str, np.ndarray]:
  if not zipfile.is_zipfile(path):
    raise ValueError('it is no .npz archive')
  with np.load(path, allow_pickle=False) as archive:
    return {name: archive[name] for name in archive.files}
