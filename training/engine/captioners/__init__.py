"""What writes captions: each finds words for pictures, by itself or with a model from a folder."""
