"""Problems whose density is written once: against naive twins, their exact draws, and each library."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import io, stats

from benchmarks import arrays, database, definitions, problems_toy, references, regression_data, shared_densities
from benchmarks.definitions import Array
from benchmarks.logistic import LogisticPosterior
from benchmarks.problems import PROBLEMS

EXACT = sorted(name for name, problem in PROBLEMS.items() if problem.exact is not None and problem.needs is None)
ONCE = [name for name in EXACT if not isinstance(PROBLEMS[name].density, str)] + ["hierarchical_100"]
quiet = pytest.mark.filterwarnings("ignore")  # JAX's own, which change from version to version


def draws_of(name: str, n: int, seed: int = 3) -> Array:
    sampler = PROBLEMS[name].exact
    rng = np.random.default_rng(seed)
    return 0.5 * rng.standard_normal((n, PROBLEMS[name].size)) if sampler is None else sampler(n, rng)


def naive_log_prob(name: str, z: Array) -> float:
    """Each log density again, from SciPy's or one number at a time."""
    size = len(z)
    if name.startswith("correlated_gaussian"):
        a = np.random.RandomState(1).standard_normal((size, size)) / size**0.5 + 0.3 * np.eye(size)
        return float(stats.multivariate_normal.logpdf(z, np.zeros(size), a @ a.T))
    if name.startswith("student_t"):
        scale = [[0.7 ** abs(i - j) for j in range(size)] for i in range(size)]
        return float(stats.multivariate_t.logpdf(z, np.zeros(size), scale, 5))
    if name == "twisted_gaussian":
        return stats.norm.logpdf(z[0], 0, 10) + stats.norm.logpdf(z[1] + 0.03 * z[0] ** 2 - 3.0)
    if name == "forty_gaussians":
        centres = np.random.RandomState(0).uniform(-40, 40, (40, 2))
        return math.log(np.mean([stats.multivariate_normal.pdf(z, c) for c in centres]))
    if name == "gumbel_5":
        return sum(stats.gumbel_r.logpdf(x, 0, s) for x, s in zip(z, (0.5, 1, 2, 4, 8), strict=True))
    if name == "hierarchical_100":
        mu, tau, beta, eta = z[0], math.exp(z[1]), z[2:10], z[10:]
        total = stats.norm.logpdf(mu, 0, 2) + stats.norm.logpdf(z[1:]).sum()
        features, labels = regression_data.groups(100)
        for j in range(90):
            for x, y in zip(features[j], labels[j], strict=True):
                logit = mu + x @ beta + tau * eta[j]
                total -= math.log1p(math.exp(-logit if y else logit))
        return total
    raise KeyError(name)


@quiet
@pytest.mark.parametrize("name", ONCE)
def test_both_libraries_agree_with_the_naive_density(name: str) -> None:
    import tensorflow as tf

    jax = pytest.importorskip("jax")
    problem, z = PROBLEMS[name], draws_of(name, 5)
    z = np.concatenate([z, 0.7 * z + 0.3])  # a little off, where densities differ that agree on their bulk
    expected = [naive_log_prob(name, row) for row in z]
    target, data, keywords = problem.fit_arguments()
    assert data is None and keywords == {"event_shape": [problem.size]}
    np.testing.assert_allclose(target(tf.constant(z)).numpy(), expected, rtol=1e-9)  # as precise as its argument
    tolerance = {"rtol": 1e-4, "atol": 2e-3}  # of single precision: squares are of whitened coordinates
    np.testing.assert_allclose(target(tf.constant(z, tf.float32)).numpy(), expected, **tolerance)
    got = jax.vmap(problem.jax_log_prob())(jax.numpy.asarray(z, "float32"))
    np.testing.assert_allclose(got, expected, **tolerance)


@quiet
@pytest.mark.parametrize("name", EXACT)
def test_scores_at_exact_draws_keep_their_identities(name: str) -> None:
    """E[s] = 0 and E[(u - ubar) s^T] = -I tie the density to the sampler; for many coordinates, on some of them.

    Those of a Gaussian are whitened by its own covariance: that of 2,000 draws would have its own error.
    """
    jax = pytest.importorskip("jax")
    z = draws_of(name, 20_000 if PROBLEMS[name].size <= 50 else 2_000)
    score = np.asarray(jax.vmap(jax.grad(PROBLEMS[name].jax_log_prob()))(jax.numpy.asarray(z, "float32")), float)
    if name == "funnel_10":  # x has no fourth moment worth the name, and its mean square comes from few draws
        z, score = z[:, :1], score[:, :1]
    if name.startswith("correlated_gaussian"):
        factor = np.linalg.cholesky(definitions.correlated_covariance(PROBLEMS[name].size))
        z, score = np.linalg.solve(factor, z.T).T, score @ factor
    found = database.identities(z[:, :10], score[:, :10])
    assert max(found.mean, found.product) < database.LARGEST_DEVIATION, found
    # Far modes have short scores: at forty of them a product scatters twenty times as much as at one.
    assert found.error < (0.25 if name == "forty_gaussians" else 0.1)


def test_region_weights_of_forty_modes_agree_with_a_finer_rule() -> None:
    coarse, fine = problems_toy._forty_region_weights(), problems_toy._forty_region_weights(201)
    np.testing.assert_allclose(coarse, fine, atol=1e-5)
    assert fine.sum() == pytest.approx(1.0)


def test_a_simulated_regression_has_its_exact_draws() -> None:
    """Draws, moments and evidence of a regression of one coefficient against quadrature."""
    rng = np.random.default_rng(0)
    design, labels = np.ones((12, 1)), (rng.random(12) < 0.7).astype(float)
    posterior = LogisticPosterior(design, labels, 2.0)
    grid = np.linspace(-8.0, 8.0, 4_001)[:, None]
    log_joint = posterior.log_prob(grid)
    mass = np.exp(log_joint)
    log_evidence = math.log(mass.sum() * 0.004)
    mean = float(mass @ grid[:, 0] / mass.sum())
    sd = math.sqrt(float(mass @ (grid[:, 0] - mean) ** 2 / mass.sum()))
    z = posterior.sample(20_000, rng)
    assert abs(z.mean() - mean) < 5.0 * sd / math.sqrt(20_000)
    assert abs(z.std() / sd - 1.0) < 0.03
    assert posterior.weighted(50_000, rng)[2] == pytest.approx(log_evidence, abs=0.02)
    import tensorflow as tf

    shared = shared_densities.logistic_regression(design, labels, 2.0)
    np.testing.assert_allclose(shared(arrays.tensorflow(), tf.constant(grid)).numpy(), log_joint, rtol=1e-12)


def test_student_covariance_is_five_thirds_of_its_scale() -> None:
    z = draws_of("student_t_2", 200_000)
    np.testing.assert_allclose(np.cov(z.T), 5.0 / 3.0 * definitions.student_scale(2), atol=0.05)


# Files that the user brings, in miniature.


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    inside = tmp_path / "some_folder"
    inside.mkdir()
    rng = np.random.default_rng(0)
    io.savemat(inside / "waveform.mat", {"X_train": np.ones((4, 22)), "y_train": np.array([[0, 1, 1, 0]])})
    np.savetxt(tmp_path / "german.data-numeric", np.c_[rng.integers(1, 9, (6, 24)), [1, 2, 1, 1, 2, 1]], fmt="%d")
    rows = [",".join([*map(str, rng.random(60)), f'"{word}"']) for word in "RMM"]
    (tmp_path / "sonar.all-data").write_text("\n".join(["3", "60", "2", *rows]))
    rows = [",".join([*map(str, [1, 0, *rng.random(32)]), word]) for word in "gb"]
    (tmp_path / "ionosphere.data").write_text("\n".join([",".join(map(str, range(1, 36))), *rows]))
    monkeypatch.setenv(regression_data.DATA_VARIABLE, str(tmp_path))
    for function in (regression_data.waveform, regression_data.german_credit, regression_data.sonar):
        function.cache_clear()
    regression_data.ionosphere.cache_clear()
    return tmp_path


def test_data_are_read_from_a_folder(data_folder: Path) -> None:
    design, labels = regression_data.waveform()
    assert design.shape == (4, 22) and labels.tolist() == [0, 1, 1, 0]
    design, labels = regression_data.german_credit()
    assert design.shape == (6, 25) and labels.tolist() == [1, 0, 1, 1, 0, 1]
    np.testing.assert_allclose(design[:, 1:].std(axis=0), 1.0)
    design, labels = regression_data.sonar()
    assert design.shape == (3, 61) and labels.tolist() == [0, 1, 1]
    assert (design[:, 1:].min(axis=0) == -1).all() and (design[:, 1:].max(axis=0) == 1).all()
    design, labels = regression_data.ionosphere()
    assert design.shape == (2, 35) and labels.tolist() == [1, 0]
    for name in ("waveform", "german_credit", "sonar", "ionosphere"):
        assert getattr(regression_data, name)().design[0, 0] == 1.0
        assert PROBLEMS[name].size == getattr(regression_data, name)().design.shape[1]


def test_a_missing_file_is_named(data_folder: Path) -> None:
    from neural_vb.errors import DataError

    (data_folder / "ionosphere.data").unlink()
    with pytest.raises(DataError, match=r"ionosphere\.data"):
        regression_data.ionosphere()


def test_missing_data_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from benchmarks import cli

    monkeypatch.delenv(regression_data.DATA_VARIABLE, raising=False)
    regression_data.sonar.cache_clear()
    assert cli.main(["run", "--problems", "sonar", "--methods", "neural_vb", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "neither --data nor the environment's BENCHMARK_DATA" in message


def test_stored_moments_have_the_problem_s_size() -> None:
    for name in ("waveform", "german_credit", "sonar", "ionosphere", "hierarchical_100"):
        moments, log_evidence = references.stored(name)
        assert moments.mean.shape == moments.sd.shape == (PROBLEMS[name].size,)
        assert (moments.sd > 0).all() and (log_evidence is None) == name.startswith("hierarchical")


def test_moments_that_were_never_made_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from neural_vb.errors import DataError

    (tmp_path / "store.json").write_text("{}")
    monkeypatch.setattr(references, "STORE", tmp_path / "store.json")
    with pytest.raises(DataError, match="python -m benchmarks reference hierarchical_300"):
        references.stored("hierarchical_300")
