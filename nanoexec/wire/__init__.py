"""Every byte format between two of nanoexec's processes: pure encoding and strict decoding.

`network` is what hub and nodes say to each other, `runner` what an agent says to its runner, `control` what the command
line says to the hub; the last two share the framing in `stream`.
"""
