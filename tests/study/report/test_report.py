"""The report as an HTML page: what it says, that it is whole, and that it opens without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from rankselect.errors import ArgumentError
from rankselect.study.analysis.results import StudyResults
from rankselect.study.arm import Arm
from rankselect.study.report.compose import compose
from rankselect.study.report.write import html_page, write_report
from rankselect.study.run import RunResult
from study.synthetic_study import ARMS, change, damage, fail, write_synthetic_study

VOID = {"meta", "link", "br", "img", "hr", "input"}
NASTY = "### <script>alert('x')</script> & | *a*\n\n</blockquote>```"
FEW = tuple(arm for arm in ARMS if arm.name in {"base", "per-layer-id", "id-control"})


class Page(HTMLParser):
    """The tags of a page, which must be balanced; its texts, ids and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if not {"script", "style"} & set(self.open):
            self.text.append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def report_of(folder):
    return html_page(compose(StudyResults.load(folder), 25))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A study with everything in it, a nasty answer too, and its report."""
    folder = tmp_path_factory.mktemp("full") / "study"
    write_synthetic_study(folder, judge=True)
    path = folder / "units" / "final.rank-6.seed0.json"
    answers = RunResult.load(path).answers
    for answer in answers["dropout_off"]:
        answer["text"] = NASTY
    change(folder, "final.rank-6.seed0", answers=answers)
    page, _ = write_report(StudyResults.load(folder), folder / "report")
    return folder, page.read_text(encoding="utf-8")


def small(folder, **values):
    """A small study of three arms."""
    write_synthetic_study(
        folder,
        **{"arms": FEW, "seeds": (0,), "n_questions": 8, "dropout_too": False, "profile": False, **values},
    )
    return folder


def test_the_page_is_whole_and_names_every_arm(full):
    page = Page(full[1])
    assert len(page.ids) == len(set(page.ids))
    assert len(page.all("h1")) == 1
    assert all(page.words.count(arm.name) >= 5 for arm in ARMS)
    for link in page.all("a"):
        assert link["href"].removeprefix("#") in page.ids
    for reference in re.findall(r'(?:href="#|url\(#)([\w-]+)', full[1]):
        assert reference in page.ids


def test_the_first_screen_is_the_verdict_and_three_to_six_numbers(full):
    folder, text = full
    header = Page(text[text.index("<header>") : text.index("</header>") + len("</header>")])
    verdict = StudyResults.load(folder).verdict()
    for sentence in (verdict.headline, *verdict.reasons, *verdict.caveats):
        assert " ".join(sentence.split()) in header.words
    assert 4 <= len(header.all("dd")) <= 6
    (picture,) = header.all("svg")
    best = StudyResults.load(folder).rankings["token-f1"]["arm"].iloc[0]
    assert picture["aria-label"].startswith(f"Difference in token-f1 from {best}")


def test_what_a_page_needs_is_in_it(full):
    assert not re.search(r"https?://|//[\w.]+\.\w+/|@import|src=", full[1])
    assert "default-src 'none'" in full[1]
    assert not Page(full[1]).all("img")


def test_every_colour_has_a_light_and_a_dark_value(full):
    for name in set(re.findall(r"var\(--([\w-]+)\)", full[1])):
        light, dark = re.findall(rf"--{name}: (#[0-9a-f]{{6}});", full[1])
        assert light != dark


def test_answers_are_escaped_and_shown_for_every_arm(full):
    assert "<script>alert" not in full[1]
    assert full[1].count("<script>") == 1
    page = Page(full[1])
    assert " ".join(NASTY.split()) in page.words
    assert len(page.all("details")) == 25 + 1
    assert len(page.all("article")) == 25 * (len(ARMS) + 1)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_as_many_questions_as_are_wanted(tmp_path, n):
    write_synthetic_study(tmp_path / "study")
    results = StudyResults.load(tmp_path / "study")
    written = write_report(results, tmp_path / "out", n_questions=n)
    for text in (path.read_text(encoding="utf-8") for path in written):
        assert sum(row["question"] in text for row in results.rows) == n
        assert sum(row["answer"] in text for row in results.rows) == n
    with pytest.raises(ArgumentError, match="n_questions of at least 0, got -1"):
        write_report(results, tmp_path / "out", n_questions=-1)


def test_figures_and_tables_say_what_they_show(full):
    page = Page(full[1])
    drawings = page.all("svg")
    assert len(drawings) == len(page.all("figure")) == 8
    assert all(each["role"] == "img" and len(each["aria-label"]) > 60 for each in drawings)
    assert len(page.all("caption")) == len(page.all("table")) >= 12
    assert all("scope" in each for each in page.all("th"))
    regions = [each for each in page.all("div") if each.get("class") == "scroll"]
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in regions)


def test_what_was_measured_is_in_the_tables(full):
    words = Page(full[1]).words
    for said in ("0.0471 %", "0.0861 %", "6 to 14 (mean 10.1)", "Results with dropout on", "By judge"):
        assert said in words
    assert words.count("smallest detectable difference:") >= 3
    results = StudyResults.load(full[0])
    for row in results.differences("token-f1").to_dict("records"):
        assert f"{row['difference']:+.3f}" in words
    assert len(re.findall("validation loss", words)) >= 1
    assert results.hash in words
    assert "torch 2.9" in words
    assert "1 CPU core" in words


def test_a_study_of_little_has_a_report(tmp_path):
    words = Page(report_of(small(tmp_path / "study"))).words
    assert "Intrinsic dimension of each layer" not in words
    assert "dropout left on" not in words
    assert "one seed" in words.lower()
    assert "Rank of each layer" in words
    assert "Failed runs" not in words


def test_runs_that_failed_or_are_damaged_are_named(tmp_path):
    folder = small(tmp_path / "study", seeds=(0, 1))
    fail(folder, "final.per-layer-id.seed1", "expected <memory>, got none. Buy some.")
    fail(folder, "grid.id-control.seed0.lr0.001.alpha8", "no luck")
    damage(folder, "final.id-control.seed1")
    words = Page(report_of(folder)).words
    assert "Failed runs" in words
    assert "final.per-layer-id.seed1 failed expected <memory>, got none. Buy some." in words
    assert "final.id-control.seed1.json damaged" in words
    assert "failed: no luck" in words


def test_an_arm_without_results_is_still_in_the_tables(tmp_path):
    folder = small(tmp_path / "study")
    fail(folder, "final.id-control.seed0")
    page = Page(report_of(folder))
    assert "difference from per-layer-id" in page.words or "difference from base" in page.words
    assert "id-control" in page.words


def test_only_a_base_model_has_a_report(tmp_path):
    words = Page(report_of(small(tmp_path / "study", arms=(Arm("base"),)))).words
    assert "There is nothing to compare" in words
    assert "Training loss" not in words


def test_a_study_that_has_just_begun_has_a_report(tmp_path):
    folder = small(tmp_path / "study")
    for path in (folder / "units").glob("final.*.json"):
        path.unlink()
    words = Page(report_of(folder)).words
    assert "There is nothing to compare" in words
    assert "Answers side by side" not in words


def test_equal_results_give_equal_pages(tmp_path):
    folder = small(tmp_path / "study", arms=(Arm("base"), Arm("rank-6", "fixed:rank=6")))
    assert report_of(folder) == report_of(folder)


def browsed(page):
    """What a browser makes of a page, and what it complains about."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip(f"no browser is installed: none of {', '.join(names)}")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def test_a_browser_opens_it_without_complaint(full):
    shown, complaints = browsed(full[0] / "report" / "report.html")
    assert complaints == []
    assert '<button type="button" id="another">' in shown  # the script ran: the button is no longer hidden


def test_the_button_shows_another_question_and_comes_round(full):
    clicks = "<script>for (let n = 0; n < 26; n++) document.getElementById('another').click();</script></body>"
    page = full[0] / "clicked.html"
    page.write_text(full[1].replace("</body>", clicks), encoding="utf-8")
    shown, complaints = browsed(page)
    assert complaints == []
    questions = re.findall(r'<details class="question"( open="")?>\s*<summary>(.*?)</summary>', shown)
    before = re.findall(r'<details class="question"(?: open)?>\s*<summary>(.*?)</summary>', full[1])
    assert questions[0] == (' open=""', before[1])
    assert sorted(text for _, text in questions) == sorted(before)
    assert [text for is_open, text in questions if is_open] == [before[1]]
