"""A real replay server in this process, on a port of its own."""

import portpicker
import pytest
import reverb

from learners.agent import ReplaySpec
from replay import tables


@pytest.fixture
def serve():
  """Yields `(columns, limits) -> client`; the servers end with the test."""
  servers = []

  def start(columns, limits):
    replay = ReplaySpec(
        columns=columns, episodes_per_batch=1, min_steps=1, max_steps=1,
        transitions_per_update=1, samples_per_insert=1.0)
    servers.append(reverb.Server(
        tables.make_tables(replay, limits),
        port=portpicker.pick_unused_port()))
    return reverb.Client(f'localhost:{servers[-1].port}')

  yield start
  for server in servers:
    server.stop()
