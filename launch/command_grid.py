"""Draws what an agent obtained over what it was asked for."""

from matplotlib.figure import Figure
import numpy as np

from actors.commands import correlation


def figure(asked: np.ndarray, obtained: np.ndarray, name: str,
           title: str) -> Figure:
  """Draws one dot an episode.

  Args:
    asked: `[n]` commands.
    obtained: `[n]` returns.
    name: of what was commanded.
    title: of the figure; the correlation is added to it.
  """
  drawn = Figure(figsize=(6, 6), layout='constrained')
  axes = drawn.add_subplot()
  if name == 'return':
    order = np.sort(asked)
    axes.plot(order, order, color='gray', lw=1, label='as asked')
  axes.plot(asked, obtained, '.', label='episodes')
  axes.set_xlabel(f'commanded {name}')
  axes.set_ylabel('return obtained')
  axes.grid(alpha=0.3)
  axes.legend(frameon=False)
  axes.set_title(f'{title}, correlation {correlation(asked, obtained):.2f}')
  return drawn
