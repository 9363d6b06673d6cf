"""A critic at its optimum passes; one that saturates, or lags, is told by how much it moves the ELBO."""

from __future__ import annotations

import numpy as np

from neural_vb.diagnostics.critic_checks import critic_report

NUM = 16_000
SCALE = 1.5  # of r; q is standard normal


def report(critic: object) -> object:
    rng = np.random.default_rng(0)
    u_q, u_r = rng.standard_normal((NUM, 2)), SCALE * rng.standard_normal((NUM, 2))
    return critic_report(u_q, u_r, critic(u_q), critic(u_r))


def optimal(u: np.ndarray) -> np.ndarray:
    """log q - log r."""
    return 2.0 * np.log(SCALE) - 0.5 * (u**2).sum(1) * (1.0 - SCALE**-2)


KL = 2.0 * np.log(SCALE) - (1.0 - SCALE**-2)


def test_the_optimum_passes() -> None:
    found = report(optimal)
    assert abs(found.slope - 1.0) < 0.1 and abs(found.intercept) < 0.05
    assert found.calibration_error < 0.03 and abs(found.excess) < 0.05 and 0.5 < found.accuracy < 0.8
    assert abs(found.elbo_change) < 3.0 * found.elbo_change_error < 0.1
    assert abs(found.gain) < 0.01


def test_a_critic_that_says_nothing_overstates_the_elbo_by_the_divergence() -> None:
    """The ELBO estimate subtracts E_q[T], which should be KL(q || r)."""
    found = report(lambda u: np.zeros(len(u)))
    assert abs(found.elbo_change + KL) < 0.05 and found.gain > 0.02
    assert found.accuracy == 0.5


def test_a_saturated_critic_is_seen() -> None:
    found = report(lambda u: np.clip(optimal(u), -0.2, 0.2))
    assert found.elbo_change < -0.1 and found.slope > 1.2


def test_an_overconfident_critic_has_a_small_slope() -> None:
    found = report(lambda u: 2.0 * optimal(u))
    assert abs(found.slope - 0.5) < 0.05


def test_log_p_as_a_feature_makes_up_for_a_shape_that_is_no_quadratic() -> None:
    rng = np.random.default_rng(1)
    u_q, u_r = rng.logistic(size=(NUM, 1)), 1.8 * rng.standard_normal((NUM, 1))

    def gap(u: np.ndarray) -> np.ndarray:
        log_q = -np.abs(u) - 2.0 * np.log1p(np.exp(-np.abs(u)))
        return (log_q + 0.5 * (u / 1.8) ** 2 + 0.5 * np.log(2.0 * np.pi) + np.log(1.8))[:, 0]

    silent = (np.zeros(NUM),) * 2
    found = critic_report(u_q, u_r, *silent, gaps=(gap(u_q), gap(u_r)))
    assert abs(found.elbo_change + gap(u_q).mean()) < 4.0 * (found.elbo_change_error + 0.01)
