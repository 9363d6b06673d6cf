"""Two rivals made of ``neural_vb``'s own parts, so that only the way of training differs.

Both start where ``neural_vb`` starts: in the coordinates and at the mixture of its warm start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.problem import Problem
from benchmarks.runs import Run, variational_run

NUM_POINTS = 64
NUM_STEPS = 5_000
BATCH = 256

MEDIAN_DRAWS = 32
ELBO_DRAWS = 20_000


class Trial(NamedTuple):
    """One way of training.

    Attributes:
        parameters: at the start, a dict of groups.
        gain: (parameters, seed [2]) -> what is ascended.
        draw: (parameters, S, seed [2]) -> draws [S, D] in whitened coordinates.
        elbo: (parameters, S, seed [2]) -> the ELBO less the target's offset, or None where q has no density.
        num_steps: of Adam.
    """

    parameters: Any
    gain: Callable[[Any, Any], Any]
    draw: Callable[[Any, int, Any], Any]
    elbo: Callable[[Any, int, Any], Any] | None
    num_steps: int


def run_flow(problem: Problem, seed: int) -> Run:
    """The contrast's flow alone, an explicit density: it ascends the ELBO itself, the reverse KL's way."""
    return _run(problem, seed, flow_trial)


def run_stein(problem: Problem, seed: int) -> Run:
    """The same implicit sampler, trained on a kernelised Stein discrepancy instead of against a critic."""
    return _run(problem, seed, stein_trial)


def _run(problem: Problem, seed: int, make: Callable[[Any, int], Trial]) -> Run:
    start = time.perf_counter()
    import tensorflow as tf

    import neural_vb
    from benchmarks import densities_tf  # noqa: F401  (imports TFP)
    from neural_vb.compilation import Compiled
    from neural_vb.density_training import fit_density

    neural_vb.fit  # noqa: B018  (imports the package's parts, which come on demand)
    import_seconds = time.perf_counter() - start

    arguments = problem.fit_arguments()
    start = time.perf_counter()
    warm = warm_start(arguments, seed)
    trial = make(warm, seed)

    def seeds(step: int, number: int) -> tuple[Any, Any]:
        pairs = np.stack([np.full(number, seed), np.arange(step, step + number)], 1)
        return tf.constant(pairs, tf.int32), tf.zeros([number])

    # ``fit_density`` ascends a mean over data that are streamed to it; here seeds are streamed, and noise is made of
    # them. In one window: XLA would compile a joint distribution anew for each (see neural_vb.training).
    parameters, _ = fit_density(
        lambda parameters, noise, _: trial.gain(parameters, noise),
        trial.parameters,
        seeds,
        num_steps=trial.num_steps,
        window=trial.num_steps,
        jit_compile=warm.jit_compile,
    )
    seconds = time.perf_counter() - start

    compiled = Compiled(lambda parameters, noise: trial.draw(parameters, ELBO_DRAWS, noise), jit_compile=True)

    def sample(num_draws: int, seed: int) -> Any:
        chunks = [compiled(parameters, tf.constant([seed, i])) for i in range(-(-num_draws // ELBO_DRAWS))]
        return problem.to_vector(_arrays(warm.target.constrain(tf.concat(chunks, 0)[:num_draws])))

    elbo = None
    if trial.elbo is not None:
        elbo = float(trial.elbo(parameters, ELBO_DRAWS, tf.constant([seed, -1]))) + warm.target.offset
    return variational_run(import_seconds, seconds, sample, problem.size, elbo)


def _arrays(draws: Any) -> Any:
    return {name: np.asarray(part) for name, part in draws.items()} if isinstance(draws, dict) else np.asarray(draws)


def warm_start(arguments: Any, seed: int) -> Any:
    """As in ``neural_vb.fit``: the target is examined, then searched."""
    from neural_vb import optima, preflight, targets
    from neural_vb import warm_start as stage

    given = targets.as_target(arguments.target, arguments.data, **arguments.keywords)
    points = optima.dispersed_points(given.event_size, NUM_POINTS, seed=seed)
    prior = getattr(given, "starting_points", None)
    if prior is not None:
        points[1::2] = prior(NUM_POINTS // 2, seed).numpy()
    examination = preflight.examine(given, points, seed=seed)
    return stage.warm_start(examination.target, evaluate=examination.precise, points=points, seed=seed)


def flow_trial(warm: Any, seed: int) -> Trial:
    """log p - log q at draws of the flow; the mixture's weights follow the score function, as in the sampler."""
    import tensorflow as tf

    from neural_vb import contrasts, mixtures

    flow = contrasts.Flow()

    def draw(parameters: Any, num_draws: int, noise: Any) -> tuple[Any, Any, Any]:
        own, size = parameters["flow"], warm.target.event_size
        normal = mixtures.normal(tf.constant([num_draws, 1]), size + 1, noise)
        chosen, log_choice = mixtures.choose(own["base"], normal[..., 0])
        density = flow(own, None)
        return density.forward(mixtures.transform(own["base"], normal[..., 1:], chosen)), density, log_choice

    def terms(parameters: Any, num_draws: int, noise: Any) -> tuple[Any, Any]:
        u, density, log_choice = draw(parameters, num_draws, noise)
        log_p = warm.target.log_prob(u)
        finite = tf.math.is_finite(log_p)
        return tf.where(finite, tf.where(finite, log_p, 0.0) - density.log_prob(u), 0.0), log_choice

    def gain(parameters: Any, noise: Any) -> Any:
        values, log_choice = terms(parameters, BATCH, noise)
        centred = tf.stop_gradient(values - tf.reduce_mean(values))
        return tf.reduce_mean(values) + tf.reduce_mean(centred * log_choice)

    return Trial(
        {"flow": flow.initial_parameters(warm.base, 0, seed)},
        gain,
        lambda parameters, num_draws, noise: draw(parameters, num_draws, noise)[0][:, 0],
        lambda parameters, num_draws, noise: tf.reduce_mean(terms(parameters, num_draws, noise)[0]),
        NUM_STEPS,
    )


def stein_trial(warm: Any, seed: int) -> Trial:
    """Minus the U-statistic of the squared discrepancy at draws of the sampler, with their scores."""
    from dataclasses import replace

    import tensorflow as tf

    from neural_vb import samplers

    sampler = samplers.ResidualSampler()
    # The bound on scores is a custom gradient, which has no second derivative; the discrepancy needs one.
    target = replace(warm.target, max_score=np.inf)

    def score(u: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(u)
            log_prob = tf.reduce_sum(target.log_prob(u[:, tf.newaxis]))
        gradient = tape.gradient(log_prob, u)
        usable = tf.reduce_all(tf.math.is_finite(gradient), -1, keepdims=True)
        length = tf.norm(gradient, axis=-1, keepdims=True)
        scale = tf.stop_gradient(tf.minimum(1.0, warm.target.max_score / (length + 1e-30)))
        return tf.where(usable, gradient * scale, 0.0)

    def gain(parameters: Any, noise: Any) -> Any:
        proposal = sampler(parameters["sampler"], BATCH, None, noise)
        u = proposal.z[:, 0]
        terms = stein_terms(u, score(u))
        rows = tf.reduce_sum(terms, -1) / (BATCH - 1)
        mean = tf.reduce_mean(rows)
        choice = 2.0 * tf.reduce_mean(tf.stop_gradient(rows - mean) * proposal.log_choice[:, 0])
        return -(mean + choice)

    def draw(parameters: Any, num_draws: int, noise: Any) -> Any:
        return sampler(parameters["sampler"], num_draws, None, noise).z[:, 0]

    return Trial({"sampler": sampler.initial_parameters(warm.base, 0, seed)}, gain, draw, None, NUM_STEPS)


def stein_terms(u: Any, score: Any) -> Any:
    """Stein kernel of all pairs, zero on the diagonal: draws u [S, D] and their scores [S, D] -> [S, S].

    With k = (1 + r^2 / h)^(-1/2), the inverse multiquadric of Gorham & Mackey 2017 (arXiv 1703.01717), r = |x - y| and
    h the median of r^2,

        s(x)^T s(y) k + (k / g h) (s(x) - s(y))^T (x - y) + (k / g h) (D - 3 r^2 / (g h)),   g = 1 + r^2 / h.

    The mean over pairs of different draws is an unbiased estimate of the squared discrepancy (Liu, Lee & Jordan 2016,
    arXiv 1602.03253).
    """
    import tensorflow as tf

    size, number = u.shape[-1], u.shape[0]
    gram, cross = tf.matmul(u, u, transpose_b=True), tf.matmul(score, u, transpose_b=True)
    square = tf.linalg.diag_part(gram)
    distance = tf.maximum(square[:, tf.newaxis] + square - 2.0 * gram, 0.0)
    # The median of the pairs of a few draws, above the zeros of the diagonal: XLA takes longer to sort those of all
    # than for the rest of a step.
    few = min(number, MEDIAN_DRAWS)
    ordered = tf.sort(tf.reshape(tf.stop_gradient(distance[:few, :few]), [-1]))
    width = ordered[(few * few + few) // 2]
    growth = 1.0 + distance / width
    kernel = tf.math.rsqrt(growth)
    slope = kernel / (growth * width)
    along = tf.linalg.diag_part(cross)
    # (s_i - s_j)^T (x_i - x_j), from products of all pairs.
    turned = along[:, tf.newaxis] + along - cross - tf.transpose(cross)
    terms = tf.matmul(score, score, transpose_b=True) * kernel + slope * turned
    terms += slope * (float(size) - 3.0 * distance / (growth * width))
    return tf.linalg.set_diag(terms, tf.zeros([number], u.dtype))
