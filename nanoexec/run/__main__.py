"""``python -m nanoexec.run``."""

from nanoexec.run import main

main()
