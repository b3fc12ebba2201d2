"""What runs and stages are called in the JSON."""

from __future__ import annotations

PLAIN = "optimum-cli export openvino, float32"
FAST = "openvino-laaciq, fast, no text"
STAGES = "openvino-laaciq, fast, no text, stage by stage"
BALANCED = "openvino-laaciq, balanced, with text"

EXPORT, SOLVER, SURGERY, EVERYTHING = "float export", "solver", "surgery", "everything"
