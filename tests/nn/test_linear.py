"""Fully connected layers as convolutions, against torch.nn.Linear."""

import copy

import pytest
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from frcnn.nn import linear
from frcnn.nn.linear import Linear, linear_by_convolution, use_faster_linear


def gradients(layer: nn.Linear, rows: Tensor, product: Tensor) -> list[Tensor]:
    wanted = [rows, *layer.parameters()]
    return [product, *torch.autograd.grad(product.square().sum(), wanted)]


@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40), st.booleans(), st.integers(0, 2**31))
def test_the_same_numbers_and_gradients(count: int, inputs: int, outputs: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    layer, rows = nn.Linear(inputs, outputs, bias=bias), torch.randn(count, inputs, requires_grad=True)
    by_convolution = linear_by_convolution(rows, layer.weight, layer.bias)
    for found, expected in zip(
        gradients(layer, rows, by_convolution), gradients(layer, rows, layer(rows)), strict=True
    ):
        assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def slow_mkl(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """As if this were such a processor; gives the shapes of what became a convolution."""
    seen: list[tuple[int, ...]] = []

    def noted(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(tuple(rows.shape))
        return linear_by_convolution(rows, weight, bias)

    monkeypatch.setattr(linear, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(linear, "linear_by_convolution", noted)
    return seen


def test_it_is_a_convolution_where_that_is_faster_and_nowhere_else(slow_mkl: list[tuple[int, ...]]) -> None:
    layer, rows = Linear(8, 4), torch.randn(20, 8)
    layer(rows)
    assert slow_mkl == [(20, 8)]
    layer(rows[:3])
    layer(rows[:0])
    layer(rows.view(4, 5, 8))
    with torch.autocast("cpu", torch.bfloat16):
        layer(rows)
    copy.deepcopy(layer).bfloat16()(rows.bfloat16())
    exported = torch.export.export(layer, (rows,))
    assert {node.target for node in exported.graph.nodes if node.op == "call_function"} == {
        torch.ops.aten.linear.default
    }
    assert slow_mkl == [(20, 8)]


def test_elsewhere_it_is_torchs_layer(slow_mkl: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "mkl_is_slow", lambda: False)
    Linear(8, 4)(torch.randn(20, 8))
    assert slow_mkl == []


def test_layers_stay_what_they_are_but_subclasses() -> None:
    layers = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2)), nn.MultiheadAttention(4, 2))
    before = dict(layers.named_parameters())
    use_faster_linear(layers)
    assert [type(module) for module in layers.modules() if isinstance(module, nn.Linear)] == [
        *(Linear, Linear),
        type(nn.MultiheadAttention(4, 2).out_proj),
    ]
    assert all(parameter is before[name] for name, parameter in layers.named_parameters())
