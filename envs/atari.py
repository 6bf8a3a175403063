"""Atari 2600 games by the Arcade Learning Environment, as Dopamine sees them.

Machado et al. 2018 gives the protocol: sticky actions, no loss of a life ends
an episode, 108,000 frames at most. Four emulator frames make one step; its
picture is the pixelwise maximum of the last two in gray, shrunk to 84 x 84 by
averaging areas. Rewards are returned as they come; agents clip them. The frames
of a state are stacked by whoever needs them.

ALE's own vector environment is not used: it stacks frames itself, and returns
rewards either clipped or not, but never both.
"""

import functools
import importlib.util
import json
import os
from typing import Any, Dict, List, Tuple

import numpy as np

from envs import vector
from envs.lockstep import LockstepEnvironment, Outcome
from envs.spec import EnvSpec

SIDE = 84
FRAME_SKIP = 4
STICKINESS = 0.25
STEP_LIMIT = 27_000
# The byte of Montezuma's Revenge that says which room the player is in.
_ROOM_BYTES = {'montezuma_revenge': 3}
_ROOMS_TOLD_APART = 256


@functools.lru_cache(maxsize=1)
def games() -> Dict[str, str]:
  """Returns the names of all games, like MontezumaRevenge, and of their files.

  The emulator is not loaded for it.
  """
  found = importlib.util.find_spec('ale_py')
  if found is None or not found.submodule_search_locations:
    return {}
  roms = os.path.join(found.submodule_search_locations[0], 'roms')
  with open(os.path.join(roms, 'md5.json'), encoding='utf-8') as f:
    files = [name.split('.')[0] for name in json.load(f)]
  return {''.join(part.capitalize() for part in name.split('_')): name
          for name in sorted(files)
          if os.path.isfile(os.path.join(roms, f'{name}.bin'))}


@functools.cache
def atari_spec(game: str, step_limit: int = STEP_LIMIT) -> EnvSpec:
  """Returns the static facts of a game; the emulator tells its actions."""
  emulator = _emulator(game, 0)
  return EnvSpec(
      name=f'atari_{game}', obs_dim=0, action_dim=0,
      num_actions=len(emulator.getMinimalActionSet()), frame_shape=(SIDE, SIDE),
      num_places=_ROOMS_TOLD_APART if games()[game] in _ROOM_BYTES else 0,
      step_limit=step_limit)


def atari(game: str, num_envs: int = 1, seed: int = 0,
          step_limit: int = STEP_LIMIT) -> vector.VectorEnvironment:
  """Builds E emulators of a game; where rooms are known, they are `Located`.

  Args:
    game: a key of `games()`.
    num_envs: E.
    seed: of their sticky actions; each gets its own.
    step_limit: steps after which an episode is truncated.
  """
  kind = LocatedAtari if games()[game] in _ROOM_BYTES else Atari
  return kind(game, num_envs, seed, step_limit)


class Atari(LockstepEnvironment):
  """E emulators of one game; implements `VectorEnvironment`."""

  def __init__(self, game: str, num_envs: int, seed: int, step_limit: int):
    """Loads the game E times.

    Args:
      game: a key of `games()`.
      num_envs: E.
      seed: of their sticky actions; each gets its own.
      step_limit: steps after which an episode is truncated.
    """
    super().__init__(atari_spec(game, step_limit), num_envs)
    seeds = np.random.SeedSequence(seed).generate_state(num_envs)
    # The emulator takes positive int32 only.
    self._emulators = [_emulator(game, int(s % 2**31)) for s in seeds]
    self._actions = self._emulators[0].getMinimalActionSet()
    self._frames = np.zeros((num_envs, SIDE, SIDE), np.uint8)
    self._reward = np.zeros(num_envs, np.float32)
    self._over = np.zeros(num_envs, bool)

  def _begin(self, mask: np.ndarray) -> None:
    for i in np.flatnonzero(mask):
      emulator = self._emulators[i]
      emulator.reset_game()
      self._frames[i] = shrink(emulator.getScreenGrayscale())

  def _advance(self, action: np.ndarray, mask: np.ndarray) -> None:
    for i in np.flatnonzero(mask):
      emulator = self._emulators[i]
      screens, self._reward[i] = skip_frames(
          emulator, self._actions[action[i]])
      self._frames[i] = shrink(np.max(screens, axis=0))
      self._over[i] = emulator.game_over(with_truncation=False)

  def _outcome(self) -> Outcome:
    return Outcome(self._frames, self._reward, self._over)


class LocatedAtari(Atari):
  """Emulators of a game whose memory tells the room; `Located`."""

  def places(self) -> np.ndarray:
    """Returns the number `[E]` of the room each player is in."""
    byte = _ROOM_BYTES[games()[self.spec.name.removeprefix('atari_')]]
    return np.array([int(e.getRAM()[byte]) for e in self._emulators])


def skip_frames(emulator: Any,
                action: Any) -> Tuple[List[np.ndarray], float]:
  """Repeats an action for one step, or until the game is over.

  Args:
    emulator: an `ALEInterface`.
    action: of the emulator.

  Returns:
    The gray screens of the last two frames, `[210, 160]` uint8 each, or of the
    one there was, and the sum of the rewards.
  """
  reward, screens = 0.0, []
  for frame in range(FRAME_SKIP):
    reward += emulator.act(action)
    if frame >= FRAME_SKIP - 2:
      screens.append(emulator.getScreenGrayscale())
    if emulator.game_over(with_truncation=False):
      break
  return screens or [emulator.getScreenGrayscale()], reward


def shrink(screen: np.ndarray) -> np.ndarray:
  """Shrinks a gray screen `[H, W]` to 84 x 84 by averaging areas."""
  height, width = screen.shape
  small = _averages(height) @ screen.astype(np.float32) @ _averages(width).T
  return np.rint(small).astype(np.uint8)


@functools.cache
def _averages(size: int) -> np.ndarray:
  """Returns the share `[84, size]` that each old pixel has in each new one."""
  edges = np.arange(SIDE + 1) * size / SIDE
  pixel = np.arange(size)
  overlap = (np.minimum(edges[1:, np.newaxis], pixel + 1)
             - np.maximum(edges[:-1, np.newaxis], pixel))
  return (np.maximum(overlap, 0.0) * SIDE / size).astype(np.float32)


def _emulator(game: str, seed: int) -> Any:
  """Loads a game, with sticky actions drawn for each emulator frame."""
  import ale_py
  from ale_py import roms
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  emulator = ale_py.ALEInterface()
  emulator.setInt('random_seed', seed)
  emulator.setFloat('repeat_action_probability', STICKINESS)
  emulator.setInt('frame_skip', 1)
  # Episodes are cut by the step limit, not by the emulator.
  emulator.setInt('max_num_frames_per_episode', 0)
  emulator.loadROM(str(roms.get_rom_path(games()[game])))
  return emulator


