"""The contrastive agent: networks and losses assembled into an `Agent`."""

from typing import Any, Callable, NamedTuple, Tuple

import jax
import jax.numpy as jnp
import optax

from actors import policy as policy_lib
from envs.spec import EnvSpec
from learners.agent import Agent, Batch, Column, Metrics, ReplaySpec
from learners.contrastive import config as config_lib
from learners.contrastive import losses
from learners.contrastive import networks as networks_lib
from learners.contrastive.config import ContrastiveConfig
from learners.contrastive.networks import Networks
from replay import relabel
from safety import masking
from safety.masking import SafetyMask


class TrainingState(NamedTuple):
  """Everything that changes in learning.

  Attributes:
    policy_params: of the actor network.
    critic_params: of phi and psi.
    target_params: Polyak average of `critic_params`; () unless td.
    policy_opt: Adam state of the actor.
    critic_opt: Adam state of the critic.
    log_alpha: scalar log entropy weight; only read when it adapts.
    alpha_opt: Adam state of `log_alpha`.
    key: source of all randomness in learning.
  """
  policy_params: Any
  critic_params: Any
  target_params: Any
  policy_opt: Any
  critic_opt: Any
  log_alpha: jax.Array
  alpha_opt: Any
  key: jax.Array


def make_networks(config: ContrastiveConfig, spec: EnvSpec) -> Networks:
  """Returns the networks of one agent in one environment."""
  return networks_lib.make_networks(
      spec.obs_dim, spec.goal_dim, spec.action_dim, config.hidden_layer_sizes,
      config.repr_dim, num_critics=2 if config.twin_q else 1)


def masked_goal_encoder(
    networks: Networks, spec: EnvSpec,
    mask: SafetyMask) -> Callable[[Any, jax.Array], jax.Array]:
  """Returns psi `(critic_params, goal [B, G]) -> [B, N, C]` under the mask."""
  if not mask.regions:
    return networks.encode_goal
  if mask.goal is None:
    raise ValueError('masking needs a fixed goal')
  position_in_goal = jnp.array(
      [spec.goal_indices.index(i) for i in spec.position_indices])
  commanded = jnp.asarray(mask.goal, jnp.float32)[jnp.newaxis]

  def encode(critic_params, goal):
    psi = networks.encode_goal(critic_params, goal)
    replacement = masking.substitute(
        networks.encode_goal(critic_params, commanded), mask.negative,
        mask.stop_gradient)
    flat = masking.mask_representation(
        mask.regions, goal[:, position_in_goal],
        psi.reshape(psi.shape[0], -1), replacement.reshape(1, -1))
    return flat.reshape(psi.shape)

  return encode


def make_agent(config: ContrastiveConfig, spec: EnvSpec,
               mask: SafetyMask = SafetyMask()) -> Agent:
  """Builds the agent for one environment."""
  networks = make_networks(config, spec)
  encode_goal = masked_goal_encoder(networks, spec, mask)
  critic_optimizer = optax.adam(config.learning_rate, eps=config.adam_epsilon)
  policy_optimizer = optax.adam(
      config.actor_learning_rate, eps=config.adam_epsilon)
  alpha_optimizer = optax.adam(
      config.actor_learning_rate, eps=config.adam_epsilon)

  def init(key):
    key_networks, key_state = jax.random.split(key)
    policy_params, critic_params = networks.init(key_networks)
    # A copy, so that both can be donated to the update.
    target = jax.tree.map(jnp.copy, critic_params)
    log_alpha = jnp.zeros(())
    return TrainingState(
        policy_params=policy_params,
        critic_params=critic_params,
        target_params=target if config_lib.uses_td(config) else (),
        policy_opt=policy_optimizer.init(policy_params),
        critic_opt=critic_optimizer.init(critic_params),
        log_alpha=log_alpha,
        alpha_opt=alpha_optimizer.init(log_alpha),
        key=key_state)

  def sgd_step(state, episodes):
    key, key_batch, key_critic, key_actor = jax.random.split(state.key, 4)
    batch = relabel.sample_transitions(
        key_batch, episodes, config.batch_size, config.discount, spec.obs_dim,
        spec.goal_indices)

    critic_grad = jax.value_and_grad(critic_objective, has_aux=True)
    (critic_loss, logits), critic_grads = critic_grad(
        state.critic_params, state, batch, key_critic)
    # Both gradients are taken at the parameters before this step.
    actor_grad = jax.value_and_grad(actor_objective, has_aux=True)
    (actor_loss, log_probs), policy_grads = actor_grad(
        state.policy_params, state, batch, key_actor)

    critic_updates, critic_opt = critic_optimizer.update(
        critic_grads, state.critic_opt)
    policy_updates, policy_opt = policy_optimizer.update(
        policy_grads, state.policy_opt)
    new_state = state._replace(
        policy_params=optax.apply_updates(state.policy_params, policy_updates),
        critic_params=optax.apply_updates(state.critic_params, critic_updates),
        policy_opt=policy_opt, critic_opt=critic_opt,
        key=key)
    metrics = {'critic_loss': critic_loss, 'actor_loss': actor_loss,
               **losses.critic_metrics(logits)}
    if config_lib.uses_td(config):
      new_state = new_state._replace(target_params=optax.incremental_update(
          new_state.critic_params, state.target_params, config.tau))
    if config_lib.adapts_entropy(config):
      new_state, alpha_metrics = alpha_step(state, new_state, log_probs)
      metrics.update(alpha_metrics)
    return new_state, metrics

  def critic_objective(critic_params, state, batch, key):
    goal = critic_goals(config, spec, batch)
    phi = networks.encode_state(critic_params, batch.state, batch.action)
    psi = encode_goal(critic_params, goal)
    logits = networks_lib.all_pairs(phi, psi)
    if config.loss == 'cpc':
      return losses.cpc_loss(logits, config.logsumexp_penalty), logits
    if config.loss == 'nce':
      return losses.nce_loss(logits), logits
    weight = next_weight(state, batch, jnp.roll(goal, -1, axis=0), key)
    td = losses.td_loss if config.loss == 'td' else losses.td_mc_loss
    loss = td(networks_lib.similarity(phi, psi),
              networks_lib.similarity(phi, jnp.roll(psi, -1, axis=0)),
              weight, config.discount)
    return loss, logits

  def next_weight(state, batch, negative_goal, key):
    action = networks_lib.sample(key, networks.actor(
        state.policy_params, batch.next_state, negative_goal))
    phi = networks.encode_state(state.target_params, batch.next_state, action)
    psi = encode_goal(state.target_params, negative_goal)
    return losses.importance_weight(networks_lib.similarity(phi, psi))

  def actor_objective(policy_params, state, batch, key):
    current_psi = encode_goal(state.critic_params, batch.goal)
    observed, goal, psi = actor_rows(
        config.random_goals, batch.state, batch.goal, current_psi)
    distribution = networks.actor(policy_params, observed, goal)
    action = networks_lib.sample(key, distribution)
    phi = networks.encode_state(state.critic_params, observed, action)
    q_values = networks_lib.similarity(phi, psi)
    loss = losses.actor_loss(q_values)
    if config.entropy_coefficient == 0.0:
      # No bonus at all, so log-probabilities are not paid for.
      return loss, None
    log_probs = networks_lib.log_prob(distribution, action)
    alpha = (jnp.exp(state.log_alpha) if config_lib.adapts_entropy(config)
             else jnp.asarray(config.entropy_coefficient))
    return loss + losses.entropy_loss(log_probs, alpha), log_probs

  def alpha_step(state, new_state, log_probs):
    loss, grad = jax.value_and_grad(losses.alpha_loss)(
        state.log_alpha, log_probs, config.target_entropy)
    updates, alpha_opt = alpha_optimizer.update(grad, state.alpha_opt)
    log_alpha = jnp.asarray(optax.apply_updates(state.log_alpha, updates))
    metrics = {'alpha': jnp.exp(log_alpha), 'alpha_loss': loss,
               'entropy_mean': -jnp.mean(log_probs)}
    return new_state._replace(log_alpha=log_alpha, alpha_opt=alpha_opt), metrics

  def update(state: TrainingState,
             episodes: Batch) -> Tuple[TrainingState, Metrics]:
    def body(carry, _):
      return sgd_step(carry, episodes)
    state, metrics = jax.lax.scan(
        body, state, None, length=config.num_sgd_steps_per_step)
    return state, jax.tree.map(jnp.mean, metrics)

  def act_sample(params, observation, key):
    return networks_lib.sample(key, networks.actor(
        params, *split_observation(spec, observation)))

  def act_mode(params, observation, key):
    del key
    return networks_lib.mode(networks.actor(
        params, *split_observation(spec, observation)))

  return Agent(
      init=init,
      update=update,
      variables=lambda state: state.policy_params,
      policy=policy_lib.stateless_policy(act_sample),
      eval_policy=policy_lib.stateless_policy(act_mode),
      warmup_policy=policy_lib.uniform_policy(spec.action_dim),
      replay=replay_spec(config, spec),
      updates_per_call=config.num_sgd_steps_per_step)


def replay_spec(config: ContrastiveConfig, spec: EnvSpec) -> ReplaySpec:
  """Returns what the agent needs of replay.

  One learner call draws enough episodes that each gives about one transition
  per step it holds, and at least a batch, so that rows come from different
  episodes.
  """
  limit = spec.step_limit
  transitions = config.batch_size * config.num_sgd_steps_per_step
  return ReplaySpec(
      columns={
          'observation': Column((limit + 1, spec.observation_dim)),
          'action': Column((limit, spec.action_dim)),
          'length': Column((), 'int32'),
      },
      episodes_per_batch=max(config.batch_size, -(-transitions // limit)),
      min_steps=config.min_replay_size,
      max_steps=config.max_replay_size,
      transitions_per_update=config.batch_size,
      samples_per_insert=config.samples_per_insert)


def split_observation(spec: EnvSpec,
                      observation: jax.Array) -> Tuple[jax.Array, jax.Array]:
  """Splits `[B, S + G]` into state `[B, S]` and goal `[B, G]`."""
  return observation[:, :spec.obs_dim], observation[:, spec.obs_dim:]


def critic_goals(config: ContrastiveConfig, spec: EnvSpec,
                 batch: relabel.Transitions) -> jax.Array:
  """Returns each row's positive goal `[B, G]`: a future, or the next state."""
  if not config_lib.uses_td(config):
    return batch.goal
  next_goal = batch.next_state[:, jnp.array(spec.goal_indices)]
  if config.loss == 'td':
    return next_goal
  num = losses.num_next_state_rows(batch.goal.shape[0], config.discount)
  return jnp.concatenate([next_goal[:num], batch.goal[num:]])


def actor_rows(random_goals: float, state: jax.Array, goal: jax.Array,
               psi: jax.Array) -> Tuple[jax.Array, jax.Array, jax.Array]:
  """Pairs states with goals for the actor loss.

  Args:
    random_goals: 0 pairs each state with its own goal, 1 with the row before,
      0.5 does both and doubles the batch.
    state: `[B, S]`.
    goal: `[B, G]`.
    psi: `[B, N, C]`, representations of `goal`.

  Returns:
    States, goals and representations with B or 2B rows.
  """
  rolled_goal, rolled_psi = jnp.roll(goal, 1, axis=0), jnp.roll(psi, 1, axis=0)
  if random_goals == 0.0:
    return state, goal, psi
  if random_goals == 1.0:
    return state, rolled_goal, rolled_psi
  return (jnp.concatenate([state, state]),
          jnp.concatenate([goal, rolled_goal]),
          jnp.concatenate([psi, rolled_psi]))
