"""The same model at several widths: what each language loses, and the fewest bits that keep it within a margin."""
