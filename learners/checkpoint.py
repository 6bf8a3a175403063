"""Checkpoints: arrays and JSON in a folder, written atomically.

A checkpoint is data: loading one fills a template and runs no stored code.
"""

import json
import os
import re
import shutil
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
import zipfile

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from learners import arrays

_ARRAYS = 'state.npz'
_META = 'meta.json'
# SGD steps, and a number that tells checkpoints of the same step apart.
_NAME = re.compile(r'ckpt-(\d{12})-(\d{3,})')


class Restored(NamedTuple):
  """A checkpoint read back.

  Attributes:
    state: the pytree.
    meta: the JSON saved beside it.
    path: where it came from.
  """
  state: Any
  meta: Dict[str, Any]
  path: str


def save(directory: str, step: int, state: Any, meta: Dict[str, Any],
         keep: int = 3, score: Optional[float] = None) -> str:
  """Writes a checkpoint and removes old ones.

  The `keep` newest stay, and the best by `score`.

  Args:
    directory: of all checkpoints.
    step: orders them; SGD steps.
    state: pytree of arrays.
    meta: JSON data to keep beside it.
    keep: how many of the newest stay.
    score: higher is better; None if unknown.

  Returns:
    The checkpoint's folder.
  """
  os.makedirs(directory, exist_ok=True)
  final = _new_path(directory, step)
  partial = final + '.tmp'
  shutil.rmtree(partial, ignore_errors=True)
  os.makedirs(partial)
  with open(os.path.join(partial, _ARRAYS), 'wb') as f:
    np.savez(f, **_flatten(state))
    _sync(f)
  with open(os.path.join(partial, _META), 'w', encoding='utf-8') as f:
    json.dump({**meta, 'step': step, 'score': score}, f)
    _sync(f)
  os.replace(partial, final)
  _sync_directory(directory)
  _prune(directory, keep)
  return final


def load_latest(directory: str, template: Any) -> Optional[Restored]:
  """Reads the newest readable checkpoint.

  A torn one is skipped with a warning.

  Args:
    directory: of all checkpoints.
    template: pytree with the structure, shapes and dtypes expected.

  Returns:
    The checkpoint, or None if there is none.

  Raises:
    ValueError: if a checkpoint does not fit the template.
  """
  for path in reversed(checkpoints(directory)):
    restored = load(path, template)
    if restored is not None:
      return restored
  return None


def load(path: str, template: Any) -> Optional[Restored]:
  """Reads one checkpoint; None, with a warning, if it is torn.

  Args:
    path: its folder.
    template: pytree with the structure, shapes and dtypes expected.

  Raises:
    ValueError: if it does not fit the template.
  """
  meta = _meta_if_whole(path)
  if meta is None:
    return None
  try:
    with np.load(os.path.join(path, _ARRAYS), allow_pickle=False) as archive:
      stored = {name: archive[name] for name in archive.files}
  except (OSError, EOFError, zipfile.BadZipFile) as e:
    logging.warning('skipping unreadable checkpoint %s: %s', path, e)
    return None
  return Restored(_unflatten(template, stored, path), meta, path)


def latest_meta(directory: str) -> Optional[Dict[str, Any]]:
  """Returns the JSON of the newest checkpoint that is whole."""
  for path in reversed(checkpoints(directory)):
    meta = _meta_if_whole(path)
    if meta is not None:
      return meta
  return None


def read_meta(path: str) -> Dict[str, Any]:
  """Returns the JSON saved with the checkpoint at `path`."""
  with open(os.path.join(path, _META), encoding='utf-8') as f:
    return json.load(f)


def checkpoints(directory: str) -> List[str]:
  """Returns the folders of finished checkpoints, oldest first."""
  if not os.path.isdir(directory):
    return []
  return [os.path.join(directory, name)
          for name in sorted(os.listdir(directory)) if _NAME.fullmatch(name)]


def _new_path(directory: str, step: int) -> str:
  """Returns a name after all others of the same step."""
  stem = f'ckpt-{step:012d}-'
  taken = [int(os.path.basename(path)[len(stem):])
           for path in checkpoints(directory)
           if os.path.basename(path).startswith(stem)]
  return os.path.join(directory, f'{stem}{max(taken, default=-1) + 1:03d}')


def _meta_if_whole(path: str) -> Optional[Dict[str, Any]]:
  """Returns the JSON of a checkpoint, or None with a warning if it is torn."""
  try:
    # Opening the archive reads its directory, which stands at its end.
    with zipfile.ZipFile(os.path.join(path, _ARRAYS)):
      return read_meta(path)
  except (OSError, zipfile.BadZipFile, ValueError) as e:
    logging.warning('skipping unreadable checkpoint %s: %s', path, e)
    return None


def _flatten(state: Any) -> Dict[str, np.ndarray]:
  return {name: np.asarray(_raw(leaf))
          for name, leaf in arrays.named(state).items()}


def _raw(leaf: Any) -> Any:
  """Returns the integers behind a typed PRNG key, other leaves as they are."""
  return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
  return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
      leaf.dtype, jax.dtypes.prng_key)


def _unflatten(template: Any, stored: Dict[str, np.ndarray], path: str) -> Any:
  leaves = arrays.named(template)
  problems = arrays.misfits(
      {name: _raw(leaf) for name, leaf in leaves.items()}, stored)
  if problems:
    raise ValueError(f'checkpoint {path} does not fit this agent: '
                     + '; '.join(problems))
  return jax.tree.unflatten(jax.tree.structure(template), [
      jax.random.wrap_key_data(jnp.asarray(stored[name]))
      if _is_key(leaf) else stored[name] for name, leaf in leaves.items()])


def _prune(directory: str, keep: int) -> None:
  paths = checkpoints(directory)
  scored: List[Tuple[float, str]] = []
  for path in paths:
    meta = _meta_if_whole(path)
    if meta is not None and meta.get('score') is not None:
      scored.append((meta['score'], path))
  kept = set(paths[-keep:])
  if scored:
    kept.add(max(scored)[1])
  for path in paths:
    if path not in kept:
      shutil.rmtree(path)


def _sync(file: Any) -> None:
  file.flush()
  os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
