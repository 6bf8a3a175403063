"""Three manipulation tasks of Meta-World for a Sawyer arm, goal-conditioned.

State: hand position, gripper opening, object position, and for the box's lid
its quaternion (w, x, y, z). A goal is a state: the object at its target, the
hand above it, the gripper nearly closed on it.
"""

import dataclasses
from typing import Any, Callable, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from envs.lockstep import LockstepEnvironment, Outcome
from envs.spec import EnvSpec

STEP_LIMIT = 150
HAND_START = (0.0, 0.6)
# The arm settles a few millimetres away from there.
HAND_START_ERROR = 0.01
HAND_BOUNDS = ((-0.5, 0.4), (0.5, 1.0))
MAX_FINGER_DISTANCE = 0.1
GRIPPER_AT_GOAL = 0.4
OBJECT_POSITION = (4, 5, 6)


@dataclasses.dataclass(frozen=True)
class Task:
  """One task.

  Attributes:
    metaworld_name: what Meta-World calls it.
    read_object: MuJoCo's state -> position and, if it counts, quaternion.
    receptacle: body the object belongs into.
    target_offset: from the receptacle to the target.
    target_moves: whether Meta-World puts the receptacle elsewhere each episode.
    hand_offset: from the target to the hand at the goal.
    quaternion: of the object at the goal, or none.
    axis_weights: of the distance to the target, per axis.
    success_radius: for that distance, and for the quaternion's.
    sampled_spread: half-width of the noise on the target of a sampled goal.
    sampled_heights: range a sampled goal's height is drawn from, or None.
  """
  metaworld_name: str
  read_object: Callable[[Any], np.ndarray]
  receptacle: str
  target_offset: Tuple[float, float, float]
  target_moves: bool
  hand_offset: Tuple[float, float, float]
  success_radius: float
  quaternion: Tuple[float, ...] = ()
  axis_weights: Tuple[float, float, float] = (1.0, 1.0, 1.0)
  sampled_spread: float = 0.0
  sampled_heights: Optional[Tuple[float, float]] = None


def _read_lid(data: Any) -> np.ndarray:
  lid = data.body('top_link')
  return np.concatenate([lid.xpos, lid.xquat])


TASKS = {
    'sawyer_bin': Task(
        metaworld_name='bin-picking-v3',
        read_object=lambda data: data.body('obj').xpos,
        receptacle='bin_goal',
        target_offset=(0.0, 0.0, 0.02),
        target_moves=False,
        hand_offset=(0.0, 0.0, 0.03),
        success_radius=0.05,
        sampled_spread=0.05,
        sampled_heights=(0.03, 0.12)),
    'sawyer_box': Task(
        metaworld_name='box-close-v3',
        read_object=_read_lid,
        receptacle='boxbody',
        target_offset=(0.0, 0.0, 0.133),
        target_moves=True,
        hand_offset=(0.0, 0.0, 0.03),
        success_radius=0.08,
        quaternion=(0.707, 0.0, 0.0, 0.707)),
    'sawyer_peg': Task(
        metaworld_name='peg-insert-side-v3',
        # Its head; the hand holds it further back.
        read_object=lambda data: data.site('pegHead').xpos,
        receptacle='box',
        target_offset=(0.03, 0.0, 0.13),
        target_moves=True,
        hand_offset=(0.13, 0.0, 0.03),
        success_radius=0.07,
        axis_weights=(1.0, 2.0, 2.0)),
}

# Where the bin's target is; of the others' targets it is the middle.
_USUAL_TARGETS = {
    'sawyer_bin': (0.12, 0.7, 0.02),
    'sawyer_box': (0.0, 0.75, 0.133),
    'sawyer_peg': (-0.27, 0.6, 0.13),
}


def goal_at(name: str, target: Optional[npt.ArrayLike] = None) -> np.ndarray:
  """Returns the whole goal `[obs_dim]` that has the object at a target.

  Args:
    name: a key of `TASKS`.
    target: (x, y, z); None means the middle of where targets are.
  """
  task = TASKS[name]
  position = np.asarray(_USUAL_TARGETS[name] if target is None else target)
  return np.concatenate([
      position + task.hand_offset, [GRIPPER_AT_GOAL], position,
      task.quaternion])


def succeeds(task: Task, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
  """Tells which states `[..., D]` reach their goals, `[...]` bool."""
  position = list(OBJECT_POSITION)
  turn = slice(OBJECT_POSITION[-1] + 1, None)
  apart = (state[..., position] - goal[..., position]) * task.axis_weights
  # Where no quaternion counts this is the length of nothing, zero.
  turned = np.linalg.norm(state[..., turn] - goal[..., turn], axis=-1)
  return ((np.linalg.norm(apart, axis=-1) < task.success_radius)
          & (turned < task.success_radius))


class Sawyer(LockstepEnvironment):
  """E arms at one task; implements `VectorEnvironment`."""

  def __init__(self,
               name: str,
               num_envs: int = 1,
               seed: int = 0,
               sample_goals: bool = False,
               goal: Optional[Sequence[float]] = None):
    """Builds the simulation.

    Args:
      name: a key of `TASKS`.
      num_envs: how many arms there are.
      seed: seeds this instance's own generators.
      sample_goals: goals lie anywhere between the object and its target.
      goal: the goal of every episode; a receptacle that Meta-World would place
        at random is put there.
    """
    # Here, so that only runs of these tasks wait for Meta-World's import.
    from envs.sawyer_scenes import Scenes
    super().__init__(sawyer_spec(name, sample_goals, goal), num_envs)
    self._task = TASKS[name]
    self._sample_goals = sample_goals
    self._rngs = [np.random.default_rng(s)
                  for s in np.random.SeedSequence(seed).spawn(num_envs)]
    self._scenes = Scenes(self._task.metaworld_name, self._rngs)
    self._goal = np.zeros((num_envs, self.spec.goal_dim))

  def data(self, index: int = 0) -> Any:
    """MuJoCo's state of one environment, to look at."""
    return self._scenes.data(index)

  def render(self) -> np.ndarray:
    """Draws the first environment, `[H, W, 3]` uint8."""
    return self._scenes.render(0)

  def _begin(self, mask: np.ndarray) -> None:
    for i in np.flatnonzero(mask):
      self._begin_one(int(i))

  def _advance(self, action: np.ndarray, mask: np.ndarray) -> None:
    action = np.clip(action.astype(np.float64), -1.0, 1.0)
    # One after another: threads cost more than they save in steps this short.
    for i in np.flatnonzero(mask):
      self._scenes.step(int(i), action[i])

  def _outcome(self) -> Outcome:
    state = np.stack([self._state(i) for i in range(self.num_envs)])
    return Outcome(
        observation=np.concatenate([state, self._goal], axis=-1),
        reward=succeeds(self._task, state, self._goal),
        # Nothing ends an episode but its step limit.
        terminated=np.zeros(self.num_envs, bool))

  def _begin_one(self, index: int) -> None:
    """Starts an episode in one environment."""
    task, scenes = self._task, self._scenes
    scenes.reset(index)
    if self.spec.goal is not None:
      self._goal[index] = self.spec.goal
      if task.target_moves:
        target = self._goal[index, list(OBJECT_POSITION)]
        scenes.move(index, task.receptacle, target - task.target_offset)
      return
    target = scenes.data(index).body(task.receptacle).xpos + task.target_offset
    if self._sample_goals:
      target = self._sample_target(index, target)
    self._goal[index] = goal_at(self.spec.name, target)

  def _sample_target(self, index: int, target: np.ndarray) -> np.ndarray:
    """Draws a point between an object and its target."""
    task, rng = self._task, self._rngs[index]
    position = task.read_object(self.data(index))[:3]
    target = target + rng.uniform(
        -task.sampled_spread, task.sampled_spread, 3)
    share = rng.uniform()
    sampled = share * target + (1.0 - share) * position
    if task.sampled_heights is not None:
      sampled[2] = rng.uniform(*task.sampled_heights)
    return sampled

  def _state(self, index: int) -> np.ndarray:
    data = self.data(index)
    fingers = (data.site('rightEndEffector').xpos
               - data.site('leftEndEffector').xpos)
    opening = min(np.linalg.norm(fingers) / MAX_FINGER_DISTANCE, 1.0)
    # A copy: MuJoCo's arrays change with the next step.
    return np.concatenate(
        [data.body('hand').xpos, [opening], self._task.read_object(data)])


def sawyer_spec(name: str,
                sample_goals: bool = False,
                goal: Optional[Sequence[float]] = None) -> EnvSpec:
  """Returns the static facts of one task.

  Args:
    name: a key of `TASKS`.
    sample_goals: whether goals are drawn between the object and its target.
    goal: the goal of every episode; None leaves it at each episode's target.
  """
  task = TASKS[name]
  obs_dim = len(goal_at(name))
  fixed: Optional[Tuple[float, ...]] = None
  if not sample_goals and goal is not None:
    fixed = tuple(float(v) for v in goal)
  elif not sample_goals and not task.target_moves:
    fixed = tuple(goal_at(name).tolist())
  return EnvSpec(
      name=name,
      obs_dim=obs_dim,
      action_dim=4,
      goal_indices=tuple(range(obs_dim)),
      position_indices=(0, 1),
      step_limit=STEP_LIMIT,
      success_radius=task.success_radius,
      success_indices=OBJECT_POSITION,
      start=HAND_START,
      goal=fixed,
      start_jitter=HAND_START_ERROR,
      bounds=HAND_BOUNDS)
