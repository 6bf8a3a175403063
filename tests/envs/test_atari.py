"""Atari's preprocessing, item by item, on the emulator itself."""

import functools

import ale_py
from ale_py import roms
import dm_env
import numpy as np
import pytest

from envs import atari, registry
from envs.vector import Located
from tests import contracts

FIRST, MID, LAST = (int(t) for t in dm_env.StepType)


class FakeEmulator:
  """Shows frame numbers as gray screens; ends at a given frame."""

  def __init__(self, ends_at=10**9):
    self.frames, self.ends_at, self.actions = 0, ends_at, []

  def act(self, action):
    self.frames += 1
    self.actions.append(action)
    return float(self.frames)

  def getScreenGrayscale(self):
    screen = np.zeros((210, 160), np.uint8)
    screen[self.frames % 2] = 100 + self.frames
    return screen

  def game_over(self, with_truncation):
    assert not with_truncation
    return self.frames >= self.ends_at


def test_an_action_is_repeated_and_its_rewards_are_summed_unclipped():
  emulator = FakeEmulator()
  screens, reward = atari.skip_frames(emulator, 'fire')
  assert emulator.actions == ['fire'] * 4
  assert reward == 1 + 2 + 3 + 4
  # The last two frames, whose maximum is shown.
  pooled = np.max(screens, axis=0)
  assert pooled[1, 0] == 103 and pooled[0, 0] == 104 and len(screens) == 2


@pytest.mark.parametrize('ends_at, frames', [(1, 1), (2, 2), (3, 3), (4, 4)])
def test_frames_stop_with_the_game(ends_at, frames):
  emulator = FakeEmulator(ends_at)
  screens, _ = atari.skip_frames(emulator, 0)
  assert emulator.frames == frames
  assert len(screens) == max(1, frames - 2)


def test_shrinking_averages_areas():
  rng = np.random.default_rng(0)
  screen = rng.integers(0, 256, (210, 160), np.uint8)
  small = atari.shrink(screen)
  assert small.shape == (84, 84) and small.dtype == np.uint8
  # On a grid of sixteenths and finer all edges fall on lines: 84 * 160 / 84.
  fine = np.repeat(np.repeat(screen, 2, axis=0), 21, axis=1).astype(float)
  exact = fine.reshape(84, 5, 84, 40).mean(axis=(1, 3))
  assert np.abs(small - exact).max() <= 0.5 + 1e-3
  np.testing.assert_array_equal(
      atari.shrink(np.full((210, 160), 77, np.uint8)), 77)


@functools.lru_cache
def plain_emulator():
  """Returns one without stickiness."""
  emulator = ale_py.ALEInterface()
  emulator.setFloat('repeat_action_probability', 0.0)
  emulator.loadROM(str(roms.get_rom_path('breakout')))
  return emulator


def emulated(state, action):
  """Returns the memory after an action without stickiness."""
  emulator = plain_emulator()
  emulator.restoreState(state)
  emulator.act(action)
  return emulator.getRAM().copy()


def test_the_emulator_is_set_up_as_published():
  emulator = atari._emulator('Pong', 3)
  assert emulator.getFloat('repeat_action_probability') == 0.25
  assert emulator.getInt('frame_skip') == 1
  assert atari.atari_spec('Pong').num_actions == 6
  assert atari.atari_spec('MontezumaRevenge').num_actions == 18
  assert atari.atari_spec('Pong').step_limit == 27_000


def test_sticky_actions_are_drawn_for_every_frame():
  """A quarter of the frames repeats what was done at the frame before."""
  sticky, repeats = atari._emulator('Breakout', 0), []
  sticky.reset_game()
  for t in range(400):
    before = sticky.cloneState()
    other, same = (ale_py.Action.RIGHT, ale_py.Action.LEFT)[::(-1)**t]
    outcomes = [emulated(before, action) for action in (other, same)]
    sticky.act(other)
    # Where both actions come to the same, nothing shows.
    if not np.array_equal(*outcomes):
      repeats.append(np.array_equal(sticky.getRAM(), outcomes[1]))
  assert len(repeats) > 200
  assert 0.17 < np.mean(repeats) < 0.33


def test_an_emulator_keeps_the_rules():
  contracts.check_vector_environment(
      lambda seed, num_envs: atari.atari(
          'Pong', num_envs, seed, step_limit=30), terminates=True)


def test_losing_a_life_ends_nothing_and_the_step_limit_truncates():
  env = atari.atari('Breakout', 1, seed=0, step_limit=400)
  env.reset()
  emulator, lives = env._emulators[0], []
  for t in range(400):
    step = env.step(np.array([1 if t % 5 == 0 else t % 4]))
    lives.append(emulator.lives())
    if step.step_type[0] == LAST:
      break
    assert step.discount[0] == 1.0
  assert len(set(lives)) > 1
  assert (step.discount[0] == 0.0) == (lives[-1] == 0)


def test_rooms_are_told_where_they_are_known():
  env = atari.atari('MontezumaRevenge', 2, seed=0)
  env.reset()
  assert isinstance(env, Located)
  assert env.places().tolist() == [1, 1]
  assert env.spec.num_places == 256
  assert not isinstance(atari.atari('Pong'), Located)


def test_games_are_listed_without_loading_them():
  names = [n for n in registry.ENVIRONMENTS if n.startswith('atari_')]
  assert len(names) > 100
  for game in ('MontezumaRevenge', 'PrivateEye', 'Pong'):
    assert f'atari_{game}' in names
  assert 'atari_<Game>' in registry.summary()
  assert registry.spec('atari_Pong').name == 'atari_Pong'
