"""Sandserve, a file server in a sandbox: ``python -m sandserve`` takes the arguments of ``python -m http.server``."""
