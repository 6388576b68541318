"""Images arrive as BGRA from other threads and become the card's planes, of the tick that is decided on."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from given_ego import at_tick

from carla_agent.observers.camera import Camera
from carla_agent.observers.sensor_feed import SensorFeed
from carla_mlflow import ContractError, DrivingError

HEIGHT, WIDTH = 4, 6


def carla_image(frame: int) -> SimpleNamespace:
    """Like carla.Image: pixel (row, column) has blue = row, green = column, red = frame, alpha 255."""
    pixels = np.empty((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.indices((HEIGHT, WIDTH))
    pixels[..., 2], pixels[..., 3] = frame, 255
    return SimpleNamespace(frame=frame, width=WIDTH, height=HEIGHT, raw_data=memoryview(pixels.tobytes()))


def test_a_carla_image_becomes_rgb_planes_from_the_top():
    feed = SensorFeed()
    camera = Camera(feed, "rgb", (3, HEIGHT, WIDTH))
    feed.put("rgb")(carla_image(7))
    image = camera.observe(at_tick(7))["rgb"]
    assert (image.dtype, image.shape) == (np.uint8, (3, HEIGHT, WIDTH))
    assert (image[0] == 7).all()
    assert image[1][0].tolist() == [0, 1, 2, 3, 4, 5]
    assert image[2][:, 0].tolist() == [0, 1, 2, 3]


def test_a_leaderboards_array_gives_the_same_image_and_other_orders_are_a_parameter():
    feed = SensorFeed()
    given = carla_image(7)
    feed.update({"front": (7, np.frombuffer(given.raw_data, np.uint8).reshape(HEIGHT, WIDTH, 4))})
    bgr = Camera(feed, "image", (3, HEIGHT, WIDTH), sensor="front", channels="bgr").observe(at_tick(7))["image"]
    red = Camera(feed, "red", (1, HEIGHT, WIDTH), sensor="front", channels="r").observe(at_tick(7))["red"]
    assert (bgr[2] == 7).all()
    assert bgr[0][:, 0].tolist() == [0, 1, 2, 3]
    assert (red == 7).all()


def test_the_image_of_the_tick_is_waited_for():
    feed = SensorFeed()
    feed.put("rgb")(carla_image(6))
    camera = Camera(feed, "rgb", (3, HEIGHT, WIDTH), wait_s=60)
    sender = threading.Timer(0.05, feed.put("rgb"), [carla_image(7)])
    sender.start()
    assert (camera.observe(at_tick(7))["rgb"][0] == 7).all()
    sender.join()


def test_the_image_of_the_tick_before_serves_when_none_comes_and_an_older_one_does_not():
    feed = SensorFeed()
    camera = Camera(feed, "rgb", (3, HEIGHT, WIDTH), wait_s=0.01)
    assert camera.observe(at_tick(6)) is None
    feed.put("rgb")(carla_image(6))
    assert (camera.observe(at_tick(7))["rgb"][0] == 6).all()
    assert camera.observe(at_tick(8)) is None


def test_a_new_route_forgets_the_image_of_the_route_before():
    feed = SensorFeed()
    camera = Camera(feed, "rgb", (3, HEIGHT, WIDTH), wait_s=0)
    feed.put("rgb")(carla_image(200))
    camera.reset()
    assert camera.observe(at_tick(1)) is None


def test_another_resolution_is_refused_and_not_resized():
    feed = SensorFeed()
    feed.put("rgb")(carla_image(1))
    camera = Camera(feed, "rgb", (3, 128, 256))
    with pytest.raises(ContractError, match="rgb: the card's images are 256 × 128 pixels, the camera rgb sends 6 × 4"):
        camera.observe(at_tick(1))


@pytest.mark.parametrize("channels", ["rgb", "", "rx", "hsv"])
def test_channels_that_do_not_fit_the_shape_are_refused(channels: str):
    with pytest.raises(DrivingError, match="does not name 2 of a camera's channels"):
        Camera(SensorFeed(), "rgb", (2, HEIGHT, WIDTH), channels=channels)
