"""Models as files that run no code when they are read: safetensors, ONNX, and SB3's zip files through an allow-list."""
