"""Check a built wheel and sdist: what is in them, and that the README's first lines run.

    python -m tests.release dist
    python -m tests.release dist --python python3.13
    python -m tests.release dist --python python3.11 --constraint .ci/oldest.txt
    python -m tests.release dist --tag v0.1.0      # may this tag be published?

The lines run in an empty environment, which gets the wheel and what it depends on, and no more.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEM = f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}"
IN_DIST_INFO = ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")
# .gitignore is hatchling's doing: it reads that file again when it builds from the sdist.
BESIDE_THE_PACKAGE = (
    *("PKG-INFO", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"),
    ".gitignore",
)


def package() -> set[str]:
    """The files of the package that git tracks."""
    command = ["git", "ls-files", "muon_optax"]
    return {*subprocess.check_output(command, cwd=ROOT, text=True).split()}


def wheel_files() -> set[str]:
    """What a wheel must have, and nothing else."""
    return package() | {f"{STEM}.dist-info/{name}" for name in IN_DIST_INFO}


def sdist_files() -> set[str]:
    """What an sdist must have, and nothing else."""
    return {f"{STEM}/{name}" for name in (*package(), *BESIDE_THE_PACKAGE)}


def differences(what: str, has: set[str], must_have: set[str]) -> list[str]:
    """One line for each file that is missing or does not belong there."""
    missing = [f"{what} lacks {name}" for name in sorted(must_have - has)]
    return missing + [f"{what} has {name}" for name in sorted(has - must_have)]


def metadata_of(wheel: Path) -> Message:
    """The metadata of a wheel, its README as the payload."""
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"{STEM}.dist-info/METADATA").decode())


def metadata_problems(metadata: Message) -> list[str]:
    """What the metadata says otherwise than pyproject.toml."""
    plain = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    pairs = {
        "Name": (metadata["Name"], PROJECT["name"]),
        "Version": (metadata["Version"], PROJECT["version"]),
        "Requires-Python": (metadata["Requires-Python"], PROJECT["requires-python"]),
        "License-Expression": (metadata["License-Expression"], PROJECT["license"]),
        "License-File": (metadata.get_all("License-File"), PROJECT["license-files"]),
        "Classifier": (metadata.get_all("Classifier"), PROJECT["classifiers"]),
        "Requires-Dist": (sorted(plain), sorted(PROJECT["dependencies"])),
        "README": (metadata.get_payload().strip(), (ROOT / "README.md").read_text().strip()),
    }
    return [f"{k} is not that of the project" for k, (has, due) in pairs.items() if has != due]


def archive_problems(folder: Path) -> list[str]:
    """What is wrong with the wheel and the sdist in a folder."""
    wheel, sdist = folder / f"{STEM}-py3-none-any.whl", folder / f"{STEM}.tar.gz"
    if found := differences("the folder", {*folder.iterdir()}, {wheel, sdist}):
        return found
    with zipfile.ZipFile(wheel) as archive:
        problems = differences("the wheel", {*archive.namelist()}, wheel_files())
    with tarfile.open(sdist) as archive:
        names = {member.name for member in archive if not member.isdir()}
    return (
        problems
        + differences("the sdist", names, sdist_files())
        + metadata_problems(metadata_of(wheel))
    )


def tag_problems(tag: str, changelog: str) -> list[str]:
    """Why a tag may not be published: its version, or a CHANGELOG without its date."""
    version = PROJECT["version"]
    problems = [] if tag == f"v{version}" else [f"tag {tag} is not v{version}"]
    if not re.search(
        rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    ):
        problems.append(f"CHANGELOG.md has no heading '## {version} - YYYY-MM-DD'")
    return problems


def first_lines(readme: str) -> str:
    """The first Python example of a README."""
    return re.search(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)[1]


def try_out(wheel: Path, python: str, constraint: str | None) -> str:
    """Run the README's first lines in an empty environment; return what they print."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", "env"], cwd=folder, check=True)
        run = [str(Path(folder, "env/bin/python"))]
        pip = [*run, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        constraints = ["--constraint", str(Path(constraint).absolute())] if constraint else []
        subprocess.run([*pip, *constraints, str(wheel.absolute())], check=True)
        script = Path(folder, "first_lines.py")
        said = "import sys, jax; from importlib.metadata import version; import muon_optax\n"
        said += (
            "print(f'Python {sys.version.split()[0]}', f'jax {jax.__version__}', end=', ')\n"
        )
        said += "print(f\"optax {version('optax')}, muon_optax {muon_optax.__version__}\")\n"
        script.write_text(said + first_lines(metadata_of(wheel).get_payload()))
        command = [*run, "-W", "error::DeprecationWarning:muon_optax", str(script)]
        return subprocess.check_output(command, cwd=folder, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with one wheel and one sdist")
    parser.add_argument("--python", default=sys.executable, help="for the empty environment")
    parser.add_argument("--constraint", help="a file of versions for pip")
    parser.add_argument("--tag", help="check that this tag may be published, and run nothing")
    given = parser.parse_args()
    problems = archive_problems(given.folder)
    if given.tag:
        problems += tag_problems(given.tag, (ROOT / "CHANGELOG.md").read_text())
    if problems:
        sys.exit("\n".join(problems))
    print("The wheel and the sdist have the package and its metadata, and nothing else.")
    if not given.tag:
        wheel = given.folder / f"{STEM}-py3-none-any.whl"
        print(try_out(wheel, given.python, given.constraint), end="")


if __name__ == "__main__":
    main()
