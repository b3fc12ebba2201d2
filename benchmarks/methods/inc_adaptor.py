"""AWQ through Neural Compressor's adaptor API, which searches at the bits that were asked for; its torch API at 4."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence

import torch

from methods.grids import check_float, check_grid, check_layers
from methods.inc_torch import quiet
from methods.registry import Job, Method, Quantized, Stopwatch, register


class _Rows:
    """Rows of text as the adaptor API takes them: inputs, and labels that it does not use.

    In the order in which the other methods get them, languages mixed, which a `LanguageLoader` does not keep.
    """

    batch_size = 1

    def __init__(self, rows: Sequence[torch.Tensor]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[tuple[torch.Tensor, None]]:
        return ((row, None) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def _check() -> str | None:
    from inc_laaciq.backends.inc_api import is_available

    return None if is_available("adaptor") else "this neural-compressor has no adaptor API: up to 3.7 have it"


def _run(job: Job) -> Quantized:
    """Quantize a fresh copy, on all rows.

    Raises
    ------
    LayersError
        If it quantized other layers, or on another grid, than it was asked to.
    """
    with quiet():
        from neural_compressor import quantization
        from neural_compressor.config import PostTrainingQuantConfig

        from inc_laaciq.backends.inc_fit import private_workspace

        weight = {"bits": job.bits, "group_size": job.group_size, "scheme": "sym", "algorithm": "AWQ"}
        config = PostTrainingQuantConfig(
            approach="weight_only",
            calibration_sampling_size=[len(job.rows)],
            op_type_dict={".*": {"weight": weight}},
            op_name_dict={re.escape(name): {"weight": {"dtype": "fp32"}} for name in _float_layers(job)},
            recipes={"rtn_args": {"return_int": True}},  # the packed layers have the scales by which they are checked
        )
        model = copy.deepcopy(job.source.model)
        watch = Stopwatch()
        with watch.running(), private_workspace():
            model = quantization.fit(model, config, calib_dataloader=_Rows(job.rows)).model
    model.eval()
    layers, ends, scale_types = [], [], set()
    for name, module in model.named_modules():
        if type(module).__name__ == "WeightOnlyLinear":
            layers.append(name.removesuffix(".linear"))  # behind the multiplication that AWQ put before it
            scales = module.scales.T
            scale_types.add(str(scales.dtype).removeprefix("torch."))
            group = torch.arange(module.in_features) // (module.in_features // scales.shape[1])
            ends.append(check_grid(name, module.recover(), scales, group, bits=job.bits, group_size=job.group_size))
    check_layers(layers, list(job.layers), "AWQ")
    check_float(model, job.source.model, list(job.kept))
    notes = {
        "codes": [min(low for low, _ in ends), max(high for _, high in ends)],
        "scale_types": sorted(scale_types),
    }
    return Quantized(model=model, layers=layers, seconds=watch.seconds, scheme="sym", notes=notes)


def _float_layers(job: Job) -> list[str]:
    embeddings = (name for name, module in job.source.model.named_modules() if isinstance(module, torch.nn.Embedding))
    return [*job.kept, *embeddings]


register(
    Method(
        name="inc-adaptor-awq",
        run=_run,
        calibrations=("english", "multilingual"),
        packages=("neural-compressor",),
        about="Neural Compressor up to 3.7, adaptor API: AWQ, scales and clipping searched at the bits asked for",
        check=_check,
    )
)
