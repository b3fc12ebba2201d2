"""Compiled models come and go, and a signal that comes after that is still heard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.openvino

PROGRAM = """
import signal, sys
from types import SimpleNamespace
from inc_laaciq.backends.openvino_ir import read_ir
from inc_laaciq.backends.openvino_model import OpenVINOModel

signal.signal(signal.SIGINT, signal.default_int_handler)
first, second = (OpenVINOModel(read_ir(sys.argv[1]), SimpleNamespace()) for _ in range(2))
del first  # the older one goes before the younger
del second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_ctrl_c_is_heard_after_models_were_freed(float_ir):
    """In a process of its own: without the one core of the process this is a segmentation fault."""
    command = [sys.executable, "-c", PROGRAM, str(Path(float_ir("llama").path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
