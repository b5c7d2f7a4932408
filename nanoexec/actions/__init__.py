"""Actions: the names a node knows, and what each stands for. Pure: bytes and values in, values out.

A manifest is a TOML document. Manifests come in layers (shipped, then the node's own); `merge` lays them over each
other, checks the result and gives a `Catalog`: the sound actions, and every fault with its file and key::

    shipped = [Source(file="integrations/puppet.toml", data=...)]
    own = [Source(file="/etc/nanoexec/actions.d/puppet.toml", data=...)]
    catalog = merge([shipped, own])
    manifest = catalog.find("puppet")           # or RefusedError: unknown, or at fault
    argv = bind(manifest, {"noop": "true"})     # or RefusedError: the argument, and what was expected
    judge = Judge(manifest.outcome)
    judge.feed(output)                          # as it comes
    judge.verdict(status)                       # Verdict(outcome, changed, reason)

What a trigger brings is a name and texts. The name finds a manifest of this node; each text must fit its argument and
becomes part of one argv element, by a template that the manifest has. No shell sees it, and nothing that the trigger
says can name a program.

Where what is:

- `manifest`: the values. `checking`: a document becomes one, or a list of faults.
- `layers`: several files become a catalog. `nanoexec.catalog` reads them from disk.
- `binding`: arguments become argv. `outcome`: output and exit status become a verdict.
"""

from nanoexec.actions.binding import bind, parse_pairs
from nanoexec.actions.layers import Catalog, Source, merge
from nanoexec.actions.manifest import Argument, Cron, Fallback, Fault, Kind, Manifest, OnBusy, Rule, Rules
from nanoexec.actions.outcome import Judge, Verdict

__all__ = [
    "Argument",
    "Catalog",
    "Cron",
    "Fallback",
    "Fault",
    "Judge",
    "Kind",
    "Manifest",
    "OnBusy",
    "Rule",
    "Rules",
    "Source",
    "Verdict",
    "bind",
    "merge",
    "parse_pairs",
]
