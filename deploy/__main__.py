"""Entry point of ``python -m deploy``."""

from prune_deploy import main

if __name__ == "__main__":
    main()
