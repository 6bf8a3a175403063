"""A real replay server in this process, on a port of its own."""

import portpicker
import pytest
import reverb

from learners.agent import ReplaySpec, StepPacing
from replay import tables


@pytest.fixture
def serve():
  """Yields `(columns, limits, **replay) -> client`; servers end with it."""
  servers = []

  def start(columns, limits, **settings):
    replay = ReplaySpec(
        columns=columns, episodes_per_batch=1, pacing=StepPacing(1, 1, 1.0),
        max_steps=1, **settings)
    servers.append(reverb.Server(
        tables.make_tables(replay, limits),
        port=portpicker.pick_unused_port()))
    return reverb.Client(f'localhost:{servers[-1].port}')

  yield start
  for server in servers:
    server.stop()
