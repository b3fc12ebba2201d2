"""The only place that knows Intel Neural Compressor, OpenVINO and optimum; it holds no mathematics."""
