"""Collecting and learning in turns, as agents under commands were published.

The roles are those of a run in one thread; only their schedule is another. An
epoch learns for as long as the episodes of an epoch pay for, on what was there
before it, then collects these episodes with the parameters and commands that
came out of that, and none newer.
"""

from typing import List

import jax

from launch.experiment import Experiment
from launch.serial import SerialProgram
from learners.agent import Agent, EpisodePacing

# Episodes collected in an epoch, and epochs between two evaluations.
EPISODES_PER_EPOCH = 20
EPOCHS_PER_EVALUATION = 10


def problems(experiment: Experiment, agent: Agent) -> List[str]:
  """Lists why the run cannot take turns; empty when it can."""
  if not isinstance(agent.replay.pacing, EpisodePacing):
    return [f'sync: {experiment.alg} does not keep pace with episodes; drop it']
  found = [f'{name}: got {getattr(experiment, name)}, --sync needs 1: with '
           'more, episodes would span epochs'
           for name in ('num_actors', 'envs_per_actor')
           if getattr(experiment, name) != 1]
  if agent.replay.pacing.min_episodes <= EPISODES_PER_EPOCH:
    found.append('warmup_episodes: --sync needs more than the '
                 f'{EPISODES_PER_EPOCH} episodes of an epoch')
  return found


class AlternatingProgram(SerialProgram):
  """Learns, collects, and evaluates now and then; one `step` is an epoch."""

  def __init__(self, experiment: Experiment):
    """Builds the roles; resumes if the run has a checkpoint."""
    super().__init__(experiment)
    agent = self.learner.agent
    pacing = agent.replay.pacing
    assert isinstance(pacing, EpisodePacing)
    self._first = pacing.min_episodes - EPISODES_PER_EPOCH
    self._calls = max(1, round(
        EPISODES_PER_EPOCH * pacing.updates_per_episode
        / agent.updates_per_call))

  @property
  def num_episodes(self) -> int:
    """Finished training episodes, all reported."""
    return int(self.counter.get_counts()['actor_episodes'])

  def step(self) -> None:
    """One epoch; before the first one, episodes that act at random."""
    self._collect(self._first)
    epoch = (self.num_episodes - self._first) // EPISODES_PER_EPOCH
    self.learner.hear(self.num_episodes)
    for _ in range(self._calls):
      self.learner.step(jax.device_put(self._replay.sample()), waited=0.0)
    self._collect(self._first + (epoch + 1) * EPISODES_PER_EPOCH)
    if epoch % EPOCHS_PER_EVALUATION == 0:
      self._evaluate()

  def _collect(self, num_episodes: int) -> None:
    """Acts until there are `num_episodes`."""
    (actor,), (link,) = self._actors, self._links
    # Parameters change between epochs only, so this fetches them once.
    link.refresh()
    while self.num_episodes < num_episodes:
      # The schedule is the pace here; the actor is not asked for its own.
      actor.step()
      link.refresh()
