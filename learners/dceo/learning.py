"""One update: the main network, then the representation, then an option."""

from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

import jax
import jax.numpy as jnp
import optax

from learners.agent import Metrics, UNCHANGED
from learners.dceo import config as config_lib
from learners.dceo import laplacian, losses
from learners.dceo.config import DCEOConfig
from learners.dceo.networks import Networks

# Dimensions that vary less are taken for dead.
ALIVE_DEVIATION = 0.02


class ValueLearner(NamedTuple):
  """A value network in training.

  Attributes:
    params: online.
    target_params: an older copy.
    opt: Adam state.
    steps: int32, its own SGD steps.
  """
  params: Any
  target_params: Any
  opt: Any
  steps: jax.Array


class Representation(NamedTuple):
  """The representation in training.

  Attributes:
    params: of phi.
    opt: Adam state.
    duals: multipliers, which only `allo` changes.
  """
  params: Any
  opt: Any
  duals: laplacian.Duals


class TrainingState(NamedTuple):
  """Everything that changes in learning.

  Attributes:
    main: learns the rewards of the environment.
    options: K of them, stacked on the first axis of every array; () if none.
    representation: () if there are no options.
    max_priority: the largest priority there has been.
    priorities: of the items drawn for the last update, or `UNCHANGED`.
    key: source of all randomness in learning.
  """
  main: ValueLearner
  options: Any
  representation: Any
  max_priority: jax.Array
  priorities: jax.Array
  key: jax.Array


class Transitions(NamedTuple):
  """Steps to learn values from, one a row.

  Attributes:
    state: `[B, H, W, S]` uint8.
    action: `[B]` int32.
    returns: `[B]` rewards up to `next_state`.
    bootstrap: `[B]` what the value of `next_state` counts.
    next_state: `[B, H, W, S]` uint8.
    weight: `[B]` of each row in the loss.
  """
  state: jax.Array
  action: jax.Array
  returns: jax.Array
  bootstrap: jax.Array
  next_state: jax.Array
  weight: jax.Array


class StatePairs(NamedTuple):
  """What the representation learns from.

  Attributes:
    start: `[R, H, W, S]` uint8.
    end: `[R, H, W, S]` states some steps later.
    weight: `[R]` of each pair.
    u: `[R, H, W, S]` states drawn for themselves.
    v: `[R, H, W, S]` others.
  """
  start: jax.Array
  end: jax.Array
  weight: jax.Array
  u: jax.Array
  v: jax.Array


Draws = Tuple[Transitions, StatePairs, Transitions]
Update = Callable[[TrainingState, Mapping[str, Any]],
                  Tuple[TrainingState, Metrics]]


def as_state(frames: jax.Array) -> jax.Array:
  """Moves frames `[B, S, H, W]` to where networks want them, `[B, H, W, S]`."""
  return jnp.moveaxis(frames, 1, -1)


def transitions(window: Mapping[str, jax.Array], config: DCEOConfig,
                weight: jax.Array, discount: float) -> Transitions:
  """Reads windows, which may end early, as steps of the whole window.

  Args:
    window: `frames [B, S + n, H, W]`, `action [B]`, and `reward`, `discount`
      and `real`, `[B, n]` each.
    config: how many frames make up a state, and what rewards count.
    weight: `[B]`.
    discount: per step.
  """
  frames, stack = window['frames'], config.stack
  reward = window['reward']
  if config.clip_rewards:
    reward = jnp.clip(reward, -1.0, 1.0)
  returns, bootstrap = losses.n_step_return(
      reward, window['discount'], window['real'], discount)
  made = jnp.sum(window['real'], axis=1).astype(jnp.int32)
  last = jax.vmap(
      lambda f, m: jax.lax.dynamic_slice_in_dim(f, m, stack))(frames, made)
  return Transitions(
      as_state(frames[:, :stack]), window['action'], returns, bootstrap,
      as_state(last), weight)


def option_transitions(steps: Transitions, start: jax.Array, end: jax.Array,
                       dim: jax.Array, direction: jax.Array,
                       mask_terminal: bool) -> Transitions:
  """Replaces rewards by how far a dimension of phi moved.

  Args:
    steps: of the environment.
    start: `[B, d]` phi of `steps.state`.
    end: `[B, d]` phi of `steps.next_state`.
    dim: `[]` int, the dimension.
    direction: `[]` 1 or -1.
    mask_terminal: whether steps that end the episode for good have no reward.
  """
  moved = direction * (end[:, dim] - start[:, dim])
  if mask_terminal:
    moved = jnp.where(steps.bootstrap == 0.0, 0.0, moved)
  return steps._replace(returns=moved)


def make_value_step(
    networks: Networks, optimizer: optax.GradientTransformation,
    config: DCEOConfig, vmax: float
) -> Callable[[ValueLearner, Transitions, jax.Array],
              Tuple[ValueLearner, jax.Array, jax.Array]]:
  """Returns one Rainbow step of one value network.

  It is `(learner, steps, key) -> (learner, losses [B], q [B])`; the target
  network stays.
  """
  head = losses.make_head(vmax, config.num_atoms, config.distributional)

  def objective(params, target_params, steps, key):
    noise = key if config.noisy else None
    next_target = networks.q_logits(target_params, steps.next_state, noise)
    chosen_by = (networks.q_logits(params, steps.next_state, noise)
                 if config.double else next_target)
    next_action = jnp.argmax(head.q(chosen_by), axis=1)
    logits = networks.q_logits(params, steps.state, noise)
    found = head.loss(logits, steps.action, steps.returns, steps.bootstrap,
                      next_target, next_action)
    return jnp.mean(steps.weight * found), (
        found, jnp.max(head.q(logits), axis=1))

  def step(learner, steps, key):
    gradient, (found, q) = jax.grad(objective, has_aux=True)(
        learner.params, learner.target_params, steps, key)
    updates, opt = optimizer.update(gradient, learner.opt, learner.params)
    params = optax.apply_updates(learner.params, updates)
    return learner._replace(
        params=params, opt=opt, steps=learner.steps + 1), found, q

  return step


def copy_target(learner: ValueLearner, due: jax.Array) -> ValueLearner:
  """Copies the online network to the target if it is due."""
  return learner._replace(target_params=jax.tree.map(
      lambda p, t: jnp.where(due, p, t), learner.params, learner.target_params))


def at_option(options: ValueLearner, index: jax.Array) -> ValueLearner:
  """Returns one of the stacked options."""
  return jax.tree.map(lambda x: x[index], options)


def put_option(options: ValueLearner, index: jax.Array,
               learner: ValueLearner) -> ValueLearner:
  """Returns the stacked options with one of them replaced."""
  return jax.tree.map(lambda x, y: x.at[index].set(y), options, learner)


def by_dimension(name: str, values: jax.Array) -> Metrics:
  """Returns one metric for each of the values `[d]`, numbered from 0."""
  return {f'{name}_{i}': values[i] for i in range(values.shape[0])}


def representation_metrics(phi: jax.Array, graph: jax.Array) -> Metrics:
  """Returns what the log says of a representation.

  Args:
    phi: `[N, d]` of states drawn for themselves.
    graph: `[d]` how much each dimension changes from state to state.
  """
  deviation = jnp.std(phi, axis=0)
  centred = (phi - jnp.mean(phi, axis=0)) / jnp.maximum(
      deviation, ALIVE_DEVIATION)
  correlation = centred.T @ centred / phi.shape[0]
  return {
      'rep_graph': jnp.sum(graph),
      'rep_alive': jnp.sum(deviation > ALIVE_DEVIATION).astype(jnp.float32),
      'rep_deviation': jnp.mean(deviation),
      'rep_correlation': jnp.max(jnp.abs(jnp.tril(correlation, -1))),
      **by_dimension('rep_graph', graph),
      **by_dimension('rep_deviation', deviation),
  }


class Parts(NamedTuple):
  """The three parts of an update, and how a state begins.

  Attributes:
    init: `key -> state`.
    main: `(main, steps, key) -> (main, priorities [B], metrics)`.
    representation: `(representation, pairs) -> (representation, metrics)`.
    option: `(options, phi_params, steps, key) -> (options, metrics)`.
  """
  init: Callable[[jax.Array], TrainingState]
  main: Callable[..., Tuple[ValueLearner, jax.Array, Metrics]]
  representation: Callable[..., Tuple[Representation, Metrics]]
  option: Callable[..., Tuple[ValueLearner, Metrics]]


def make_parts(config: DCEOConfig, networks: Networks,
               items_per_call: int) -> Parts:
  """Builds the parts of an update.

  Args:
    config: settings.
    networks: of values and representation.
    items_per_call: items of the prioritised table in one learner call.
  """
  optimizer = optax.adam(config.learning_rate, eps=config.adam_epsilon)
  rep_optimizer = optax.adam(config.rep_learning_rate, eps=config.adam_epsilon)
  main_step = make_value_step(networks, optimizer, config, config.vmax)
  option_optimizer = optax.adam(
      config_lib.of_options(config, 'learning_rate'), eps=config.adam_epsilon)
  option_step = make_value_step(
      networks, option_optimizer, config, config.option_vmax)
  num_options = config_lib.num_options(config)
  dims = jnp.array(config_lib.option_dims(config), jnp.int32)
  directions = jnp.array(config_lib.option_directions(config), jnp.float32)

  def value_learner(key):
    params = networks.init_q(key)
    # A copy, so that both can be donated to the update.
    return ValueLearner(params, jax.tree.map(jnp.copy, params),
                        optimizer.init(params), jnp.zeros((), jnp.int32))

  def init(key):
    key_values, key_phi, key_state = jax.random.split(key, 3)
    # One after the other, so that it is compiled once for all.
    values = jax.lax.map(
        value_learner, jax.random.split(key_values, 1 + num_options))
    options: Any = ()
    representation: Any = ()
    if num_options:
      options = jax.tree.map(lambda x: x[1:], values)
      phi_params = networks.init_phi(key_phi)
      representation = Representation(
          phi_params, rep_optimizer.init(phi_params),
          laplacian.initial_duals(config.rep_dim))
    return TrainingState(
        main=jax.tree.map(lambda x: x[0], values), options=options,
        representation=representation,
        max_priority=jnp.asarray(config.initial_priority, jnp.float32),
        priorities=jnp.full((items_per_call,), UNCHANGED),
        key=key_state)

  def main(learner, steps, key):
    learner, found, q = main_step(learner, steps, key)
    learner = copy_target(
        learner, learner.steps % config_lib.target_updates(config) == 0)
    return learner, losses.priorities(found), {
        'main_loss': jnp.mean(found), 'main_q': jnp.mean(q)}

  def representation_objective(params, duals, pairs):
    num = pairs.start.shape[0]
    phi = networks.phi(params, jnp.concatenate(
        [pairs.start, pairs.end, pairs.u, pairs.v]))
    start, end, u, v = jnp.split(phi, [num, 2 * num, 3 * num])
    if config.laplacian == 'allo':
      loss, errors = laplacian.allo_loss(
          start, end, pairs.weight, u, v, duals)
    else:
      loss = laplacian.ggdo_loss(start, end, pairs.weight, u, v,
                                 config.laplacian == 'ggdo_log')
      errors = None
    graph = laplacian.graph_terms(start, end, pairs.weight)
    return loss, (errors, graph, u)

  def representation(rep, pairs):
    gradient, (errors, graph, u) = jax.grad(
        representation_objective, has_aux=True)(rep.params, rep.duals, pairs)
    updates, opt = rep_optimizer.update(gradient, rep.opt, rep.params)
    params = optax.apply_updates(rep.params, updates)
    duals, metrics = rep.duals, representation_metrics(u, graph)
    if errors is not None:
      duals = laplacian.ascend(duals, errors, config.dual_learning_rate,
                               config.barrier_rate)
      metrics['rep_error'] = jnp.max(jnp.abs(errors.mean))
      metrics['rep_barrier'] = duals.barrier
      metrics.update(by_dimension('rep_beta', jnp.diag(duals.beta)))
    return Representation(params, opt, duals), metrics

  def option(options, phi_params, steps, key):
    key_choice, key_noise = jax.random.split(key)
    chosen = jax.random.choice(
        key_choice, num_options, (config.options_per_step,), replace=False)
    # Rewards follow the representation as it is now, and do not change it.
    phi = jax.lax.stop_gradient(networks.phi(
        phi_params, jnp.concatenate([steps.state, steps.next_state])))
    start, end = jnp.split(phi, 2)

    def body(options, index):
      learner = at_option(options, index)
      due = learner.steps % config.option_target_period == 0
      followed = option_transitions(
          steps, start, end, dims[index], directions[index],
          config.mask_terminal_pairs)
      learner, found, q = option_step(learner, followed, key_noise)
      options = put_option(options, index, copy_target(learner, due))
      return options, {
          'option_loss': jnp.mean(found), 'option_q': jnp.mean(q),
          'option_reward': jnp.mean(jnp.abs(followed.returns))}

    options, metrics = jax.lax.scan(body, options, chosen)
    return options, jax.tree.map(jnp.mean, metrics)

  return Parts(init, main, representation, option)


def make_update(config: DCEOConfig, parts: Parts,
                read: Callable[[Mapping[str, Any]], Draws]) -> Update:
  """Returns the update of one learner call, `(state, batch) -> (state, ...)`.

  Args:
    config: settings.
    parts: of an update.
    read: turns the batch of one SGD step into what the parts learn from.
  """

  def sgd_step(state, batch):
    key, key_main, key_option = jax.random.split(state.key, 3)
    main_steps, pairs, option_steps = read(batch)
    learner, priorities, metrics = parts.main(state.main, main_steps, key_main)
    options, rep = state.options, state.representation
    if config_lib.num_options(config):
      rep, rep_metrics = parts.representation(rep, pairs)
      options, option_metrics = parts.option(
          options, rep.params, option_steps, key_option)
      metrics = {**metrics, **rep_metrics, **option_metrics}
    drawn = batch['main']['action'].shape[0]
    state = state._replace(
        main=learner, options=options, representation=rep, key=key,
        max_priority=jnp.maximum(state.max_priority, jnp.max(priorities)))
    # Only what the main network saw has a new priority.
    padded = jnp.full((drawn,), UNCHANGED).at[:len(priorities)].set(priorities)
    return state, (padded, metrics)

  def update(state, batch):
    calls = config.num_sgd_steps_per_step
    split = jax.tree.map(
        lambda x: x.reshape(calls, x.shape[0] // calls, *x.shape[1:]), batch)
    state, (priorities, metrics) = jax.lax.scan(sgd_step, state, split)
    return (state._replace(priorities=priorities.reshape(-1)),
            {**jax.tree.map(jnp.mean, metrics),
             'max_priority': state.max_priority})

  return update


def read_draws(config: DCEOConfig) -> Callable[[Mapping[str, Any]], Draws]:
  """Returns how the batch of one SGD step is read.

  With uniform sampling each part has a table of its own. With prioritised
  sampling all draws are from the main one: first those of the main network,
  then pairs, states twice, and the option's steps.
  """
  size, reps = config.batch_size, config.rep_batch_size
  discount = config.discount
  option_discount = config_lib.of_options(config, 'discount')

  def weights(window):
    return losses.importance_weights(
        window['probability'], config.importance_exponent)

  def pair_weight(ended):
    ended = ended if config.mask_terminal_pairs else jnp.zeros_like(ended)
    return 1.0 - ended

  def rows(tree: Dict[str, jax.Array], begin: int,
           num: int) -> Dict[str, jax.Array]:
    return {name: x[begin:begin + num] for name, x in tree.items()}

  def uniform(batch):
    main = transitions(
        batch['main'], config, weights(batch['main']), discount)
    if not config_lib.num_options(config):
      return main, None, None
    pairs = batch['pairs']
    start = as_state(pairs['frames'])
    drawn = StatePairs(
        start[:reps], as_state(pairs['later_frames'][:reps]),
        pair_weight((pairs['discount'][:reps] == 0.0).astype(jnp.float32)),
        start[reps:2 * reps], start[2 * reps:])
    return main, drawn, transitions(
        batch['options'], config, jnp.ones((size,)), option_discount)

  def prioritized(batch):
    table = dict(batch['main'])
    head = rows(table, 0, size)
    pair = transitions(
        rows(table, size, reps), config, jnp.ones((reps,)), discount)
    others = as_state(table['frames'][size + reps:size + 3 * reps,
                                      :config.stack])
    drawn = StatePairs(
        pair.state, pair.next_state,
        pair_weight((pair.bootstrap == 0.0).astype(jnp.float32)),
        others[:reps], others[reps:])
    tail = rows(table, size + 3 * reps, size)
    return (transitions(head, config, weights(head), discount), drawn,
            transitions(tail, config, weights(tail), option_discount))

  prior = config.aux_sampling == 'prioritized'
  return prioritized if prior and config_lib.num_options(config) else uniform
