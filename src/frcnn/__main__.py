"""`python -m frcnn` is the command `frcnn`."""

from frcnn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
