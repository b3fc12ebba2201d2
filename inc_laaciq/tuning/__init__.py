"""A search for a configuration that the gate passes: what is tried, how it is judged, which layers hurt whom."""
