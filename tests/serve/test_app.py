"""What each address answers."""

import json
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from service import BOX, TOKEN, FakeRuntime, Serve, photo
from tiny import draw_image

from frcnn.data.transforms import PaddedBatch
from frcnn.serve.limits import Limits

RED = {"class": "red", "score": 0.9, "box": list(BOX)}
BLUE = {"class": "blue", "score": 0.4, "box": list(BOX)}
ONE = {"image": None, "width": 128, "height": 96, "detections": [RED]}


def post(client: httpx.Client, content: Any, **options: Any) -> httpx.Response:
    return client.post("/predict", json=content, **options)


# --------------------------------------------------------------------------------------------------------------- bodies


def test_one_image_gives_one_object(serve: Serve) -> None:
    answer = serve().client.post("/predict", content=photo())
    assert (answer.status_code, answer.json()) == (200, ONE)
    assert answer.headers["x-model-version"] == "0123456789ab"


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_the_bytes_of_a_file_are_an_image_whatever_the_client_calls_them(kind: str, serve: Serve) -> None:
    assert serve().client.post("/predict", content=photo(), headers={"content-type": kind}).json() == ONE


def test_files_of_a_form_give_a_list_with_their_names(serve: Serve) -> None:
    client = serve().client
    files = [("image", ("a.png", photo(1))), ("image", ("b.jpg", photo(2, "JPEG")))]
    assert client.post("/predict", files=files).json() == [ONE | {"image": "a.png"}, ONE | {"image": "b.jpg"}]
    assert client.post("/predict", files=files[:1]).json() == [ONE | {"image": "a.png"}]


def test_base64(serve: Serve) -> None:
    client, text = serve().client, b64encode(photo()).decode()
    assert post(client, {"image": text}).json() == ONE
    assert post(client, {"image": f"data:image/png;base64,{text}"}).json() == ONE
    wrapped = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))  # as the program base64 writes it
    assert post(client, {"images": [wrapped, text]}).json() == [ONE, ONE]


def test_a_bad_image_among_good_ones_is_an_entry_with_its_error(serve: Serve) -> None:
    client = serve().client
    files = [("image", ("a.png", photo())), ("image", ("b.png", b"no image")), ("image", ("c.png", photo()[:200]))]
    answer = client.post("/predict", files=files)
    good, text, truncated = answer.json()
    assert answer.status_code == 200
    assert good == ONE | {"image": "a.png"}
    assert text["error"].startswith("'b.png': not an image in a format that frcnn reads")
    assert truncated["error"].startswith("'c.png': damaged")
    alone = client.post("/predict", files=files[1:])
    assert (alone.status_code, alone.json()) == (422, {"error": text["error"]})


def test_the_orientation_of_a_photo_is_applied(serve: Serve) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = serve().client.post("/predict", content=photo(0, "JPEG", exif=exif)).json()
    assert (answer["width"], answer["height"]) == (96, 128)


# -------------------------------------------------------------------------------------------------------------- options


def test_threshold_and_classes(serve: Serve) -> None:
    client = serve().client

    def found(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.post(f"/predict?{query}", content=photo()).json()["detections"]
        return found

    assert found("threshold=0.3") == [RED, BLUE]
    assert found("threshold=0.3&classes=blue") == [BLUE]
    assert found("threshold=0.3&classes=blue,red") == [RED, BLUE]
    assert found("threshold=0.3&classes=blue&classes=red") == [RED, BLUE]
    assert found("threshold=1") == []


def test_a_class_name_may_have_a_comma(serve: Serve) -> None:
    client = serve(FakeRuntime(classes=["a,b", "a"])).client
    answer = client.post("/predict", params={"classes": "a,b", "threshold": "0"}, content=photo()).json()
    assert [each["class"] for each in answer["detections"]] == ["a,b"]


def test_the_threshold_of_the_service_is_the_default(serve: Serve) -> None:
    client = serve(threshold=0.2).client
    assert len(client.post("/predict", content=photo()).json()["detections"]) == 2
    assert client.get("/model").json()["threshold"] == 0.2


def test_tiles(serve: Serve) -> None:
    runtime = FakeRuntime()
    content = BytesIO()
    draw_image([], size=(300, 300)).save(content, "PNG")
    serve(runtime).client.post("/predict?tile=200&overlap=0.1", content=content.getvalue()).raise_for_status()
    assert sum(runtime.batches) == 5  # four tiles and the whole image


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("threshold=2", "threshold='2': must be a number from 0 to 1."),
        ("threshold=nan", "threshold='nan': must be a number from 0 to 1."),
        ("overlap=x", "overlap='x': must be a number from 0 to 0.9."),
        ("tile=3", "tile"),
        ("tile=0.5", "tile='0.5': must be a whole number from 0 to 100000."),
        ("classes=cat", "The model has no class 'cat'; GET /model lists its classes."),
        ("conf=0.5", "Unknown option 'conf'; the options are threshold, classes, tile, overlap."),
    ],
)
def test_wrong_options(query: str, message: str, serve: Serve) -> None:
    answer = serve().client.post(f"/predict?{query}", content=photo())
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


# -------------------------------------------------------------------------------------------------------------- answers


def test_coco(serve: Serve) -> None:
    client, coco = serve().client, {"accept": "application/coco+json"}
    expected = {"image_id": 0, "category_id": 2, "bbox": [10, 20, 40, 40], "score": pytest.approx(0.9)}
    answer = client.post("/predict", content=photo(), headers=coco)
    assert (answer.headers["content-type"], answer.json()) == ("application/coco+json", [expected])
    files = [("image", ("a.png", photo())), ("image", ("b.png", photo()))]
    names = [each["image_id"] for each in client.post("/predict", files=files, headers=coco).json()]
    assert names == ["a.png", "b.png"]


@pytest.mark.parametrize(("accept", "form"), [("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/*", "JPEG")])
def test_a_picture_with_the_boxes(accept: str, form: str, serve: Serve) -> None:
    answer = serve().client.post("/predict", content=photo(), headers={"accept": accept})
    picture = Image.open(BytesIO(answer.content))
    assert (picture.format, picture.size) == (form, (128, 96))
    before = np.asarray(Image.open(BytesIO(photo())).convert("RGB"), int)
    changed = np.abs(np.asarray(picture.convert("RGB"), int) - before).max(axis=2) > 60
    assert changed[20:60, 9:12].mean() > 0.5  # the left side of the box


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/png;q=0.1, application/json", "application/json"),
        ("application/json;q=0.1, image/png", "image/png"),
        ("image/png;q=0, */*", "application/json"),
        (", image/png;q=x, application/coco+json", "application/coco+json"),
    ],
)
def test_the_answer_is_what_the_client_prefers(accept: str, kind: str, serve: Serve) -> None:
    answer = serve().client.post("/predict", content=photo(), headers={"accept": accept})
    assert answer.headers["content-type"] == kind


def test_coco_has_no_place_for_errors_and_needs_unique_names(serve: Serve) -> None:
    client, coco = serve().client, {"accept": "application/coco+json"}
    files = [("image", ("a.png", photo())), ("image", ("b.png", b"no image"))]
    answer = client.post("/predict", files=files, headers=coco)
    assert (answer.status_code, answer.json()["error"].startswith("'b.png': not an image")) == (422, True)
    twice = [("image", ("a.png", photo())), ("image", ("a.png", photo()))]
    assert [each["image_id"] for each in client.post("/predict", files=twice, headers=coco).json()] == [0, 1]


def test_answers_that_cannot_be_given(serve: Serve) -> None:
    client = serve().client
    answer = client.post("/predict", content=photo(), headers={"accept": "text/html"})
    assert (answer.status_code, "the service answers with application/json" in answer.json()["error"]) == (406, True)
    files = [("image", ("a.png", photo())), ("image", ("b.png", photo()))]
    assert client.post("/predict", files=files, headers={"accept": "image/png"}).status_code == 406


# --------------------------------------------------------------------------------------------------------------- limits


def test_limits(serve: Serve) -> None:
    client = serve(limits=Limits(body_bytes=1 << 20, images=2, pixels=10_000)).client
    too_large = client.post("/predict", content=bytes(2 << 20))
    assert (too_large.status_code, "larger than 1 MB" in too_large.json()["error"]) == (413, True)
    chunked = client.post("/predict", content=(bytes(1 << 16) for _ in range(40)))  # its size is not announced
    assert chunked.status_code == 413
    images = [b64encode(photo()).decode()] * 3
    assert (post(client, {"images": images}).status_code, post(client, {"image": images[0]}).status_code) == (413, 422)
    assert post(client, {"image": images[0]}).json()["error"] == (
        "image: 128 x 96 pixels; an image may have 0.01 million (--max-pixels)"
    )


def test_the_memory_of_requests_is_bounded(serve: Serve) -> None:
    gate = threading.Event()
    size = 2_000_000 + 4 * len(photo())  # of two images of 128 x 96 pixels, 98 kB each, there is room for 20
    service = serve(FakeRuntime(lambda batch: _wait(gate)), limits=Limits(memory_bytes=size))
    large = BytesIO()
    draw_image([], size=(600, 500)).save(large, "JPEG")  # 2.4 MB decoded
    too_much = service.client.post("/predict", content=large.getvalue())
    assert (too_much.status_code, too_much.json()["error"]) == (
        413,
        "The images of the request need too much memory; send fewer.",
    )
    with ThreadPoolExecutor(24) as pool:
        answers = [pool.submit(httpx.post, f"{service.address}/predict", content=photo()) for _ in range(24)]
        time.sleep(1)
        gate.set()
        statuses = sorted(answer.result().status_code for answer in answers)
    assert statuses[0] == 200
    assert statuses[-1] == 503
    assert service.client.post("/predict", content=photo()).status_code == 200


def _wait(gate: threading.Event) -> None:
    assert gate.wait(10)


def test_the_tiles_of_a_request_are_bounded(serve: Serve) -> None:
    content = BytesIO()
    draw_image([], size=(300, 300)).save(content, "PNG")
    client, images = serve(limits=Limits(tiles=10)).client, [b64encode(content.getvalue()).decode()] * 3
    first, second, third = post(client, {"images": images}, params={"tile": 200}).json()
    assert "error" not in first
    assert "error" not in second
    assert third["error"] == (
        "tile: the images have 12 tiles; a request may have 10; use larger ones, or send fewer images"
    )


def test_a_client_that_leaves_is_not_answered(serve: Serve) -> None:
    gate, runtime = threading.Event(), FakeRuntime(lambda batch: _wait(gate))
    service = serve(runtime, max_batch=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{service.address}/predict", content=photo())
        time.sleep(0.3)
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{service.address}/predict", content=photo(), timeout=0.2)
        time.sleep(0.3)
        gate.set()
        assert first.result().status_code == 200
    assert service.client.post("/predict", content=photo()).status_code == 200
    assert runtime.batches == [1, 1]


def test_what_the_client_cannot_know_is_not_told(serve: Serve) -> None:
    def fail(batch: PaddedBatch) -> None:
        raise ValueError("/secret/model.onnx: shapes differ")

    answer = serve(FakeRuntime(fail)).client.post("/predict", content=photo())
    assert (answer.status_code, "secret" in answer.text) == (422, False)


def test_a_failed_detection_is_an_error_of_its_own_request(serve: Serve) -> None:
    def fail(batch: PaddedBatch) -> None:
        if batch.original_sizes[0, 0] == 50:
            raise RuntimeError("a bug")

    content = BytesIO()
    draw_image([], size=(50, 50)).save(content, "PNG")
    client = serve(FakeRuntime(fail)).client
    answer = client.post("/predict", content=content.getvalue())
    assert (answer.status_code, answer.json()) == (500, {"error": "The service failed; its log has the reason."})
    assert client.post("/predict", content=photo()).json() == ONE


# ---------------------------------------------------------------------------------------------------------- description


def test_the_model_is_described_without_its_path(serve: Serve) -> None:
    answer = serve().client.get("/model").json()
    assert answer["classes"] == ["blue", "red"]
    assert set(answer["colors"]) == {"blue", "red"}
    assert answer["threshold"] == 0.5
    assert answer["version"] == "0123456789ab"
    assert answer["limits"]["images"] == 16
    assert {"frcnn", "numpy", "pillow", "python"} <= answer["versions"].keys()
    assert "/" not in answer["name"]
    schema = serve().client.get("/openapi.json").json()["components"]["schemas"]["Model"]
    assert answer.keys() == schema["properties"].keys()


def test_health_and_metrics(serve: Serve) -> None:
    client = serve().client
    assert client.get("/health").json()["status"] == "UP"
    assert client.get("/ready").json() == {"status": "ready"}
    client.post("/predict?threshold=0.3", content=photo())
    client.post("/predict", content=b"no image")
    client.get("/no/such/address")
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = {(each.name, *sorted(each.labels.values())): each.value for family in families for each in family.samples}
    assert samples["frcnn_requests_total", "/predict", "200"] == 1
    assert samples["frcnn_requests_total", "/predict", "422"] == 1
    assert samples["frcnn_requests_total", "404", "other"] == 1
    assert samples["frcnn_images_total", "ok"] == samples["frcnn_images_total", "error"] == 1
    assert samples[("frcnn_detections_total",)] == 2
    assert samples[("frcnn_batch_images_count",)] == 1
    assert samples[("frcnn_waiting_images",)] == 0


def test_openapi_describes_every_address(serve: Serve) -> None:
    client = serve().client
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            assert client.request(method.upper(), path).status_code not in (404, 405)
    references = set(json.dumps(document).split('"#/components/schemas/')[1:])
    assert {each.partition('"')[0] for each in references} <= document["components"]["schemas"].keys()


def test_an_unknown_address_is_an_error_in_json(serve: Serve) -> None:
    answer = serve().client.get("/images/../../etc/passwd")
    expected = {"error": "There is nothing at this URL; GET /docs lists what there is."}
    assert (answer.status_code, answer.json()) == (404, expected)
    assert serve().client.post("/predict/").status_code == 404  # not a redirect to the Host that the client names
    assert serve().client.get("/predict").json() == {"error": "Use another method: POST."}


# ---------------------------------------------------------------------------------------------------------------- token


def test_token(serve: Serve) -> None:
    client = serve(token=TOKEN).client
    refused = client.post("/predict", content=photo())
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer" in refused.json()["error"]
    for wrong in (TOKEN[:-1], TOKEN + "x", "x", "ä"):
        header = {"authorization": f"Bearer {wrong}".encode()}
        assert client.get("/model", headers=header).status_code == 401
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert client.post("/predict", content=photo(), headers=bearer).json() == ONE
    assert client.get("/model", auth=("anybody", TOKEN)).status_code == 200
    assert client.get("/model", auth=("anybody", "wrong")).status_code == 401
    assert client.get("/metrics").status_code == 401
    for path in ("/", "/docs", "/openapi.json", "/health", "/ready", "/page/index.html"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "rebound.example"}, 403),
        ({"host": "127.0.0.1.example"}, 403),
        ({"host": "["}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
        ({"origin": "http://other.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_without_a_token_pages_of_other_sites_cannot_use_the_service(
    headers: dict[str, str], status: int, serve: Serve
) -> None:
    answer = serve().client.post("/predict", content=photo(), headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_every_answer_has_an_identifier_and_guards(serve: Serve) -> None:
    client = serve().client
    assert client.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    other = client.get("/health", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
    assert len(other) == 16
    for path in ("/", "/predict", "/nothing"):
        assert "default-src 'self'" in client.get(path).headers["content-security-policy"]
