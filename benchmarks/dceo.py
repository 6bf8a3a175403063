"""Updates/s of DCEO with the share of each part, acting, and both.

The update is measured on a batch that is already on the device, so this part
needs nothing but JAX, Haiku and Optax. Acting is one process with E
environments; "both" is computed of those two, taking turns as a run in one
thread does.
"""

import argparse
import time
from typing import Any, Callable, Dict

import jax
import numpy as np

from envs import registry as env_registry
from envs.spec import EnvSpec
from launch.tables import machine, print_metrics, print_table
from learners.dceo import agent as agent_lib
from learners.dceo import config as config_lib
from learners.dceo import learning
from learners.stream_spec import StreamSpec
from replay import streams
from replay.stream_memory import StreamMemory


def random_batch(replay: StreamSpec, num_actions: int) -> Dict[str, Any]:
  """Returns a batch of noise that fits the tables."""
  rng = np.random.default_rng(0)
  batch: Dict[str, Any] = {}
  for name, table in replay.tables.items():
    num = table.items_per_batch
    data: Dict[str, np.ndarray] = {}
    for column, layout in streams.item_columns(replay, name).items():
      shape = (num, *layout.shape)
      if layout.dtype == 'uint8':
        data[column] = rng.integers(0, 256, shape, np.uint8)
      elif layout.dtype == 'int32':
        data[column] = rng.integers(0, num_actions, shape).astype(np.int32)
      else:
        data[column] = np.ones(shape, np.float32)
    if table.prioritized:
      data['probability'] = np.full(num, 1e-3, np.float32)
      data['key'] = np.zeros((num, 2), np.uint32)
    batch[name] = data
  return batch


def seconds_per_call(function: Callable[[], Any], seconds: float) -> float:
  """Returns how long a call takes, on average over `seconds` after one."""
  jax.block_until_ready(function())
  calls, began = 0, time.perf_counter()
  while time.perf_counter() - began < seconds:
    jax.block_until_ready(function())
    calls += 1
  return (time.perf_counter() - began) / calls


def measure_update(config: config_lib.DCEOConfig, spec: EnvSpec,
                   seconds: float) -> Dict[str, float]:
  """Returns milliseconds per update: all of it, and each part by itself."""
  agent = agent_lib.make_agent(config, spec)
  networks = agent_lib.make_networks(config, spec)
  parts = learning.make_parts(
      config, networks, agent.replay.tables['main'].items_per_batch)
  batch = jax.device_put(random_batch(agent.replay, spec.num_actions))
  state = agent.init(jax.random.key(0))
  update = jax.jit(agent.update)
  times = {'update': seconds_per_call(
      lambda: update(state, batch), seconds) / agent.updates_per_call}
  one = jax.tree.map(lambda x: x[:x.shape[0] // agent.updates_per_call], batch)
  main, pairs, steps = jax.jit(learning.read_draws(config))(one)
  key = jax.random.key(1)
  jitted = {name: jax.jit(getattr(parts, name))
            for name in ('main', 'representation', 'option')}
  times['main'] = seconds_per_call(
      lambda: jitted['main'](state.main, main, key), seconds)
  if config_lib.num_options(config):
    rep = state.representation
    times['representation'] = seconds_per_call(
        lambda: jitted['representation'](rep, pairs), seconds)
    times['option'] = seconds_per_call(
        lambda: jitted['option'](state.options, rep.params, steps, key),
        seconds)
  return {name: 1000.0 * value for name, value in times.items()}


def measure_acting(config: config_lib.DCEOConfig, env: str, num_envs: int,
                   seconds: float) -> Dict[str, float]:
  """Returns steps/s of environments alone, of acting, and with storing."""
  spec = env_registry.spec(env)
  agent = agent_lib.make_agent(config, spec)
  variables = agent.variables(agent.init(jax.random.key(0)))
  environment = env_registry.make(env, num_envs, seed=0)
  recorder = streams.StreamRecorder(
      agent.replay, num_envs, StreamMemory(agent.replay, 0), seed=0)
  act = jax.jit(agent.policy.act)
  memory = {'timestep': environment.reset(),
            'state': agent.policy.init(jax.random.key(1), num_envs)}
  rng = np.random.default_rng(0)
  key = jax.random.key(2)

  def step_alone() -> None:
    environment.step(rng.integers(spec.num_actions, size=num_envs))

  def step(record: bool) -> None:
    timestep = memory['timestep']
    action, memory['state'] = act(
        variables, timestep.observation, memory['state'],
        jax.random.fold_in(key, rng.integers(2**31)), timestep.step_type == 0)
    action = np.asarray(action)
    memory['timestep'] = environment.step(action)
    if record:
      recorder.record(memory['timestep'], action, variables)

  rates = {'environments alone': seconds_per_call(step_alone, seconds)}
  memory['timestep'] = environment.reset()
  rates['acting'] = seconds_per_call(lambda: step(False), seconds)
  memory['timestep'] = environment.reset()
  recorder.record(memory['timestep'], None, variables)
  rates['acting and storing'] = seconds_per_call(lambda: step(True), seconds)
  return {name: num_envs / value for name, value in rates.items()}


def main() -> None:
  """Prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--env', default='grid_FourRooms')
  parser.add_argument('--alg', default='dceo',
                      choices=sorted(config_lib.VARIANTS))
  parser.add_argument('--preset', default='cpu',
                      choices=sorted(config_lib.PRESETS))
  parser.add_argument('--num_envs', type=int, default=8)
  parser.add_argument('--seconds', type=float, default=5.0,
                      help='of each measurement')
  parser.add_argument('--update_only', action='store_true')
  args = parser.parse_args()
  config = config_lib.from_settings(args.alg, args.preset, {}, args.env)
  spec = env_registry.spec(args.env)
  print(f'{args.alg}, {args.env}, preset {args.preset}; {machine()}; updates '
        f'on {jax.devices()[0].device_kind}')
  times = measure_update(config, spec, args.seconds)
  metrics = {'updates_per_second': 1000.0 / times['update']}
  print_table(['part', 'ms', 'share of an update'],
              [[name, f'{milliseconds:.2f}',
                f'{milliseconds / times["update"]:.0%}']
               for name, milliseconds in times.items()])
  if not args.update_only:
    rates = measure_acting(config, args.env, args.num_envs, args.seconds)
    per_step = (1.0 / rates['acting and storing']
                + times['update'] / 1000.0 / config.update_period)
    rates['acting, storing and learning in turns'] = 1.0 / per_step
    print_table(['', 'environment steps/s'],
                [[name, f'{rate:.0f}'] for name, rate in rates.items()])
    metrics['acting_steps_per_second'] = rates['acting and storing']
  print_metrics(metrics)


if __name__ == '__main__':
  main()
