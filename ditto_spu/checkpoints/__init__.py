"""Read checkpoints as the hub has them: safetensors, Flax's msgpack and GGUF, with their tokenizers."""
