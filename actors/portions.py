"""Parameters that are too many to fetch all of them each time."""

from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Optional, Tuple

import numpy as np

NO_PORTION = -1


class Portions(NamedTuple):
  """How actors fetch large variables: what all need, and a portion at a time.

  Attributes:
    in_use: `policy_state -> [E]`, the portion each environment acts with, or
      `NO_PORTION`.
    take: `(variables, portion) -> piece`, of NumPy arrays: what all need, and
      that portion; of `NO_PORTION` only the former.
    put: `(variables, piece) -> variables`, renewed by a piece.
  """
  in_use: Callable[[Any], Any]
  take: Callable[[Any, int], Any]
  put: Callable[[Any, Any], Any]


class PortionChooser:
  """Chooses the portion to fetch: of those in use, the one fetched longest ago.

  One thread acts and says what is in use, another fetches.
  """

  def __init__(self, portions: Portions):
    """Starts with nothing fetched and nothing in use."""
    self.put = portions.put
    self._portions = portions
    self._in_use: FrozenSet[int] = frozenset()
    # Updates that everything has had, and each portion fetched since.
    self._all_fetched = -1
    self._fetched: Dict[int, int] = {}

  def use(self, policy_state: Any) -> None:
    """Looks at what is in use."""
    in_use = np.asarray(self._portions.in_use(policy_state)).tolist()
    self._in_use = frozenset(in_use) - {NO_PORTION}

  def choose(self) -> int:
    """Returns a portion, or `NO_PORTION` where none is in use."""
    return min(self._in_use, key=self._age, default=NO_PORTION)

  def fetched(self, portion: Optional[int], updates: int) -> None:
    """Notes what was fetched, None if everything, and how new it is."""
    if portion is None:
      self._all_fetched, self._fetched = updates, {}
    elif portion != NO_PORTION:
      self._fetched[portion] = updates

  def _age(self, portion: int) -> Tuple[int, int]:
    return self._fetched.get(portion, self._all_fetched), portion
