"""Sawyer tasks: success of Meta-World's scripted policies, and speed.

The policies know nothing of Cairn's goals and rewards, so that what they reach
tells whether success here is what Meta-World's authors meant.
"""

import argparse
from concurrent import futures
import os
import time
from typing import Any, Callable, Dict, List

import numpy as np

from envs.sawyer import Sawyer, TASKS
from launch.tables import machine, print_metrics, print_table

# Meta-World's observation: hand, gripper, object, its past, and the target.
_OBSERVATION_DIM = 39


def scripted_policy(name: str) -> Callable[[Sawyer, np.ndarray], np.ndarray]:
  """Returns Meta-World's policy for a task, `(env, observation) -> action`."""
  from metaworld.policies import (
    SawyerBinPickingV3Policy,
    SawyerBoxCloseV3Policy,
    SawyerPegInsertionSideV3Policy,
  )
  policies: Dict[str, Callable[[], Any]] = {
      'sawyer_bin': SawyerBinPickingV3Policy,
      'sawyer_box': SawyerBoxCloseV3Policy,
      'sawyer_peg': SawyerPegInsertionSideV3Policy}
  policy = policies[name]()

  def act(env: Sawyer, observation: np.ndarray) -> np.ndarray:
    seen = np.zeros(_OBSERVATION_DIM)
    seen[:7] = observation[:7]
    if name == 'sawyer_peg':
      # It grasps the peg elsewhere than at the head.
      seen[4:7] = env.data().site('pegGrasp').xpos
    seen[-3:] = observation[env.spec.obs_dim:][4:7]
    return np.clip(policy.get_action(seen), -1.0, 1.0)

  return act


def first_successes(name: str, num_episodes: int, seed: int = 0) -> List[int]:
  """Returns the step of each episode's first reward, 0 where there is none."""
  env, act = Sawyer(name, seed=seed), scripted_policy(name)
  found = []
  for _ in range(num_episodes):
    observation, first = env.reset().observation[0], 0
    for t in range(1, env.spec.step_limit + 1):
      timestep = env.step(act(env, observation)[np.newaxis])
      observation = timestep.observation[0]
      if timestep.reward[0] >= 1.0:
        first = t
        break
    found.append(first)
  return found


def step_rate(name: str, num_envs: int, seconds: float) -> float:
  """Returns environment steps/s with random actions, resets included."""
  env, rng = Sawyer(name, num_envs), np.random.default_rng(0)
  env.reset()
  steps, began = 0, time.monotonic()
  while time.monotonic() - began < seconds:
    timestep = env.step(rng.uniform(-1.0, 1.0, (num_envs, env.spec.action_dim)))
    steps += int((timestep.step_type != 0).sum())
  return steps / (time.monotonic() - began)


def threaded_rate(name: str, num_envs: int, seconds: float) -> float:
  """Returns steps/s of as many arms, each stepped by a thread of a pool."""
  envs = [Sawyer(name, seed=i) for i in range(num_envs)]
  rng = np.random.default_rng(0)
  for env in envs:
    env.reset()

  def step(env: Sawyer, action: np.ndarray) -> int:
    return int(env.step(action[np.newaxis]).step_type[0] != 0)

  with futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
    steps, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
      actions = rng.uniform(-1.0, 1.0, (num_envs, envs[0].spec.action_dim))
      steps += sum(pool.map(step, envs, actions))
    return steps / (time.monotonic() - began)


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--episodes', type=int, default=50)
  parser.add_argument('--num_envs', type=int, default=4)
  parser.add_argument('--seconds', type=float, default=5.0)
  args = parser.parse_args()

  print(f'machine: {machine()}', flush=True)
  rows: List[List[str]] = []
  metrics: Dict[str, float] = {}
  for name in TASKS:
    steps = first_successes(name, args.episodes)
    solved = [s for s in steps if s]
    rate = step_rate(name, args.num_envs, args.seconds)
    metrics[f'scripted_success_{name}'] = len(solved) / len(steps)
    threaded = threaded_rate(name, args.num_envs, args.seconds)
    metrics[f'env_steps_per_second_{name}'] = rate
    metrics[f'threads_over_one_by_one_{name}'] = threaded / rate
    rows.append([name, f'{len(solved)} of {len(steps)}',
                 f'{min(solved)}-{max(solved)}' if solved else '-',
                 f'{rate:,.0f}', f'{threaded:,.0f}'])
  print_table(['task', 'scripted policy succeeds', 'after steps',
               f'steps/s of {args.num_envs} arms, one by one',
               'by a pool of threads'], rows)
  print_metrics(metrics)


if __name__ == '__main__':
  main()
