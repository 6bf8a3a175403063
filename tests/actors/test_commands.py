"""How well commands are followed."""

import numpy as np
import pytest

from actors.commands import correlation, grid_figures


def test_correlation():
  asked = np.array([1.0, 2.0, 3.0])
  assert correlation(asked, 2 * asked) == pytest.approx(1.0)
  assert correlation(asked, -asked) == pytest.approx(-1.0)
  assert np.isnan(correlation(asked, np.ones(3)))
  assert np.isnan(correlation(np.ones(3), asked))


def test_the_correlation_of_a_round_is_that_of_its_grid():
  asked, obtained = np.random.default_rng(0).normal(size=(2, 20))
  figures = grid_figures({
      'commanded_return': np.zeros(20), 'episode_return': np.zeros(20),
      'grid_commanded_return': asked, 'grid_episode_return': obtained,
      'grid_commanded_horizon': np.zeros(20)}, 'return')
  cov = np.mean((asked - asked.mean()) * (obtained - obtained.mean()))
  assert figures['grid_correlation'].shape == (1,)
  assert figures['grid_correlation'][0] == pytest.approx(
      cov / asked.std() / obtained.std())
