"""Where the network runs, and in which precision."""

import pytest
import torch

from frcnn.nn.device import choose_device, choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def machine(
    monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, cpu_has: str | None = None, cuda_bf16: bool = False
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda_bf16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {cpu_has: True} if cpu_has else {})


@pytest.mark.parametrize(("name", "cuda", "chosen"), [("auto", True, CUDA), ("auto", False, CPU), ("cpu", True, CPU)])
def test_auto_is_cuda_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, name: str, cuda: bool, chosen: torch.device
) -> None:
    machine(monkeypatch, cuda=cuda)
    assert choose_device(name) == chosen


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none_is_an_error_with_a_way_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=False)
    with pytest.raises(ValueError, match=r"PyTorch finds no CUDA GPU; use device 'cpu' \(--device cpu\)"):
        choose_device(name)


def test_an_unknown_device_is_an_error_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"device 'gpu': use auto, cpu, cuda or mps"):
        choose_device("gpu")


def test_an_apple_gpu_is_used_only_if_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=False, cpu_has="arm_bf16")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == CPU
    assert choose_device("mps") == torch.device("mps")
    assert choose_precision("auto", torch.device("mps")) == torch.float32


def test_mps_where_there_is_none_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"finds no Apple GPU \(mps\); use device 'cpu' \(--device cpu\)"):
        choose_device("mps")


def test_precision_can_be_asked_for() -> None:
    assert choose_precision("fp32", CPU) == torch.float32
    assert choose_precision("bf16", CPU) == torch.bfloat16


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "arm_bf16", "avx512_f", None])
def test_auto_is_bfloat16_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch, feature: str | None) -> None:
    machine(monkeypatch, cpu_has=feature)
    native = feature is not None and "bf16" in feature
    assert choose_precision("auto", CPU) == (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize("native", [True, False])
def test_auto_depends_on_the_gpu(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    machine(monkeypatch, cuda=True, cuda_bf16=native, cpu_has=None if native else "amx_bf16")
    assert choose_precision("auto", CUDA) == (torch.bfloat16 if native else torch.float32)
