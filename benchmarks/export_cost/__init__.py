"""Parts of the measurement of what an export takes."""
