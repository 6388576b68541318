"""Collects a tick's sensor data. Leaderboard 1 asks for the next of each sensor, leaderboard 2 for those of a frame."""

from queue import Queue


class SensorInterface:
    def __init__(self):
        self.ids = []
        self._queue = Queue()

    def update_sensor(self, tag, data, frame):
        self._queue.put((tag, frame, data))

    def get_data(self, frame=None):
        found = {}
        while len(found) < len(self.ids):
            tag, at, data = self._queue.get(timeout=10)
            if frame is None or at == frame:
                found[tag] = (at, data)
        return found
