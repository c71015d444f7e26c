"""The speed figures, as ratios against named peers: ``python -m benchmarks`` runs them, see README.md."""
