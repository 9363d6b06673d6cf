"""What we believe about TensorFlow, TFP and Keras, and what importing neural_vb costs.

A test named `..._is_still_needed` fails when a workaround can go: delete the workaround and the test together.
"""

from __future__ import annotations

import configparser
import gc
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from packaging.requirements import Requirement
from tensorflow.python.framework import ops

from neural_vb.compilation import graph

ROOT = Path(__file__).parents[1]
tfd = tfp.distributions


def requirements() -> dict[str, Requirement]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = parser["options"]["install_requires"].split("\n")
    return {requirement.name: requirement for requirement in map(Requirement, filter(None, lines))}


def python(code: str) -> str:
    """Standard output of a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_import_brings_nothing_that_tensorflow_and_tfp_do_not_bring() -> None:
    extra = python("""
import sys
import tensorflow, tensorflow_probability
tensorflow_probability.distributions, tensorflow_probability.bijectors, tensorflow_probability.math
before = {name.partition(".")[0] for name in sys.modules}
import neural_vb
for name in neural_vb.__all__:
    getattr(neural_vb, name)
after = {name.partition(".")[0] for name in sys.modules}
print(*sorted(after - before - sys.stdlib_module_names))
""")
    # Names with an underscore are extension modules of packages that were there already; tqdm is small.
    assert {name for name in extra.split() if not name.startswith("_")} <= {"neural_vb", "tqdm"}


def test_import_changes_no_random_state_and_no_precision() -> None:
    before, after = python("""
import numpy, tensorflow as tf
def state():
    numpy.random.seed(0); tf.random.set_seed(0)
    import neural_vb; neural_vb.__all__
    return numpy.random.rand(), float(tf.random.normal([])), tf.keras.backend.floatx(), numpy.geterr()["over"]
numpy.random.seed(0); tf.random.set_seed(0)
print(numpy.random.rand(), float(tf.random.normal([])), tf.keras.backend.floatx(), numpy.geterr()["over"])
print(*state())
""").splitlines()
    assert before == after


@pytest.mark.parametrize("first, second", [("tensorflow", "tf_keras")])
def test_minor_versions_are_tied(first: str, second: str) -> None:
    wanted = requirements()
    assert wanted[first].specifier == wanted[second].specifier
    assert len({importlib.metadata.version(name).rsplit(".", 1)[0] for name in (first, second)}) == 1


def test_installed_versions_are_the_ones_we_ask_for() -> None:
    active = {
        name: wanted for name, wanted in requirements().items() if wanted.marker is None or wanted.marker.evaluate()
    }
    assert len(active) > 5
    assert [name for name, wanted in active.items() if importlib.metadata.version(name) not in wanted.specifier] == []


def test_declaring_tf_keras_for_tfp_is_still_needed() -> None:
    lines = map(Requirement, importlib.metadata.requires("tensorflow-probability") or ())
    declared = {wanted.name for wanted in lines if wanted.marker is None or wanted.marker.evaluate({"extra": ""})}
    assert "decorator" in declared
    assert not declared & {"tf_keras", "tf-keras"}, "TFP declares tf_keras: setup.cfg need not"


def test_declaring_setuptools_for_tfp_is_still_needed() -> None:
    specification = importlib.util.find_spec("tensorflow_probability.python")
    assert specification is not None and specification.origin is not None
    assert "distutils" in Path(specification.origin).read_text(), "TFP no longer imports distutils: setup.cfg need not"


def test_philox_is_the_same_eagerly_and_in_a_graph_and_other_noise_under_xla() -> None:
    """The seed is an argument: TensorFlow folds a constant one before XLA sees it, and then all agree."""

    def normal(seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal([1_000], seed, alg="philox")

    seed = tf.constant([3, 4])
    np.testing.assert_array_equal(normal(seed), tf.function(normal)(seed))
    assert np.abs(normal(seed) - tf.function(normal, jit_compile=True)(seed)).max() > 0.1, "they agree: say so in docs"


def test_own_networks_are_still_needed() -> None:
    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = keras.layers.Dense(3)
            self.layer.build((None, 2))
            self.plain = tf.Variable(1.0)

    module = Module()
    assert len(module.layer.trainable_variables) == 2
    assert [variable is module.plain for variable in module.trainable_variables] == [True], "tf.Module sees Keras 3"


def test_raise_fires_while_tracing_even_for_valid_values() -> None:
    @tf.function
    def root(value: tf.Tensor) -> tf.Tensor:
        if value < 0.0:
            raise ValueError("negative")
        return tf.sqrt(value)

    with pytest.raises(ValueError, match="negative"):
        root(tf.constant(4.0))


def test_xla_refuses_as_a_whole_what_it_cannot_compile() -> None:
    @tf.function(jit_compile=True)
    def sort_text(value: tf.Tensor) -> tf.Tensor:
        return tf.strings.to_number(tf.strings.as_string(value)) + value

    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)):
        sort_text(tf.ones([2]))


def test_tensorflow_keeps_every_trace_that_has_a_custom_gradient() -> None:
    """Its registry of gradients is never emptied."""

    def left(make: Callable[..., Any]) -> int:
        before = set(ops.gradient_registry.list())
        make(lambda x: tf.nn.silu(x))(tf.ones(2))
        gc.collect()
        return len(set(ops.gradient_registry.list()) - before)

    assert left(tf.function) > 0, "it forgets them: take _tie_gradients out of compilation.graph"
    graph(lambda x: x)(tf.ones(2))  # ties those that are left
    gc.collect()
    assert left(graph) == 0


def test_a_custom_gradient_lives_as_long_as_its_graph() -> None:
    """A user's tf.function is traced once, inside a trace of ours, and differentiated in others."""
    silu = tf.function(lambda x: tf.nn.silu(x))

    def value_and_gradient(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = silu(x)
        return value, tape.gradient(value, x)

    x = tf.constant([0.5, -2.0])
    graph(silu)(x)
    gc.collect()
    found = graph(value_and_gradient)(x)
    gc.collect()
    for one, other, eager in zip(found, graph(value_and_gradient)(x), value_and_gradient(x), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, eager, rtol=1e-6)


def test_tfp_keeps_every_graph_in_which_a_bijector_was_used() -> None:
    def log_prob(z: tf.Tensor) -> tf.Tensor:
        return tfd.LogNormal(0.0, 1.0).log_prob(tf.exp(z))

    def kept(make: Callable[..., Any]) -> int:
        gc.collect()
        before = len(tfp.bijectors.Bijector._cache.storage)
        make(log_prob)(tf.ones(2))
        gc.collect()
        return len(tfp.bijectors.Bijector._cache.storage) - before

    assert kept(tf.function) > 0, "it forgets them: take compilation.graph out"
    assert kept(graph) == 0


def joint(kind: type) -> tfd.JointDistribution:
    def model():  # type: ignore[no-untyped-def]
        scale = yield tfd.HalfNormal(1.0, name="scale")
        yield tfd.Sample(tfd.Normal(0.0, 1.0), 3, name="offset")
        yield tfd.Normal(0.0, scale, name="y")

    return kind(model)


def test_pinned_autobatched_joint_has_one_log_density_per_draw_under_xla() -> None:
    pinned = joint(tfd.JointDistributionCoroutineAutoBatched).experimental_pin(y=0.5)
    bijector = pinned.experimental_default_event_space_bijector()
    unconstrained = (tf.fill([5], 0.2), tf.fill([5, 3], 0.1))
    log_prob = tf.function(lambda *z: pinned.unnormalized_log_prob(bijector.forward(z)), jit_compile=True)
    log_density = log_prob(*unconstrained).numpy()
    scale = np.logaddexp(0.0, 0.2)  # TFP's default for positive parts is softplus

    def log_normal(value: float, sd: float) -> float:
        return -0.5 * (value / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)

    exact = np.log(2) + log_normal(scale, 1.0) + 3 * log_normal(0.1, 1.0) + log_normal(0.5, scale)
    np.testing.assert_allclose(log_density, np.full(5, exact), rtol=1e-4)


def test_default_bijector_of_a_part_still_depends_on_its_ancestors() -> None:
    @tfd.JointDistributionCoroutineAutoBatched
    def model():  # type: ignore[no-untyped-def]
        low = yield tfd.Normal(0.0, 1.0, name="low")
        yield tfd.Uniform(low, low + 2.0, name="between")

    bijector = model.experimental_default_event_space_bijector()
    near, far = (bijector.forward((low, 0.0))[1] for low in (0.0, 10.0))
    np.testing.assert_allclose([near, far], [1.0, 11.0], rtol=1e-5)
