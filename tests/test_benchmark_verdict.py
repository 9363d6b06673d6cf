"""The zoo of samplers with known errors: critics that are off their optimum are not trusted, one at it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from benchmarks import verdict, verdict_zoo
from benchmarks.verdict_zoo import CRITICS, RHO, Member, Shifted, equicorrelated, normal


def test_the_optimum_is_the_log_ratio_of_sampler_and_contrast() -> None:
    u = 2.0 * np.random.default_rng(0).standard_normal((50, 3))
    contrast = Shifted(3)
    covariance = equicorrelated(3, RHO)
    log_q = multivariate_normal(np.zeros(3), covariance).logpdf(u)
    np.testing.assert_allclose(contrast.optimum(u), log_q - contrast.log_prob(u), atol=1e-10)
    drawn = contrast.sample(40_000, np.random.default_rng(1))
    assert np.abs(drawn.mean(0) - np.linalg.cholesky(covariance)[:, 0]).max() < 4.0 / 200.0
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=4.0 * np.sqrt(2.0) / 200.0)


@pytest.mark.parametrize("name", CRITICS)
def test_how_far_critics_are_from_the_optimum(name: str) -> None:
    """E_q[T - T*] is what the ELBO estimate is off by: nothing, or .3 nats and more."""
    u = normal(2, RHO)(100_000, np.random.default_rng(2))
    optimum = Shifted(2).optimum(u)
    off = abs((CRITICS[name](optimum) - optimum).mean())
    assert off == 0.0 if name.endswith("optimum") else off > 0.3


@pytest.mark.parametrize(
    ("name", "state"), [("critic at its optimum", "no_problem_found"), ("saturated critic", "fail")]
)
def test_states_of_critics(name: str, state: str) -> None:
    plain = verdict_zoo.normal(2, RHO)
    assert verdict.critic_check(Member(name, "normal", 2, plain, plain), 0)["elbo_trust"] == state
