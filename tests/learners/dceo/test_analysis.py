"""What is read off a representation and options, on a corridor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners.dceo import agent as agent_lib
from learners.dceo import analysis, losses
from tests.learners.dceo import batches

# Three cells in a row; left, stay, right.
NEXT = np.array([[0, 0, 1], [0, 1, 2], [1, 2, 2]])


def test_options_are_followed_from_every_state():
  actions = np.array([[2, 2, 2], [0, 0, 0], [2, 0, 1]])
  ends = analysis.follow(NEXT, actions, 2)
  # The third goes to and fro between the first two.
  assert ends.tolist() == [[2, 2, 2], [0, 0, 0], [0, 1, 2]]
  assert analysis.follow(NEXT, actions, 1)[2].tolist() == [1, 0, 2]
  with pytest.raises(ValueError, match='next_state'):
    analysis.follow(NEXT, np.zeros((2, 4), int), 1)


def test_maps_are_what_the_networks_say_of_standing_still():
  config, agent = batches.make_config(), batches.make_agent()
  networks = agent_lib.make_networks(config, batches.SPEC)
  state = agent.init(jax.random.key(0))
  frames = np.random.default_rng(0).integers(0, 256, (5, 9, 9), np.uint8)
  stacks = jnp.stack([frames, frames], axis=-1)
  np.testing.assert_allclose(
      analysis.representation(config, networks, state, frames),
      networks.phi(state.representation.params, stacks), rtol=1e-6)
  actions = analysis.option_actions(config, networks, state, frames)
  assert actions.shape == (3, 5)
  atoms = losses.support(-config.option_vmax, config.option_vmax, 11)
  for option in range(3):
    params = jax.tree.map(lambda x: x[option], state.options.params)
    q = losses.q_values(networks.q_logits(params, stacks, None), atoms)
    np.testing.assert_array_equal(actions[option], np.argmax(q, axis=1))
  with pytest.raises(ValueError, match='frames'):
    analysis.still_states(frames[0], 2)
