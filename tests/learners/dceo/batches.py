"""Small agents and random batches for them."""

import numpy as np

from envs.spec import EnvSpec
from learners.dceo import agent as agent_lib
from learners.dceo import config as config_lib
from replay import streams

SPEC = EnvSpec(name='pixels', obs_dim=0, action_dim=0, num_actions=3,
               frame_shape=(9, 9), step_limit=20)
SMALL = dict(batch_size=4, rep_batch_size=6, num_atoms=11, num_options=3,
             rep_dim=4, stack=2, num_sgd_steps_per_step=2, target_period=8,
             option_target_period=3, learning_rate=1e-2,
             option_learning_rate=None, option_discount=None,
             option_n_step=None, rep_gap_decay=None)


def make_config(alg='dceo', **overrides):
  config = config_lib.from_settings(alg, 'cpu', {**SMALL, **overrides})
  assert config_lib.problems(config) == []
  return config


def make_agent(alg='dceo', **overrides):
  return agent_lib.make_agent(make_config(alg, **overrides), SPEC)


def random_batch(replay, seed=0):
  """Returns a batch of a stream agent; some windows end early."""
  rng = np.random.default_rng(seed)
  batch = {}
  for name, table in replay.tables.items():
    num, data = table.items_per_batch, {}
    for column, (shape, dtype) in streams.item_columns(replay, name).items():
      if dtype == 'uint8':
        data[column] = rng.integers(0, 256, (num, *shape), np.uint8)
      elif dtype == 'int32':
        data[column] = rng.integers(0, 3, (num, *shape)).astype(np.int32)
      elif column == 'reward':
        data[column] = rng.normal(size=(num, *shape)).astype(np.float32)
      else:
        data[column] = np.ones((num, *shape), np.float32)
    if 'real' in data:
      data['real'][::3, 2:] = 0.0
      data['discount'][::3, :2][:, -1] = 0.0
    if table.prioritized:
      data['probability'] = rng.uniform(0.01, 0.1, num).astype(np.float32)
      data['key'] = np.zeros((num, 2), np.uint32)
    batch[name] = data
  return batch
