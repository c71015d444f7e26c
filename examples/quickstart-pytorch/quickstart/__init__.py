"""A Flower app in the shape of Flower's own PyTorch quickstart."""
