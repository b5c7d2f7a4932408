"""The man pages: reStructuredText whose parts about commands and keys are made from the program itself."""
