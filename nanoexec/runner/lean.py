"""To be imported before `msgspec`, which imports ``typing_extensions`` where it is there, and needs it with no Python
that nanoexec runs on. With it come `inspect`, `ast`, `dis` and more: a tenth of the runner's memory, which every fork
copies the tables of.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_modules.setdefault("typing_extensions", None)  # now to import it fails (the Python language reference, 5.3.1)
