"""Text and statistics: from files of text to per-language moments of a torch model."""
