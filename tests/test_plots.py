"""What figures show: data in the artists, labels, notes and errors; not pixels."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.contour import ContourSet

from neural_vb.drawing import DRAWS, INK, MAX_POINTS, REFERENCE
from neural_vb.errors import ConfigurationError, DataError, MissingDependencyError
from neural_vb.plots import plot_density, plot_marginals, plot_pair, plot_training


@pytest.fixture(autouse=True)
def _same_settings_and_no_open_figures() -> Iterator[None]:
    before = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before


def _history(size: int = 40, **changes: Any) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    step = 100 * np.arange(1, size + 1)
    values: dict[str, Any] = {
        "step": step,
        "elbo": -30 - 1000 * np.exp(-step / 100) + 0.1 * rng.normal(size=size),
        "elbo_standard_error": np.full(size, 0.1),
        "critic_accuracy": 0.5 + 0.1 * np.exp(-step / 500),
        "sampler_gradient_norm": np.full(size, 0.3),
        "critic_gradient_norm": np.full(size, 0.05),
        "contrast_gradient_norm": np.linspace(2, 1, size),
        "rate": np.clip((4000 - step) / 2000, 0, 1),
        "decay_start": 2000,
    }
    return SimpleNamespace(**{**values, **changes})


def _banana(size: int = 3000) -> np.ndarray:
    rng = np.random.default_rng(1)
    x = rng.normal(size=size)
    return np.stack([x, x**2 + 0.5 * rng.normal(size=size)], -1)


def _log_banana(z: np.ndarray) -> np.ndarray:
    return -0.5 * z[:, 0] ** 2 - 2 * (z[:, 1] - z[:, 0] ** 2) ** 2


def _texts(figure: Any) -> str:
    figure.canvas.draw()
    found = figure.findobj(matplotlib.text.Text)
    return "\n".join(text.get_text() for text in found if text.get_visible())


def _note(figure: Any) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def _contours(axis: Any, color: str) -> list[ContourSet]:
    sets = [artist for artist in axis.get_children() if isinstance(artist, ContourSet)]
    return [one for one in sets if np.allclose(one.get_edgecolor()[0], to_rgba(color))]


def _inside_canvas(figure: Any) -> bool:
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return bool(box.x0 > -0.03 and box.y0 > -0.03 and box.x1 < width + 0.03 and box.y1 < height + 0.03)


# Training


def test_training_shows_every_series() -> None:
    history = _history()
    figure = plot_training(history)
    elbo, accuracy, gradients, rate = figure.axes
    np.testing.assert_array_equal(elbo.lines[0].get_xydata(), np.stack([history.step, history.elbo], -1))
    np.testing.assert_array_equal(accuracy.lines[1].get_ydata(), history.critic_accuracy)
    assert set(accuracy.lines[0].get_ydata()) == {0.5}
    shown = {line.get_label(): line.get_ydata() for line in gradients.lines}
    for part in ("sampler", "critic", "contrast"):
        np.testing.assert_array_equal(shown[part], getattr(history, f"{part}_gradient_norm"))
    assert gradients.get_yscale() == "log"
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), history.rate)
    assert [axis.get_ylabel() for axis in (elbo, accuracy)] == ["ELBO (nats)", "critic accuracy"]
    assert rate.get_xlabel() == "step"
    assert _inside_canvas(figure)


def test_training_band_is_one_standard_error() -> None:
    history = _history()
    band = plot_training(history).axes[0].collections[0].get_paths()[0].vertices
    at_last = band[band[:, 0] == history.step[-1], 1]
    assert at_last.max() - at_last.min() == pytest.approx(0.2)


def test_training_shades_the_decay() -> None:
    for history, count in ((_history(), 1), (_history(decay_start=None), 0)):
        figure = plot_training(history)
        for axis in figure.axes:
            spans = [patch.get_extents().transformed(axis.transData.inverted()) for patch in axis.patches]
            assert [(round(span.x0), round(span.x1)) for span in spans] == [(2000, 4000)] * count
        assert ("rate decays" in _texts(figure)) == bool(count)


def test_training_axis_fits_the_end_and_says_what_is_below() -> None:
    history = _history()
    figure = plot_training(history)
    lower, upper = figure.axes[0].get_ylim()
    assert -33 < lower < -30.2 and -29.9 < upper < -28
    assert f"lowest −{-history.elbo[0]:.4g}, below the axis" in _texts(figure)
    assert "± 0.10" in _texts(figure)


def test_training_that_never_was_says_so_in_words() -> None:
    numbers = {"bound": -31.2345, "divergence": 0.0021, "optima": 1.0}
    history = _history(1, step=np.array([0]), decay_start=None, warm_start=numbers)
    figure = plot_training(history)
    assert figure.axes == [] and _inside_canvas(figure)
    assert "met at the warm start: nothing was trained" in _texts(figure)
    assert "lower bound −31.23 nats; divergence from the target 0.0021 nats" in _texts(figure)


def test_training_survives_gaps_and_short_runs() -> None:
    elbo = _history().elbo
    elbo[5:8] = np.nan
    assert "3 values not finite" in _texts(plot_training(_history(elbo=elbo)))
    nothing = np.full(40, np.nan)
    figure = plot_training(_history(elbo=nothing, elbo_standard_error=nothing, contrast_gradient_norm=0 * nothing))
    assert "no finite ELBO" in _texts(figure)
    assert "contrast" not in [line.get_label() for line in figure.axes[2].lines]
    gone = {f"{part}_gradient_norm": nothing for part in ("sampler", "critic", "contrast")}
    assert "no gradients recorded" in _texts(plot_training(_history(**gone)))
    figure = plot_training(_history(1, decay_start=None))
    assert figure.axes[0].lines[0].get_marker() == "o"  # a line of one point is invisible


def test_training_without_records() -> None:
    with pytest.raises(DataError, match="a training history with records; got none"):
        plot_training(_history(0))


# Pairs


def test_pair_is_a_lower_triangle_with_labels_outside() -> None:
    draws = {"mu": np.random.default_rng(0).normal(size=500), "theta": np.random.default_rng(1).normal(size=(500, 2))}
    figure = plot_pair(draws, labels={"theta": "θ (points)", "mu": "μ"})
    assert len(figure.axes) == 6
    bottom = [axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()]
    left = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert bottom == ["μ", "θ[0] (points)", "θ[1] (points)"]
    assert left == ["θ[0] (points)", "θ[1] (points)"]
    assert _inside_canvas(figure)


def test_pair_shows_the_first_draws_and_contours_of_all() -> None:
    draws = _banana(5000)
    figure = plot_pair(draws)
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel() == "z[0]"]
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), draws[:MAX_POINTS])
    (contour,) = _contours(axis, DRAWS)
    assert len(contour.levels) == 2
    assert "contours: 50 % and 90 %" in _note(figure)


def test_pair_overlays_the_reference_and_the_exact_density() -> None:
    figure = plot_pair(_banana(), reference=_banana(800), log_density=_log_banana)
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel() == "z[0]"]
    assert [len(_contours(axis, color)) for color in (DRAWS, REFERENCE, INK)] == [1, 1, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["draws", "reference", "exact density"]
    assert len(figure.axes[0].lines) == 2
    assert not plot_pair(_banana()).legends


def test_pair_exact_contour_is_a_level_of_the_density() -> None:
    figure = plot_pair(_banana(), log_density=_log_banana)
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel() == "z[0]"]
    (contour,) = _contours(axis, INK)
    for path in contour.get_paths():
        values = _log_banana(path.vertices)
        assert np.ptp(values) < 0.1  # nats along one contour, up to interpolation on the grid


def test_pair_shows_the_first_variables_and_says_so() -> None:
    figure = plot_pair(np.random.default_rng(0).normal(size=(300, 9)), max_variables=2)
    assert len(figure.axes) == 3
    assert "first 2 of 9 variables" in _note(figure)


def test_pair_of_one_variable() -> None:
    figure = plot_pair({"tau": np.random.default_rng(0).gamma(2, size=400)})
    assert len(figure.axes) == 1
    assert figure.axes[0].get_xlabel() == "tau"
    assert _inside_canvas(figure)


def test_limits_are_robust_and_say_what_they_hide() -> None:
    cauchy = np.random.default_rng(0).standard_cauchy(4000)
    figure = plot_pair({"a": cauchy, "b": np.random.default_rng(1).normal(size=4000)})
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel() == "a"]
    lower, upper = axis.get_xlim()
    share = 100 * np.mean((cauchy < lower) | (cauchy > upper))
    assert upper - lower < 100 < np.ptp(cauchy)
    assert f"beyond the axes: {share:.2g} % of a" in _note(figure)


def test_long_notes_stay_in_the_figure() -> None:
    draws = np.random.default_rng(0).standard_cauchy((3000, 8))
    assert _inside_canvas(plot_pair({"a_rather_long_name": draws}, max_variables=2))
    assert _inside_canvas(plot_marginals({"a_rather_long_name": draws}))


@pytest.mark.parametrize("size", [1, 2, 19, 30])
def test_few_draws_are_drawn(size: int) -> None:
    draws = np.random.default_rng(0).normal(size=(size, 2))
    plot_pair(draws, reference=draws).canvas.draw()
    plot_marginals(draws).canvas.draw()


def test_odd_draws_are_drawn() -> None:
    rng = np.random.default_rng(0)
    x = np.append(rng.normal(size=897), [np.nan, np.inf, -np.inf])
    draws = {"k": rng.integers(0, 3, 900), "flag": rng.random(900) < 0.3, "same": np.ones(900), "x": x}
    figure = plot_pair(draws, reference=draws)
    assert "beyond the axes: 0.33 % of x" in _note(figure)
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel() == "k"]
    assert axis.get_xticks().tolist() == [0, 1, 2]
    assert not any(isinstance(child, ContourSet) for child in axis.get_children())


def test_discrete_draws_have_stems_of_their_frequencies() -> None:
    figure = plot_marginals({"k": np.repeat([0, 1, 2], [10, 30, 60])})
    stems = figure.axes[0].collections[0].get_segments()
    assert [(stem[0][0], stem[1][1]) for stem in stems] == [(0, 0.1), (1, 0.3), (2, 0.6)]


# Marginals


def test_marginals_show_mean_and_intervals() -> None:
    draws = np.random.default_rng(0).gamma(2, size=(2000, 3))
    figure = plot_marginals({"tau": draws})
    assert [axis.get_xlabel() for axis in figure.axes] == ["tau[0]", "tau[1]", "tau[2]"]
    for axis, column in zip(figure.axes, draws.T, strict=True):
        assert axis.lines[-1].get_xdata()[0] == pytest.approx(column.mean())
        wide, narrow = (line.get_segments()[0][:, 0] for line in axis.collections[-2:])
        np.testing.assert_allclose(wide, np.quantile(column, [0.03, 0.97]))
        np.testing.assert_allclose(narrow, np.quantile(column, [0.25, 0.75]))
    assert "bars: 50 % and 94 % intervals" in _note(figure)


def test_marginals_overlay_a_reference_of_any_order_and_size() -> None:
    rng = np.random.default_rng(0)
    figure = plot_marginals(
        {"a": rng.normal(size=900), "b": 50 + rng.normal(size=900)},
        reference={"b": 50 + rng.normal(size=400), "a": rng.normal(size=400), "c": rng.normal(size=400)},
    )
    assert [axis.get_xlabel() for axis in figure.axes] == ["a", "b"]
    means = [[line.get_xdata()[0] for line in axis.lines[-2:]] for axis in figure.axes]
    np.testing.assert_allclose(means, [[0, 0], [50, 50]], atol=0.25)
    assert figure.axes[0].lines[1].get_color() == REFERENCE


def test_marginals_are_limited_in_number() -> None:
    figure = plot_marginals(np.random.default_rng(0).normal(size=(50, 45)))
    assert len(figure.axes) == 40 and "first 40 of 45 variables" in _note(figure)


# A density beside draws


def test_density_is_normalised_on_the_same_axes_and_scale() -> None:
    draws = _banana(20_000)
    figure = plot_density(_log_banana, draws, title="banana")
    exact, drawn = figure.axes[:2]
    assert exact.get_xlim() == drawn.get_xlim() and exact.get_ylim() == drawn.get_ylim()
    exact_image, drawn_image = exact.collections[0], drawn.collections[0]
    assert exact_image.get_clim() == drawn_image.get_clim()
    assert exact_image.get_array().max() == pytest.approx(1 / np.pi, rel=0.03)  # 1 / (2 pi 0.5), the banana's peak
    cells = np.diff(exact.get_xlim())[0] * np.diff(exact.get_ylim())[0] / drawn_image.get_array().size
    assert drawn_image.get_array().sum() * cells == pytest.approx(1.0, abs=1e-3)
    assert [exact.get_title(), drawn.get_title()] == ["density", "20,000 draws"]
    assert [len(_contours(axis, INK)) for axis in (exact, drawn)] == [1, 1]
    assert "banana" in _texts(figure) and _inside_canvas(figure)


def test_density_axes_of_equal_range_have_equal_scale() -> None:
    rng = np.random.default_rng(0)
    figure = plot_density(lambda z: -0.5 * (z**2).sum(-1), {"a": rng.normal(size=900), "b": rng.normal(size=900)})
    assert figure.axes[0].get_aspect() == 1.0 and _inside_canvas(figure)
    assert (figure.axes[1].get_xlabel(), figure.axes[0].get_ylabel()) == ("a", "b")
    assert plot_density(_log_banana, _banana()).axes[0].get_aspect() == "auto"


def test_density_extent_and_dtype() -> None:
    seen: list[Any] = []

    def log_density(z: np.ndarray) -> np.ndarray:
        seen.append(z.dtype)
        return np.where(z[:, 0] > 0, -z[:, 0], -np.inf)

    draws = np.random.default_rng(0).exponential(size=(500, 2)).astype(np.float32)
    figure = plot_density(log_density, draws, extent=(-1, 2, 0, 1))
    assert figure.axes[0].get_xlim() == (-1, 2) and figure.axes[1].get_ylim() == (0, 1)
    assert seen == [np.float32]
    assert "beyond the axes" in _note(figure)


# Errors


def test_unknown_names() -> None:
    draws = {"mu": np.zeros(5), "theta": np.zeros([5, 2])}
    for plot in (plot_pair, plot_marginals):
        with pytest.raises(ConfigurationError, match=r"got 'tehta'. Fix: did you mean 'theta'\?"):
            plot(draws, var_names=["tehta"])
        with pytest.raises(DataError, match=r"the reference to have 'mu', as the draws do; got only nu"):
            plot(draws, reference={"nu": np.zeros(5)})
        with pytest.raises(DataError, match="at least one draw"):
            plot({})
        with pytest.raises(DataError, match="finite draws of 'a'; got none"):
            plot({"a": np.full(4, np.nan)})
    with pytest.raises(ConfigurationError, match="`labels` for variables that are shown; got 'ta'"):
        plot_pair(draws, labels={"ta": "τ"})
    with pytest.raises(ConfigurationError, match=r"max_variables as a whole number from 1 .*; got 0"):
        plot_pair(draws, max_variables=0)
    with pytest.raises(ConfigurationError, match=r"labels as a dict, .*; got a str"):
        plot_pair(draws, labels="mu")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`labels` as text for 'mu'; got an int"):
        plot_pair(draws, labels={"mu": 3})  # type: ignore[dict-item]
    with pytest.raises(ConfigurationError, match="names of variables or of their elements in `var_names`; got 3"):
        plot_pair(draws, var_names=3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a reference with finite draws of 'mu'; got none"):
        plot_pair(draws, reference={"mu": np.full(5, np.nan), "theta": np.zeros([5, 2])})


def test_density_needs_two_variables() -> None:
    with pytest.raises(ConfigurationError, match=r"exactly two variables to draw `log_density` for; got 3"):
        plot_pair(np.zeros([5, 3]), log_density=_log_banana)
    with pytest.raises(DataError, match="two-dimensional draws"):
        plot_density(_log_banana, np.zeros([5, 3]))


@pytest.mark.parametrize(
    ("log_density", "message"),
    [
        (lambda z: z, r"a log density of shape \[25600\] for points of shape \[25600, 2\]; got shape \[25600, 2\]"),
        (lambda z: np.where(z[:, 0] > 0, np.inf, 0), r"a finite log density; got \+inf at \("),
        (lambda z: np.full(len(z), -np.inf), "a density above zero somewhere in the axes; got -inf or NaN everywhere"),
    ],
)
def test_densities_that_cannot_be(log_density: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plot_density(log_density, _banana(100))


def test_a_density_is_a_function() -> None:
    for plot in (lambda density: plot_density(density, _banana(100)), _pair_with):
        with pytest.raises(ConfigurationError, match=r"log_density as a function from points .*; got a str"):
            plot("log_banana")


def _pair_with(density: Any) -> Any:
    return plot_pair(_banana(100), log_density=density)


@pytest.mark.parametrize("extent", [(1, -1, 0, 1), (0, 1, 0, np.nan), (0, 1, 2), "auto", 3, (0, 1, "a", 2)])
def test_extents_that_cannot_be(extent: Any) -> None:
    with pytest.raises(ConfigurationError, match="`extent` as \\(left, right, bottom, top\\)"):
        plot_density(_log_banana, _banana(100), extent=extent)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return genuine(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependencyError, match="Fix: pip install matplotlib"):
        plot_marginals(np.zeros([5, 1]))
