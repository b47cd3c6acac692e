"""Gradient descent on a model's loss, by any optimiser of Optax."""

import inspect
import types
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vae_jax.core import Learner
from vae_jax.spec import (
    BadOption,
    build,
    call,
    first_line,
    integers,
    names,
    nearest,
    numbers,
    schedules,
    shown,
    under,
)

SCHEDULES = types.SimpleNamespace(  # those of Optax that are functions of numbers
    **{name: f for name, f in vars(optax.schedules).items() if name.endswith(("_schedule", "_decay"))}
)
BELOW_1, NOT_NEGATIVE = {"at_least": 0, "below": 1}, {"at_least": 0}
BOUNDS = {  # of options that many optimisers share, by name
    **dict.fromkeys(("b1", "b2", "b3", "decay", "momentum", "decay_rate"), BELOW_1),
    **dict.fromkeys(("eps", "eps_root", "weight_decay", "noise_scale", "initial_accumulator_value"), NOT_NEGATIVE),
}
WARM_UP = 100  # steps that are never skipped for their norm, and the memory of the running mean of norms


@struct.dataclass
class State:
    """The state of a run: the same state and the same data give the same run, so that it can be resumed."""

    step: jax.Array
    key: jax.Array
    params: dict
    opt_state: tuple
    average: dict | None  # the running mean of the parameters, or None
    skipped: jax.Array  # steps whose loss or gradient was not finite, or whose gradient was too large
    skipped_in_row: jax.Array  # steps that were not finite, since the last finite one
    mean_norm: jax.Array | None  # the running mean of the gradient's norm if large ones are skipped, or None


class Optimizer(optax.GradientTransformationExtraArgs):
    """An optimiser of Optax that tells its learning rates: `rates(opt_state)` -> {metric: rate of the next update}."""

    parts = ()  # the parts of the parameters that have an optimiser of their own (`by_part`)


def with_rates(transformation, rates) -> Optimizer:
    """Return `transformation` as an `Optimizer` with this function `rates`."""
    optimizer = Optimizer(*optax.with_extra_args_support(transformation))
    optimizer.rates = rates
    return optimizer


def rates_of(optimizer):
    """Return the function `rates` of an optimiser; for one of Optax itself, which does not tell, there are none."""
    return getattr(optimizer, "rates", lambda opt_state: {})


def optimizer(*, name, learning_rate, schedule=None, clip_norm=0.0, **options) -> Optimizer:
    """Return the optimiser of Optax called `name`, which tells its `learning_rate` at every update.

    Args:
      name: a function of `optax`, such as "adam", or "muon", the function `muon` here.
      learning_rate: a number above 0.
      schedule: {"name": a schedule of Optax, options}, a factor on `learning_rate`. Steps that are keys may be strings,
        as JSON has them.
      clip_norm: above 0, the global norm of the gradient is clipped to it first.
      **options: keyword arguments of the optimiser, such as `weight_decay`.

    Raises `BadOption` that names an unknown key or value.
    """
    own = {"muon": muon}
    function = own.get(name, getattr(optax, name, None)) if isinstance(name, str) and name[:1] != "_" else None
    if not inspect.isfunction(function) or "learning_rate" not in inspect.signature(function).parameters:
        raise BadOption(f"name: {shown(name)} is no optimiser of optax (adam, adamw, sgd ...), nor muon")
    numbers(learning_rate=learning_rate, above=0)
    numbers(clip_norm=clip_norm, at_least=0)
    for option, value in options.items():
        if (option in BOUNDS and value is not None) or isinstance(value, float):
            numbers(**{option: value}, **BOUNDS.get(option, {}))
    rate = learning_rate
    if schedule:
        factor = _schedule(schedule)
        rate = lambda count: learning_rate * factor(count)  # noqa: E731
    with under(f" ({name})"):
        try:
            transformation = call(function, options, where="", learning_rate=rate)
        except TypeError as error:
            raise BadOption(f": {first_line(error)}") from error
    _check_step(name, transformation)
    if clip_norm:
        transformation = optax.chain(optax.clip_by_global_norm(clip_norm), transformation)

    def rates(opt_state):
        if not schedule:
            return {"learning_rate": jnp.asarray(learning_rate, jnp.float32)}
        counts = optax.tree_utils.tree_get_all_with_path(opt_state, "count")  # of updates; all of them are equal
        return {"learning_rate": rate(counts[0][1])} if counts else {}

    return with_rates(transformation, rates)


def muon(learning_rate, *, beta=0.95, ns_steps=5, rms=0.2, weight_decay=0.0) -> optax.GradientTransformation:
    """Return Muon: the momentum of each matrix is made orthogonal before the step. Adam moves all other parameters.

    W ← W - η (rms √max(m, n) U Vᵀ + λ W),   where U S Vᵀ = M [m, n], the (Nesterov) mean of the gradients

    arXiv:2502.16982 sec. 2. U Vᵀ comes from `ns_steps` of Newton-Schulz, with singular values near 1, so that all
    directions of a matrix learn at the same pace. The root mean square of an update is about `rms`, as that of Adam is.
    A learning rate of Adam is therefore a good first guess. Adam itself has this rate and Nesterov momentum.

    The last two axes of a parameter are the matrix: each tap of a convolution and each of stacked layers has its own.
    Embeddings and output layers are matrices too.

    Newton-Schulz costs about 25 m n min(m, n) operations for each matrix and update, whatever the batch. This is little
    where a step uses a matrix at many places, as in a convolution, and much in an MLP with small batches.

    Args:
      learning_rate: η, a number or a function of the update.
      beta: the decay of the mean of the gradients.
      ns_steps: steps of Newton-Schulz.
      rms: the root mean square of the update of a matrix, divided by η.
      weight_decay: λ of matrices.

    Raises `BadOption` for options out of range.
    """
    integers(ns_steps=ns_steps)
    numbers(beta=beta, **BELOW_1)
    numbers(rms=rms, above=0)

    def matrices(params):
        axes = optax.contrib.MuonDimensionNumbers(-2, -1)
        return jax.tree.map(lambda w: axes if w.ndim >= 2 else None, params)

    options = {"beta": beta, "ns_steps": ns_steps, "consistent_rms": rms, "weight_decay": weight_decay}
    return optax.contrib.muon(learning_rate, **options, muon_weight_dimension_numbers=matrices)


def by_part(*, default, **parts) -> Optimizer:
    """Return an optimiser that treats the parts of the parameters differently.

    Each of `parts`, {part of the parameters: optimiser}, has its own optimiser, and all others have `default`. Raises
    `BadOption` at the start of training for a part that the model does not have.

    `restricted(names)` of the result is the optimiser of some of the parts (`alternating`).
    """

    def labels(params):
        if unknown := [part for part in parts if part not in params]:
            raise BadOption(f": no part {unknown[0]!r} of the model learns{nearest(unknown[0], params)}")
        return {part: part if part in parts else "default" for part in params}

    optimizers = {"default": default, **parts}

    def rates(opt_state):
        told = {part: rates_of(one)(opt_state.inner_states[part].inner_state) for part, one in optimizers.items()}
        return {f"{name}_{part}": rate for part, of_part in told.items() for name, rate in of_part.items()}

    whole = with_rates(optax.partition(optimizers, labels), rates)
    whole.parts = tuple(parts)
    whole.restricted = lambda names: by_part(default=default, **{part: parts[part] for part in parts if part in names})
    return whole


def _check_step(name, transformation):
    """Raise `BadOption` if an optimiser cannot make a step with the arguments that the learner passes."""
    params = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}
    extra = {"value": jnp.zeros(()), "key": jax.random.key(0), "batch": {}}

    def step(params, extra):
        state = transformation.init(params)
        updates, new = optax.with_extra_args_support(transformation).update(params, state, params, **extra)
        return (params, state), (optax.apply_updates(params, updates), new)

    try:
        before, after = jax.eval_shape(step, params, extra)
    except Exception as error:
        raise BadOption(
            f" ({name}) cannot make a step from a gradient with these options; take adam, adamw, sgd ... "
            f"({first_line(error)})"
        ) from error
    if before != after:
        raise BadOption(f" ({name}) changes the shapes of its state; take adam, adamw, sgd ...")


def _schedule(spec):
    """Return the schedule of Optax that `spec` names, step -> factor.

    Its keys that are steps may be strings: {"boundaries_and_scales": {"1000": 0.1}}. Raises `BadOption` for an unknown
    schedule, and for one that is negative at some step.
    """
    with under("schedule"):
        if not isinstance(spec, Mapping):
            raise BadOption(f" must be a dict with a 'name' and its options, got {shown(spec)}")
        options = dict(spec)
        for option, value in spec.items():
            if isinstance(value, Mapping):
                if wrong := [step for step in value if not str(step).isdigit()]:
                    raise BadOption(f"{option}: its keys must be steps, got {wrong[0]!r}")
                integers(**{f"{option}: each step": int(step) for step in value}, at_least=0)
                numbers(**{f"{option}.{step}": factor for step, factor in value.items()}, at_least=0)
                options[option] = {int(step): factor for step, factor in value.items()}
            elif option.endswith("steps"):
                integers(**{option: value}, at_least=0 if option == "warmup_steps" else 1)
            elif option == "transition_begin":
                integers(**{option: value}, at_least=0)
            elif isinstance(value, int | float):
                numbers(**{option: value})
    try:
        schedule = build(SCHEDULES, options, where="schedule")
    except (TypeError, AttributeError, IndexError) as error:
        raise BadOption(f"schedule: {first_line(error)}; got {shown(spec)}") from error
    try:
        schedules(schedule=schedule)
    except BadOption as error:
        raise BadOption(f"{error}; got {shown(spec)}") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise BadOption(f"schedule: {first_line(error)}; got {shown(spec)}") from error
    return schedule


def gradient(model, optimizer, *, average_decay=0.0, skip_above=0.0, only=()) -> Learner:
    """Return the learner θ ← θ - optimiser(∇ mean_B loss).

    The metrics are the loss and its terms, `grad_norm`, the learning rate if the optimiser tells it, and `skipped`.

    With `average_decay` d > 0, evaluation uses θ̄ ← d_t θ̄ + (1 - d_t) θ, d_t = min(d, (1 + t)/(10 + t)), so that the
    start is forgotten. A step whose loss or gradient is not finite changes only the counts.

    params["state"], such as running means or a codebook, is not a part of θ. Its next value is `Aux.state` of the loss.
    The optimiser, the norm and the average do not see it. With `only`, an entry of the state that has the name of a
    part follows only if this part learns: params["state"]["encoder"], a codebook, rests while only the prior learns.

    With `skip_above` c > 1, a step t ≥ 100 is skipped too if the norm of its gradient exceeds c m_t. m is the running
    mean of the norms, m_{t+1} = m_t + (min(norm, c m_t) - m_t) / min(t + 1, 100). Every skipped step raises m by the
    factor 1 + (c - 1)/100. If the gradient stays larger by a factor J, it is therefore followed again after ⌈log(J/c) /
    log(1 + (c - 1)/100)⌉ steps, 134 for c = 10 and J = 1e6. Such skips never stop a run; they do not count as not
    finite.

    Args:
      model: a `core.Model`.
      optimizer: an optimiser of Optax; it gets `value`, `key` and `batch` (Optax's extra arguments).
      average_decay: d in [0, 1); 0 for no average.
      skip_above: c, or 0 for never. 0 < c ≤ 1 would not recover and is refused.
      only: the parts of the parameters that learn; the others keep their initial values. () for all.

    Raises `BadOption` for an option out of range, and at the start of training for an unknown part.
    """
    check(average_decay=average_decay, skip_above=skip_above)
    names(only=only)
    rates = rates_of(optimizer)
    optimizer = optax.with_extra_args_support(optimizer)

    def moving(params):
        if unknown := [part for part in only if part not in params]:
            raise BadOption(f"only: the model has no part {unknown[0]!r}{nearest(unknown[0], params)}")
        learned = _learned(params)
        return {part: learned[part] for part in only} if only else learned

    def whole(params, moved):
        return {**params, **moved} if only or _has_state(params) else moved

    def init(key, batch):
        key_params, key_steps = jax.random.split(key)
        params = model.init(key_params, batch)
        average = jax.tree.map(jnp.copy, _learned(params)) if average_decay else None
        zero = jnp.zeros((), jnp.int32)
        mean_norm = jnp.zeros(()) if skip_above else None
        return State(zero, key_steps, params, optimizer.init(moving(params)), average, zero, zero, mean_norm)

    def step(state, batch):
        key = jax.random.fold_in(state.key, state.step)

        def mean_loss(moved):
            loss, aux = model.loss(whole(state.params, moved), key, batch, state.step)
            return jnp.mean(loss), aux._replace(terms=jax.tree.map(jnp.mean, aux.terms))

        (loss, aux), gradients = jax.value_and_grad(mean_loss, has_aux=True)(moving(state.params))
        grad_norm = optax.global_norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        if aux.state is not None:
            finite &= jnp.isfinite(optax.global_norm(aux.state))
        accepted, mean_norm = finite, state.mean_norm
        if skip_above:
            limit = jnp.where(mean_norm > 0, skip_above * mean_norm, jnp.inf)  # 0 before the first norm
            accepted = finite & ((grad_norm <= limit) | (state.step < WARM_UP))
            rate = jnp.where(mean_norm > 0, 1.0 / jnp.minimum(state.step + 1, WARM_UP), 1.0)
            mean_norm = jnp.where(finite, mean_norm + rate * (jnp.minimum(grad_norm, limit) - mean_norm), mean_norm)

        # The keys of steps are folds of numbers of at least 0, so this one is new. It travels as numbers: the vmap of a
        # sweep turns the `cond` below into a selection, whose sides would both consume a key.
        key_data = jax.random.key_data(jax.random.fold_in(state.key, -1 - state.step))

        def update(params, opt_state, average):
            extra = {"value": loss, "key": jax.random.wrap_key_data(key_data), "batch": batch}
            learned = moving(params)
            updates, opt_state = optimizer.update(gradients, opt_state, learned, **extra)
            params = whole(params, optax.apply_updates(learned, updates))
            if aux.state is not None:
                params = {**params, "state": _followed(params, aux.state, only)}
            if average_decay:
                decay = jnp.minimum(average_decay, (1.0 + state.step) / (10.0 + state.step))
                average = jax.tree.map(lambda a, p: a + (1.0 - decay) * (p - a), average, _learned(params))
            return params, opt_state, average

        # `cond`, not `where`: a select over every parameter would cost a fifth of a small model's step on CPU.
        before = (state.params, state.opt_state, state.average)
        params, opt_state, average = jax.lax.cond(accepted, update, lambda *before: before, *before)
        skip = 1 - accepted.astype(jnp.int32)
        state = State(
            step=state.step + 1,
            key=state.key,
            params=params,
            opt_state=opt_state,
            average=average,
            skipped=state.skipped + skip,
            skipped_in_row=(state.skipped_in_row + 1) * (1 - finite.astype(jnp.int32)),
            mean_norm=mean_norm,
        )
        metrics = {"loss": loss, **aux.terms, "grad_norm": grad_norm, **rates(before[1])}
        return state, metrics | {"skipped": skip.astype(jnp.float32)}

    def params(state):
        return state.params if state.average is None else whole(state.params, state.average)

    return Learner(init, step, params)


def check(*, average_decay=0.0, skip_above=0.0):
    """Raise `BadOption` for an option of `gradient` that is out of range."""
    numbers(average_decay=average_decay, at_least=0, below=1)
    numbers(skip_above=skip_above, at_least=0)
    if skip_above and not skip_above > 1:
        raise BadOption(f"skip_above must be above 1, or 0 for never, got {skip_above}")


def _has_state(params) -> bool:
    return isinstance(params, dict) and "state" in params


def _followed(params, state, only):
    """Return the next state; with `only`, entries that have the name of a part that does not learn stay."""
    resting = [name for name in state if name in params and name not in only] if only else ()
    return {**state, **{name: params["state"][name] for name in resting}} if resting else state


def _learned(params):
    """Return the parameters without params["state"]."""
    return {part: tree for part, tree in params.items() if part != "state"} if _has_state(params) else params
