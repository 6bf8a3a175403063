"""The contrastive agent: networks and losses assembled into an `Agent`."""

import dataclasses
from typing import Any, Callable, NamedTuple, Tuple

import jax
import jax.numpy as jnp
import optax

from actors import policy as policy_lib
from envs.spec import EnvSpec
from learners.agent import (
  Agent,
  Batch,
  Column,
  Metrics,
  ReplaySpec,
  StepPacing,
)
from learners.contrastive import ablations, losses, policies, rows, weights
from learners.contrastive import config as config_lib
from learners.contrastive import networks as networks_lib
from learners.contrastive.config import ContrastiveConfig
from learners.contrastive.networks import Networks
from safety import masking
from safety.masking import SafetyMask


class TrainingState(NamedTuple):
  """Everything that changes in learning.

  Attributes:
    policy_params: of the actor network.
    critic_params: of phi and psi, or of a monolithic critic.
    target_params: Polyak average of `critic_params`; () unless td.
    average_params: Polyak average of `policy_params`; () if evaluation uses the
      newest.
    policy_opt: Adam state of the actor.
    critic_opt: Adam state of the critic.
    log_alpha: scalar log entropy weight; only read when it adapts.
    alpha_opt: Adam state of `log_alpha`.
    steps: int32 scalar, SGD steps done.
    key: source of all randomness in learning.
  """
  policy_params: Any
  critic_params: Any
  target_params: Any
  average_params: Any
  policy_opt: Any
  critic_opt: Any
  log_alpha: jax.Array
  alpha_opt: Any
  steps: jax.Array
  key: jax.Array


def make_networks(config: ContrastiveConfig, spec: EnvSpec,
                  mask: SafetyMask = SafetyMask()) -> Networks:
  """Returns the networks of one agent in one environment.

  Goals are masked first and normalised then, so that masked ones have the
  length of others.
  """
  networks = networks_lib.make_networks(
      spec.obs_dim, spec.goal_dim, spec.action_dim, config.hidden_layer_sizes,
      config.repr_dim, num_critics=2 if config.twin_q else 1,
      residual=config.use_residual_mlp,
      head_scale=config.cold_q_scale if config.cold_q_init else None,
      monolithic=config.monolithic_critic)
  networks = dataclasses.replace(
      networks, encode_goal=masked_goal_encoder(networks, spec, mask))
  if config.repr_norm:
    networks = networks_lib.normalised(networks, config.repr_temperature)
  return networks


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
  networks = make_networks(config, spec, mask)
  critic_optimizer = optax.adam(config.learning_rate, eps=config.adam_epsilon)
  policy_optimizer = optax.adam(
      config.actor_learning_rate, eps=config.adam_epsilon)
  alpha_optimizer = optax.adam(
      config.actor_learning_rate, eps=config.adam_epsilon)

  def init(key):
    key_networks, key_state = jax.random.split(key)
    policy_params, critic_params = networks.init(key_networks)
    log_alpha = jnp.zeros(())
    return TrainingState(
        **unlearned(policy_params, critic_params),
        log_alpha=log_alpha,
        alpha_opt=alpha_optimizer.init(log_alpha),
        steps=jnp.zeros((), jnp.int32),
        key=key_state)

  def unlearned(policy_params, critic_params):
    # Copies, so that both of each can be donated to the update.
    target = jax.tree.map(jnp.copy, critic_params)
    average = jax.tree.map(jnp.copy, policy_params)
    return dict(
        policy_params=policy_params,
        critic_params=critic_params,
        target_params=target if config_lib.uses_td(config) else (),
        average_params=average if config_lib.averages_policy(config) else (),
        policy_opt=policy_optimizer.init(policy_params),
        critic_opt=critic_optimizer.init(critic_params))

  def sgd_step(state, episodes):
    key, key_batch, key_critic, key_actor = jax.random.split(state.key, 4)
    batch = rows.sample(key_batch, episodes, state.steps, config, spec)

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
        steps=state.steps + 1, key=key)
    metrics = {'critic_loss': critic_loss, 'actor_loss': actor_loss,
               **losses.critic_metrics(logits)}
    if config_lib.uses_td(config):
      new_state = new_state._replace(target_params=optax.incremental_update(
          new_state.critic_params, state.target_params, config.tau))
    if config_lib.averages_policy(config):
      new_state = new_state._replace(average_params=optax.incremental_update(
          new_state.policy_params, state.average_params, config.eval_tau))
    if config_lib.adapts_entropy(config):
      new_state, alpha_metrics = alpha_step(state, new_state, log_probs)
      metrics.update(alpha_metrics)
    if config.weight_reset_interval:
      new_state = reset_when_due(new_state)
    return new_state, metrics

  def critic_objective(critic_params, state, batch, key):
    goal = rows.critic_goals(config, spec, batch)
    phi = networks.encode_state(critic_params, batch.state, batch.action)
    psi = networks.encode_goal(critic_params, goal)
    logits = networks.compare_all(critic_params, phi, psi)
    if config.backward_loss:
      return losses.backward_cpc_loss(logits, config.logsumexp_penalty), logits
    if config.loss == 'cpc':
      negatives = ablations.extra_negatives(
          config, spec, networks, critic_params, batch, state.steps, key)
      return losses.cpc_loss(
          logits, config.logsumexp_penalty, negatives), logits
    if config.loss == 'nce':
      return losses.nce_loss(logits), logits
    weight = next_weight(state, batch, jnp.roll(goal, -1, axis=0), key)
    td = losses.td_loss if config.loss == 'td' else losses.td_mc_loss
    rolled = jnp.roll(psi, -1, axis=0)
    loss = td(networks.compare(critic_params, phi, psi),
              networks.compare(critic_params, phi, rolled),
              weight, config.discount)
    return loss, logits

  def next_weight(state, batch, negative_goal, key):
    action = networks_lib.sample(key, networks.actor(
        state.policy_params, batch.next_state, negative_goal))
    phi = networks.encode_state(state.target_params, batch.next_state, action)
    psi = networks.encode_goal(state.target_params, negative_goal)
    return losses.importance_weight(
        networks.compare(state.target_params, phi, psi))

  def actor_objective(policy_params, state, batch, key):
    current_psi = networks.encode_goal(state.critic_params, batch.goal)
    observed, goal, psi = rows.actor_rows(
        config.random_goals, batch.state, batch.goal, current_psi)
    distribution = networks.actor(policy_params, observed, goal)
    action = networks_lib.sample(key, distribution)
    phi = networks.encode_state(state.critic_params, observed, action)
    q_values = networks.compare(state.critic_params, phi, psi)
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

  def reset_when_due(state):
    key, key_reset = jax.random.split(state.key)

    def reset(state):
      return state._replace(**unlearned(*networks.init(key_reset)))

    return jax.lax.cond(
        state.steps % config.weight_reset_interval == 0, reset,
        lambda state: state, state._replace(key=key))

  def update(state: TrainingState,
             episodes: Batch) -> Tuple[TrainingState, Metrics]:
    def body(carry, _):
      return sgd_step(carry, episodes)
    state, metrics = jax.lax.scan(
        body, state, None, length=config.num_sgd_steps_per_step)
    return state, jax.tree.map(jnp.mean, metrics)

  if config.Q_max:
    policy = eval_policy = policies.critic_policy(networks, spec)
  else:
    policy = policies.sampling_policy(networks, spec)
    eval_policy = policies.mode_policy(networks, spec)

  return Agent(
      init=init,
      update=update,
      variables=lambda state: (
          state.critic_params if config.Q_max else state.policy_params),
      policy=policy,
      eval_policy=eval_policy,
      warmup_policy=policy_lib.uniform_policy(spec.action_dim),
      replay=replay_spec(config, spec),
      updates_per_call=config.num_sgd_steps_per_step,
      eval_variables=(
          (lambda state: state.average_params)
          if config_lib.averages_policy(config) else None))


def evaluated_policy(config: ContrastiveConfig, state: TrainingState) -> Any:
  """Returns the actor's parameters that evaluation uses."""
  return (state.average_params if config_lib.averages_policy(config)
          else state.policy_params)


def on_start(config: ContrastiveConfig, state: TrainingState) -> TrainingState:
  """Reads the critic a run starts with, and writes it, if settings say so."""
  if config.init_weight is not None:
    critic = weights.load(config.init_weight, state.critic_params)
    state = state._replace(critic_params=critic)
    if config_lib.uses_td(config):
      # A copy, so that both can be donated to the update.
      state = state._replace(target_params=jax.tree.map(jnp.copy, critic))
  if config.save_init_weight is not None:
    weights.save(config.save_init_weight, state.critic_params)
  return state


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
      pacing=StepPacing(
          min_steps=config.min_replay_size,
          transitions_per_update=config.batch_size,
          samples_per_insert=config.samples_per_insert),
      max_steps=config.max_replay_size)
