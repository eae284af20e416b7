"""Files that surround the sources: what they name exists, and what they say of the version agrees."""

import re
from pathlib import Path

import pytest
import yaml

import rankselect as rs

ROOT = Path(__file__).resolve().parents[1]
ON_GITHUB = re.compile(
    r"https://(?:github\.com/rankselect/rankselect/blob|raw\.githubusercontent\.com/rankselect/rankselect)/main/([^)\s#]+)"
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]


@pytest.mark.parametrize(
    "path", [ROOT / "CITATION.cff", *sorted((ROOT / ".github").rglob("*.yml"))], ids=lambda p: p.name
)
def test_yaml_is_read(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_jobs_of_steps(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    assert jobs
    assert all(step.keys() & {"uses", "run"} for job in jobs.values() for step in job["steps"])


def test_every_target_of_make_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w.$()/-]+):(?!=)", makefile, re.MULTILINE))
    named = set()
    for path in [*WORKFLOWS, ROOT / ".ci/run", ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for line in re.findall(r"(?:run: |`|\$ |^)make ([^`#\n]*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            named |= {word for word in line.split() if re.fullmatch(r"[a-z][a-z-]*", word)}
    assert {"check", "test", "docs", "test-wheel", "test-lowest"} <= named
    assert named <= targets


def test_every_python_that_the_package_names_is_tested():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    promised = set(re.findall(r"Python :: (3\.\d+)", project))
    jobs = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8"))["jobs"]
    tested = {
        *jobs["test"]["strategy"]["matrix"]["python"],
        jobs["test-oldest-python"]["steps"][1]["with"]["python-version"],
    }
    assert tested == promised
    assert min(promised, key=lambda each: int(each.split(".")[1])) in re.search(r"requires-python.*", project)[0]


def test_the_rooms_stand_in_the_order_that_import_linter_checks():
    layers = re.search(
        r"^layers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    floors = [set(re.findall(r"\w+", line)) for line in re.findall(r'"(.+)"', layers[1])][::-1]
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    described = [name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row)]
    assert sorted(described) == sorted(set().union(*floors))
    places = [next(place for place, floor in enumerate(floors) if name in floor) for name in described]
    assert places == sorted(places)


def test_the_page_on_stability_names_every_file_format():
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    formats = set(re.findall(r'"(rankselect\.[a-z_]+)"', sources)) - {"rankselect.json"}
    page = (ROOT / "docs/stability.md").read_text(encoding="utf-8").split("## Files")[1]
    assert formats == set(re.findall(r"`(rankselect\.[a-z_]+)`", page)) - {"rankselect.json"}
    versions = set(re.findall(r'VERSION = (?:"[\w.]+", )?(\d+)|"version": (\d+)', sources))
    assert {"".join(each) for each in versions} == {"1", "2"}  # as the page says


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == rs.__version__
    newest = re.search(r"^## \[(.+?)\] - (\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)
    assert newest.groups() == (rs.__version__, str(citation["date-released"]))


def test_the_changelog_names_every_deprecated_name():
    missing = [
        name
        for name in rs._MOVED
        if not name.endswith("Error") and f"`{name}`" not in CHANGELOG.replace("rankselect.", "")
    ]
    assert missing == []


def test_links_and_pictures_of_the_readme_work_on_a_package_index():
    targets = re.findall(r"\]\(([^)]+)\)", README) + re.findall(r"^\[[\w-]+\]: (.+)$", README, re.MULTILINE)
    assert len(targets) > 5
    assert [target for target in targets if not target.startswith("https://")] == []
    labels = set(re.findall(r"\]\[([\w-]+)\]", README))
    assert labels == set(re.findall(r"^\[([\w-]+)\]: ", README, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_a_page_links_to_exist(page):
    for name in ON_GITHUB.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name
