"""Preflight: every kind of bad target is named with its fix, and good ones pass in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from neural_vb import tails
from neural_vb.errors import (
    DtypeError,
    GradientError,
    ImproperDensityError,
    NeuralVBError,
    PrecisionWarning,
    SupportError,
    TargetShapeError,
    TargetValueError,
)
from neural_vb.preflight import Examination, examine, precision_gap
from neural_vb.targets import JointTarget, LogProbTarget

tfb = tfp.bijectors
tfd = tfp.distributions

N = 64


def points(size: int) -> np.ndarray:
    """Uniform(-2, 2), N(0, 5^2) and N(0, 20^2): dispersed at several scales."""
    rng = np.random.RandomState(0)
    wide = rng.randn(N, size) * np.repeat([5.0, 20.0], N // 2)[:, None]
    wide[: N // 2] = rng.uniform(-2.0, 2.0, (N // 2, size))
    return wide


def look(log_prob: Callable, event_shape: object = (2,), **options: object) -> Examination:
    target = LogProbTarget(log_prob, event_shape=event_shape, **options)
    return examine(target, points(target.event_size), seed=0)


def normal(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, axis=-1)


def funnel(z: tf.Tensor) -> tf.Tensor:
    v = z[:, 0]
    return -(v**2) / 18.0 - tf.reduce_sum(0.5 * z[:, 1:] ** 2, -1) * tf.exp(-v) - 0.5 * 9 * v


def cauchy(z: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_sum(tf.math.log1p(z**2), axis=-1)


def ring(z: tf.Tensor) -> tf.Tensor:
    return -4.0 * (tf.reduce_sum(z**2, -1) - 2.0) ** 2


def student(z: tf.Tensor) -> tf.Tensor:
    return tfd.MultivariateStudentTLinearOperator(
        0.5, tf.zeros(z.shape[-1]), tf.linalg.LinearOperatorIdentity(z.shape[-1])
    ).log_prob(z)


@pytest.mark.parametrize(
    ("log_prob", "size"), [(normal, 1), (normal, 30), (cauchy, 4), (ring, 2), (student, 3)], ids=lambda v: str(v)[:14]
)
def test_good_targets_pass_in_silence(log_prob: Callable, size: int) -> None:
    found = look(log_prob, [size])
    assert found.target.dtype == tf.float32
    assert found.finite_fraction == 1.0
    assert found.notes == ()


def test_a_funnel_passes() -> None:
    target = LogProbTarget(funnel, event_shape=[10])
    assert examine(target, points(10) / 4.0, seed=0).finite_fraction == 1.0


@pytest.mark.parametrize(
    ("log_prob", "message"),
    [
        (lambda z: tf.reduce_sum(-(z**2)), r"shape \[64\]; got shape \[\]"),
        (lambda z: tf.reduce_sum(-(z**2), -1, keepdims=True), r"got shape \[64, 1\].*tf.squeeze"),
        (lambda z: tf.reduce_sum(-(z**2), 0), r"got shape \[2\]"),
        (lambda z: normal(z) - tf.reduce_mean(normal(z)), r"is another when the row comes alone.*vectorized=False"),
        (lambda z: normal(z) + tf.cumsum(z[:, 0]), "changes when other rows change places"),
        (lambda z: tf.cumsum(normal(z)), "a log density that treats each row on its own"),
    ],
)
def test_shapes_and_mixed_rows(log_prob: Callable, message: str) -> None:
    with pytest.raises(TargetShapeError, match=message):
        look(log_prob)


def test_a_plain_joint_that_mixes_data_with_draws() -> None:
    """With as many data as draws the axes broadcast silently, and every shape looks right."""
    joint = tfd.JointDistributionNamed(
        {"mu": tfd.Normal(0.0, 1.0), "y": lambda mu: tfd.Independent(tfd.Normal(mu + tf.zeros(N), 1.0), 1)}
    )
    target = JointTarget(joint, {"y": np.linspace(-1.0, 1.0, N)})
    with pytest.raises(TargetShapeError, match=r"AutoBatched class or tfd\.Independent"):
        examine(target, points(1), seed=0)


@pytest.mark.parametrize(
    ("log_prob", "message"),
    [
        (lambda z: normal(z) + tf.where(tf.norm(z, axis=-1) < 2.0, np.nan, 0.0), r"NaN at [0-9]+ of 64 points"),
        (lambda z: normal(z) + tf.where(tf.norm(z, axis=-1) < 2.0, np.inf, 0.0), r"\+inf at [0-9]+ of 64.*division"),
        (lambda z: normal(z) - np.inf, r"-inf at 64 of 64 points.*start="),
        (lambda z: normal(z) + np.nan, "NaN at 64 of 64 points"),
        (lambda z: tf.where(tf.norm(z - 30.0, axis=-1) < 20.0, normal(z), -np.inf), r"-inf at 6[0-9] of 64"),
        (lambda z: normal(z) + undefined, r"run on a batch of points; got NameError: name 'undefined'"),  # noqa: F821
        (lambda z: normal(z) if z[0, 0] > 0 else -normal(z), "replace Python `if`"),
        (lambda z: normal(z @ tf.ones([3, 3])), "run on a batch of points; got ValueError: Dimensions"),
    ],
)
def test_values_and_exceptions(log_prob: Callable, message: str) -> None:
    with pytest.raises(TargetValueError, match=message) as caught:
        look(log_prob)
    if "run on a batch" in message:
        assert isinstance(caught.value.__cause__, Exception)


def log_of_negative(z: tf.Tensor) -> tf.Tensor:
    return tfd.Normal(0.0, 1.0).log_prob(z[:, 0]) + tfd.Gamma(2.0, 1.0).log_prob(z[:, 1])


@pytest.mark.parametrize(
    ("log_prob", "event_shape", "message"),
    [
        (
            lambda mu, tau: normal(mu[:, None]) + tf.where(tau > 0, -tau, -np.inf),
            {"mu": [], "tau": []},
            r"tau must be above 0\. Fix: give these a bijector: tfb.Exp\(\) or tfb.Softplus\(\) for tau \(",
        ),
        (log_of_negative, [2], r"NaN at .*z\[1\] must be above 0.*tfb.Softplus\(\) for z\[1\]"),
        (
            lambda z: tfd.Uniform(-1.5, 1.0).log_prob(z[:, 0]) + normal(z),
            [2],
            r"z\[0\] must be between -1.5 and 1\..*tfb.Sigmoid\(low=-1.5, high=1\) for z\[0\]",
        ),
        (
            lambda z: tf.where(z[:, 1] < 1.25, normal(z), -np.inf),
            [2],
            r"z\[1\] must be below 1.25.*tfb.Chain\(\[tfb.Shift\(1.25\), tfb.Scale\(-1.\), tfb.Softplus\(\)\]\)",
        ),
        (
            lambda z: tf.where(z[:, 0] > -0.5, normal(z), -np.inf),
            [1],
            r"z\[0\] must be above -0.5.*tfb.Chain\(\[tfb.Shift\(-0.5\), tfb.Softplus\(\)\]\) for z\[0\]",
        ),
        (lambda z: tf.where(z[:, 0] < z[:, 1], normal(z), -np.inf), [2], "no single coordinate explains it.*Ascending"),
    ],
)
def test_hard_supports_are_found_and_get_a_bijector(log_prob: Callable, event_shape: object, message: str) -> None:
    with pytest.raises(SupportError, match=message):
        look(log_prob, event_shape)


def test_every_bounded_coordinate_is_named() -> None:
    with pytest.raises(SupportError, match=r"z\[0\] must be above 0; z\[1\] must be above 0; z\[3\] must be above 0"):
        look(lambda z: tf.where(tf.reduce_all(tf.gather(z, [0, 1, 3], axis=1) > 0, 1), normal(z), -np.inf), [4])


def test_the_same_target_with_its_bijector_passes() -> None:
    tau = {"event_shape": {"mu": [], "tau": []}, "bijector": {"tau": tfb.Softplus()}}
    found = look(lambda mu, tau: normal(mu[:, None]) + tf.where(tau > 0, -tau, -np.inf), **tau)
    assert isinstance(found, Examination)


@pytest.mark.parametrize(("kind", "value"), [("NaN", np.nan), ("+inf", np.inf), ("-inf", -np.inf)])
def test_far_points_are_counted_and_reported_without_a_warning(
    kind: str, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    def log_prob(z: tf.Tensor) -> tf.Tensor:
        return normal(z) + tf.where(tf.norm(z, axis=-1) > 25.0, value, 0.0)

    bad = int((np.linalg.norm(points(2), axis=1) > 25.0).sum())
    with caplog.at_level(logging.INFO, "neural_vb.preflight"):
        found = look(log_prob)
    assert found.finite_fraction == 1.0 - bad / N
    assert found.notes == (
        f"log p is not finite far from the start ({kind} at {bad} of 64 points, all in the farther half). "
        "This is common and harmless: such points are skipped.",
    )
    assert caplog.messages == list(found.notes)


def test_far_gradients_that_are_not_finite_are_a_note() -> None:
    def log_prob(z: tf.Tensor) -> tf.Tensor:
        far = tf.norm(z, axis=-1) > 25.0
        zero = tf.where(far, 0.0, 1.0)
        return normal(z) + 1e-20 * tf.sqrt(zero * (1.0 + z[:, 0] ** 2))  # d sqrt at zero: infinity times zero

    bad = int((np.linalg.norm(points(2), axis=1) > 25.0).sum())
    found = look(log_prob)
    assert found.finite_fraction == 1.0
    assert found.notes == (
        f"the gradient is not finite at {bad} points far from the start or from its values, which does no harm: "
        "skipped.",
    )


def test_a_scale_that_overflows_in_the_tails_is_ordinary() -> None:
    def log_prob(mu: tf.Tensor, tau: tf.Tensor) -> tf.Tensor:
        return tfd.Normal(0.0, tau).log_prob(mu) - 0.5 * tau**2

    given = {"event_shape": {"mu": [], "tau": []}, "bijector": {"tau": tfb.Exp()}}
    assert look(log_prob, **given).finite_fraction > 0.5


def test_an_overflow_of_single_precision_is_no_end_of_the_support() -> None:
    """A moving average's errors grow like theta^n: for n = 200 beyond 1e38 at |theta| = 1.55."""

    def log_prob(theta: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
        error = tf.abs(theta) ** 200
        return -tf.math.log(sigma) - 0.5 * (error / sigma) ** 2 - 5.0 * theta**2 - sigma

    given = {"event_shape": {"theta": [], "sigma": []}, "bijector": {"sigma": tfb.Exp()}}
    found = look(log_prob, **given)
    assert found.target.dtype == tf.float32 and found.finite_fraction < 1.0
    assert any("log p overflows in float32 at" in note for note in found.notes)


@pytest.mark.parametrize(
    ("log_prob", "message"),
    [
        (lambda z: tf.stop_gradient(normal(z)), "got None.*tf.stop_gradient"),
        (lambda z: tf.zeros(z.shape[0]), "does not use the parameters"),
        (lambda z: tf.numpy_function(lambda v: v.sum(-1), [z], tf.float32), "got None.*tf.numpy_function"),
        (lambda z: np.sum(z, axis=-1), r"NumPy or plain Python on a tensor inside it.*tf.reduce_sum"),
        (lambda z: scipy.stats.norm.logpdf(z).sum(-1), "scipy.stats -> tfp.distributions"),
        (lambda z: tf.reduce_sum(z.numpy(), -1), r"leave out .numpy\(\)"),
        (lambda z: normal(tf.sign(z) - 0.5), "zero at every point in z.0., z.1., although log p changes"),
        (lambda z: normal(tf.stack([z[:, 0], tf.stop_gradient(z[:, 1])], 1)), "zero at every point in z.1.,"),
        (
            lambda z: normal(z) - tf.where(z[:, 1] < 0, tf.exp(100.0 * z[:, 1]), 0.0),
            r"NaN or infinity in the derivative to z\[1\] at [0-9]+ of 32 points.*tf.where",
        ),
    ],
)
def test_gradients(log_prob: Callable, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        look(log_prob)


@pytest.mark.parametrize(
    ("log_prob", "message"),
    [
        (lambda z: -normal(z), r"when z\[0\] goes to \+infinity, or when z\[1\] goes.*not a loss"),
        (lambda z: normal(z[:, :1]), r"does not change with z\[1\].*give z\[1\] a prior"),
        (lambda z: -tf.nn.softplus(-z[:, 0]) - z[:, 1] ** 2, r"when z\[0\] goes to \+infinity\. Fix: add a proper"),
        (lambda z: normal(z[:, :1] + z[:, 1:]), r"stays the same along a combination of z\[0\], z\[1\]\. Fix"),
        (lambda z: -0.5 * tf.math.log1p(tf.reduce_sum(z**2, -1)), "falls too slowly on 32 of 32 random rays"),
    ],
)
def test_mass_that_runs_away(log_prob: Callable, message: str) -> None:
    with pytest.raises(ImproperDensityError, match=message):
        look(log_prob)


def test_a_bijector_beyond_the_support_is_named() -> None:
    with pytest.raises(SupportError, match=r"p must be below 0, unconstrained, .*beyond the support: .*tfb\.Sigmoid"):
        look(lambda p: tf.math.log1p(-p), event_shape={"p": []}, bijector={"p": tfb.Exp()})


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_log_density_level_in_a_logarithm_is_improper(rate: float) -> None:
    """exp overflows before a ray is long enough to tell: 1 / tau, and what is 1 / tau near zero."""
    event = {"event_shape": {"tau": []}, "bijector": {"tau": tfb.Exp()}}
    with pytest.raises(ImproperDensityError, match="tau goes to -infinity"):
        look(lambda tau: -tf.math.log(tau) - rate * tau, **event)
    look(lambda tau: -0.99 * tf.math.log(tau) - tau, **event)  # integrable at both ends
    look(lambda tau: -tf.math.log1p(tau**2), **event)


def test_separable_logistic_regression_without_a_prior_is_improper() -> None:
    x = np.array([[1.0, 2.0], [2.0, 1.0], [-1.0, -1.0], [-2.0, 0.5]], "float32")
    y = np.array([1.0, 1.0, 0.0, 0.0], "float32")

    def likelihood(w: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tfd.Bernoulli(logits=w @ x.T).log_prob(y), -1)

    with pytest.raises(ImproperDensityError, match=r"z\[0\] goes to \+infinity"):
        look(likelihood)
    assert look(lambda w: likelihood(w) + normal(w) / 100.0).finite_fraction == 1.0


def test_dtypes() -> None:
    wide = tf.constant([1.0, 2.0], tf.float64)
    found = look(lambda z: normal(z * wide))
    assert found.target.dtype == found.precise.target.dtype == tf.float64
    assert "float64 only" in found.notes[0]
    narrow = tf.constant([1.0, 2.0], tf.float32)
    with pytest.raises(DtypeError, match="build constants and data in the dtype of the arguments"):
        look(lambda z: normal(z * narrow * wide))


def test_float64_is_chosen_where_rounding_matters() -> None:
    found = look(normal)
    assert (found.target.dtype, found.precise.target.dtype) == (tf.float32, tf.float64)

    regressor = np.linspace(1e4, 1e4 + 1.0, 2000)

    def uncentred(z: tf.Tensor) -> tf.Tensor:
        mean = z[:, :1] + z[:, 1:] * tf.cast(regressor, z.dtype)
        return -0.5 * tf.reduce_sum((mean - 1.0) ** 2, -1)

    found = look(uncentred)
    assert found.target.dtype == tf.float64
    assert "float32 and float64 differ by" in found.notes[0]
    offset = look(lambda z: normal(z) / 1e4 + tf.cast(1e-3, z.dtype) * tf.cast(z.dtype == tf.float64, z.dtype) * 100)
    assert offset.target.dtype == tf.float32  # the two differ by .1 nats everywhere, which changes no posterior


def test_precision_gap_takes_the_mean_difference_off() -> None:
    assert precision_gap(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])) == 0.0
    assert precision_gap(np.array([1.0, 2.5]), np.array([1.0, 2.0])) == pytest.approx(0.25)
    assert precision_gap(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == np.inf


def test_a_large_log_density_in_float32_only_is_reported() -> None:
    joint = tfd.JointDistributionNamedAutoBatched(
        {"mu": tfd.Normal(0.0, 1.0), "y": lambda mu: tfd.Sample(tfd.Normal(mu, 1e-3), 3)}
    )
    target = JointTarget(joint, {"y": [1.0, 2.0, 3.0]})
    with pytest.warns(PrecisionWarning, match="evaluated in float32, so rounding alone moves it by"):
        found = examine(target, points(1), seed=0)
    assert found.precise.target is found.target is target


def test_a_target_of_the_users_own() -> None:
    class Mine:
        event_size = 2
        dtype = tf.float32

        def __init__(self, log_prob: Callable) -> None:
            self._log_prob = log_prob

        def log_prob(self, z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
            return self._log_prob(z)

        def constrain(self, z: tf.Tensor) -> tf.Tensor:
            return z

    assert examine(Mine(normal), points(2), seed=0).notes == ()
    with pytest.raises(TargetShapeError, match=r"shape \[64, 1\] for z of \[64, 1, 2\]; got shape \[64\]"):
        examine(Mine(lambda z: normal(z)[:, 0]), points(2), seed=0)
    with pytest.raises(SupportError, match="coordinate 0 must be above 0"):
        examine(Mine(lambda z: tf.where(z[..., 0] > 0, normal(z), -np.inf)), points(2), seed=0)


def test_errors_of_one_point_at_a_time_arrive_as_they_are() -> None:
    with pytest.raises(NeuralVBError, match=r"a scalar log density for one point; got shape \[2\]"):
        look(lambda z: z, vectorized=False)
    with pytest.raises(TargetValueError, match="NameError"):
        look(lambda z: undefined, vectorized=False)  # noqa: F821
    assert look(lambda z: -tf.reduce_sum(z**2), vectorized=False).notes == ()


def test_joints_of_both_kinds_pass() -> None:
    parts = {
        "mu": tfd.Normal(0.0, 5.0),
        "tau": tfd.HalfCauchy(0.0, 5.0),
        "eta": tfd.Sample(tfd.Normal(0.0, 1.0), 3),
    }

    def data(mu: tf.Tensor, tau: tf.Tensor, eta: tf.Tensor) -> tfd.Distribution:
        return tfd.Independent(tfd.Normal(mu[..., None] + tau[..., None] * eta, [1.0, 2.0, 3.0]), 1)

    plain = tfd.JointDistributionNamed(parts | {"y": data})
    batched = tfd.JointDistributionNamedAutoBatched(
        parts | {"y": lambda mu, tau, eta: tfd.Normal(mu + tau * eta, [1.0, 2.0, 3.0])}
    )
    for joint in (plain, batched):
        target = JointTarget(joint, {"y": [1.0, 2.0, 3.0]})
        start = 0.25 * points(5)
        assert examine(target, start, seed=0).finite_fraction == 1.0


@pytest.mark.parametrize(("width", "improper"), [(3e7, False), (np.inf, True)])
def test_a_direction_that_falls_late_is_not_taken_for_flat(width: float, improper: bool) -> None:
    """Next to steep directions a wide one has no visible share of the gradient."""
    points = np.random.default_rng(0).standard_normal((64, 2))

    def log_prob(z: np.ndarray) -> np.ndarray:
        return -0.5 * (z[:, 0] + z[:, 1]) ** 2 - 0.5 * ((z[:, 0] - z[:, 1]) / width) ** 2

    gradients = -(points.sum(1, keepdims=True) + (points[:, :1] - points[:, 1:]) / width**2 * [1.0, -1.0])
    found = tails.rising_rays(log_prob, points, log_prob(points), gradients, 0)
    assert len(found.flat) == improper
