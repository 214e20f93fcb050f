"""The study of a machine: `python -m eval.study`."""
