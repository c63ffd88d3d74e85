"""The rules beside the packages of their authors for PyTorch, and those of optax, step by step."""

import numpy as np
import pytest
from keras import optimizers
from rule_problems import adam, batches, fit, flat, gradients, plain_sgd, start

from keras_lr import DistanceOverGradients, Prodigy

pytestmark = pytest.mark.oracle

EPOCHS = 8


def parts(vector):
    """Return the kernel and the bias in a vector."""
    return vector[:3].reshape(3, 1), vector[3:]


def by_torch(make, rate_of):
    """Return the last weights and the rate of each step of an optimizer of PyTorch."""
    torch = pytest.importorskip("torch")
    weights = [torch.tensor(one, dtype=torch.float32) for one in parts(start())]
    weights = [one.requires_grad_() for one in weights]
    optimizer, rates = make(weights), []
    for x, y in batches(EPOCHS):
        now = np.concatenate([one.detach().numpy().ravel() for one in weights]).astype(float)
        for one, gradient in zip(weights, parts(gradients(now, x, y)), strict=True):
            one.grad = torch.tensor(gradient, dtype=torch.float32)
        rates.append(rate_of(optimizer))
        optimizer.step()
    return np.concatenate([one.detach().numpy().ravel() for one in weights]), rates


def by_optax(make, rate_of):
    """Return the last weights and the rate of each step of an optimizer of optax."""
    optax = pytest.importorskip("optax")
    optimizer = make(optax)
    weights = tuple(np.float32(one) for one in parts(start()))
    state, rates = optimizer.init(weights), []
    for x, y in batches(EPOCHS):
        now = np.concatenate([np.ravel(one) for one in weights]).astype(float)
        found = parts(np.float32(gradients(now, x, y)))
        rates.append(rate_of(state))
        updates, state = optimizer.update(found, state, weights)
        weights = optax.apply_updates(weights, updates)
    return np.concatenate([np.ravel(one) for one in weights]), rates


def assert_same(found, expected):
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-3)
    np.testing.assert_allclose(flat(found[0]), expected[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("safeguard", [True, False])
@pytest.mark.parametrize("growth", [None, 1.2])
def test_prodigy_of_its_authors(safeguard, growth):
    package = pytest.importorskip("prodigyopt")

    def make(weights):
        return package.Prodigy(
            weights,
            **{"d0": 1e-4, "use_bias_correction": True, "safeguard_warmup": safeguard},
            growth_rate=growth or float("inf"),
        )

    expected = by_torch(make, lambda optimizer: optimizer.param_groups[0]["d"])
    found = fit(
        Prodigy(d0=1e-4, growth_rate=growth, safeguard_warmup=safeguard), adam(), epochs=EPOCHS
    )
    assert_same(found, expected)
    assert expected[1][-1] > 1e-3


@pytest.mark.parametrize("safeguard", [True, False])
def test_prodigy_of_optax(safeguard):
    expected = by_optax(
        lambda optax: optax.contrib.prodigy(estim_lr0=1e-4, safeguard_warmup=safeguard),
        lambda state: float(state.estim_lr),
    )
    found = fit(Prodigy(d0=1e-4, safeguard_warmup=safeguard), adam(), epochs=EPOCHS)
    assert_same(found, expected)


@pytest.mark.parametrize("layer_wise", [True, False])
def test_dog_of_its_authors(layer_wise):
    package = pytest.importorskip("dog")
    kind = package.LDoG if layer_wise else package.DoG

    rates = []

    class Seen(kind):
        def step(self):
            super().step()
            rates.append(max(map(float, self.param_groups[0]["eta"])))

    weights, _ = by_torch(lambda weights: Seen(weights, reps_rel=1e-3), lambda optimizer: 0.0)
    found = fit(
        DistanceOverGradients(initial_distance=1e-3, layer_wise=layer_wise),
        plain_sgd(),
        epochs=EPOCHS,
    )
    assert_same(found, (weights, rates))


def test_dog_of_optax():
    expected = by_optax(
        lambda optax: optax.contrib.dog(init_step=("heuristic", 1e-3)), lambda state: 0.0
    )[0]
    found = fit(DistanceOverGradients(initial_distance=1e-3), optimizers.SGD(0.1), epochs=EPOCHS)
    np.testing.assert_allclose(flat(found[0]), expected, rtol=1e-3, atol=1e-5)
