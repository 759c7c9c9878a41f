"""``python -m scope_rlvr`` is the command ``scope``."""

from scope_rlvr.cli.main import main

if __name__ == "__main__":
    main()
