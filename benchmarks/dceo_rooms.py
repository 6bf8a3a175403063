"""Random acting, Rainbow and DCEO in grid rooms: cells seen, goals reached.

  python benchmarks/dceo_rooms.py
  python benchmarks/dceo_rooms.py --epsilon .05 --anneal 10000 --num_steps 24000

The first compares what they see with an epsilon that stays high, the second how
they learn. Options share nothing with the main network but the data, so Rainbow
is DCEO whose options never start. Everything takes turns in one thread, and the
seeds of one agent share what was compiled. Every finished seed is kept in
--output_dir, so that the command can be cut off and given again.
"""

import argparse
import dataclasses
import json
import math
import os
from typing import Any, Callable, Dict, List, Tuple

import jax
from matplotlib.figure import Figure
import numpy as np

from actors.loop import EnvironmentLoop
from actors.observers import EpisodeObserver, PlaceObserver
from envs import grid_rooms
from envs import registry as env_registry
from launch.tables import machine, print_metrics, print_table
from learners.agent import Agent, UNCHANGED
from learners.dceo import agent as agent_lib
from learners.dceo import config as config_lib
from replay import streams
from replay.stream_memory import StreamMemory

TENTHS = 10
# The algorithm of each agent, and its settings.
AGENTS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    'random': ('rainbow', dict(eps_least=1.0)),
    'rainbow': ('rainbow', {}),
    'dceo': ('dceo', {}),
}
Outcome = Dict[str, Any]


class Trial:
  """One seed of one agent."""

  def __init__(self, agent: Agent, env: str, num_envs: int, seed: int):
    """Builds environments, memory and a state to begin with."""
    layout = grid_rooms.LAYOUTS[env.removeprefix('grid_')]
    self._new_goal = (layout.numbers[layout.new_goal] if layout.new_goal
                      else None)
    self._environment = grid_rooms.GridRooms(
        env.removeprefix('grid_'), num_envs, seed)
    self._agent, self._num_envs = agent, num_envs
    self._places = PlaceObserver(
        self._environment, self._environment.spec.num_places, num_envs)
    self._loop = EnvironmentLoop(
        self._environment, jax.random.key(seed),
        [self._places, EpisodeObserver(num_envs, has_goals=False)])
    self._memory = StreamMemory(agent.replay, seed)
    self._recorder = streams.StreamRecorder(
        agent.replay, num_envs, self._memory, seed,
        priority=lambda params: float(agent.insert_priority(params)))
    self._state = agent.init(jax.random.key(1000 + seed))
    self._variables = agent.variables(self._state)
    self.updates = 0

  def act(self, t: int, random: bool) -> Tuple[int, int, bool]:
    """Steps all environments.

    Args:
      t: environment steps made so far.
      random: act at random.

    Returns:
      How many episodes ended, how many of them at a goal, and whether one of
      these goals is the one that comes with the change.
    """
    self._loop.tell_steps(t)
    policy = self._agent.warmup_policy if random else self._agent.policy
    step = self._loop.step(policy, self._variables)
    self._recorder.record(step.timestep, step.action, self._variables)
    there = step.timestep.reward > 0
    renewed = self._new_goal is not None and bool(
        (there & (self._environment.places() == self._new_goal)).any())
    return int(step.timestep.last().sum()), int(there.sum()), renewed

  def learn(self, update: Callable[..., Any], t: int) -> None:
    """Makes the updates that `t` environment steps pay for."""
    pacing = self._agent.replay.pacing
    period = pacing.transitions_per_update / pacing.samples_per_insert
    while t >= pacing.min_steps + period * self.updates:
      batch = self._memory.sample()
      self._state, _ = update(self._state, batch)
      self.updates += self._agent.updates_per_call
      for table, priority in self._agent.priorities(self._state).items():
        key = batch[table]['key'].copy().view(np.uint64)[:, 0]
        changed = np.asarray(priority) != UNCHANGED
        self._memory.set_priorities(
            table, key[changed], np.asarray(priority)[changed])
      self._variables = self._agent.variables(self._state)

  def cells(self) -> int:
    """Returns how many cells were seen."""
    everyone = np.arange(self._num_envs)
    return int(self._places.get_metrics(everyone)['places_ever'][0])


def run_seed(agent: Agent, update: Callable[..., Any], env: str, seed: int,
             num_steps: int, num_envs: int, learns: bool) -> Outcome:
  """Runs one seed; lists have an entry for every tenth of the steps."""
  trial = Trial(agent, env, num_envs, seed)
  cells: List[int] = []
  episodes, goals = np.zeros(TENTHS, int), np.zeros(TENTHS, int)
  first_goal = first_new_goal = math.inf
  for t in range(0, num_steps, num_envs):
    ended, there, renewed = trial.act(
        t, random=t < agent.replay.pacing.min_steps)
    tenth = TENTHS * t // num_steps
    episodes[tenth] += ended
    goals[tenth] += there
    if there:
      first_goal = min(first_goal, t + num_envs)
    if renewed:
      first_new_goal = min(first_new_goal, t + num_envs)
    if learns:
      trial.learn(update, t)
    if len(cells) < TENTHS * (t + num_envs) // num_steps:
      cells.append(trial.cells())
  return dict(cells=cells, episodes=episodes.tolist(), goals=goals.tolist(),
              first_goal=first_goal, first_new_goal=first_new_goal,
              updates=trial.updates)


def run_agent(name: str, args: argparse.Namespace) -> List[Outcome]:
  """Returns the outcome of each seed, from the disk where it is there."""
  alg, settings = AGENTS[name]
  settings = {'eps_least': args.epsilon, 'eps_decay': args.anneal,
              'options_per_step': args.options_per_step, **settings}
  config = config_lib.from_settings(alg, 'cpu', settings, args.env)
  agent = agent_lib.make_agent(config, env_registry.spec(args.env))
  agent = dataclasses.replace(agent, variables=jax.jit(agent.variables))
  update = jax.jit(agent.update, donate_argnums=0)
  asked = dict(num_steps=args.num_steps, num_envs=args.num_envs,
               config=dataclasses.asdict(config))
  outcomes = []
  for seed in args.seeds:
    path = os.path.join(args.output_dir, f'{args.env}_{name}_{seed}.json')
    outcome = _read(path, asked)
    if outcome is None:
      outcome = run_seed(agent, update, args.env, seed, args.num_steps,
                         args.num_envs, learns=name != 'random')
      with open(path, 'w', encoding='utf-8') as f:
        json.dump({'asked': asked, 'outcome': outcome}, f)
    print(name, seed, outcome, flush=True)
    outcomes.append(outcome)
  return outcomes


def _read(path: str, asked: Dict[str, Any]) -> Any:
  """Returns what was kept, None if nothing that was asked like this."""
  if not os.path.exists(path):
    return None
  with open(path, encoding='utf-8') as f:
    kept = json.load(f)
  return kept['outcome'] if kept['asked'] == asked else None


def rates(outcomes: List[Outcome], num_steps: int) -> np.ndarray:
  """Returns goals reached per 1000 environment steps, `[seeds, tenths]`."""
  goals = np.array([o['goals'] for o in outcomes], float)
  return goals * TENTHS * 1000.0 / num_steps


def figure_of(found: Dict[str, List[Outcome]],
              args: argparse.Namespace) -> Figure:
  """Draws what each agent reached and saw, its seeds thin, their mean thick."""
  figure = Figure(figsize=(11, 4.2), layout='constrained')
  left, right = figure.subplots(1, 2)
  steps = args.num_steps * (np.arange(TENTHS) + 1) / TENTHS
  for color, (name, outcomes) in zip(('0.5', 'tab:blue', 'tab:red'),
                                     found.items()):
    cells = np.array([o['cells'] for o in outcomes], float)
    for axes, values in ((left, rates(outcomes, args.num_steps)),
                         (right, cells)):
      axes.plot(steps, values.T, color=color, lw=0.6, alpha=0.5)
      axes.plot(steps, values.mean(axis=0), color=color, lw=2.2, label=name)
  change = grid_rooms.LAYOUTS[args.env.removeprefix('grid_')].change_at
  left.set(ylabel='goals reached per 1,000 environment steps')
  right.set(ylabel='cells seen')
  for axes in (left, right):
    axes.set(xlabel='environment steps')
    axes.grid(alpha=0.3)
    if change is not None:
      axes.axvline(change, color='black', ls=':', label='the world changes')
  left.legend(frameon=False)
  figure.suptitle(f'{args.env}, {len(args.seeds)} seeds')
  return figure


def main() -> None:
  """Prints the tables."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--env', default='grid_NineRooms')
  parser.add_argument('--agents', nargs='+', default=list(AGENTS),
                      choices=list(AGENTS))
  parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4])
  parser.add_argument('--num_steps', type=int, default=12_000)
  parser.add_argument('--num_envs', type=int, default=8)
  parser.add_argument('--epsilon', type=float, default=0.3,
                      help='where epsilon ends')
  parser.add_argument('--anneal', type=int, default=1,
                      help='environment steps until it is there')
  parser.add_argument('--options_per_step', type=int, default=2)
  parser.add_argument('--output_dir', default='logs/dceo_rooms')
  args = parser.parse_args()
  os.makedirs(args.output_dir, exist_ok=True)
  print(f'{args.env}, {args.num_steps} steps in {args.num_envs} environments, '
        f'{len(args.seeds)} seeds; {machine()}')
  found = {name: run_agent(name, args) for name in args.agents}
  cells, reached, firsts, metrics = [], [], [], {}
  for name, outcomes in found.items():
    seen = np.array([o['cells'] for o in outcomes])
    cells.append([name, *(f'{mean:.0f} ({least})' for mean, least in zip(
        seen.mean(axis=0), seen.min(axis=0)))])
    goals = rates(outcomes, args.num_steps).mean(axis=0)
    reached.append([name, *(f'{rate:.1f}' for rate in goals)])
    firsts.append([name, *(f'{np.median([o[what] for o in outcomes]):,.0f} '
                           f'({sum(o[what] < math.inf for o in outcomes)})'
                           for what in ('first_goal', 'first_new_goal'))])
    metrics[f'{name}_cells'] = float(seen[:, -1].mean())
    metrics[f'{name}_goals_per_1000_steps'] = float(goals[-1])
  tenths = [f'{10 * (i + 1)} %' for i in range(TENTHS)]
  print('\ncells seen, mean (least)')
  print_table(['agent', *tenths], cells)
  print('\ngoals reached per 1000 environment steps in each tenth, mean')
  print_table(['agent', *tenths], reached)
  print('\nmedian steps to the first goal (seeds that came to it)')
  print_table(['agent', 'goal', 'new goal'], firsts)
  path = os.path.join(args.output_dir, f'{args.env}.png')
  figure_of(found, args).savefig(path, dpi=110)
  print(path)
  print_metrics(metrics)


if __name__ == '__main__':
  main()
