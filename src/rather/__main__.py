"""``python -m rather``."""

from rather.cli.main import main

if __name__ == "__main__":
    main()
