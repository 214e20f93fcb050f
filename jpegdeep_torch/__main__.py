"""`python -m jpegdeep_torch` is the command `jpegdeep`, which torchrun can start."""

from .cli.main import run

if __name__ == "__main__":
    run()
