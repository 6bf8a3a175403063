"""What acts: the behaviour function under commands of its own."""

from typing import Optional

import jax.numpy as jnp

from actors.commands import commanded_policy, Draw
from actors.policy import Policy
from learners.udrl import commands
from learners.udrl.config import UDRLConfig
from learners.udrl.networks import Networks


def sampled_command(config: UDRLConfig) -> Draw:
  """Returns how training episodes get their commands."""

  def draw(key, params, num):
    _, stats = params
    command = commands.draw(
        key, stats, num, config.max_return, config.mu_minus_std,
        config.command_spread)
    return command, stats.known

  return draw


def expected_command(config: UDRLConfig) -> Draw:
  """Returns the command that asks for the mean of the best returns."""

  def draw(key, params, num):
    del key
    _, stats = params
    return commands.expected(stats, num, config.max_return), stats.known

  return draw


def given_command(lowest: float, highest: float,
                  horizon: Optional[float]) -> Draw:
  """Returns commands that climb evenly from one environment to the next.

  Args:
    lowest: return commanded in the first environment.
    highest: return commanded in the last.
    horizon: commanded everywhere; None is that of the best episodes.
  """

  def draw(key, params, num):
    del key
    _, stats = params
    steps = stats.horizon if horizon is None else horizon
    return jnp.stack([
        jnp.linspace(lowest, highest, num),
        jnp.broadcast_to(steps, (num,))], axis=-1), True

  return draw


def make_policy(networks: Networks, config: UDRLConfig, num_actions: int,
                draw: Draw, greedy: bool = False) -> Policy:
  """Returns a policy that follows the commands of `draw`.

  Args:
    networks: the behaviour function.
    config: of the agent.
    num_actions: how many actions there are.
    draw: makes commands.
    greedy: take the likeliest action rather than a sample.
  """
  keep_return = config.command == 'cumulative_return'
  return commanded_policy(
      logits=lambda params, observation, command: networks.logits(
          params[0], observation, command),
      draw=draw,
      follow=lambda command, reward: commands.follow(
          command, reward, config.max_return, keep_return),
      num_commands=2, num_actions=num_actions, greedy=greedy,
      inverse_temperature=config.inverse_temperature)
