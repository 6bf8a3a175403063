"""Parameters that are fetched a portion at a time."""

import numpy as np

from actors.portions import Portions
from actors.variables import Link
from tests.actors.test_variables import FakeCounter, FakeLearner


def put(variables, piece):
  """Keeps what was put together, newest first."""
  portion, params = piece
  return {**params, 'from': (int(portion), *variables.get('from', ()))}


PORTIONS = Portions(num=3, in_use=lambda state: state,
                    take=lambda *_: None, put=put)


def test_a_portion_is_fetched_while_it_is_in_use():
  counter, learner = FakeCounter(), FakeLearner()
  link = Link('actor', counter, learner, period=0.0, patience=0.0,
              portions=PORTIONS)
  # Everything first, then the oldest portion of those in use or, where none is,
  # of all; after the learner has started again, everything.
  for updates, in_use, fetched in (
      (0, [-1], None), (3, [-1], 0), (4, [2, -1], 2), (5, [2, 0], 0),
      (6, [2, 0], 2), (7, [2, 0, 2, 1], 1), (8, [-1, -1], 0),
      (9, [-1, -1], 2), (2, [2], None), (8, [0, 1], 0)):
    link.use(np.array(in_use))
    counter.counts['learner_updates'] = learner.updates = updates
    link.refresh()
    assert learner.portions.pop() == fetched, updates
    assert link.latest()[1].updates == updates
    assert link.latest()[1].params['w'].tolist() == [updates] * 3
  assert link.latest()[1].params['from'] == (0,)


def test_without_portions_nothing_is_looked_at():
  Link('actor', FakeCounter(), FakeLearner(), period=0.0,
       patience=0.0).use('no array')
