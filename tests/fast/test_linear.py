"""Fully connected layers as convolutions, against torch.nn.Linear."""

import copy

import pytest
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from frcnn.fast import linear
from frcnn.fast.batch_norm import conv_with_norm
from frcnn.fast.linear import Linear, linear_by_convolution, mkl_is_slow, use_faster_linear


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


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize("threads", [1, 2])
def test_one_cell_convolutions_are_onednns_on_one_thread_too(threads: int) -> None:
    """If PyTorch changes its mind, the dilation can go."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layer, norm, maps = nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32).eval(), torch.randn(1, 32, 40, 40)
        with torch.profiler.profile(acc_events=True) as seen, torch.no_grad():
            found = conv_with_norm(maps, layer, norm)
            linear_by_convolution(torch.randn(64, 256), torch.randn(128, 256), None)
        assert_close(found, norm(layer(maps)), rtol=1e-4, atol=1e-5)
    finally:
        torch.set_num_threads(before)
    counts = {event.key: event.count for event in seen.key_averages()}
    assert counts["aten::mkldnn_convolution"] == 2


@pytest.mark.parametrize(
    ("features", "slow"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_f": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_f": False}, False),
        ({"cpu_name": "Intel(R) Xeon(R)", "avx512_f": True}, False),
        ({}, False),
    ],
)
def test_cpus_on_which_mkl_is_slow(features: dict[str, object], slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert mkl_is_slow.__wrapped__() == slow


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
    assert layer(rows).is_contiguous()
    layer(rows[:16])
    assert slow_mkl == [(20, 8), (16, 8)]
    layer(rows[:15])
    layer(rows[:0])
    layer(rows.view(4, 5, 8))
    with torch.autocast("cpu", torch.bfloat16):
        layer(rows)
    copy.deepcopy(layer).bfloat16()(rows.bfloat16())
    exported = torch.export.export(layer, (rows,), dynamic_shapes=({0: torch.export.Dim("count")},))
    assert {node.target for node in exported.graph.nodes if node.op == "call_function"} == {
        torch.ops.aten.linear.default
    }
    assert len(slow_mkl) == 2


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
