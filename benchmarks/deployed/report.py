"""A result as text: the table of the terminal, and the block of the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from methods.cells import FLOAT

from deployed.make import OURS
from deployed.rate import PHASES

_ABOUT = {"default": "as deployed", "exact": "float32"}


def terminal(content: Mapping[str, Any]) -> str:
    """Every method in both runtimes, thousandths of a nat per byte, and the verdicts."""
    lines = [
        f"{'method':30}{'runtime':9}{'mean':>8}{'worst':>9}     {'disparity':>9}{'KL: mean':>10}{'worst':>8}  takes, MB"
    ]
    made = {entry["method"]: entry for entry in content["made"]}
    for runtime, found in content["runtimes"].items():
        for entry in found["summary"]:
            loss, kl, size = entry["degradation"], entry["kl"], made[entry["method"]]
            lines.append(
                f"{entry['method']:30}{runtime:9}{1000 * loss['mean']:8.2f}{1000 * loss['worst']:9.2f}"
                f" {loss['worst_language']:4}{1000 * loss['disparity']:9.2f}{1000 * kl['mean']:10.2f}"
                f"{1000 * kl['worst']:8.2f}  {size['seconds']:.1f} s, {size['bytes'] / 1e6:.2f}"
            )
        floats = found["float"].values()
        lines.append(
            f"{'float model':30}{runtime:9}{1000 * _mean(floats, 'degradation'):8.2f}{'':25}"
            f"{1000 * _mean(floats, 'kl'):8.2f}  {made[FLOAT]['seconds']:.1f} s, {made[FLOAT]['bytes'] / 1e6:.2f}"
        )
    if "rates" in content:
        lines += ["", f"{'tokens per second':30}{PHASES[0]:>10}{PHASES[1]:>10}   as multiples of the reference's"]
        for name, phases in content["rates"]["rates"].items():
            ratios = content["rates"]["ratios"][name]
            lines.append(
                f"{name:30}{phases['prefill']['processor']:10.0f}{phases['decode']['processor']:10.0f}"
                f"   {ratios['prefill']['processor']:.3f} {ratios['decode']['processor']:.3f}"
            )
        lines += [
            f"{entry['verdict']:6} {entry['name']}: {entry['value']:.3f}, {entry['side']} {entry['limit']:g}"
            for entry in content["targets"]
        ]
    if "optimum_cli" in content:
        found = content["optimum_cli"]
        lines.append(f"optimum-cli: {found['same_layers']} of {found['layers']} layers are as in nncf-rtn to the bit")
    return "\n".join(lines)


def _mean(entries: Any, name: str) -> float:
    values = [entry[name] for entry in entries]
    return float(sum(values) / len(values))


def readme(content: Mapping[str, Any]) -> str:
    """One table: how far each method is from the float model in both runtimes, what it takes, how fast it runs."""
    made = {entry["method"]: entry for entry in content["made"]}
    by_runtime = {
        runtime: {entry["method"]: entry for entry in found["summary"]}
        for runtime, found in content["runtimes"].items()
    }
    heads = " | ".join(
        f"{_ABOUT[runtime]}: loss, mean | worst | disparity | KL, mean | worst" for runtime in by_runtime
    )
    lines = [f"| method | {heads} | seconds | MB | prefill | decode |", "|---" * (5 + 5 * len(by_runtime)) + "|"]
    ratios = content["rates"]["ratios"]
    for name in (*by_runtime["default"], FLOAT):
        cells = []
        for runtime, found in by_runtime.items():
            if name == FLOAT:
                floats = content["runtimes"][runtime]["float"].values()
                cells += [_milli(value) for value in _figures(floats)]
            else:
                loss, kl = found[name]["degradation"], found[name]["kl"]
                cells += [_milli(loss[key]) for key in ("mean", "worst", "disparity")]
                cells += [_milli(kl[key]) for key in ("mean", "worst")]
        speed = ratios.get(name)
        cells += [f"{made[name]['seconds']:.0f}", f"{made[name]['bytes'] / 1e6:.1f}"]
        cells += ["", ""] if speed is None else [f"{speed[phase]['processor']:.2f}" for phase in PHASES]
        lines.append(f"| {'not quantized' if name == FLOAT else name} | {' | '.join(cells)} |")
    return "\n\n".join(["\n".join(lines), _caption(content), _compared(content)])


def _compared(content: Mapping[str, Any]) -> str:
    """Ratios with their intervals, as deployed, to every method of NNCF that gives other figures than the last."""
    said: dict[str, str] = {}
    for entry in content["runtimes"]["default"]["ratios"]:
        if entry["baseline"] in OURS:
            continue
        parts = ", ".join(
            f"{figure} {_interval(entry['degradation'][figure])} by the loss and {_interval(entry['kl'][figure])} by KL"
            for figure in ("worst", "disparity")
        )
        key = f"{entry['ours']} {parts}"
        said[key] = f"{said[key]} and {entry['baseline']}" if key in said else f"{entry['ours']} / {entry['baseline']}"
    listed = "; ".join(f"{names}: {key.split(' ', 1)[1]}" for key, names in said.items())
    return f"As deployed, worst language and disparity [95 % interval over documents]: {listed}." if listed else ""


def _interval(found: Mapping[str, Any]) -> str:
    low, median, high = ("-" if found[name] is None else f"{found[name]:.2f}" for name in ("low", "median", "high"))
    return f"{median} [{low}, {high}]"


def _figures(floats: Any) -> tuple[float, ...]:
    """Mean, worst and disparity of the loss, mean and worst of the divergence."""
    loss, kl = ([entry[name] for entry in floats] for name in ("degradation", "kl"))
    return sum(loss) / len(loss), max(loss), max(loss) - min(loss), sum(kl) / len(kl), max(kl)


def _milli(value: float) -> str:
    return f"{1000 * value:.2f}"


def _caption(content: Mapping[str, Any]) -> str:
    meta, rates, optimum = content["meta"], content["rates"], content["optimum_cli"]
    properties = content["runtimes"]["default"]["properties"]
    missed = [entry["name"] for entry in content["targets"] if entry["verdict"] == "missed"]
    return (
        f"Thousandths of a nat per UTF-8 byte over {len(content['texts']['evaluation_tokens'])} languages, against the "
        f"float model in PyTorch; {meta['evaluation_tokens_per_language']} tokens of evaluation text and "
        f"{meta['calibration_tokens_per_language']} of calibration text a language, one seed, groups of "
        f"{meta['group_size']}, the same {len(content['quantized_layers'])} layers in 4 bits in all, what else there "
        f"is in float. As deployed is what OpenVINO takes by itself, here {properties['inference_precision_hint']}, "
        f"activations in groups of {properties['dynamic_quantization_group_size']} in 8 bits, a cache in "
        f"{properties['kv_cache_precision']}. Seconds of one thread: la_aciq's from the float model to the finished "
        "folder, NNCF's without the export of the float model, whose time is in the last row. Prefill and decode: "
        f"tokens in a second of processor time, as a multiple of {rates['reference']}'s in the same "
        f"round, median of {rates['rounds']} "
        f"rounds; the aim, at least {content['targets'][0]['limit']}, is "
        + (f"missed by {', '.join(missed)}" if missed else "met by all of la_aciq's")
        + f". `optimum-cli export openvino --weight-format int4` rounds {optimum['same_layers']} of "
        f"{optimum['layers']} layers to the same codes and scales as nncf-rtn here; it also puts "
        f"{'embeddings and output projection' if optimum['others'] else 'nothing else'} into 8 bits."
    )
