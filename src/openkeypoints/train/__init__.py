"""Training and evaluation on anybody's keypoints."""
