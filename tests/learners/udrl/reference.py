"""UDRL's buffer and commands again, in plain Python over lists."""

import numpy as np


class Buffer:
  """The best episodes up to a number of steps, best first."""

  def __init__(self, max_episodes, max_steps):
    self._max_episodes, self._max_steps = max_episodes, max_steps
    self.episodes = []

  def insert(self, episode_return, length):
    place = 0
    # Before its equals, so that the oldest of the worst goes first.
    while (place < len(self.episodes)
           and self.episodes[place][0] > episode_return):
      place += 1
    self.episodes.insert(place, (episode_return, length))
    del self.episodes[self._max_episodes:]

  @property
  def learned_from(self):
    """The episodes that begin within the capacity in steps."""
    found, steps = [], 0
    for episode in self.episodes:
      if self._max_steps and steps >= self._max_steps:
        break
      found.append(episode)
      steps += episode[1]
    return found

  def statistics(self, last_few):
    """Returns mean and deviation of the best distinct returns, and horizon."""
    best = {}
    for episode_return, length in self.learned_from:
      best.setdefault(episode_return, length)
    chosen = sorted(best.items(), reverse=True)[:last_few]
    returns = [r for r, _ in chosen]
    return (np.mean(returns), np.std(returns),
            round(np.mean([length for _, length in chosen])))


def pairs(rewards):
  """Returns the commands (return, horizon) of every step of an episode."""
  return [(sum(rewards[t:]), len(rewards) - t) for t in range(len(rewards))]
