"""The training loop: one flat state, one pure step, hundreds of steps per compiled call."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Parameters, Status, Tensor
from neural_vb.avb import GRADIENT_SIGNS, Parts, losses
from neural_vb.compilation import Compiled
from neural_vb.configuration import TrainingConfig
from neural_vb.history import METRICS, History
from neural_vb.optimiser import Adam, Layout, Schedule, TrainingState, initial_state
from neural_vb.probing import named

logger = logging.getLogger(__name__)

LogProb = Callable[..., Tensor]
Batches = Callable[[int, int], Tensor]
Callback = Callable[[int, Mapping[str, float]], bool | None]
Evaluate = Callable[[Parameters], Mapping[str, float]]
Keep = Callable[["Snapshot", bool], None]


class Snapshot(NamedTuple):
    """Where a run stands between two windows. The same call goes on from it identically.

    Attributes:
        state: all that the steps know.
        rows: metrics of the windows so far.
        decay_start: step at which the rates begin to fall.
        decay_steps: steps over which they fall.
        end: the last step.
        status: how the run would end here, or has ended.
        done: whether it has.
    """

    state: TrainingState
    rows: tuple[dict[str, float], ...]
    decay_start: int
    decay_steps: int
    end: int
    status: Status
    done: bool


class Trained(NamedTuple):
    """What ``train`` returns.

    Attributes:
        parameters: nested, averaged over the last steps.
        state: where training stopped.
        history: metrics.
        status: how it ended.
        jit_compile: whether the steps were compiled by XLA.
    """

    parameters: Parameters
    state: TrainingState
    history: History
    status: Status
    jit_compile: bool


class _Stepper:
    """Everything that is fixed during a run; ``run`` is a pure function of its arguments."""

    def __init__(
        self,
        parts: Parts,
        log_prob: LogProb,
        layout: Layout,
        config: TrainingConfig,
        seed: int,
        *,
        num_samples: int | None = None,
        streamed: bool = False,
    ) -> None:
        self.parts, self.log_prob, self.layout, self.config, self.seed = parts, log_prob, layout, config, seed
        self.num_samples = config.batch_size if num_samples is None else num_samples
        self.streamed = streamed
        rates = {name: getattr(config, f"{name}_rate") for name in GRADIENT_SIGNS}
        self.adam = Adam(layout.spread(rates), config.beta_1, config.beta_2, config.average_decay, config.max_growth)
        self.signs = layout.spread(GRADIENT_SIGNS)
        self.ramp = layout.spread(dict.fromkeys(GRADIENT_SIGNS, 0.0) | {"sampler": 1.0})

    def run(
        self, state: TrainingState, num_steps: Tensor, schedule: Schedule, x: Tensor | None
    ) -> tuple[TrainingState, Tensor]:
        """``num_steps`` steps and the sums of their metrics [M], in the order of ``METRICS``.

        x is [B, X], or one such batch for each step, [T, B, X], when ``streamed``.
        """

        # A batch is carried from step to step: of what does not change in the loop, XLA wants to know the values where
        # a user's vectorized_map has computed shapes, and would compile anew for each window of data.
        streamed = self.streamed and x is not None

        def body(done: Tensor, state: TrainingState, totals: Tensor, *batch: Tensor) -> tuple[Any, ...]:
            state, metrics = self._step(state, schedule, batch[0] if streamed else x)
            following = (x[(done + 1) % x.shape[0]],) if streamed else ()  # type: ignore[index, union-attr]
            return done + 1, state, totals + metrics, *following

        start = (tf.constant(0), state, tf.zeros([len(METRICS)]), *((x[0],) if streamed else ()))  # type: ignore[index]
        _, state, totals, *_ = tf.while_loop(lambda done, *_: done < num_steps, body, start)
        return state, totals

    def _step(self, state: TrainingState, schedule: Schedule, x: Tensor | None) -> tuple[TrainingState, Tensor]:
        """One step of Adam on the summed losses. A step whose result is not finite is skipped and counted."""
        layout = self.layout
        with tf.GradientTape() as tape:
            tape.watch(state.parameters)
            found = losses(
                self.parts,
                self.log_prob,
                layout.unpack(state.parameters),
                x,
                num_samples=self.num_samples,
                seed=tf.stack([tf.constant(self.seed, tf.int32), state.step]),
            )
        gradients = layout.split(self.signs * tape.gradient(found.total, state.parameters))
        norms = {name: tf.norm(part) for name, part in gradients.items()}
        moments = layout.split(state.second_moment)
        gradient = tf.concat([self.adam.cut(state, part, moments[name]) for name, part in gradients.items()], 0)

        new = self.adam.moments(state, gradient)
        # The critic learns first: a sampler that follows an untrained critic leaves a good start.
        warm = tf.minimum(1.0, tf.cast(state.step + 1, tf.float32) / max(self.config.ramp_steps, 1))
        rate = schedule.rate(state.step) * (1.0 - self.ramp * (1.0 - warm))
        moved = layout.unpack(state.parameters - self.adam.change(new, rate))
        moved["contrast"] = self.parts.contrast.update(moved["contrast"], found.draws)
        new = new._replace(parameters=layout.pack(moved))
        new = new._replace(average=self.adam.average(new))

        # An infinite second moment would freeze its parameter for ever, without a sign. A sum is finite where both are.
        usable = tf.reduce_all(tf.math.is_finite(new.parameters + new.second_moment)) & tf.math.is_finite(found.total)
        usable &= found.finite > 0.0  # without a draw to learn from the losses would be zero, and look well
        kept = TrainingState(*(tf.where(usable, a, b) for a, b in zip(new, state, strict=True)))
        metrics = tf.stack(
            [
                found.elbo,
                found.elbo_variance,
                found.accuracy,
                found.finite,
                norms["sampler"],
                norms["critic"],
                norms["contrast"],
            ]
        )
        metrics = tf.concat([tf.where(usable, metrics, 0.0), [tf.cast(~usable, tf.float32)]], 0)
        return kept._replace(step=state.step + 1), metrics


def train(
    parts: Parts,
    log_prob: LogProb,
    parameters: Parameters,
    *,
    config: TrainingConfig,
    seed: int,
    x: Tensor | None = None,
    stream: Batches | None = None,
    offset: float = 0.0,
    callbacks: Sequence[Callback] = (),
    evaluate: Evaluate | None = None,
    rests: Callable[[], bool] | None = None,
    warm_start: Mapping[str, float] | None = None,
    jit_compile: bool | None = None,
    state: TrainingState | None = None,
    resume: Snapshot | None = None,
    keep: Keep | None = None,
) -> Trained:
    """Train the parts on a target until the ELBO estimate rests, then let the rates fall to zero.

    A plateau is a change of the mean ELBO estimate between two adjacent stretches of ``plateau_windows`` windows that
    is below its standard error, which is taken from the scatter of the windows, and no burst of variance among them.
    Every window uses fresh noise. Where the variance says that little is left to gain, ``min_steps`` shrinks: see
    ``easy_divergence``.

    Args:
        parts: sampler, critic, contrast and ratio loss.
        log_prob: ([S, B, D], x) -> [S, B], in the sampler's coordinates.
        parameters: {"sampler": ..., "critic": ..., "contrast": ...} at the start.
        config: how long and how fast.
        seed: of all noise; the same seed and mode give the same numbers.
        x: conditioning data [B, X], or None.
        stream: (step, T) -> [T, B, X], float32: fresh conditioning data for the T steps from ``step`` on; instead of x.
        offset: added to every reported ELBO.
        callbacks: called after each window with the step and its metrics; a true value stops the run.
        evaluate: called before them with the averaged parameters; its numbers join the metrics.
        rests: after each window, whether what it watches of held-out data has stopped to improve and the rates shall
            begin to fall; instead of the plateau test and of ``min_steps``.
        warm_start: numbers to keep in the history.
        jit_compile: overrides ``config.jit_compile`` when XLA is known to fail.
        state: of an earlier run, to go on from instead of ``parameters``, which then give the structure alone; its
            steps count among those of ``config``.
        resume: a snapshot of the same call, to go on from.
        keep: called with a snapshot after each window, and whether it is the last chance to keep it.

    Returns:
        The averaged parameters, the state, the history and the status. Ctrl-C returns what there is, flagged.
    """
    layout = Layout(parameters)
    if stream is not None:
        x = stream(0 if state is None else int(state.step), config.window)
        num_samples = max(config.batch_size // x.shape[1], 1)
    else:
        num_samples = config.batch_size
    stepper = _Stepper(
        parts, named(log_prob), layout, config, seed, num_samples=num_samples, streamed=stream is not None
    )
    use_xla = config.jit_compile if jit_compile is None else jit_compile
    run = Compiled(stepper.run, jit_compile=use_xla)
    if state is None:
        state = initial_state(layout, parameters)
    if resume is not None:
        state = TrainingState(*map(tf.constant, resume.state))
    log = _Log(config, offset, num_samples * (1 if x is None else x.shape[-2]), int(state.step))
    snapshot = log.snapshot(state, _AT_LIMIT, done=False) if resume is None else log.restore(resume)
    try:
        while not snapshot.done:
            schedule = Schedule(tf.constant(log.decay_start), tf.constant(log.decay_steps))
            num_steps, status, stop = min(config.window, log.end - log.step), snapshot.status, False
            if stream is not None and log.rows:
                x = stream(log.step, config.window)
            state, totals = run(state, tf.constant(num_steps), schedule, x)
            metrics = log.append(totals.numpy(), num_steps)
            if evaluate is not None:
                metrics.update(evaluate(layout.unpack(state.average)))
            if metrics["skipped"] == num_steps:
                said = f"none of {num_steps} steps in a row was finite; kept the last good state"
                status, stop = Status("non_finite", said, _BROKEN), True
            elif any([callback(log.step, metrics) for callback in callbacks]):
                status, stop = Status("callback", "stopped by a callback", ""), True
            elif log.rests(rests):
                log.start_decay()
                watched = "the ELBO estimate rested" if rests is None else "held-out data were fitted no better"
                status = Status("plateau", f"{watched}, then the learning rates fell to zero", "")
            snapshot = log.snapshot(state, status, done=stop)
            if keep is not None:
                keep(snapshot, snapshot.done)
        status = snapshot.status
    except KeyboardInterrupt:
        status = Status("interrupted", "stopped by Ctrl-C; what was trained so far is kept", _LONGER)
        if int(state.step) != log.step:  # between the steps and their metrics
            state = snapshot.state
            log.restore(snapshot)
        if keep is not None:
            keep(snapshot, True)
    logger.info("training ended after %d steps: %s", log.step, status.message)
    return Trained(layout.unpack(state.average), state, log.history(warm_start or {}), status, run.jit_compile)


_LONGER = "the fit may be unfinished: continue with fit(..., start=posterior), or raise TrainingConfig.max_steps"
_AT_LIMIT = Status("step_limit", "stopped at max_steps before the ELBO estimate rested", _LONGER)
_BROKEN = "look for overflow in the log density far from its centre, or lower TrainingConfig.sampler_rate"


class _Log:
    """Windows of metrics, and the decision when to let the rates fall."""

    def __init__(self, config: TrainingConfig, offset: float, draws_per_step: int, step: int) -> None:
        self.config, self.offset, self.draws_per_step, self.step = config, offset, draws_per_step, step
        self.rows: list[dict[str, float]] = []
        self.decay_start, self.decay_steps = config.max_steps, config.decay_steps
        self.end = config.max_steps + config.decay_steps

    def append(self, totals: Array, num_steps: int) -> dict[str, float]:
        """Add a window from the sums of its metrics, and return its means."""
        used = max(num_steps - totals[METRICS.index("skipped")], 1.0)
        row = {name: float(total / used) for name, total in zip(METRICS, totals, strict=True)}
        if totals[METRICS.index("skipped")] == num_steps:
            row = dict.fromkeys(row, math.nan)  # no step to take a mean of
        self.step += num_steps
        row["skipped"] = float(totals[METRICS.index("skipped")])
        row["elbo"] += self.offset
        row["elbo_standard_error"] = math.sqrt(row["elbo_variance"] / (used * self.draws_per_step))
        row["step"] = self.step
        left = 1.0 - (self.step - self.decay_start) / self.decay_steps
        row["rate"] = min(max(left, 0.0), 1.0)
        row["last_step"] = self.end
        self.rows.append(row)
        return row

    def rests(self, judge: Callable[[], bool] | None = None) -> bool:
        """Whether the ELBO estimate, or what ``judge`` watches, has stopped to change, the rates not falling yet."""
        if self.step >= self.decay_start:
            return False
        if judge is not None:
            return judge()
        if self.step < self.config.min_steps:
            divergence = 0.5 * self.rows[-1]["elbo_variance"]
            return bool(divergence * self.config.min_steps < self.config.easy_divergence * self.step)
        width = self.config.plateau_windows
        variance = np.array([row["elbo_variance"] for row in self.rows[-2 * width :]])
        if len(variance) < 2 * width or (variance > 10.0 * np.median(variance)).any():  # too few, or a burst among them
            return False
        elbo = np.array([row["elbo"] for row in self.rows[-2 * width :]])
        earlier, later = elbo[:width], elbo[width:]
        monte_carlo = np.mean([row["elbo_standard_error"] ** 2 for row in self.rows[-2 * width :]])
        scatter = 0.5 * (earlier.var(ddof=1) + later.var(ddof=1)) if width > 1 else 0.0
        standard_error = math.sqrt(2.0 * max(scatter, monte_carlo) / width)
        return bool(abs(later.mean() - earlier.mean()) < max(standard_error, self.config.plateau_tolerance))

    def start_decay(self) -> None:
        self.decay_start = self.step
        self.decay_steps = min(max(self.step, self.config.decay_steps // 2), self.config.decay_steps)
        self.end = self.step + self.decay_steps

    def snapshot(self, state: TrainingState, status: Status, *, done: bool) -> Snapshot:
        ends = done or self.step >= self.end
        return Snapshot(state, tuple(self.rows), self.decay_start, self.decay_steps, self.end, status, ends)

    def restore(self, snapshot: Snapshot) -> Snapshot:
        self.rows, self.step = list(snapshot.rows), int(snapshot.state.step)
        self.decay_start, self.decay_steps, self.end = snapshot.decay_start, snapshot.decay_steps, snapshot.end
        return snapshot

    def history(self, warm_start: Mapping[str, float]) -> History:
        decay_start = self.decay_start if self.step > self.decay_start else None
        return History.of_rows(self.rows, decay_start, warm_start)
