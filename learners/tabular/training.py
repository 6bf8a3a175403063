"""Trains one seed: act, store, learn, look at it greedily."""

import bisect
from typing import List, NamedTuple, Tuple

import numpy as np

from learners.tabular import environments
from learners.tabular.config import TabularConfig
from learners.tabular.environments import Environment
from learners.tabular.representations import (
  Goal,
  init_psi,
  REPRESENTATIONS,
)
from learners.tabular.trajectories import Trajectories

# Training trajectories that a snapshot shows.
NUM_RECENT = 4


class Snapshot(NamedTuple):
  """What was known after some episodes; T steps each.

  Attributes:
    episode: training episodes done.
    similarity: `[S]` score of each state for the goal pursued.
    eval_path: `[T + 1]` states of a greedy episode.
    recent_paths: `[<=4, T + 1]` states of the newest training episodes.
    visited_counts: `[S]` int, visits in training so far.
  """
  episode: int
  similarity: np.ndarray
  eval_path: np.ndarray
  recent_paths: np.ndarray
  visited_counts: np.ndarray


class Result(NamedTuple):
  """What came of one seed: N episodes, U updates, K greedy episodes.

  Attributes:
    seed: which.
    learned: `[S, d]` psi, or `[S, S]` scores.
    initial: the same before training.
    visited_counts: `[S]` int, visits in training.
    losses: `[U]`.
    success: `[N]` share of an episode's steps that had reached its goal.
    eval_episodes: `[K]` training episodes done before each greedy one.
    eval_success: `[K]` bool, whether it reached the goal.
    snapshots: K of them, or none if they were not asked for.
  """
  seed: int
  learned: np.ndarray
  initial: np.ndarray
  visited_counts: np.ndarray
  losses: np.ndarray
  success: np.ndarray
  eval_episodes: np.ndarray
  eval_success: np.ndarray
  snapshots: List[Snapshot]


def make_environment(config: TabularConfig) -> Environment:
  """Builds the environment with its absorbing region, if it has one."""
  environment = environments.ENVIRONMENTS[config.env]()
  if config.absorbing is None:
    return environment
  inside = environments.region_mask(environment, config.absorbing)
  return environments.absorbing(environment, inside)


def softmax_policy(next_state: np.ndarray, scores: np.ndarray,
                   temperature: float) -> np.ndarray:
  """Returns `[S, A]` chances of actions by the score of where they lead.

  Args:
    next_state: `[S, A]`.
    scores: `[S]`.
    temperature: scores are divided by it.
  """
  if next_state.ndim != 2 or scores.shape != next_state.shape[:1]:
    raise ValueError('expected next_state [S, A] and scores [S], got '
                     f'{next_state.shape} and {scores.shape}')
  logits = scores[next_state] / temperature
  weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return weights / weights.sum(axis=-1, keepdims=True)


def greedy_policy(next_state: np.ndarray, scores: np.ndarray) -> np.ndarray:
  """Returns `[S, A]`, 1 for the first of the best actions; see above."""
  best = scores[next_state].argmax(axis=-1)
  return np.eye(next_state.shape[1])[best]


def rollout(next_state: np.ndarray, policy: np.ndarray, start: int,
            num_steps: int, rng: np.random.Generator) -> np.ndarray:
  """Follows a policy.

  Args:
    next_state: `[S, A]`.
    policy: `[S, A]` chances of actions.
    start: first state.
    num_steps: T.
    rng: consumed.

  Returns:
    `[T + 1]` states, the start included.
  """
  if next_state.shape != policy.shape:
    raise ValueError('expected next_state and policy [S, A], got '
                     f'{next_state.shape} and {policy.shape}')
  bounds = policy.cumsum(axis=-1)
  # Rounding must not leave a draw beyond the last action.
  bounds[:, -1] = 1.0
  # Each step needs the one before it; lists are the fastest to index.
  bound_rows, next_rows = bounds.tolist(), next_state.tolist()
  path = [start]
  for draw in rng.random(num_steps).tolist():
    state = path[-1]
    path.append(next_rows[state][bisect.bisect_right(bound_rows[state], draw)])
  return np.array(path)


def train(config: TabularConfig, seed: int,
          keep_snapshots: bool = False) -> Result:
  """Trains one seed; the same seed gives the same numbers.

  Args:
    config: free of problems.
    seed: all randomness follows from it.
    keep_snapshots: whether the result has them; they take memory.
  """
  return _Run(config, seed, keep_snapshots).run()


class _Run:
  """Everything that changes while one seed is trained."""

  def __init__(self, config: TabularConfig, seed: int, keep_snapshots: bool):
    # Streams of their own: looking more often must not change what is learned.
    self._rng_init, self._rng_act, self._rng_learn, self._rng_eval = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4))
    self._config = config
    self._seed = seed
    self._keep_snapshots = keep_snapshots
    self._environment = make_environment(config)
    self._representation = REPRESENTATIONS[config.representation]
    psi, centre = init_psi(
        config, environments.ENVIRONMENTS[config.env](), self._rng_init)
    self._learned = self._representation.init(psi)
    states = _goals(config, self._environment)
    # Of the greedy policy, and of acting unless that goal is drawn.
    self._goal = _goal_of(self._environment, states)
    if config.goal == 'imaginary':
      self._goal = self._goal._replace(direction=centre)
    self._reached = self._environment.reached[:, states].any(axis=-1)  # [S]
    self._replay = Trajectories(config.max_trajectories, config.max_steps + 1)
    self._visited = np.zeros(len(self._environment.next_state), np.int64)

  def run(self) -> Result:
    """Trains, and returns what came of it."""
    config = self._config
    initial = self._learned.copy()
    success = np.zeros(config.episodes)
    losses: List[float] = []
    eval_episodes: List[int] = []
    eval_success: List[bool] = []
    snapshots: List[Snapshot] = []

    def look(episodes_done: int) -> None:
      snapshot = self._evaluate(episodes_done)
      eval_episodes.append(episodes_done)
      eval_success.append(bool(self._reached[snapshot.eval_path[1:]].any()))
      if self._keep_snapshots:
        snapshots.append(snapshot)

    look(0)
    state = self._environment.start
    for episode in range(config.episodes):
      if not config.continuing:
        state = self._environment.start
      path, success[episode] = self._explore(state)
      state = int(path[-1])
      if episode % config.episodes_per_update == 0 and len(self._replay) >= 2:
        losses.append(self._learn())
      if (episode + 1) % config.eval_interval == 0:
        look(episode + 1)
    return Result(
        seed=self._seed, learned=self._learned, initial=initial,
        visited_counts=self._visited, losses=np.array(losses), success=success,
        eval_episodes=np.array(eval_episodes),
        eval_success=np.array(eval_success), snapshots=snapshots)

  def _explore(self, start: int) -> Tuple[np.ndarray, float]:
    """Stores one training episode; returns its path and success."""
    config, environment = self._config, self._environment
    goal, reached = self._goal, self._reached
    if config.goal == 'random':
      state = int(self._rng_act.choice(np.flatnonzero(environment.free)))
      goal = _goal_of(environment, [state])
      reached = environment.reached[:, state]
    scores = self._representation.scores(self._learned, goal)
    policy = softmax_policy(environment.next_state, scores, config.temperature)
    path = self._rollout(policy, start, self._rng_act)
    self._replay.add(path)
    self._visited += np.bincount(path, minlength=len(self._visited))
    return path, float(reached[path[1:]].mean())

  def _learn(self) -> float:
    """Takes one gradient step; returns the loss before it."""
    config = self._config
    anchors, futures = self._replay.sample(
        config.batch_size, config.discount, config.offset_zero, self._rng_learn)
    self._learned, loss = self._representation.update(
        self._learned, anchors, futures, config.learning_rate, config.loss)
    return loss

  def _evaluate(self, episodes_done: int) -> Snapshot:
    """Runs a greedy episode, which nothing is learned from."""
    scores = self._representation.scores(self._learned, self._goal)
    policy = greedy_policy(self._environment.next_state, scores)
    return Snapshot(
        episode=episodes_done, similarity=scores,
        eval_path=self._rollout(
            policy, self._environment.start, self._rng_eval),
        recent_paths=self._replay.newest(NUM_RECENT),
        visited_counts=self._visited.copy())

  def _rollout(self, policy: np.ndarray, start: int,
               rng: np.random.Generator) -> np.ndarray:
    noise = self._config.env_noise
    return rollout(
        self._environment.next_state,
        (1.0 - noise) * policy + noise / policy.shape[1], start,
        self._config.max_steps, rng)


def _goals(config: TabularConfig, environment: Environment) -> List[int]:
  """Returns the states whose being reached is success."""
  if config.goal == 'two':
    assert environment.second_goal is not None
    return [environment.goal, environment.second_goal]
  return [environment.goal]


def _goal_of(environment: Environment, states: List[int]) -> Goal:
  """Returns the mean of some states as a goal."""
  weights = np.zeros(len(environment.next_state))
  weights[states] = 1.0 / len(states)
  return Goal(weights)
