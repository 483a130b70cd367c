"""Run pip with a progress line; show pip's whole output if it fails.

    python examples/install.py --editable '.[demo]'

It needs only the standard library, because nothing is installed yet.
"""

import re
import shlex
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from progress import Progress

OPTIONS = ("--disable-pip-version-check", "--no-input", "--progress-bar=off")


def stage(line: str) -> str | None:
    """A description of a line of pip's output; None if it says nothing new."""
    if found := re.search(r"Downloading (?:\S*/)?([\w.]+)-\S+ \((.+)\)", line):
        return f"downloading, now {found[1]} ({found[2]})"
    if found := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
        return f"downloading, now {found[1]}"
    return None


def total(line: str) -> int:
    """How many packages pip is about to install; 0 for any other line."""
    found = re.match(r"Installing collected packages: (.+)", line)
    return found[1].count(",") + 1 if found else 0


def installed() -> int:
    """How many packages this environment has."""
    return len(list(Path(sysconfig.get_paths()["purelib"]).glob("*.dist-info")))


def follow(pip: subprocess.Popen, progress: Progress) -> list[str]:
    """Show what pip does until it ends; return the lines that it printed."""
    said, before = [], installed()
    for line in pip.stdout:
        said.append(line)
        if now := stage(line.strip()):
            progress.show(now)
        count = total(line.strip())
        while count and pip.poll() is None:
            done = min(count, max(0, installed() - before))
            progress.show(f"installing, {done} of {count} packages done", done / count)
            time.sleep(0.3)
    pip.wait()
    return said


def main(arguments: list[str]) -> int:
    """Install in this environment; return pip's exit status."""
    command = [sys.executable, "-m", "pip", "install", *OPTIONS, *arguments]
    begin = time.monotonic()
    with Progress(quiet=5.0) as progress:
        progress.show("starting pip")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        pip = subprocess.Popen(command, text=True, **pipes)
        said = follow(pip, progress)
    if pip.returncode:
        print("".join(said), f"pip failed: {shlex.join(command)}", sep="", file=sys.stderr)
    else:
        print(f"Installed in {time.monotonic() - begin:.0f} s.")
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
