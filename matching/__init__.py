"""Two images of one scene without learning: features, matches, the motion between them, the focal length."""
