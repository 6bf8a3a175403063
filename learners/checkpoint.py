"""Checkpoints: arrays and JSON in a folder, written atomically.

A checkpoint is data: loading one fills a template and runs no stored code.
"""

import json
import os
import re
import shutil
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
import zipfile
import zlib

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from learners import arrays

_ARRAYS = 'state.npz'
_META = 'meta.json'
# What reading a damaged archive may raise.
_TORN = (OSError, EOFError, LookupError, ValueError, RuntimeError, struct.error,
         zipfile.BadZipFile, zlib.error)
# SGD steps, and a number that tells checkpoints of the same step apart.
_NAME = re.compile(r'ckpt-(\d{12})-(\d{3,})')
_PARTIAL = '.tmp'


class SaveError(OSError):
  """A checkpoint could not be written; those before it are as they were."""


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

  The `keep` newest stay, and the best by `score`. What a writer left that was
  killed while writing goes too.

  Args:
    directory: of all checkpoints.
    step: orders them; SGD steps.
    state: pytree of arrays.
    meta: JSON data to keep beside it.
    keep: how many of the newest stay.
    score: higher is better; None if unknown.

  Returns:
    The checkpoint's folder.

  Raises:
    SaveError: if the disk is full or cannot be written.
  """
  final = _new_path(directory, step)
  partial = final + _PARTIAL
  try:
    os.makedirs(directory, exist_ok=True)
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
  except OSError as e:
    shutil.rmtree(partial, ignore_errors=True)
    before = checkpoints(directory)
    kept = (f'the last good one is {before[-1]}' if before else
            'there is none yet')
    raise SaveError(
        e.errno, f'{e.strerror}: checkpoint {final} could not be written; '
        f'{kept}. Make room, or make the folder writable, and run the same '
        'command again to go on') from e
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
    ValueError: if a checkpoint does not fit the template, or holds code.
  """
  for path in reversed(checkpoints(directory)):
    restored = load(path, template)
    if restored is not None:
      return restored
  return None


def load(path: str, template: Any) -> Optional[Restored]:
  """Reads the checkpoint in the folder `path`.

  Args:
    path: as `checkpoints` returns it.
    template: pytree with the structure, shapes and dtypes expected.

  Returns:
    The checkpoint, or None with a warning if it is torn.

  Raises:
    ValueError: if it does not fit the template, or holds code.
  """
  meta = _meta_if_whole(path)
  if meta is None:
    return None
  with np.load(os.path.join(path, _ARRAYS), allow_pickle=False) as archive:
    stored = {name: archive[name] for name in archive.files}
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
  """Returns the JSON of a checkpoint, or None with a warning if it is torn.

  All of the archive is read, so that counters and learner, which resume from
  the same checkpoint in different processes, judge it alike.
  """
  try:
    with zipfile.ZipFile(os.path.join(path, _ARRAYS)) as archive:
      for name in archive.namelist():
        _check_array(archive, name)
    meta = read_meta(path)
    if not isinstance(meta, dict):
      raise ValueError(f'{_META} holds no object')
    return meta
  except _TORN as e:
    logging.warning('skipping unreadable checkpoint %s: %s', path, e)
    return None


def _check_array(archive: zipfile.ZipFile, name: str) -> None:
  """Reads an array's header and all its bytes; raises if one is wrong."""
  with archive.open(name) as file:
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0,
                   (2, 0): np.lib.format.read_array_header_2_0}[version]
    read_header(file)
    while file.read(1 << 20):
      continue


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
    score = _score(path)
    if score is not None:
      scored.append((score, path))
  kept = set(paths[-keep:])
  if scored:
    kept.add(max(scored)[1])
  for path in paths:
    if path not in kept:
      shutil.rmtree(path)
  # A run has one learner, which is not writing: who began these was killed.
  for name in os.listdir(directory):
    stem, suffix = os.path.splitext(name)
    if suffix == _PARTIAL and _NAME.fullmatch(stem):
      shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


def _score(path: str) -> Optional[float]:
  """Returns a checkpoint's score, None if it is unknown or torn."""
  try:
    return read_meta(path)['score']
  except (OSError, LookupError, TypeError, ValueError):
    return None


def _sync(file: Any) -> None:
  file.flush()
  os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
