"""What is built for a release has the package and nothing else, and the project's metadata."""

import re
import tomllib
from email.message import Message
from pathlib import Path

import pytest
import release
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture
def metadata():
    """Of a wheel that says what pyproject.toml says."""
    project, message = release.PROJECT, Message()
    pairs = [("Name", project["name"]), ("Version", project["version"])]
    pairs += [("Requires-Python", project["requires-python"])]
    pairs += [("License-Expression", project["license"])]
    pairs += [("License-File", name) for name in project["license-files"]]
    pairs += [("Classifier", name) for name in project["classifiers"]]
    pairs += [("Requires-Dist", need) for need in project["dependencies"]]
    pairs += [("Requires-Dist", "rich>=13; extra == 'compare'")]
    for name, value in pairs:
        message[name] = value
    message.set_payload((ROOT / "README.md").read_text())
    return message


def test_the_package_has_its_marker_of_types_and_no_tests():
    files = release.package()
    assert "muon_optax/py.typed" in files and "muon_optax/_muon.py" in files
    assert not [name for name in files if "test" in name or not name.startswith("muon_optax/")]


@pytest.mark.parametrize("lost", ["muon_optax/py.typed", "licenses/LICENSE"])
def test_a_file_that_a_wheel_lacks_is_named(lost):
    files = release.wheel_files()
    kept = {name for name in files if not name.endswith(lost)}
    (said,) = release.differences("the wheel", kept, files)
    assert said.startswith("the wheel lacks ") and said.endswith(lost)


@pytest.mark.parametrize(
    "stray", ["examples/corpus.py", "tests/conftest.py", "muon_optax/x.so"]
)
def test_a_file_that_does_not_belong_in_a_wheel_is_named(stray):
    files = release.wheel_files()
    assert release.differences("the wheel", files | {stray}, files) == [
        f"the wheel has {stray}"
    ]


def test_metadata_of_the_project_pass_and_others_are_named(metadata):
    assert release.metadata_problems(metadata) == []
    metadata["Requires-Dist"] = "flax>=0.12"
    metadata.replace_header("Version", "0.0.9")
    said = [problem.split()[0] for problem in release.metadata_problems(metadata)]
    assert said == ["Version", "Requires-Dist"]


def test_only_the_tag_of_the_version_is_published_and_only_with_a_dated_changelog():
    version = release.PROJECT["version"]
    dated = f"# Changelog\n\n## {version} - 2026-12-01\n"
    assert release.tag_problems(f"v{version}", dated) == []
    assert "tag v9.9.9 is not" in release.tag_problems("v9.9.9", dated)[0]
    undated = dated.replace("2026-12-01", "not yet released")
    assert "YYYY-MM-DD" in release.tag_problems(f"v{version}", undated)[0]


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (
        project["version"],
        project["license"],
    )
    assert [a["name"] for a in citation["authors"]] == [a["name"] for a in project["authors"]]
    (paper,) = citation["references"]
    assert paper["url"].endswith("2601.19156")
    assert [author["family-names"] for author in paper["authors"]] == ["Kim", "Oh"]


def test_the_changelog_starts_with_this_version_and_says_for_each_change_what_it_is_about():
    text = (ROOT / "CHANGELOG.md").read_text()
    first = re.search(r"^## (\S+) - ", text, re.MULTILINE)
    assert first and first[1] == release.PROJECT["version"]
    kinds = re.findall(r"^### (\w+)", text, re.MULTILINE)
    assert {*kinds} <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for part in re.split(r"^#### ", text, flags=re.MULTILINE)[1:]:
        assert len(re.findall(r"^- ", part, re.MULTILINE)) <= 16, part.splitlines()[0]
