"""Parameters that are too many to fetch all of them each time."""

from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Optional

import numpy as np

NO_PORTION = -1


class Portions(NamedTuple):
  """How actors fetch large variables: what all need, and a portion at a time.

  Attributes:
    num: of them there are.
    in_use: `policy_state -> [E]`, the portion each environment acts with, or
      `NO_PORTION`.
    take: `(variables, portion) -> piece`, what all need, and that portion.
    put: `(variables, piece) -> variables`, renewed by a piece.
  """
  num: int
  in_use: Callable[[Any], Any]
  take: Callable[[Any, int], Any]
  put: Callable[[Any, Any], Any]


class PortionChooser:
  """Chooses the portion to fetch: the one fetched longest ago of those in use.

  Where none is in use, it is of all.

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
    """Returns the portion to fetch next."""
    candidates = self._in_use or range(self._portions.num)
    return min(sorted(candidates), key=lambda portion: self._fetched.get(
        portion, self._all_fetched))

  def fetched(self, portion: Optional[int], updates: int) -> None:
    """Notes what was fetched, None if everything, and how new it is."""
    if portion is None:
      self._all_fetched, self._fetched = updates, {}
    else:
      self._fetched[portion] = updates
