"""``python -m medmtl``."""

from medmtl.cli import main

if __name__ == "__main__":
    main()
