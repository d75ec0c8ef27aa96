"""Cameras: one that draws its pictures itself, and one that OpenCV reads."""

from __future__ import annotations

from typing import Any, Protocol

import numpy


class Camera(Protocol):
    """What the gateway needs of a camera."""

    def read(self) -> numpy.ndarray[Any, Any]:
        """The next picture: shape (height, width, 3), dtype uint8."""

    def close(self) -> None:
        """Let go of the camera."""


class SimulatedCamera:
    """Stripes that move to the right, 4 pixels a picture."""

    def __init__(self, height: int = 480, width: int = 640) -> None:
        shade = numpy.linspace(0, 255, 64, dtype=numpy.uint8)
        self._scene = numpy.empty((height, width, 3), numpy.uint8)
        self._scene[:] = numpy.resize(shade, width)[:, None]

    def read(self) -> numpy.ndarray[Any, Any]:
        """The stripes, moved on."""
        self._scene = numpy.roll(self._scene, 4, axis=1)
        return self._scene

    def close(self) -> None:
        """Nothing is held."""


class OpenCvCamera:
    """A camera of this machine by its number, the first is 0; or a file of video by its path."""

    def __init__(self, source: str) -> None:
        import cv2  # noqa: PLC0415 - only a machine with a camera needs it

        self._capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
        if not self._capture.isOpened():
            raise RuntimeError(f"camera {source!r} can't be opened; is it there, and free?")

    def read(self) -> numpy.ndarray[Any, Any]:
        """The next picture that the camera has."""
        good, frame = self._capture.read()
        if not good:
            raise RuntimeError("the camera gives no more pictures")
        return numpy.asarray(frame)

    def close(self) -> None:
        """Let another program have the camera."""
        self._capture.release()
