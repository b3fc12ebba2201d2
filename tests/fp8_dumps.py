"""FP8 measurements, written as Neural Compressor writes them; no Neural Compressor is needed."""

from __future__ import annotations

import numpy as np

from inc_laaciq.backends.gaudi_fp8_files import Measurement, Node, measurement_files
from inc_laaciq.backends.gaudi_fp8_names import DumpName


def array(*values):
    return np.array(values, dtype=np.float32).reshape(-1, 1)


def measurement(first=3.0, second=1.0, *, weight=0.5, **more):
    nodes = {
        "model.layers.0.q_proj": Node(inputs=(array(first),), params={"weight": array(weight)}),
        "model.layers.0.o_proj": Node(inputs=(array(second),), outputs=(array(2.0),), params={"weight": array(weight)}),
    }
    return Measurement(nodes=nodes, **{"modules": (*nodes, "model.layers.1.expert"), **more})


def write(folder, found, *, observer="maxabs", rank=None):
    folder.mkdir(parents=True, exist_ok=True)
    name = DumpName(prefix=folder / "measure", observer=observer, ranks=(rank,))
    for path, content in measurement_files(name, rank, found).items():
        path.write_bytes(content)
    return name
