"""Updates per second of the learner: from the real pipeline, and at best.

The best is the same jitted update on one batch that is already on the device.
`--synthetic` measures that alone and needs only JAX, Haiku and Optax:

  PYTHONPATH=. python benchmarks/learning.py --synthetic
"""

import argparse
import os
import tempfile
import time
from typing import Any, Dict, List, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.spec import EnvSpec
from launch.tables import machine, print_metrics, print_table
from learners.agent import Agent
from learners.registry import ALGORITHMS

_ALG = 'contrastive_cpc'
# The shapes of point_FourRooms; the environment itself is not needed.
_SPEC = EnvSpec(
    name='synthetic', obs_dim=2, action_dim=2, goal_indices=(0, 1),
    position_indices=(0, 1), step_limit=50, success_radius=1.0)


def make_agent(overrides: Dict[str, Any]) -> Agent:
  """Builds the agent that is measured."""
  algorithm = ALGORITHMS[_ALG]
  config = algorithm.configure(_ALG, 'cpu', overrides)
  return algorithm.make_agent(config, _SPEC)


def random_episodes(agent: Agent, num: int) -> Dict[str, np.ndarray]:
  """Returns `num` full-length episodes of noise."""
  rng = np.random.default_rng(0)
  columns = agent.replay.columns
  episodes = {
      name: rng.uniform(-1.0, 1.0, (num, *column.shape)).astype(column.dtype)
      for name, column in columns.items()}
  episodes['length'] = np.full(num, columns['action'].shape[0], np.int32)
  return episodes


def synthetic_rate(agent: Agent, seconds: float) -> float:
  """Returns updates/s on one batch that stays on the device."""
  batch = jax.device_put(
      random_episodes(agent, agent.replay.episodes_per_batch))
  update = jax.jit(agent.update, donate_argnums=0)
  state, metrics = update(agent.init(jax.random.key(0)), batch)
  jax.block_until_ready(metrics)
  calls, began = 0, time.monotonic()
  while time.monotonic() - began < seconds:
    state, metrics = update(state, batch)
    jax.block_until_ready(metrics)
    calls += 1
  return calls * agent.updates_per_call / (time.monotonic() - began)


class _NoCounts:
  """Stands in for the run's counter."""

  def increment(self, **counts: float) -> Dict[str, float]:
    """Ignores the counts."""
    return counts

  def get_episodes(
      self, since: int, names: Sequence[str]
  ) -> Tuple[int, Dict[str, np.ndarray]]:
    """There are none."""
    del names
    return since, {}

  def get_snapshot(self) -> Dict[str, Any]:
    """Has nothing to keep."""
    return {}

  def record_learner(self, metrics: Dict[str, float]) -> None:
    """Ignores the figures."""


def pipeline_rate(agent: Agent, seconds: float) -> float:
  """Returns updates/s of the learner shell fed by a real Reverb server."""
  import dataclasses
  import multiprocessing

  from launch import native
  native.preload()
  import portpicker

  from learners.learner import Learner, LearnerConfig
  from replay.dataset import Prefetcher, reverb_batches

  port = portpicker.pick_unused_port()
  server = multiprocessing.get_context('spawn').Process(
      target=serve, args=(port, dataclasses.asdict(agent.replay)), daemon=True)
  server.start()
  try:
    with tempfile.TemporaryDirectory() as folder:
      learner = Learner(
          agent, LearnerConfig(folder, checkpoint_interval=1e9,
                               log_interval=1e9),
          jax.random.key(0), _NoCounts(), save_replay=lambda: None)
      batches = Prefetcher(
          lambda: reverb_batches(f'127.0.0.1:{port}', agent.replay))
      batches.start()
      learner.step(_wait(batches), 0.0)
      jax.block_until_ready(learner.state)
      first, began = learner.updates, time.monotonic()
      while time.monotonic() - began < seconds:
        learner.step(_wait(batches), 0.0)
      jax.block_until_ready(learner.state)
      rate = (learner.updates - first) / (time.monotonic() - began)
      batches.stop()
      return rate
  finally:
    server.kill()
    server.join()


def serve(port: int, replay_fields: Dict[str, Any]) -> None:
  """Runs a Reverb server filled with episodes, free of pacing."""
  from launch import native
  native.preload()
  os.environ['JAX_PLATFORMS'] = 'cpu'
  import reverb

  from learners.agent import Column, ReplaySpec
  from replay import tables
  from replay.episodes import ReverbWriter

  columns = {n: Column(*c) for n, c in replay_fields.pop('columns').items()}
  replay = ReplaySpec(columns=columns, **replay_fields)
  limits = tables.TableLimits(
      min_items=replay.episodes_per_batch, max_items=20_000,
      samples_per_insert=1.0, error_buffer=tables.UNBOUNDED)
  server = reverb.Server(tables.make_tables(replay, limits), port=port)
  writer = ReverbWriter(
      reverb.Client(f'127.0.0.1:{port}'), columns, lambda: False)
  agent = make_agent({})
  for _ in range(10):
    writer.write(random_episodes(agent, 200))
  server.wait()


def _wait(batches: Any) -> Any:
  batch = batches.get(timeout=60.0)
  if batch is None:
    raise RuntimeError('no batch came within a minute')
  return batch


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--synthetic', action='store_true',
                      help='measure the update alone')
  parser.add_argument('--batch_sizes', nargs='+', type=int,
                      default=[64, 256, 1024])
  parser.add_argument('--num_sgd_steps_per_step', type=int, default=64)
  parser.add_argument('--seconds', type=float, default=10.0)
  args = parser.parse_args()

  device = jax.devices()[0]
  print(f'machine: {machine()}; learner device: {device.device_kind}; '
        f'jax {jax.__version__}', flush=True)
  rows: List[List[str]] = []
  metrics: Dict[str, float] = {}
  for batch_size in args.batch_sizes:
    agent = make_agent({
        'batch_size': batch_size,
        'num_sgd_steps_per_step': args.num_sgd_steps_per_step})
    best = synthetic_rate(agent, args.seconds)
    metrics[f'updates_per_second_{batch_size}'] = best
    row = [str(batch_size), f'{best:,.0f}']
    if not args.synthetic:
      piped = pipeline_rate(agent, args.seconds)
      metrics[f'pipeline_efficiency_{batch_size}'] = piped / best
      row += [f'{piped:,.0f}', f'{piped / best:.2f}']
    rows.append(row)
  print_table(['batch', 'updates/s on the device'] + (
      [] if args.synthetic else ['updates/s from replay', 'ratio']), rows)
  if not args.synthetic:
    metrics['pipeline_efficiency'] = min(
        v for n, v in metrics.items() if n.startswith('pipeline_efficiency_'))
  print_metrics(metrics)


if __name__ == '__main__':
  main()
  # The prefetcher may hang in a call to the server that is gone.
  jnp.zeros(()).block_until_ready()
  os._exit(0)
