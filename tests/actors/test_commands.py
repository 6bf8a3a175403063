"""How well commands are followed."""

import numpy as np
import pytest

from actors.commands import correlation, grid_figures


def test_correlation():
  a = np.array([1.0, 2.0, 3.0, 4.0])
  assert correlation(a, 2 * a + 1) == pytest.approx(1.0)
  assert correlation(a, -a) == pytest.approx(-1.0)
  # Deviations (-1.5, -.5, .5, 1.5) and (1, -1, -1, 1) have no common part.
  assert correlation(a, np.array([1.0, -1, -1, 1])) == pytest.approx(0.0)


@pytest.mark.parametrize('value', [0.0, 1.0, 0.1, 1 / 3, -200.7])
def test_what_does_not_vary_is_correlated_with_nothing(value):
  constant, other = np.full(100, value), np.arange(100.0)
  assert np.isnan(correlation(constant, other))
  assert np.isnan(correlation(other, constant))
  assert np.isnan(correlation(constant, constant))


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
