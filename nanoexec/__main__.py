"""``python -m nanoexec``: the command line."""

from nanoexec.cli import main

if __name__ == "__main__":
    main()
