"""The audit: steps spent in regions, interventions, and their files."""

import glob
import json
import os
import re
import shutil
import time
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from actors.loop import Metrics, Step
from envs.spec import EnvSpec
from safety import regions as region_lib
from safety.enforcement import SafetyState
from safety.regions import Regions

EPISODES_PER_FILE = 1000

# Names the folder of the run the visits belong to.
_OWNER = 'run.txt'
_FILE_NAME = re.compile(r'region_visits_(\d{6,})-(\d{6,})\.json')


class RegionVisitObserver:
  """Counts the steps of each episode that end in each region.

  The position an episode starts from is not counted.
  """

  def __init__(self, regions: Regions, spec: EnvSpec, num_envs: int):
    """Counts visits to `regions` by `num_envs` environments."""
    self._regions = regions
    self._indices = list(spec.position_indices)
    self._visits = np.zeros((num_envs, len(regions)), np.int64)

  def observe_first(self, step: Step) -> None:
    """Starts from zero."""
    self._visits[step.first] = 0

  def observe(self, step: Step) -> None:
    """Counts the environments that are in a region now."""
    positions = step.timestep.observation[:, self._indices]
    inside = region_lib.contains_each(self._regions, positions, np)
    self._visits += inside & ~step.first[:, np.newaxis]

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `region_visits`, `[n, R]` steps."""
    return {'region_visits': self._visits[finished]}


class InterventionObserver:
  """Counts the steps in which enforcement overruled the policy."""

  def __init__(self, num_envs: int):
    """Starts from zero for `num_envs` environments."""
    self._interventions = np.zeros(num_envs, np.int64)
    self._cornered = np.zeros(num_envs, np.int64)

  def observe_first(self, step: Step) -> None:
    """Starts from zero."""
    self._interventions[step.first] = 0
    self._cornered[step.first] = 0

  def observe(self, step: Step) -> None:
    """Reads the enforcement's record from the policy state."""
    state = step.policy_state
    if isinstance(state, SafetyState):
      moved = ~step.first
      self._interventions += np.asarray(state.intervened) & moved
      self._cornered += np.asarray(state.cornered) & moved

  def get_metrics(self, finished: np.ndarray) -> Metrics:
    """Returns `interventions` and `cornered`, `[n]` steps."""
    return {
        'interventions': self._interventions[finished],
        'cornered': self._cornered[finished],
    }


class VisitLog:
  """Writes visit counts, 1000 episodes a file, under one global numbering.

  A file holds `{"episodes": [ids], "regions": [{"x": [lo, hi], "y": [lo, hi]}],
  "counts_per_region": {"region0": [steps]}}` and is named after the block of
  1000 it belongs to, also while the block is not full.
  """

  def __init__(self, directory: str, regions: Regions, num_episodes: int = 0,
               owner: str = ''):
    """Opens the log where `num_episodes` have been recorded before.

    Args:
      directory: where the files go; made if missing.
      regions: two-dimensional boxes the counts belong to.
      num_episodes: episodes to go on from; later ones on disk are dropped,
        because the run they belong to was rolled back to this point. With none,
        what is there is of no use to this run, and its folder is moved aside.
      owner: the run. What another one left is moved aside, and what was moved
        aside of this one is brought back. A run that goes on takes what has no
        owner for its own.
    """
    self._directory = directory
    self._regions = regions
    self._next = num_episodes
    self._counts: List[List[int]] = []
    foreign = (os.path.isdir(directory)
               and _owner(directory) not in ('', owner))
    if _block_files(directory) and (num_episodes == 0 or foreign):
      os.rename(directory, f'{directory}.until-{time.time_ns()}')
    if num_episodes and not _block_files(directory):
      own = [f for f in sorted(glob.glob(glob.escape(directory) + '.until-*'))
             if _owner(f) == owner]
      if own:
        shutil.rmtree(directory, ignore_errors=True)
        os.rename(own[-1], directory)
    os.makedirs(directory, exist_ok=True)
    if owner:
      with open(os.path.join(directory, _OWNER), 'w', encoding='utf-8') as f:
        f.write(owner)
    for name, begin in _block_files(directory):
      if begin >= num_episodes:
        os.remove(os.path.join(directory, name))
    self._reload()

  @property
  def num_episodes(self) -> int:
    """Episodes recorded, those of earlier processes included."""
    return self._next

  def append(self, visits: np.ndarray) -> None:
    """Records the next episodes; `visits` is `[n, R]` steps."""
    for row in np.asarray(visits).tolist():
      self._counts.append(row)
      self._next += 1
      if self._next % EPISODES_PER_FILE == 0:
        self.flush()
        self._counts = []

  def flush(self) -> None:
    """Writes the current block, also when it is not full."""
    if not self._counts:
      return
    first = self._next - len(self._counts)
    data: Dict[str, Any] = {
        'episodes': list(range(first, self._next)),
        'regions': [{'x': [box.lower[0], box.upper[0]],
                     'y': [box.lower[1], box.upper[1]]}
                    for box in self._regions],
        'counts_per_region': {
            f'region{r}': [row[r] for row in self._counts]
            for r in range(len(self._regions))},
    }
    path = block_path(self._directory, first)
    with open(path + '.tmp', 'w', encoding='utf-8') as f:
      json.dump(data, f)
    os.replace(path + '.tmp', path)

  def _reload(self) -> None:
    """Takes back the part of the current block that still counts."""
    begin = self._next - self._next % EPISODES_PER_FILE
    path = block_path(self._directory, begin)
    if begin == self._next or not os.path.exists(path):
      return
    with open(path, encoding='utf-8') as f:
      data = json.load(f)
    rows = np.array([data['counts_per_region'][f'region{r}']
                     for r in range(len(self._regions))]).T
    keep = [i for i, e in enumerate(data['episodes']) if e < self._next]
    # What a killed process had not flushed is missing, not zero.
    if keep == list(range(self._next - begin)):
      self._counts = rows[keep].tolist()


def _owner(directory: str) -> str:
  """Returns the run that wrote to `directory`, '' if that is not known."""
  path = os.path.join(directory, _OWNER)
  if not os.path.exists(path):
    return ''
  with open(path, encoding='utf-8') as f:
    return f.read()


def _block_files(directory: str) -> List[Tuple[str, int]]:
  """Returns names of the files in `directory`, each with its first episode."""
  if not os.path.isdir(directory):
    return []
  matches = [_FILE_NAME.fullmatch(n) for n in sorted(os.listdir(directory))]
  return [(m.group(0), int(m.group(1))) for m in matches if m]


def block_path(directory: str, episode: int) -> str:
  """Returns the file that holds `episode`."""
  begin = episode - episode % EPISODES_PER_FILE
  end = begin + EPISODES_PER_FILE - 1
  return os.path.join(directory, f'region_visits_{begin:06d}-{end:06d}.json')


def read_visits(directory: str) -> Dict[str, Any]:
  """Reads every block of a directory.

  Returns:
    `episodes [N]`, `regions` as stored, and `counts [N, R]`.
  """
  blocks = []
  for name, _ in _block_files(directory):
    with open(os.path.join(directory, name), encoding='utf-8') as f:
      blocks.append(json.load(f))
  episodes = [e for block in blocks for e in block['episodes']]
  regions: Optional[List[Any]] = blocks[0]['regions'] if blocks else []
  counts = [
      np.array([block['counts_per_region'][f'region{r}']
                for r in range(len(block['regions']))]).T
      for block in blocks]
  return {
      'episodes': np.array(episodes, np.int64),
      'regions': regions,
      'counts': np.concatenate(counts) if counts else np.zeros((0, 0)),
  }
