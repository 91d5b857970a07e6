"""Work on finished LoRA files: inspect, convert, merge, resize, and extract one from two base models."""
