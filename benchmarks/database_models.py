"""The models of posteriordb's posteriors as log densities, written once for TensorFlow and JAX.

Definitions: https://github.com/stan-dev/posteriordb. Each is verified by its score at posteriordb's reference draws:
E[s] = 0 and E[(u - E u) s^T] = -I in unconstrained coordinates (``python -m benchmarks verify``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.arrays import Arrays
from benchmarks.database_regressions import REGRESSIONS, Data, Regression
from benchmarks.definitions import Array
from benchmarks.supports import Parameter

Values = Mapping[str, Any]
Columns = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Model:
    """A posterior of posteriordb, its data inside.

    Attributes:
        parameters: in the order of the unconstrained vector.
        log_prob: (arrays, name -> [n, *shape]) -> log p [n] in nats, up to a constant, over constrained parameters.
        values: reference draws by column -> name -> [S, *shape]; None where the columns are the parameters.
    """

    parameters: tuple[Parameter, ...]
    log_prob: Callable[[Arrays, Values], Any]
    values: Callable[[Columns], dict[str, Array]] | None = None

    @property
    def size(self) -> int:
        """D."""
        return sum(parameter.size for parameter in self.parameters)

    def from_columns(self, columns: Columns) -> dict[str, Array]:
        """Reference draws by column -> by parameter."""
        if self.values is not None:
            return self.values(columns)
        return {each.name: gather(columns, each.name, each.shape) for each in self.parameters}


def gather(columns: Columns, name: str, shape: tuple[int, ...]) -> Array:
    """Columns name, or name[1] ... name[k] -> [S, *shape]."""
    if not shape:
        return columns[name]
    return np.stack([columns[f"{name}[{i}]"] for i in range(1, shape[0] + 1)], -1)


def _normal(arrays: Arrays, residual: Any, sd: Any) -> Any:
    """Sum over the last axis of log N(residual; 0, sd), up to a constant; sd a number, or [n] for residuals [n, N]."""
    if isinstance(sd, float):
        return -0.5 * arrays.sum(residual**2) / sd**2
    return -0.5 * arrays.sum(residual**2) / sd**2 - residual.shape[-1] * arrays.log(sd)


def _normal_prior(x: Any, mean: float, sd: float) -> Any:
    return -0.5 * ((x - mean) / sd) ** 2


def _cauchy_prior(arrays: Arrays, x: Any, scale: float) -> Any:
    return -arrays.log1p((x / scale) ** 2)


def _student_prior(arrays: Arrays, x: Any, degrees: float, mean: float, scale: float) -> Any:
    return -0.5 * (degrees + 1.0) * arrays.log1p(((x - mean) / scale) ** 2 / degrees)


SIGMA = Parameter("sigma", (), "positive")


def regression(found: Regression) -> Model:
    """beta flat; sigma flat or half-Cauchy."""

    def log_prob(arrays: Arrays, values: Values) -> Any:
        beta, sigma = values["beta"], values["sigma"]
        fitted = arrays.product(beta, arrays.constant(found.design.T, beta))
        likelihood = _normal(arrays, arrays.constant(found.response, beta) - fitted, sigma)
        return likelihood if found.sigma_scale is None else likelihood + _cauchy_prior(arrays, sigma, found.sigma_scale)

    return Model((Parameter("beta", (found.design.shape[1],)), SIGMA), log_prob)


def autoregression(data: Data) -> Model:
    """arK: y_t ~ N(alpha + sum_k beta_k y_(t-k), sigma)."""
    order, y = int(data["K"]), data["y"]
    lags = np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)])

    def log_prob(arrays: Arrays, values: Values) -> Any:
        alpha, beta, sigma = values["alpha"], values["beta"], values["sigma"]
        fitted = alpha[:, None] + arrays.product(beta, arrays.constant(lags, beta))
        prior = _normal_prior(alpha, 0.0, 10.0) + _normal(arrays, beta, 10.0) + _cauchy_prior(arrays, sigma, 2.5)
        return prior + _normal(arrays, arrays.constant(y[order:], beta) - fitted, sigma)

    return Model((Parameter("alpha"), Parameter("beta", (order,)), SIGMA), log_prob)


def moving_average(data: Data) -> Model:
    """arma11: e_t = y_t - mu - phi y_(t-1) - theta e_(t-1) ~ N(0, sigma), with y_0 = mu and e_0 = 0.

    The recursion is (I + theta S) e = r with the shift S, and its inverse a product over (I + (-theta S)^(2^k)).
    """
    y = data["y"]

    def log_prob(arrays: Arrays, values: Values) -> Any:
        mu, phi, theta, sigma = (values[name] for name in ("mu", "phi", "theta", "sigma"))
        before = arrays.concat([mu[:, None], arrays.constant(y[:-1], mu) + 0.0 * mu[:, None]])
        errors = arrays.constant(y, mu) - mu[:, None] - phi[:, None] * before
        factor, shift = -theta[:, None], 1
        while shift < len(y):
            moved = arrays.concat([0.0 * errors[:, :shift], errors[:, :-shift]])
            errors, factor, shift = errors + factor * moved, factor**2, 2 * shift
        prior = _normal_prior(mu, 0.0, 10.0) + _normal_prior(phi, 0.0, 2.0) + _normal_prior(theta, 0.0, 2.0)
        return prior + _cauchy_prior(arrays, sigma, 2.5) + _normal(arrays, errors, sigma)

    return Model((Parameter("mu"), Parameter("phi"), Parameter("theta"), SIGMA), log_prob)


def _hidden_markov(u: Array, v: Array, support: str, emission: Callable[..., tuple[Any, Any, Any]]) -> Model:
    """Two hidden states, summed out; the first time has no transition, and probability one half for each state.

    Log densities of emissions are linear in (1, u_t, v_t), up to what no parameter changes; ``emission`` gives the
    three coefficients for parameters phi and lambda of a state, [n] each.
    """
    features = np.stack([np.ones(len(u)), u, v], 1)

    def log_prob(arrays: Arrays, values: Values) -> Any:
        first, second = values["theta1"], values["theta2"]
        phi, rates = values["phi"], values["lambda"]
        zero, one = (arrays.stack(emission(arrays, phi[:, k], rates[:, k])) for k in (0, 1))  # [3, n]
        emissions = (arrays.product(arrays.constant(features, phi), each) for each in (zero, one))  # [T, n]
        likelihood = arrays.two_states(*emissions, first, second)
        prior = 3.0 * arrays.log(first) + arrays.log1p(-first) + arrays.log(second) + 3.0 * arrays.log1p(-second)
        for ordered in (phi, rates):
            prior = prior + _normal_prior(ordered[:, 0], 0.0, 1.0) + _normal_prior(ordered[:, 1], 3.0, 1.0)
        return prior + likelihood

    parameters = (
        Parameter("theta1", (), "unit"),
        Parameter("theta2", (), "unit"),
        Parameter("phi", (2,), support),
        Parameter("lambda", (2,), support),
    )

    def values(columns: Columns) -> dict[str, Array]:
        found = {name: gather(columns, name, (2,)) for name in ("phi", "lambda")}
        return found | {name: columns[f"{name}[1]"] for name in ("theta1", "theta2")}

    return Model(parameters, log_prob, values)


def exponential_states(data: Data) -> Model:
    """hmm_drive_0: u_t ~ Exp(phi_k), v_t ~ Exp(lambda_k) in state k."""

    def emission(arrays: Arrays, phi: Any, rates: Any) -> tuple[Any, Any, Any]:
        return arrays.log(phi) + arrays.log(rates), -phi, -rates

    return _hidden_markov(data["u"], data["v"], "positive_ordered", emission)


def normal_states(data: Data) -> Model:
    """hmm_drive_1: u_t ~ N(phi_k, tau), v_t ~ N(lambda_k, rho) in state k."""
    tau, rho = float(data["tau"]), float(data["rho"])
    u, v = data["u"].mean(), data["v"].mean()  # from which data are counted, for the sake of single precision

    def emission(arrays: Arrays, phi: Any, rates: Any) -> tuple[Any, Any, Any]:
        first, second = (phi - u) / tau, (rates - v) / rho
        return -0.5 * (first**2 + second**2), first / tau, second / rho

    return _hidden_markov(data["u"] - u, data["v"] - v, "ordered", emission)


def eight_schools(data: Data) -> Model:
    """y_j ~ N(mu + tau theta_trans_j, sigma_j)."""
    y, sigma = data["y"], data["sigma"]

    def log_prob(arrays: Arrays, values: Values) -> Any:
        trans, mu, tau = values["theta_trans"], values["mu"], values["tau"]
        residual = arrays.constant(y, mu) - mu[:, None] - tau[:, None] * trans
        prior = _normal(arrays, trans, 1.0) + _normal_prior(mu, 0.0, 5.0) + _cauchy_prior(arrays, tau, 5.0)
        return prior + _normal(arrays, residual / arrays.constant(sigma, mu), 1.0)

    def values(columns: Columns) -> dict[str, Array]:
        mu, tau = columns["mu"], columns["tau"]
        trans = (gather(columns, "theta", (8,)) - mu[:, None]) / tau[:, None]
        return {"theta_trans": trans, "mu": mu, "tau": tau}

    parameters = (Parameter("theta_trans", (8,)), Parameter("mu"), Parameter("tau", (), "positive"))
    return Model(parameters, log_prob, values)


def gaussian_process(data: Data) -> Model:
    """gp_regr: y ~ N(0, alpha^2 exp(-(x_i - x_j)^2 / (2 rho^2)) + sigma I); sigma is the noise variance."""
    x, y = data["x"], data["y"]
    square = (x[:, None] - x) ** 2

    def log_prob(arrays: Arrays, values: Values) -> Any:
        rho, alpha, sigma = (values[name][:, None, None] for name in ("rho", "alpha", "sigma"))
        kernel = alpha**2 * arrays.exp(-0.5 * arrays.constant(square, rho) / rho**2)
        covariance = kernel + sigma * arrays.constant(np.eye(len(x)), rho)
        quadratic, log_det = arrays.mahalanobis(covariance, arrays.constant(y, rho))
        rho, alpha, sigma = (values[name] for name in ("rho", "alpha", "sigma"))
        prior = 24.0 * arrays.log(rho) - 4.0 * rho + _normal_prior(alpha, 0.0, 2.0) + _normal_prior(sigma, 0.0, 1.0)
        return prior - 0.5 * (quadratic + log_det)

    return Model(tuple(Parameter(name, (), "positive") for name in ("rho", "alpha", "sigma")), log_prob)


def diamonds(data: Data) -> Model:
    """Y ~ N(Intercept + Xc b, sigma), the columns of X centred."""
    response, design = data["Y"], data["X"][:, 1:]
    centred = design - design.mean(0)

    def log_prob(arrays: Arrays, values: Values) -> Any:
        b, intercept, sigma = values["b"], values["Intercept"], values["sigma"]
        fitted = intercept[:, None] + arrays.product(b, arrays.constant(centred.T, b))
        prior = _normal(arrays, b, 1.0) + _student_prior(arrays, intercept, 3.0, 8.0, 10.0)
        prior = prior + _student_prior(arrays, sigma, 3.0, 0.0, 10.0)
        return prior + _normal(arrays, arrays.constant(response, b) - fitted, sigma)

    return Model((Parameter("b", (centred.shape[1],)), Parameter("Intercept"), SIGMA), log_prob)


def ridge(data: Data) -> Model:
    """sblrc-blr: y ~ N(X beta, sigma), beta ~ N(0, 10), sigma ~ N+(0, 10)."""

    def log_prob(arrays: Arrays, values: Values) -> Any:
        beta, sigma = values["beta"], values["sigma"]
        fitted = arrays.product(beta, arrays.constant(data["X"].T, beta))
        prior = _normal(arrays, beta, 10.0) + _normal_prior(sigma, 0.0, 10.0)
        return prior + _normal(arrays, arrays.constant(data["y"], beta) - fitted, sigma)

    return Model((Parameter("beta", (data["X"].shape[1],)), SIGMA), log_prob)


def kilpisjarvi(data: Data) -> Model:
    """y ~ N(alpha + beta x, sigma) with Gaussian priors of alpha and beta, sigma flat."""

    def log_prob(arrays: Arrays, values: Values) -> Any:
        alpha, beta, sigma = values["alpha"], values["beta"], values["sigma"]
        prior = _normal_prior(alpha, float(data["pmualpha"]), float(data["psalpha"]))
        prior = prior + _normal_prior(beta, float(data["pmubeta"]), float(data["psbeta"]))
        fitted = alpha[:, None] + beta[:, None] * arrays.constant(data["x"], alpha)
        return prior + _normal(arrays, arrays.constant(data["y"], alpha) - fitted, sigma)

    return Model((Parameter("alpha"), Parameter("beta"), SIGMA), log_prob)


def _regression_model(build: Callable[[Data], Regression]) -> Callable[[Data], Model]:
    return lambda data: regression(build(data))


MODELS: dict[str, Callable[[Data], Model]] = {
    "arK-arK": autoregression,
    "arma-arma11": moving_average,
    "bball_drive_event_0-hmm_drive_0": exponential_states,
    "bball_drive_event_1-hmm_drive_1": normal_states,
    "diamonds-diamonds": diamonds,
    "eight_schools-eight_schools_noncentered": eight_schools,
    "gp_pois_regr-gp_regr": gaussian_process,
    "kilpisjarvi_mod-kilpisjarvi": kilpisjarvi,
    "sblrc-blr": ridge,
    **{name: _regression_model(build) for name, build in REGRESSIONS.items()},
}

# D of each; in the order of the registry.
SIZES: dict[str, int] = {
    "arK-arK": 7,
    "arma-arma11": 4,
    "bball_drive_event_0-hmm_drive_0": 6,
    "bball_drive_event_1-hmm_drive_1": 6,
    "diamonds-diamonds": 26,
    "eight_schools-eight_schools_noncentered": 10,
    "gp_pois_regr-gp_regr": 3,
    "kilpisjarvi_mod-kilpisjarvi": 3,
    "sblrc-blr": 6,
    "earnings-earn_height": 3,
    "earnings-log10earn_height": 3,
    "earnings-logearn_height": 3,
    "earnings-logearn_height_male": 4,
    "earnings-logearn_logheight_male": 4,
    "earnings-logearn_interaction_z": 5,
    "kidiq-kidscore_momhs": 3,
    "kidiq-kidscore_momiq": 3,
    "kidiq-kidscore_momhsiq": 4,
    "kidiq-kidscore_interaction": 5,
    "kidiq_with_mom_work-kidscore_interaction_c": 5,
    "kidiq_with_mom_work-kidscore_interaction_z": 5,
    "kidiq_with_mom_work-kidscore_mom_work": 5,
    "mesquite-mesquite": 8,
    "mesquite-logmesquite": 8,
    "mesquite-logmesquite_logvolume": 3,
    "mesquite-logmesquite_logva": 5,
    "mesquite-logmesquite_logvas": 8,
    **{f"nes{year}-nes": 10 for year in (1972, 1976, 1980, 1984, 1988, 1992, 2000)},
}
