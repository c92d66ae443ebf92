"""What each address answers."""

from service import BOX, Serve, photo


def test_one_image_gives_one_object(serve: Serve) -> None:
    answer = serve().client.post("/predict", content=photo())
    assert answer.status_code == 200
    assert answer.json() == {
        "image": None,
        "width": 128,
        "height": 96,
        "detections": [{"class": "red", "score": 0.9, "box": list(BOX)}],
    }
