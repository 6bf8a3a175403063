"""Environment names and what they build. A new environment is a line here."""

import dataclasses
import difflib
import functools
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from envs import (
  atari,
  cart_pole,
  grid_rooms,
  lunar_lander,
  point_features,
  point_maze,
  sawyer,
)
from envs.spec import EnvSpec
from envs.vector import VectorEnvironment

ATARI = 'atari_'


@dataclasses.dataclass(frozen=True)
class Entry:
  """One registered environment.

  Attributes:
    make: `(num_envs, seed, sample_goals, goal) -> VectorEnvironment`.
    spec: `(sample_goals, goal) -> EnvSpec`, without building anything. Where
      there are no goals, both ignore what they are told of them.
    walls: `[H, W]` wall grid for figures, or None.
  """
  make: Callable[..., VectorEnvironment]
  spec: Callable[..., EnvSpec]
  walls: Optional[Any] = None


def _point_maze(layout_name: str) -> Entry:
  return Entry(
      make=functools.partial(point_maze.PointMaze, layout_name),
      spec=functools.partial(point_maze.maze_spec, layout_name),
      walls=point_maze.LAYOUTS[layout_name].walls)


def _feature_maze(layout_name: str) -> Entry:
  return Entry(
      make=functools.partial(point_features.FeatureMaze, layout_name),
      spec=functools.partial(point_features.feature_spec, layout_name),
      walls=point_maze.LAYOUTS[layout_name].walls)


def _sawyer(name: str) -> Entry:
  return Entry(
      make=functools.partial(sawyer.Sawyer, name),
      spec=functools.partial(sawyer.sawyer_spec, name))


def _without_goals(make: Callable[..., VectorEnvironment],
                   spec: EnvSpec) -> Entry:
  """Returns the entry of an environment that goals mean nothing to.

  Args:
    make: `(num_envs, seed) -> VectorEnvironment`.
    spec: its static facts.
  """
  return Entry(
      make=lambda num_envs, seed, sample_goals, goal: make(
          num_envs=num_envs, seed=seed),
      spec=lambda sample_goals, goal: spec)


def _lunar_lander(name: str, sparse: bool) -> Entry:
  return _without_goals(
      functools.partial(lunar_lander.lunar_lander, name, sparse),
      lunar_lander.lunar_lander_spec(name))


def _atari(game: str) -> Entry:
  # The spec asks the emulator, which is loaded only for games that are used.
  return Entry(
      make=lambda num_envs, seed, sample_goals, goal: atari.atari(
          game, num_envs, seed),
      spec=lambda sample_goals, goal: atari.atari_spec(game))


ENVIRONMENTS: Dict[str, Entry] = {
    **{f'point_{name}': _point_maze(name) for name in point_maze.LAYOUTS},
    **{f'random_point_{name}': _feature_maze(name)
       for name in point_maze.LAYOUTS},
    **{name: _sawyer(name) for name in sawyer.TASKS},
    **{f'grid_{name}': _without_goals(
        functools.partial(grid_rooms.GridRooms, name),
        grid_rooms.rooms_spec(name)) for name in grid_rooms.LAYOUTS},
    **{f'{ATARI}{game}': _atari(game) for game in atari.games()},
    'cartpole': _without_goals(
        cart_pole.CartPole, cart_pole.cart_pole_spec()),
    'lunarlander': _lunar_lander('lunarlander', sparse=False),
    'lunarlander-sparse': _lunar_lander('lunarlander-sparse', sparse=True),
}


def summary() -> str:
  """Returns all names, those of Atari games as one."""
  games = sum(name.startswith(ATARI) for name in ENVIRONMENTS)
  others = sorted(n for n in ENVIRONMENTS if not n.startswith(ATARI))
  return ', '.join([*others, f'{ATARI}<Game> (any of {games} games, like '
                    f'{ATARI}MontezumaRevenge)'])


def nearest_names(name: str, known: Sequence[str]) -> List[str]:
  """Returns up to three of `known` that look most like `name`."""
  lowered = {k.lower(): k for k in known}
  close = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.3)
  return [lowered[c] for c in close]


def lookup(name: str) -> Entry:
  """Returns the entry called `name`.

  Raises:
    ValueError: if there is none; the message lists the nearest names.
  """
  if name not in ENVIRONMENTS:
    near = nearest_names(name, list(ENVIRONMENTS)) or sorted(ENVIRONMENTS)
    raise ValueError(
        f"unknown environment, got: '{name}'; nearest: {', '.join(near)}")
  return ENVIRONMENTS[name]


def make(name: str,
         num_envs: int,
         seed: int,
         sample_goals: bool = False,
         goal: Optional[Tuple[float, ...]] = None) -> VectorEnvironment:
  """Builds `num_envs` environments called `name` that step together."""
  return lookup(name).make(
      num_envs=num_envs, seed=seed, sample_goals=sample_goals, goal=goal)


def spec(name: str,
         sample_goals: bool = False,
         goal: Optional[Tuple[float, ...]] = None) -> EnvSpec:
  """Returns the static facts of the environment called `name`."""
  return lookup(name).spec(sample_goals=sample_goals, goal=goal)
