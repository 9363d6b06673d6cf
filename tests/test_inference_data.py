"""ArviZ data of both generations: shapes, names, attributes, files and errors."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray

from neural_vb import inference_data
from neural_vb._version import __version__
from neural_vb.errors import ConfigurationError, DataError, MissingDependencyError
from neural_vb.inference_data import to_arviz


@pytest.fixture(params=["arviz", "arviz_base"])
def generation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the ArviZ that is installed, and with arviz-base, which makes data trees."""
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(inference_data, "_import_arviz", lambda: module)
    return request.param


def _groups() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        "posterior": {"theta": rng.normal(size=(50, 3)).astype(np.float32), "tau": rng.gamma(2, size=50)},
        "unconstrained_posterior": {"theta": rng.normal(size=(50, 2)), "tau": rng.normal(size=50)},
        "sample_stats": {"lp": rng.normal(size=50)},
        "log_likelihood": {"y": rng.normal(size=(50, 3))},
        "posterior_predictive": {"y": rng.normal(size=(50, 3))},
        "prior": {"tau": rng.normal(size=20)},
        "observed_data": {"y": np.array([28.0, 8.0, -3.0])},
        "constant_data": {"sigma": np.array(2.5), "label": np.array(["a", "bb"])},
    }


COORDS = {"school": ["A", "B", "C"]}
DIMS = {"theta": ["school"], "y": "school"}


def _names(data: Any) -> set[str]:
    return set(data.children) if isinstance(data, xarray.DataTree) else set(data.groups())


def test_groups_dims_and_coords(generation: str) -> None:
    data = to_arviz(_groups(), coords=COORDS, dims=DIMS)
    assert _names(data) == set(_groups())
    assert data["posterior"]["theta"].dims == ("chain", "draw", "school")
    assert data["posterior"]["theta"].shape == (1, 50, 3)
    assert data["posterior"]["school"].values.tolist() == ["A", "B", "C"]
    assert data["posterior"]["draw"].values.tolist() == list(range(50))
    assert data["prior"]["tau"].shape == (1, 20)
    assert data["observed_data"]["y"].dims == ("school",)
    assert data["log_likelihood"]["y"].dims == ("chain", "draw", "school")
    assert data["constant_data"]["sigma"].shape == ()
    np.testing.assert_array_equal(data["posterior"]["theta"].sel(school="B")[0], _groups()["posterior"]["theta"][:, 1])


def test_dims_of_reshaped_groups_are_given_as_far_as_they_fit(generation: str) -> None:
    data = to_arviz(_groups(), coords=COORDS, dims=DIMS)
    assert data["unconstrained_posterior"]["theta"].dims == ("chain", "draw", "theta_dim_0")
    groups = {"log_likelihood": {"y": np.zeros([5, 3])}, "observed_data": {"y": np.zeros([3, 2])}}
    data = to_arviz(groups, coords=COORDS, dims={"y": ["school", "part"]})
    assert data["log_likelihood"]["y"].dims == ("chain", "draw", "school")
    assert data["observed_data"]["y"].dims == ("school", "part")


def test_the_kind_of_container_follows_arviz() -> None:
    arviz = pytest.importorskip("arviz")
    data = to_arviz({"posterior": {"a": np.zeros(3)}})
    assert isinstance(data, xarray.DataTree) == (not arviz.__version__.startswith("0."))


def test_a_fake_new_arviz_gets_a_data_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    def dict_to_dataset(data: Any, *, attrs: Any = None, sample_dims: Any = None) -> xarray.Dataset:
        return xarray.Dataset(data, attrs={"created_at": "now", "sample_dims": ["chain", "draw"], **attrs})

    monkeypatch.setattr(inference_data, "_import_arviz", lambda: SimpleNamespace(dict_to_dataset=dict_to_dataset))
    data = to_arviz({"posterior": {"a": np.zeros(3)}, "observed_data": {"y": np.zeros(2)}})
    assert isinstance(data, xarray.DataTree)
    assert data["posterior"].attrs["sample_dims"] == ["chain", "draw"]
    assert "sample_dims" not in data["observed_data"].attrs  # data have no sample dimensions


def test_chains_are_kept(generation: str) -> None:
    draws = np.random.default_rng(0).normal(size=(4, 10, 2))
    data = to_arviz({"posterior": {"a": draws}, "observed_data": {"y": np.zeros(3)}}, chains=True)
    np.testing.assert_array_equal(data["posterior"]["a"], draws)
    assert data["posterior"]["a"].dims == ("chain", "draw", "a_dim_0")
    assert data["observed_data"]["y"].shape == (3,)


def test_an_unnamed_array_is_called_z(generation: str) -> None:
    data = to_arviz({"posterior": np.zeros([7, 2])})
    assert data["posterior"]["z"].shape == (1, 7, 2)


def test_attributes_are_netcdf_safe(generation: str) -> None:
    given = {"none": None, "flag": True, "count": np.int64(3), "rate": np.float32(0.5), "text": "a", "huge": 2**70}
    config = {"steps": np.int64(5), "sizes": (64, 64)}
    nested = {"config": config, "list": [1, None], "array": np.arange(2), "object": 1j}
    attrs = to_arviz(_groups(), attributes={**given, **nested})["observed_data"].attrs
    assert attrs["inference_library"] == "neural_vb"
    assert attrs["inference_library_version"] == __version__
    assert "created_at" in attrs
    expected = {"none": "", "flag": 1, "count": 3, "rate": 0.5, "text": "a", "huge": str(2**70)}
    assert {key: attrs[key] for key in expected} == expected
    assert json.loads(attrs["config"]) == {"steps": 5, "sizes": [64, 64]}
    assert (attrs["list"], attrs["array"], attrs["object"]) == ("[1, null]", "[0, 1]", "1j")
    assert all(type(value) in (str, int, float) for key, value in attrs.items() if key in {**given, **nested})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, bool])
def test_values_survive_netcdf_bit_by_bit(generation: str, dtype: Any, tmp_path: Any) -> None:
    bits = np.random.default_rng(0).bytes(8 * 60 * 2)
    values = np.frombuffer(bits, np.float64 if dtype is bool else dtype)[:120].reshape(60, 2)
    values = values > 0 if dtype is bool else values.copy()
    if np.issubdtype(dtype, np.floating):
        values = np.where(np.isnan(values), 0, values)
        values[:4, 0] = [np.inf, -np.inf, np.finfo(dtype).smallest_subnormal, -0.0]
    groups = {"posterior": {"a": values, "empty": np.zeros([60, 0])}, "observed_data": {"who": np.array(["x", "yé"])}}
    data = to_arviz(groups, coords={"part": ["l", "r"]}, dims={"a": "part"}, attributes={"none": None, "flag": True})
    path = str(tmp_path / "posterior.nc")
    data.to_netcdf(path, engine="h5netcdf")
    with xarray.open_dataset(path, group="posterior", engine="h5netcdf") as loaded:
        assert loaded["a"].dtype == np.dtype(dtype)
        assert loaded["a"].values.tobytes() == values.tobytes()
        assert loaded["empty"].shape == (1, 60, 0)
        assert loaded["part"].values.tolist() == ["l", "r"]
        assert (loaded.attrs["none"], loaded.attrs["flag"]) == ("", 1)
    with xarray.open_dataset(path, group="observed_data", engine="h5netcdf") as loaded:
        assert loaded["who"].values.tolist() == ["x", "yé"]


def test_names_that_fit_nothing_are_ignored() -> None:
    data = to_arviz({"posterior": {"mu": np.zeros(3)}}, coords={"observation": [1, 2]}, dims={"y": ["observation"]})
    assert set(data["posterior"].variables) == {"mu", "chain", "draw"}


ZEROS = np.zeros([5, 3])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"coords": {"school": ["A", "B"]}, "dims": {"theta": "school"}},
            ConfigurationError,
            "Expected 3 labels for 'school' in `coords`, for posterior.theta with event shape (3,); got 2 labels.",
        ),
        (
            {"dims": {"theta": ["school", "part"]}},
            ConfigurationError,
            "Expected 1 names in `dims` for posterior.theta, whose event shape is (3,); got 2: ['school', 'part'].",
        ),
        ({"dims": {"theta": ["chain", "draw", "school"]}}, ConfigurationError, "Fix: leave 'chain' out"),
        ({"dims": {"theta": ["a", "a"]}}, ConfigurationError, "different names for the dimensions of 'theta'"),
        ({"dims": {"theta": None}}, ConfigurationError, "names of the dimensions of 'theta' in `dims`; got None"),
        ({"dims": {"theta": 3}}, ConfigurationError, "names of the dimensions of 'theta' in `dims`; got 3"),
        ({"dims": "theta"}, ConfigurationError, "dims as a dict, such as {"),
        ({"coords": ["A"]}, ConfigurationError, "coords as a dict, such as {"),
        ({"dims": {"thetta": "school"}}, ConfigurationError, "got 'thetta'. Fix: did you mean 'theta'?"),
        (
            {"coords": {"schol": ["A"]}, "dims": {"theta": "school"}},
            ConfigurationError,
            "got 'schol'. Fix: did you mean 'school'?",
        ),
        ({"coords": {"school": "ABC"}}, ConfigurationError, "a list of labels for the dimension 'school'"),
        ({"coords": {"draw": [0]}}, ConfigurationError, "leave 'draw' out: it is added for you"),
        ({"dims": {"theta": "theta"}}, DataError, "got 'theta' for a variable in 'posterior' and for a dimension of"),
        ({"groups": {}}, DataError, "Expected at least one group"),
        ({"groups": {"posterior": {}}}, DataError, "Expected variables in the group 'posterior'; got none"),
        ({"groups": {"my group": {"a": ZEROS}}}, DataError, "got 'my group'"),
        ({"groups": {"posterior": {"a": 1.0}}}, DataError, "posterior.a, shape [S, ...] with at least one draw"),
        ({"groups": {"posterior": {"a": ZEROS[:0]}}}, DataError, "got shape (0, 3)"),
        ({"groups": {"posterior": {"a": ZEROS[0]}}, "chains": True}, DataError, "shape [C, S, ...]"),
        ({"groups": {"posterior": {"a": ZEROS, "b": ZEROS[1:]}}}, DataError, "got a (5, 3), b (4, 3)"),
        ({"groups": {"posterior": {"a": ZEROS + 0j}}}, DataError, "posterior.a in a dtype that netCDF can hold"),
        ({"groups": {"posterior": {"scope/a": ZEROS}}}, DataError, "Fix: rename it 'scope_a'"),
        ({"groups": {"observed_data": {"draw": ZEROS}}}, DataError, "Fix: rename it, for example 'draws'"),
        (
            {"groups": {"posterior": {"a": ZEROS, "b": ZEROS[:, :2]}}, "dims": {"a": "k", "b": "k"}},
            ConfigurationError,
            "one length of the dimension 'k' in the group 'posterior'; got 3 in 'a' and 2 in 'b'",
        ),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    options = {"groups": {"posterior": {"theta": ZEROS}}, **options}
    with pytest.raises(error) as caught:
        to_arviz(options.pop("groups"), **options)
    assert message in str(caught.value)


def test_without_arviz(monkeypatch: pytest.MonkeyPatch) -> None:

    def import_module(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(inference_data.importlib, "import_module", import_module)
    with pytest.raises(MissingDependencyError, match="Fix: pip install arviz"):
        to_arviz({"posterior": {"a": np.zeros(3)}})
