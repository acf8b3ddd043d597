"""``python -m etude``, also as ``accelerate launch -m etude train config.toml``."""

from etude.cli import main

if __name__ == "__main__":
    main()
