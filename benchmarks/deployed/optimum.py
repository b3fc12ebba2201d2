"""What optimum's own command gives, and whether it is what is compared here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from methods.child import OPTIMUM, run_child
from methods.grids import check_layers
from methods.openvino_ir import embedding_nodes, linear_nodes, read, stored_weight
from methods.registry import Job

from deployed.make import MODEL


def plain_export(model: str, job: Job, plain: Path) -> dict[str, Any]:
    """What `optimum-cli export openvino` gives with plain rounding, beside NNCF's plain rounding as it is compared.

    Parameters
    ----------
    model : str
        Folder of the float model.
    plain : Path
        Folder of NNCF's.

    Returns
    -------
    dict
        `same_layers`: how many layers have the same codes and scales in both; `others`: number types of the weights
        of linear layers and embeddings that stay in float here; `bytes`, on the disk.

    Raises
    ------
    LayersError
        If other layers have 4 bits than are compared here.
    """
    options = ["--task", "text-generation-with-past", "--weight-format", f"int{job.bits}", "--sym"]
    options += ["--group-size", str(job.group_size), "--ratio", "1.0"]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "optimum"
        run_child(*OPTIMUM, "export", "openvino", "-m", str(Path(model).resolve()), *options, str(output))
        found = read(output / MODEL)
        size = sum((output / MODEL).with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin"))
        nodes, expected = linear_nodes(found), linear_nodes(read(plain / MODEL))
        kinds = {name: _kind(node) for name, node in nodes.items()}
        check_layers([name for name, kind in kinds.items() if kind == "i4"], list(job.layers), "optimum-cli")
        return {
            "command": f"optimum-cli export openvino -m MODEL {' '.join(options)} OUTPUT",
            "layers": len(job.layers),
            "same_layers": sum(_is_same(nodes[name], expected[name]) for name in job.layers),
            "others": {name: kind for name, kind in kinds.items() if kind != "i4"}
            | {node.get_friendly_name(): _kind(node, port=0) for node in embedding_nodes(found)},
            "bytes": size,
        }


def _kind(node: Any, port: int = 1) -> str:
    constant, _ = stored_weight(node, port)
    return str(constant.get_element_type().get_type_name())


def _is_same(node: Any, other: Any) -> bool:
    pairs = zip(stored_weight(node), stored_weight(other), strict=True)
    return all(np.array_equal(np.asarray(one.data), np.asarray(two.data)) for one, two in pairs)
