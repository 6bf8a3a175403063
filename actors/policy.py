"""What acts: pure functions, batched over environments."""

import dataclasses
from typing import Any, Callable, Tuple

import jax

Params = Any
PolicyState = Any
Key = jax.Array


@dataclasses.dataclass(frozen=True)
class Policy:
  """Pure functions; all memory lives in the policy state.

  Attributes:
    init: `(key, num_envs) -> policy_state`.
    act: `(params, observation [E, D], policy_state, key, is_first [E]) ->
      (action [E, A], policy_state)`. `is_first` marks environments that have
      just reset. The key is consumed. Discrete actions are `[E]` int32.
    observe: `(policy_state, reward [E], is_first [E]) -> policy_state`, called
      before each `act` with the reward of the step that led to what `act` is
      about to see, 0 right after a reset; for memories that follow the reward.
    select: `variables -> params`, the part of what the learner serves that
      `act` needs.
    place: `(policy_state, rank [E]) -> policy_state`, called once after `init`
      in actors, with where each environment stands among all of the run, from 0
      to 1; for policies that explore by degrees.
  """
  init: Callable[[Key, int], PolicyState]
  act: Callable[[Params, jax.Array, PolicyState, Key, jax.Array],
                Tuple[jax.Array, PolicyState]]
  observe: Callable[[PolicyState, jax.Array, jax.Array], PolicyState] = (
      lambda policy_state, reward, is_first: policy_state)
  select: Callable[[Any], Params] = lambda variables: variables
  place: Callable[[PolicyState, jax.Array], PolicyState] = (
      lambda policy_state, rank: policy_state)


def uniform_policy(action_dim: int) -> Policy:
  """Returns the policy that draws actions uniformly from [-1, 1]."""

  def act(params, observation, policy_state, key, is_first):
    del params, is_first
    shape = (observation.shape[0], action_dim)
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0), policy_state

  return Policy(init=_stateless, act=act)


def uniform_discrete_policy(num_actions: int) -> Policy:
  """Returns the policy that draws one of `num_actions` actions uniformly."""

  def act(params, observation, policy_state, key, is_first):
    del params, is_first
    shape = observation.shape[:1]
    return jax.random.randint(key, shape, 0, num_actions), policy_state

  return Policy(init=_stateless, act=act)


def _stateless(key: Key, num_envs: int) -> PolicyState:
  del key, num_envs
  return ()


def stateless_policy(
    act: Callable[[Params, jax.Array, Key], jax.Array]) -> Policy:
  """Returns a memoryless policy from `(params, observation, key) -> action`."""

  def stateful(params, observation, policy_state, key, is_first):
    del is_first
    return act(params, observation, key), policy_state

  return Policy(init=_stateless, act=stateful)

