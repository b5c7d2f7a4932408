"""The machines that system tests share, why there are none here, and what they have to say when a test fails."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.system.estate import Estate
from tests.system.image import Cache
from tests.system.lan import TOOLS, Lan
from tests.system.machines import Machine
from tests.system.packages import built_packages, stage
from tests.system.recipe import Suite, recipe

FOUR: Final[Mapping[str, Suite]] = {"hub": "bookworm", "node1": "bookworm", "node2": "trixie", "node3": "trixie"}
LATER: Final = "99.1"
TIMEOUT: Final = 900  # seconds: whichever test comes first may have to build the images
SHARED: Final = pytest.StashKey[list[Machine]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in this directory is a system test, and may take its time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the shared machines speak when a test has failed."""
    report = yield
    if report.failed:
        report.sections += [(machine.name, machine.story()) for machine in item.config.stash.get(SHARED, [])]
    return report


def why_no_machines() -> str:
    """Why no machines can be booted here, and what to do; empty if they can."""
    if os.geteuid() != 0:
        return "only root can boot machines: run the system tests as root"
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    if missing := sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=path)}):
        return f"not installed: {' '.join(missing)}: run tests/system/debian-packages"
    known = Path("/proc/filesystems").read_text().split()
    if lacking := [name for name in ("overlay", "ext4", "cgroup2") if name not in known]:
        return f"the kernel does not know {' '.join(lacking)}: try modprobe"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices: try modprobe loop"
    probe = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        return "no namespaces may be made here: run outside of a container, or in a privileged one"
    return ""


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    """Skip what cannot be done; where it was promised that it can (CI, or NANOEXEC_SYSTEM=1), fail instead."""
    if reason := why_no_machines():
        promised = os.environ.get("CI") == "true" or os.environ.get("NANOEXEC_SYSTEM") == "1"
        if promised and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cache() -> Cache:
    """Where images and packages are kept between runs."""
    return Cache.of_environment()


@pytest.fixture(scope="session")
def aloud(pytestconfig: pytest.Config) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in which standard error is seen at once: what takes a minute says so."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled if capture else contextlib.nullcontext


@pytest.fixture(scope="session")
def images(cache: Cache, aloud: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[dict[Suite, Path]]:
    """The node images, of each suite."""
    with contextlib.ExitStack() as held:
        with aloud():
            found = {
                suite: held.enter_context(cache.image(recipe(suite, "node"))) for suite in sorted({*FOUR.values()})
            }
        yield found


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> dict[Suite, Path]:
    """The project's source as each suite's packages are built from."""
    suites = sorted({*FOUR.values()})
    with ThreadPoolExecutor(len(suites)) as pool:
        return dict(
            zip(suites, pool.map(lambda suite: stage(suite, tmp_path_factory.mktemp(suite)), suites), strict=True)
        )


@pytest.fixture(scope="session")
def packages(
    staged: dict[Suite, Path], cache: Cache, aloud: Callable[[], contextlib.AbstractContextManager[None]]
) -> dict[Suite, list[Path]]:
    """The project's packages, as built in each suite."""
    with aloud():
        return {suite: built_packages(suite, cache, source) for suite, source in staged.items()}


@pytest.fixture(scope="session")
def newer(
    staged: dict[Suite, Path], cache: Cache, aloud: Callable[[], contextlib.AbstractContextManager[None]]
) -> dict[Suite, list[Path]]:
    """The same packages as a later version, which upgrades them."""
    with aloud():
        return {suite: built_packages(suite, cache, source, version=LATER) for suite, source in staged.items()}


@pytest.fixture(scope="session")
def lan() -> Iterator[Lan]:
    """The network of the shared machines."""
    with Lan(Path(tempfile.mkdtemp(prefix="nanoexec-lan-"))) as made:
        yield made


@pytest.fixture(scope="session")
def shared(lan: Lan, images: dict[Suite, Path], pytestconfig: pytest.Config) -> list[Machine]:
    """The shared machines, off."""
    made = [Machine(lan, name, images[suite]) for name, suite in FOUR.items()]
    pytestconfig.stash[SHARED] = made
    return made


@pytest.fixture(scope="session")
def built(shared: list[Machine], packages: dict[Suite, list[Path]]) -> Estate:
    """The shared machines with the packages on them, joined and kept on disk; off."""
    made = Estate(shared)
    made.build({name: packages[suite] for name, suite in FOUR.items()})
    return made


@pytest.fixture(scope="module")
def estate(built: Estate) -> Estate:
    """A hub and three nodes with the packages, at work; as good as new for every module."""
    built.restore()
    return built


@pytest.fixture(scope="module")
def machines(shared: list[Machine]) -> dict[str, Machine]:
    """Four machines, up: a hub and a node of one suite, two nodes of another. As good as new for every module.

    What a test cuts, switches off or breaks it mends; or it calls ``fresh`` on the machine.
    """
    with ThreadPoolExecutor(len(shared)) as pool:
        list(pool.map(Machine.fresh, shared))
    return {machine.name: machine for machine in shared}
