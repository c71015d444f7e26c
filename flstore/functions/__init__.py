"""The serverless cache: Dask workers as cache functions. The only package that imports ``distributed``."""
