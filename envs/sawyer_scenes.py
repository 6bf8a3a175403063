"""Meta-World's simulation: many scenes that share one compiled model.

Importing this imports Meta-World, which takes about a second.
"""

import dataclasses
from typing import Any, List, Sequence

from metaworld.env_dict import ALL_V3_ENVIRONMENTS
import mujoco
import numpy as np

FRAME_SIZE = (360, 480)
# From across the table, where the arm hides neither object nor target: what is
# looked at, in metres; azimuth and elevation in degrees, distance in metres.
_LOOK_AT = (0.0, 0.65, 0.1)
_VIEW = (140.0, -30.0, 1.2)


@dataclasses.dataclass
class _Scene:
  """What tells one scene from another.

  Attributes:
    data: MuJoCo's state.
    rng: Meta-World draws placements from it.
    body_pos: `[B, 3]` where the model's bodies are; Meta-World moves some.
    site_pos: `[S, 3]` and its sites.
  """
  data: Any
  rng: np.random.Generator
  body_pos: np.ndarray
  site_pos: np.ndarray


class Scenes:
  """E scenes of one task, stepped one at a time.

  Meta-World's own `step` and `reset` are not used: they compute an observation
  and a reward that nobody asked for, which takes most of the time, and let the
  arm settle twice in each reset.
  """

  def __init__(self, task_name: str, rngs: Sequence[np.random.Generator]):
    """Loads a task; no scene is ready before its `reset`.

    Args:
      task_name: Meta-World's name of it, such as 'bin-picking-v3'.
      rngs: a generator for each scene.
    """
    self._env = ALL_V3_ENVIRONMENTS[task_name]()
    # Draws anew in each reset, and not from the global np.random.
    self._env._freeze_rand_vec = False
    self._env.seeded_rand_vec = True
    # Made when it is first asked for: it needs a graphics driver.
    self._renderer: Any = None
    model = self._env.model
    self._scenes: List[_Scene] = [
        _Scene(mujoco.MjData(model), rng, model.body_pos.copy(),
               model.site_pos.copy()) for rng in rngs]

  def reset(self, index: int) -> None:
    """Places objects and target of a scene at random, the arm above them."""
    env, scene = self._env, self._select(index)
    mujoco.mj_resetData(env.model, scene.data)
    env.reset_model()
    # Meta-World moves some bodies after its last look at them.
    mujoco.mj_forward(env.model, scene.data)
    scene.body_pos[:] = env.model.body_pos
    scene.site_pos[:] = env.model.site_pos

  def step(self, index: int, action: np.ndarray) -> None:
    """Moves the hand by `action[:3]` and the fingers by `action[3]`."""
    env, scene = self._env, self._select(index)
    env.set_xyz_action(action[:3])
    env.do_simulation([action[3], -action[3]], env.frame_skip)
    mujoco.mj_forward(env.model, scene.data)

  def move(self, index: int, body: str, position: np.ndarray) -> None:
    """Puts a body that has no joints elsewhere until the next reset."""
    scene = self._select(index)
    scene.body_pos[self._env.model.body(body).id] = position
    mujoco.mj_forward(self._env.model, self._select(index).data)

  def data(self, index: int) -> Any:
    """MuJoCo's state of a scene; arrays in it change with every step."""
    return self._scenes[index].data

  def render(self, index: int) -> np.ndarray:
    """Draws a scene, `[H, W, 3]` uint8; MUJOCO_GL says with what."""
    scene = self._select(index)
    if self._renderer is None:
      self._renderer = mujoco.Renderer(self._env.model, *FRAME_SIZE)
      # Without a GPU shadows would take most of the time.
      for effect in ('mjRND_SHADOW', 'mjRND_REFLECTION'):
        flag = getattr(mujoco.mjtRndFlag, effect)
        self._renderer.scene.flags[flag] = False
    # Meta-World's own cameras stand on their heads.
    camera = mujoco.MjvCamera()
    camera.lookat[:] = _LOOK_AT
    camera.azimuth, camera.elevation, camera.distance = _VIEW
    self._renderer.update_scene(scene.data, camera)
    return self._renderer.render()

  def _select(self, index: int) -> _Scene:
    """Makes a scene the one that Meta-World and the model are about."""
    scene = self._scenes[index]
    self._env.data = scene.data
    self._env.np_random = scene.rng
    self._env.model.body_pos[:] = scene.body_pos
    self._env.model.site_pos[:] = scene.site_pos
    return scene
