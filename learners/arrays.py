"""Pytrees as named arrays, the form they are stored in."""

from typing import Any, Dict, List, Mapping

import jax
import numpy as np


def named(tree: Any) -> Dict[str, Any]:
  """Returns the leaves by their path, in the order of the tree."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path): leaf for path, leaf in flat}


def misfits(expected: Mapping[str, Any],
            stored: Mapping[str, np.ndarray]) -> List[str]:
  """Lists where stored arrays are not those expected; empty when they are.

  Args:
    expected: arrays by name, or their shapes and dtypes.
    stored: arrays by name.
  """
  found = [f'{n} is missing' for n in expected if n not in stored]
  found += [f'{n} is not expected' for n in stored if n not in expected]
  for name, wanted in expected.items():
    got = stored.get(name)
    if got is not None and (got.shape, got.dtype) != (
        wanted.shape, wanted.dtype):
      found.append(f'{name} is {got.dtype}{list(got.shape)}, needs '
                   f'{wanted.dtype}{list(wanted.shape)}')
  return found
