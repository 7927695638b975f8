"""``python -m medseg.cli``: the command ``medseg`` where its script is not on the path."""

from medseg.cli.application import main

if __name__ == "__main__":
    main()
