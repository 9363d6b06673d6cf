"""Eight schools (Rubin 1981) in its non-centred form, and what its posterior should be.

The model is posteriordb's ``eight_schools-eight_schools_noncentered``: theta_trans_j ~ N(0, 1), mu ~ N(0, 5),
tau ~ HalfCauchy(0, 5), theta_j = mu + tau theta_trans_j, y_j ~ N(theta_j, sigma_j); second arguments are standard
deviations. The unconstrained vector has D = 10: theta_trans_1..8, mu, log tau.

The moments are those of posteriordb's 10,000 reference draws (10 chains of 1,000, thinned to near independence),
so each mean carries a standard error of .01 sd. Source: https://github.com/stan-dev/posteriordb, commit
28f8d3d6e975315f42aa274a8399f21e07a43b30 (29 April 2025), BSD 3-Clause; theta_trans_j = (theta_j - mu) / tau.
"""

from __future__ import annotations

SCHOOLS: tuple[str, ...] = (
    "Choate",
    "Deerfield",
    "Phillips Andover",
    "Phillips Exeter",
    "Hotchkiss",
    "Lawrenceville",
    "St. Paul's",
    "Mt. Hermon",
)
EFFECTS: tuple[float, ...] = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
STANDARD_ERRORS: tuple[float, ...] = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
MU_PRIOR_SCALE = 5.0
TAU_PRIOR_SCALE = 5.0

# Ten unconstrained coordinates: theta_trans_1..8, mu, log tau.
UNCONSTRAINED_MEAN: tuple[float, ...] = (
    0.29034, 0.084892, -0.093349, 0.077223, -0.16761, -0.066126, 0.36603, 0.086084, 4.4105, 0.80808,
)  # fmt: skip
UNCONSTRAINED_SD: tuple[float, ...] = (
    0.99186, 0.93257, 0.97647, 0.92729, 0.9282, 0.93985, 0.95209, 0.9731, 3.3093, 1.1743,
)  # fmt: skip

# The quantities a reader knows, on their own scale.
THETA_MEAN: tuple[float, ...] = (6.1505, 4.9396, 3.9059, 4.796, 3.6144, 4.0511, 6.3172, 4.884)
THETA_SD: tuple[float, ...] = (5.6159, 4.6456, 5.2807, 4.7709, 4.6147, 4.7962, 5.0029, 5.3177)
MU_MEAN, MU_SD = 4.4105, 3.3093
TAU_MEAN, TAU_SD = 3.6021, 3.1985
