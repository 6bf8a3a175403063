"""Cells of grid rooms that random acting, Rainbow and DCEO come to.

All act with the same epsilon from the end of the warm-up on. Options share
nothing with the main network but the data, so Rainbow is DCEO whose options
never start. Everything takes turns in one thread, and the seeds of one agent
share what was compiled.
"""

import argparse
import math
from typing import Any, Callable, Dict, List, Tuple

import jax
import numpy as np

from actors.loop import EnvironmentLoop
from actors.observers import EpisodeObserver, PlaceObserver
from envs import registry as env_registry
from launch.tables import machine, print_metrics, print_table
from learners.agent import Agent, UNCHANGED
from learners.dceo import agent as agent_lib
from learners.dceo import config as config_lib
from replay import streams
from replay.stream_memory import StreamMemory

# The algorithm of each agent, and its settings.
AGENTS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    'random': ('rainbow', dict(eps_least=1.0)),
    'rainbow': ('rainbow', {}),
    'dceo': ('dceo', dict(option_prob=0.9)),
}


def make_update(agent: Agent) -> Callable[..., Any]:
  """Returns the jitted update."""
  return jax.jit(agent.update, donate_argnums=0)


def cover(agent: Agent, update: Callable[..., Any], env: str, seed: int,
          num_steps: int, num_envs: int, learns: bool) -> Dict[str, Any]:
  """Runs one seed and returns the cells seen at every tenth of the steps."""
  environment = env_registry.make(env, num_envs, seed)
  places = PlaceObserver(environment, environment.spec.num_places, num_envs)  # type: ignore[arg-type]
  episodes = EpisodeObserver(num_envs, has_goals=False)
  loop = EnvironmentLoop(environment, jax.random.key(seed), [places, episodes])
  memory = StreamMemory(agent.replay, seed)
  recorder = streams.StreamRecorder(
      agent.replay, num_envs, memory, seed,
      priority=lambda params: float(agent.insert_priority(params)))
  state = agent.init(jax.random.key(1000 + seed))
  variables, updates, goals = agent.variables(state), 0, 0.0
  pacing = agent.replay.pacing
  period = pacing.transitions_per_update / pacing.samples_per_insert
  curve: List[int] = []
  first_goal = math.inf
  for t in range(0, num_steps, num_envs):
    warming_up = t < pacing.min_steps
    loop.tell_steps(t)
    step = loop.step(
        agent.warmup_policy if warming_up else agent.policy, variables)
    recorder.record(step.timestep, step.action, variables)
    goals += float(step.timestep.reward.sum())
    if goals and first_goal == math.inf:
      first_goal = t + num_envs
    while learns and t >= pacing.min_steps + period * updates:
      batch = memory.sample()
      state, _ = update(state, batch)
      updates += agent.updates_per_call
      for table, priority in agent.priorities(state).items():
        key = batch[table]['key'].copy().view(np.uint64)[:, 0]
        changed = np.asarray(priority) != UNCHANGED
        memory.set_priorities(table, key[changed],
                              np.asarray(priority)[changed])
      variables = agent.variables(state)
    if len(curve) < 10 * (t + num_envs) // num_steps:
      everyone = np.arange(num_envs)
      curve.append(int(places.get_metrics(everyone)['places_ever'][0]))
  return {'curve': curve, 'goals': goals, 'first_goal': first_goal,
          'updates': updates}


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--env', default='grid_NineRooms')
  parser.add_argument('--num_seeds', type=int, default=5)
  parser.add_argument('--num_steps', type=int, default=8000)
  parser.add_argument('--num_envs', type=int, default=8)
  parser.add_argument('--epsilon', type=float, default=0.3)
  parser.add_argument('--options_per_step', type=int, default=2)
  args = parser.parse_args()
  spec = env_registry.spec(args.env)
  print(f'{args.env}: cells seen of {spec.num_places} after each tenth of '
        f'{args.num_steps} steps in {args.num_envs} environments; mean and '
        f'least of {args.num_seeds} seeds; {machine()}')
  rows, metrics = [], {}
  for name, (alg, settings) in AGENTS.items():
    shared = dict(eps_least=args.epsilon, eps_decay=1,
                  options_per_step=args.options_per_step)
    config = config_lib.from_settings(alg, 'cpu', {**shared, **settings})
    agent = agent_lib.make_agent(config, spec)
    update = make_update(agent)
    runs = [cover(agent, update, args.env, seed, args.num_steps, args.num_envs,
                  learns=name != 'random') for seed in range(args.num_seeds)]
    curves = np.array([run['curve'] for run in runs])
    rows.append([name, *(f'{mean:.0f} ({least})' for mean, least in zip(
        curves.mean(axis=0), curves.min(axis=0))),
                 f'{np.mean([run["goals"] for run in runs]):.1f}',
                 f'{np.median([run["first_goal"] for run in runs]):,.0f}'])
    metrics[f'{name}_cells'] = float(curves[:, -1].mean())
    print(name, *([run[what] for run in runs] for what in (
        'goals', 'first_goal', 'updates')), curves[:, -1].tolist(), flush=True)
  tenths = [f'{10 * (i + 1)} %' for i in range(10)]
  print_table(['agent', *tenths, 'goals reached', 'median steps to the first'],
              rows)
  print_metrics(metrics)


if __name__ == '__main__':
  main()
