"""Decodes image files for the network: the Python model of a Triton ensemble.

``rrid-edge export --triton DIR --triton-ensemble`` copies this file into the model repository as ``model.py``. Triton's
Python backend runs it. Its Python environment needs rrid-edge (NumPy and Pillow), and no torch or onnx.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from rrid_edge.crops.images import read_image_bytes
from rrid_edge.engines.base import model_input
from rrid_edge.errors import ImageError, unforeseen
from rrid_edge.model.spec import FLOAT32_NCHW, UINT8_NHWC


class TritonPythonModel:
    """Reads files with the image contract of rrid-edge, so that pixels are those of training and parity.

    Input ``files``: bytes of image files (JPEG, PNG, ...), shape (batch, 1). Output ``images``: what the network takes,
    uint8 (batch, height, width, 3) or float32 (batch, 3, height, width), RGB of 0 to 255.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Take the input size of the network from the configuration of this model."""
        output = json.loads(args["model_config"])["output"][0]
        dims = [int(size) for size in output["dims"]]
        self._form = FLOAT32_NCHW if output["data_type"] == "TYPE_FP32" else UINT8_NHWC
        self._height_px, self._width_px = dims[1:] if self._form == FLOAT32_NCHW else dims[:2]

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request. A request with a file that cannot be read gets an error, the others an answer."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:  # noqa: ANN401 - Triton's classes exist only on its server
        files = pb_utils.get_input_tensor_by_name(request, "files").as_numpy().reshape(-1)
        try:
            images = self._decoded([bytes(content) for content in files])
        except Exception as error:  # an exception that leaves execute would fail the other requests too
            reason = error.message if isinstance(error, ImageError) else unforeseen(error)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("images", images)])

    def _decoded(self, files: list[bytes]) -> NDArray[Any]:
        """The files as one batch.

        Raises:
            ImageError: a file cannot be read; it names its number in the request, from 0.
        """
        size = (self._height_px, self._width_px)
        images = np.empty((len(files), *size, 3), np.uint8)
        for number, content in enumerate(files):
            images[number] = read_image_bytes(content, f"file {number} of the request", *size)
        return model_input(images, self._form)
