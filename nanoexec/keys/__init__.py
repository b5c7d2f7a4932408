"""Who is who: certificates for mutual TLS, join tokens, and signatures on triggers.

`credentials` (the files) and `token` need the standard library only. `ca`, `certificate` and `signing` import the
library ``cryptography``, 25 MB of memory that most commands never need: import those three where they are used.
"""
