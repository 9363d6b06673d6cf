"""Event maps: round trips, shapes, and log-dets against numeric Jacobians."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability.python.bijectors import pad

from neural_vb import targets  # noqa: F401  its import lets SoftmaxCentered be built on NumPy 2.4
from neural_vb.bijectors import map_for_callable
from neural_vb.errors import BijectorError, DtypeError, EventShapeError

tfb = tfp.bijectors

CASES = {
    "array": ([3], None, 3),
    "scalar": ([], tfb.Exp(), 1),
    "matrix": ([2, 2], tfb.Softplus(), 4),
    "simplex": ([4], tfb.SoftmaxCentered(), 3),
    "covariance factor": ([3, 3], tfb.FillScaleTriL(diag_shift=None), 6),
    "correlation factor": ([3, 3], tfb.CorrelationCholesky(), 3),
    "ordered": ([3], tfb.Ascending(), 3),
    "constant scale": ([2, 3], tfb.Scale(3.0), 6),
    "chain": ([2], tfb.Chain([tfb.Shift([1.0, -2.0]), tfb.Exp()]), 2),
    "named": ({"mu": [], "tau": [], "w": [2, 3]}, {"tau": tfb.Exp(), "w": tfb.SoftmaxCentered()}, 6),
}
FLOAT64 = [name for name in CASES if name not in ("constant scale", "chain")]  # these hold float32 numbers


def points(size: int, *lead: int, dtype: str = "float64") -> np.ndarray:
    return np.random.RandomState(0).randn(*lead, size).astype(dtype)


def free_coordinates(draws: dict, bijectors: dict) -> np.ndarray:
    """The independent coordinates of constrained parts, whose Jacobian is square, written by hand for each support."""
    flat = []
    for name, value in draws.items():
        kind = type(bijectors.get(name))
        if kind is tfb.SoftmaxCentered:
            value = value[..., :-1]
        elif kind is tfb.FillScaleTriL:
            value = value[np.tril_indices(value.shape[-1])]
        elif kind is tfb.CorrelationCholesky:
            value = value[np.tril_indices(value.shape[-1], -1)]
        flat.append(np.ravel(value))
    return np.concatenate(flat)


@pytest.mark.parametrize("case", CASES)
def test_size_labels_and_event_shape(case: str) -> None:
    event_shape, bijector, size = CASES[case]
    event_map = map_for_callable(event_shape, bijector)
    assert event_map.event_size == size
    assert len(set(event_map.labels)) == size
    assert event_map.event_shape == event_shape


@pytest.mark.parametrize("case", FLOAT64)
def test_log_det_is_the_log_determinant_of_a_numeric_jacobian(case: str) -> None:
    event_shape, bijector, size = CASES[case]
    event_map = map_for_callable(event_shape, bijector, tf.float64)
    bijectors = bijector if isinstance(bijector, dict) else {"z": bijector}

    def constrained(z: np.ndarray) -> np.ndarray:
        draws = event_map.forward(z)
        draws = {k: v.numpy() for k, v in (draws if isinstance(draws, dict) else {"z": draws}).items()}
        return free_coordinates(draws, bijectors)

    for z in points(size, 3):
        step = 1e-5 * np.eye(size)
        jacobian = np.stack([(constrained(z + d) - constrained(z - d)) / 2e-5 for d in step], axis=-1)
        expected = np.linalg.slogdet(jacobian)[1]
        np.testing.assert_allclose(event_map.log_det(z), expected, rtol=1e-6, atol=1e-7)


def test_simplices_inside_chains_and_blocks_have_the_measure_of_their_first_coordinates() -> None:
    """TFP's own log-Jacobian is that of the area, sqrt(K) times as much for each simplex of K parts."""
    simplex = tfb.SoftmaxCentered()
    turned = tfb.Chain([simplex, tfb.Chain([tfb.Shift([1.0, -1.0])])])
    blocks = tfb.Blockwise([tfb.Exp(), simplex], block_sizes=[1, 2])
    for bijector, shape, number, parts in ((simplex, [2, 5, 4], 10, 4), (turned, [3], 1, 3), (blocks, [4], 1, 3)):
        event_map = map_for_callable(shape, bijector)
        free = event_map.unconstrained_shapes[0]
        z = points(event_map.event_size, 6, dtype="float32")
        area = bijector.forward_log_det_jacobian(z.reshape(6, *free), event_ndims=len(free))
        np.testing.assert_allclose(event_map.log_det(z), area - number * 0.5 * np.log(parts), rtol=1e-5, atol=1e-5)


def test_log_det_of_a_constant_jacobian_counts_every_coordinate() -> None:
    event_map = map_for_callable(*CASES["constant scale"][:2])
    np.testing.assert_allclose(event_map.log_det(points(6, 4, 5)), np.full((4, 5), 6 * np.log(3.0)), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", FLOAT64)
@pytest.mark.parametrize("compile_it", [False, True])
def test_round_trip_with_leading_axes(case: str, dtype: str, compile_it: bool) -> None:
    event_shape, bijector, size = CASES[case]
    event_map = map_for_callable(event_shape, bijector, tf.as_dtype(dtype))
    z = points(size, 4, 2, dtype=dtype)

    def both_ways(z: tf.Tensor) -> tuple:
        draws = event_map.forward(z)
        copies = tf.nest.map_structure(tf.identity, draws)  # TFP would hand back z itself for the very same tensor
        return draws, event_map.inverse(copies), event_map.log_det(z)

    draws, back, log_det = tf.function(both_ways, jit_compile=compile_it)(z)
    for name, shape in event_shape.items() if isinstance(event_shape, dict) else [(None, event_shape)]:
        part = draws if name is None else draws[name]
        assert part.shape == (4, 2, *shape)
        assert part.dtype == dtype
    assert log_det.shape == (4, 2)
    np.testing.assert_allclose(back, z, rtol=1e-3 if dtype == "float32" else 1e-8, atol=1e-4)


def test_parts_keep_the_order_of_the_dict_and_labels_name_coordinates() -> None:
    event_map = map_for_callable({"tau": [], "a": [2], "w": [2, 2]})
    draws = event_map.forward(np.arange(7.0, dtype="float32"))
    np.testing.assert_array_equal(draws["tau"], 0.0)
    np.testing.assert_array_equal(draws["a"], [1.0, 2.0])
    np.testing.assert_array_equal(draws["w"], [[3.0, 4.0], [5.0, 6.0]])
    assert event_map.labels == ("tau", "a[0]", "a[1]", "w[0, 0]", "w[0, 1]", "w[1, 0]", "w[1, 1]")
    assert map_for_callable([2]).labels == ("z[0]", "z[1]")


def test_inverse_ignores_other_entries() -> None:
    event_map = map_for_callable({"a": [], "b": []})
    z = event_map.inverse({"b": [1.0, 2.0], "theta": [9.0, 9.0], "a": [3.0, 4.0]})
    np.testing.assert_array_equal(z, [[3.0, 1.0], [4.0, 2.0]])


@pytest.mark.parametrize(
    ("event_shape", "message"),
    [
        (None, r"got None\. Fix: state the shape of one point"),
        (2, r"got 2\. Fix: write \[2\] for a vector of 2"),
        ([2, None], r"got \[2, None\]"),
        ([-1], r"got \[-1\]"),
        ({}, "got an empty dict"),
        ({1: []}, "got the key 1"),
        ({"mu": None}, "event_shape for 'mu' as a list of sizes"),
        ([0], r"at least one free coordinate; got event shape \[0\]"),
    ],
)
def test_malformed_event_shapes(event_shape: object, message: str) -> None:
    with pytest.raises(EventShapeError, match=message):
        map_for_callable(event_shape)


@pytest.mark.parametrize(
    ("event_shape", "bijector", "message"),
    [
        ({"tau": []}, {"tua": tfb.Exp()}, r"got one for 'tua'\..*: did you mean 'tau'\?"),
        ({"tau": []}, tfb.Exp(), "Expected a dict from part names to bijectors; got an Exp"),
        ([2], {"tau": tfb.Exp()}, "Expected one bijector for the unnamed array; got a dict"),
        ([2], tfb.Exp, "pass an instance"),
        ([2], tf.exp, "tfp.bijectors.Bijector instances"),
        ([], tfb.SoftmaxCentered(), r"that can produce the event of shape \[\]; got softmax_centered, which fails"),
        ([3], tfb.FillScaleTriL(), "which fails on it"),
        ([], tfb.Scale([1.0, 2.0]), "which fails on it"),
    ],
)
def test_bijectors_that_do_not_fit(event_shape: object, bijector: object, message: str) -> None:
    with pytest.raises(BijectorError, match=message):
        map_for_callable(event_shape, bijector)


def test_dtypes_that_do_not_fit() -> None:
    with pytest.raises(DtypeError, match=r"a bijector for the event in float64.*got scale in float32"):
        map_for_callable([2], tfb.Scale(2.0), tf.float64)
    with pytest.raises(DtypeError, match=r"in float64.*got fill_scale_tril in ValueError: .*float32"):
        map_for_callable([2, 2], tfb.FillScaleTriL(), tf.float64)  # its default shift is a float32 number
    with pytest.raises(DtypeError, match=r"got tf\.int32"):
        map_for_callable([2], None, tf.int32)


def test_misshapen_draws_and_vectors() -> None:
    event_map = map_for_callable({"a": [2], "b": []})
    with pytest.raises(EventShapeError, match=r"parts \['a', 'b'\]; got a dict with keys \['a'\]"):
        event_map.inverse({"a": [[1.0, 2.0]]})
    with pytest.raises(EventShapeError, match=r"part 'a' with trailing shape \[2\]; got shape \[1, 3\]"):
        event_map.inverse({"a": [[1.0, 2.0, 3.0]], "b": [1.0]})
    with pytest.raises(EventShapeError, match=r"last axis of size D = 3; got shape \[4, 2\]"):
        event_map.forward(np.zeros([4, 2], "float32"))
    with pytest.raises(EventShapeError, match=r"same draws, .*; got {.a.: \[3, 2\], .b.: \[4\]}"):
        event_map.inverse({"a": np.zeros([3, 2]), "b": np.zeros(4)})


def test_the_mend_of_pad_is_still_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails on the day that TFP no longer passes ``newshape`` by keyword: then delete ``_mends.mend_pad``."""
    assert "newshape=[-1]" in inspect.getsource(pad)
    if "newshape" not in inspect.signature(np.reshape).parameters:  # NumPy 2.4
        monkeypatch.setattr(pad, "np", np)
        with pytest.raises(TypeError, match="newshape"):
            tfb.SoftmaxCentered()
