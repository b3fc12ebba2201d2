"""What a model loses, language by language, and the verdict on it."""
