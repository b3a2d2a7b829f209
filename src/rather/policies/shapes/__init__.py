"""``toy:shapes``: small image pipelines of the world of shapes, trained on the spot."""
