"""Which languages a quantization would harm, and which layers would do it, told from the float model alone."""
