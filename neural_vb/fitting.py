"""``fit``: defaults and wiring, from a user's log density or joint distribution to a posterior."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from neural_vb import (
    _checks,
    arguments,
    checkpoints,
    contrasts,
    critics,
    faults,
    finishing,
    mixtures,
    preflight,
    ratio_losses,
    restarting,
    samplers,
    starting,
)
from neural_vb._text import a_kind, counted
from neural_vb._types import Array, Base, Contrast, Critic, Derived, Parameters, RatioLoss, Sampler, Status, Target
from neural_vb.avb import Parts
from neural_vb.compilation import quiet_tracing
from neural_vb.configuration import TrainingConfig, slowed
from neural_vb.errors import ConfigurationError, StartError, UnsupportedError
from neural_vb.history import History
from neural_vb.networks import MLP
from neural_vb.numpy_densities import naming_raised
from neural_vb.optimiser import Layout
from neural_vb.posterior import Posterior
from neural_vb.priors import JointPrior
from neural_vb.probing import naming
from neural_vb.progress import Progress
from neural_vb.provenance import versions
from neural_vb.resuming import call_of, opened, seconds_between
from neural_vb.targets import JointTarget, as_target
from neural_vb.training import Callback, train
from neural_vb.warm_start import WarmStart, longest_score, warm_start
from neural_vb.whitening import WhitenedTarget, Whitening

NUM_SCORES = 2_048
_ZERO = MLP((64, 64), output_scale=0.0)
# The default parts with networks that add nothing to the mixture at the start; they learn as the others do.
AT_REST = Parts(
    samplers.ResidualSampler(_ZERO),
    critics.MLPCritic(_ZERO),
    contrasts.Flow(network=MLP((64,), output_scale=0.0), copies=1),
    ratio_losses.logistic,
)
PROPER = "is the density proper? Where it is, and as wide as that, infer the logarithm, without a bijector"
EASY = 0.015  # nats between mixture and target: an effective sample size of 97 %


@quiet_tracing()
def fit(
    target: Any,
    data: Mapping[str, Any] | None = None,
    *,
    event_shape: Any = None,
    bijector: Any = None,
    derived: Derived | None = None,
    start: Any = None,
    vectorized: bool = True,
    sampler: Sampler | None = None,
    critic: Critic | None = None,
    contrast: Contrast | None = None,
    ratio_loss: RatioLoss = ratio_losses.logistic,
    config: TrainingConfig | None = None,
    seed: int = 0,
    num_restarts: int = 1,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | Path | None = None,
    every: float | None = None,
) -> Posterior:
    """Fit an implicit posterior to an unnormalised log density.

    The sampler ascends E_q[log p - log r - T], which equals the evidence lower bound E_q[log p - log q] when the
    critic T is at its optimum log q - log r (Mescheder, Nowozin & Geiger 2017, arXiv 1701.04722, with r a normalizing
    flow).

    >>> import tensorflow as tf
    >>> posterior = fit(lambda z: -0.5 * tf.reduce_sum(z**2, axis=-1), event_shape=[2], progress=False)
    >>> posterior.sample(5, seed=1).shape
    (5, 2)

    Args:
        target: a TensorFlow callable, [n, *event_shape] -> [n] in nats; or a TFP joint distribution; or a ``Target``.
        data: observed parts of a joint distribution, by name; without, its own density is fitted, the prior.
        event_shape: of a callable: a shape, or a dict of names -> shapes for a callable with keyword arguments.
        bijector: of a callable: from the real line to each part's support; identity where a dict has no entry. The
            Jacobian is added for you.
        derived: from draws to a dict of named derived quantities [S, ...], carried through samples, tables and ArviZ.
        start: a point; or draws [S, ...] near the posterior, of which those on the boundary of the support are left
            out; or an earlier ``Posterior`` to continue from.
        vectorized: False for a callable that takes one point.
        sampler: default ``ResidualSampler()``.
        critic: default ``MLPCritic()``.
        contrast: default ``Flow()``; ``MomentMatched()`` and ``Prior()`` are the paper's own.
        ratio_loss: what the critic minimises.
        config: training constants; the defaults are meant for every posterior. Without one, and with the parts left
            at their defaults, a posterior that a few Gaussians meet within .015 nats, or in curved coordinates within
            .045, is not trained further.
        seed: of all random numbers. The same seed gives the same draws on the same machine in the same mode.
        num_restarts: fits from as many seeds. That with the largest ELBO, of those that came to their end, is
            returned, with all as ``restarts``: ``disagreement()`` compares them, ``to_arviz`` makes each a chain.
        progress: show a bar.
        callbacks: called with (step, metrics) after each window of steps, if there are any; a true value stops the run.
        checkpoint: a folder for the state of the fit. After a kill the same call goes on from there, to the same bits
            on the same machine in the same mode; after its end it returns at once.
        every: seconds between two states of ``checkpoint``, 10 when None; they are taken between windows of steps, and
            after the warm start.

    Raises:
        NeuralVBError: one of its kinds, before training starts; see ``neural_vb.errors``.
    """
    _checks.instance("config", config, TrainingConfig)
    if checkpoint is not None:
        _checks.folder("checkpoint", checkpoint)
    own = {"sampler": sampler, "critic": critic, "contrast": contrast}
    if _checks.whole("num_restarts", num_restarts) > 1:
        again = functools.partial(
            fit,
            target,
            data,
            sampler=sampler,
            critic=critic,
            contrast=contrast,
            event_shape=event_shape,
            bijector=bijector,
            derived=derived,
            start=start,
            vectorized=vectorized,
            ratio_loss=ratio_loss,
            config=config,
            progress=progress,
            callbacks=callbacks,
            every=every,
        )
        return restarting.best_of(again, num_restarts, _checks.seed(seed), checkpoint)
    arguments.check_options(
        vectorized=vectorized, progress=progress, callbacks=callbacks, derived=derived, ratio_loss=ratio_loss, **own
    )
    asked = (config, sampler, critic, contrast, None if ratio_loss is ratio_losses.logistic else ratio_loss)
    plain = all(choice is None for choice in asked)
    seed, config = _checks.seed(seed), config or TrainingConfig()
    every = seconds_between(every, checkpoint)
    with naming():
        given = as_target(target, data, event_shape=event_shape, bijector=bijector, vectorized=vectorized)
        arguments.check_size(given)
        arguments.check_data(given)
        if arguments.is_numpy(given):
            config = replace(config, jit_compile=False)
        points, num_starts, moments, start_notes = _start(given, start, seed)
    call = call_of(seed, config, asked, points, moments)
    running = naming(tf.errors.InvalidArgumentError)  # assertions of values that only some draws break
    with Progress(enabled=progress) as bar, opened(checkpoint, every, call) as states, running, naming_raised(given):
        bar.stage("check")
        finish_notes: tuple[str, ...] = ()
        examination = preflight.examine(given, points, seed=seed)
        trained_target = examination.target
        if derived is not None:
            best = tf.constant(examination.best[: arguments.NUM_TRIED], trained_target.dtype)
            draws = tf.nest.map_structure(np.asarray, trained_target.constrain(best))
            arguments.try_derived(derived, draws, len(best))
        found = None if states is None else states.find(trained_target)
        if isinstance(start, Posterior):
            _refuse_parts(**own)
            warm, parts, parameters = _continue(start, examination, config)
        else:
            chosen = Parts(
                sampler or samplers.ResidualSampler(),
                critic or critics.MLPCritic(),
                contrast or contrasts.Flow(),
                ratio_loss,
            )
            if asked[1:] != (None,) * 4:
                unit = Whitening(np.zeros(given.event_size), np.eye(given.event_size))
                tried = replace(chosen, contrast=_resolve(chosen.contrast, WhitenedTarget(trained_target, unit)))
                arguments.try_parts(tried, given.event_size)
            warm = (
                found.warm
                if found is not None
                else warm_start(
                    trained_target,
                    evaluate=examination.precise,
                    points=points,
                    seed=seed,
                    jit_compile=config.jit_compile,
                    num_starts=num_starts,
                    moments=moments,
                    tolerance=EASY if plain else 0.0,
                    report=bar.stage,
                )
            )
            at_rest = _drawn(AT_REST, _initial_parameters(AT_REST, warm.base, seed), warm.target, seed)
            faults.check_reach(trained_target, at_rest)
            if warm.met is not None:
                parts = AT_REST
            else:
                parts = replace(chosen, contrast=_resolve(chosen.contrast, warm.target))
            parameters = _initial_parameters(parts, warm.base, seed)
        if states is not None and found is None:
            states.begin(warm)
        if warm.met is None:
            bar.stage("compile")
            trained = train(
                parts,
                warm.target.log_prob,
                parameters,
                config=slowed(config, given.event_size),
                seed=_noise_seed(seed, start),
                offset=warm.target.offset,
                callbacks=(bar.window, *callbacks),
                warm_start=warm.numbers,
                jit_compile=warm.jit_compile,
                resume=None if found is None else found.snapshot,
                keep=None if states is None else states.keep,
            )
            history, status, jit_compile = trained.history, trained.status, trained.jit_compile
            if status.reason == "non_finite":
                status = _explained(
                    status, parts, Layout(parameters).unpack(trained.state.parameters), warm.target, seed
                )
            elif status.reason == "interrupted" and states is not None:
                status = status._replace(advice="repeat the same call to go on from the checkpoint")
            parameters = trained.parameters
            ended = status.reason == "plateau" or (plain and status.reason == "step_limit")
            ended &= not isinstance(start, Posterior)  # whose numbers are of other parts, and may be of other data
            lost = finishing.shortfall(history, warm.numbers.get("bound")) if ended else 0.0
            if lost:
                parts, status = AT_REST, _no_gain(lost)
                parameters = _initial_parameters(parts, warm.base, seed)
            elif ended:
                warm, finish_notes = finishing.finish(warm, parts, parameters, examination.precise, seed)
        else:
            elbo, error = warm.met.elbo + warm.target.offset, warm.met.standard_error
            said = f"the warm start is, where it has draws, within {warm.met.divergence:.1g} nats of the target"
            said += "; no steps were needed"
            history, status = History.untrained(elbo, error, warm.numbers), Status("met", said, "")
            jit_compile = warm.jit_compile
        beyond, share = faults.lost(trained_target, _drawn(parts, parameters, warm.target, seed))
        if share > faults.MOST_LOST and status.reason not in ("interrupted", "callback"):
            status = Status("non_finite", f"{status.message}, with draws too large for numbers: {beyond}", PROPER)
    return Posterior(
        parts,
        parameters,
        warm.target,
        history,
        status,
        seed,
        derived,
        (*_about(given), *start_notes, *examination.notes, *finish_notes, *([beyond] if beyond else [])),
        versions(jit_compile, trained_target.dtype),
    )


def _no_gain(lost: float) -> Status:
    said = f"training ended {lost:.3g} nats below the Gaussians that it began from, whose draws these are"
    return Status("no_gain", said, "train more slowly: config=TrainingConfig(sampler_rate=1e-4, critic_rate=1e-3)")


def _explained(status: Status, parts: Parts, parameters: Parameters, target: WhitenedTarget, seed: int) -> Status:
    """The status with the part of the log density that broke, at draws of the last good state."""
    what = faults.broken(target.target, _drawn(parts, parameters, target, seed))
    return status._replace(message=f"{status.message}: {what}") if what else status


def _drawn(parts: Parts, parameters: Parameters, target: WhitenedTarget, seed: int) -> Array:
    """Some draws z [S, D] of the sampler."""
    u = parts.sampler(parameters["sampler"], NUM_SCORES, None, tf.constant([seed, 0])).z[:, 0]
    return target.whitening.to_z(u).numpy()


def _about(target: Target) -> tuple[str, ...]:
    if isinstance(target, JointTarget) and not target.data:
        return ("no data= was given: these are draws from the joint distribution itself, the prior",)
    return ()


def load(
    path: str | Path,
    target: Any,
    data: Mapping[str, Any] | None = None,
    *,
    event_shape: Any = None,
    bijector: Any = None,
    derived: Derived | None = None,
    vectorized: bool = True,
    sampler: Sampler | None = None,
    critic: Critic | None = None,
    contrast: Contrast | None = None,
    ratio_loss: RatioLoss | None = None,
) -> Posterior:
    """Read a posterior written by ``Posterior.save``; the target is passed again, as to ``fit``, for it is code.

    Raises:
        FileFormatError: the folder is missing, damaged, or was fitted to another target or to other data.
        ConfigurationError: a part of the user's own, or ``derived``, has to be passed again, or an option is of another
            kind.
        DataError, EventShapeError: ``data`` of a joint, or ``event_shape`` of a log density, was left out.
    """
    own = {"sampler": sampler, "critic": critic, "contrast": contrast}
    asked = ratio_losses.logistic if ratio_loss is None else ratio_loss
    arguments.check_options(
        vectorized=vectorized, progress=False, callbacks=(), derived=derived, ratio_loss=asked, **own
    )
    users = {**own, "ratio_loss": ratio_loss, "derived": derived}
    supplied = {name: part for name, part in users.items() if part is not None}
    checkpoints.confirm_arguments(path, target, data, event_shape, supplied=supplied)
    with naming():
        given = as_target(target, data, event_shape=event_shape, bijector=bijector, vectorized=vectorized)
    record = checkpoints.load(path, given, supplied=supplied, resolve=_resolve)
    return Posterior(*record[:6], derived, *record[6:])


def _start(target: Target, start: Any, seed: int) -> starting.Start:
    if not isinstance(start, Posterior):
        return starting.find(target, start, seed)
    if start.target.event_size != target.event_size:
        raise StartError(
            expected=f"an earlier posterior of {counted(target.event_size, 'unconstrained dimension')}",
            got=f"one of {start.target.event_size}",
            fix="pass a posterior of the same model, or leave start= out",
        )
    return starting.Start(start.sample_unconstrained(starting.NUM_POINTS, seed=seed))


def _refuse_parts(**parts: Any) -> None:
    for name, part in parts.items():
        if part is not None:
            raise ConfigurationError(
                expected=f"no `{name}` with an earlier posterior as start, whose parts are trained on",
                got=f"{name}={type(part).__name__}(...)",
                fix=f"leave `{name}` out, or pass draws: start=posterior.sample(...)",
            )


def _continue(
    earlier: Posterior, examination: preflight.Examination, config: TrainingConfig
) -> tuple[WarmStart, Parts, Parameters]:
    """Coordinates, parts and parameters of an earlier posterior, for more steps or other data of the same shape."""
    numbers = dict(earlier.history.warm_start)
    base = mixtures.standard_base(examination.target.event_size)
    jit_compile = config.jit_compile and earlier.versions.get("jit_compile", "True") == "True"
    # Other data have other scores: the bound on them is measured anew, at the earlier posterior's draws.
    whitening = earlier.whitened.whitening
    u = whitening.to_u(earlier.sample_unconstrained(NUM_SCORES, seed=earlier.seed))
    max_score = max(earlier.whitened.max_score, longest_score(examination.precise, whitening, u))
    warm = WarmStart(
        replace(earlier.whitened, target=examination.target, max_score=max_score), base, numbers, jit_compile
    )
    return warm, earlier.parts, earlier.parameters


def _noise_seed(seed: int, start: Any) -> int:
    """Seed of training; a continued run must not see the noise of the run before it again."""
    if not isinstance(start, Posterior):
        return seed
    return int(np.random.SeedSequence([seed, *start.history.step[-1:]]).generate_state(1)[0] >> 1)


def _initial_parameters(parts: Parts, base: Base, seed: int) -> Parameters:
    seeds = np.random.SeedSequence(seed).generate_state(3)
    return {
        "sampler": parts.sampler.initial_parameters(base, 0, int(seeds[0])),
        "critic": parts.critic.initial_parameters(base, 0, int(seeds[1])),
        "contrast": parts.contrast.initial_parameters(base, 0, int(seeds[2])),
    }


def _resolve(contrast: Contrast, target: WhitenedTarget) -> Contrast:
    """A prior contrast in the target's coordinates; others as they are."""
    if not isinstance(contrast, contrasts.Prior):
        return contrast
    distribution = contrast.distribution
    if distribution is None and isinstance(target.target, JointTarget):
        distribution = JointPrior(target.target)
    if distribution is None:
        raise UnsupportedError(
            expected="a prior to contrast with",
            got=f"{a_kind(target.target)}, which has none that can be told from its likelihood",
            fix="pass contrast=Prior(distribution) over the unconstrained vector [D], or use the default contrast",
        )
    whitening = target.whitening
    return contrasts.Prior(distribution, tuple(whitening.shift), tuple(map(tuple, whitening.scale_tril)))
