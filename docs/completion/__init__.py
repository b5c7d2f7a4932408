"""Completion for bash, zsh and fish: static scripts, made from the program itself.

Static, because a shell must not start an interpreter at every TAB, and because each version of typer asks for its own
way of doing that. Only names of actions and nodes are asked for, where they can stand.
"""
