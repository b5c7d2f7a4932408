import subprocess
import sys

import pytest

pytestmark = pytest.mark.node


@pytest.mark.parametrize("module", ["nanoexec.keys", "nanoexec.keys.credentials", "nanoexec.keys.token"])
def test_what_every_command_may_import_does_not_import_cryptography(module: str) -> None:
    code = f"import sys, {module}; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_verifying_a_signature_does_not_import_certificates() -> None:
    code = "import sys, nanoexec.keys.signing; sys.exit('cryptography.x509' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
