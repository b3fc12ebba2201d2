"""The mathematics: numpy and torch in, numbers out; no files, models, logging or framework of quantization."""
