"""What things that are timed are called in the JSON, for those who read it without doing the work."""

from __future__ import annotations

# part "model"
PASS = "forward and backward pass over the calibration text"
# part "layers"
ALONE = "the solver alone, statistics given"
# part "rounding"
READ, COPY = "read (torch sum)", "copy (numpy)"
BLOCKED, UNBLOCKED = "absmax per channel, blocked", "absmax per channel, unblocked"
FAST = "fast per channel"
# part "calibration"
FORWARD, DIAGONAL, FULL = "forward", "diagonal statistics", "full statistics"
# part "activation"
OURS, STORED = "la_aciq", "la_aciq, from stored statistics"
MINMAX, HISTOGRAM = "INC minmax", "INC kl (HistogramObserver)"
SEARCH, COLLECTED = "INC KL_Divergence, histogram given", "INC KL_Divergence"
