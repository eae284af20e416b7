"""The report as Markdown: what a parser makes of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rankselect.study.analysis.results import StudyResults
from rankselect.study.report.content import Table
from rankselect.study.report.markdown import _quoted, _table, escaped
from rankselect.study.report.write import write_report
from rankselect.study.run import RunResult
from study.synthetic_study import ARMS, change, write_synthetic_study

PARSER = MarkdownIt("commonmark").enable("table")
NASTY = "### <script>x</script> & | *a*\n\n---\n1. </details>```"


def texts_of(markdown):
    """The text that a reader sees, and the kinds of elements it is in."""
    tokens = [inner for token in PARSER.parse(markdown) for inner in (token, *(token.children or ()))]
    text = "".join(
        "\n" if token.type in {"softbreak", "hardbreak"} else token.content for token in tokens if not token.children
    )
    return text, {token.type for token in tokens}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("markdown") / "study"
    write_synthetic_study(folder, arms=ARMS[:3], seeds=(0, 1), n_questions=8)
    answers = RunResult.load(folder / "units" / "final.rank-6.seed0.json").answers
    answers["dropout_off"][0]["text"] = NASTY
    change(folder, "final.rank-6.seed0", answers=answers)
    _, file = write_report(StudyResults.load(folder), folder / "report")
    return file, file.read_text(encoding="utf-8")


def test_tables_have_as_many_cells_in_every_row(written):
    lines = written[1].splitlines()
    rules = [index for index, line in enumerate(lines) if re.fullmatch(r"\|( :?--:? \|)+", line)]
    assert len(rules) >= 10
    for index in rules:
        width = lines[index].count("|")
        row = index - 1
        while row < len(lines) and lines[row].startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", lines[row])) == width
            row += 1
        assert row > index + 1


def test_a_parser_finds_the_tables_headings_and_figures(written):
    html = PARSER.render(written[1])
    assert html.count("<h1>") == 1
    assert html.count("<table>") >= 10
    assert html.count("<details>") == html.count("</details>") == 7
    for name in re.findall(r'<img src="([^"]+)"', html):
        assert (written[0].parent / name).read_bytes().startswith(b"\x89PNG")
    assert html.count("<img") >= 6
    for arm in ARMS[:3]:
        assert arm.name in html


def test_answers_stay_text(written):
    html = PARSER.render(written[1])
    assert "<script>" not in html
    assert "### &lt;script&gt;x&lt;/script&gt; &amp; | *a*" in html


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z")), min_size=1))
def test_escaped_text_is_shown_as_it_is(text):
    shown, kinds = texts_of(f"x {escaped(text)} x")
    assert " ".join(shown.split()) == " ".join(f"x {text} x".split())
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")) | st.just("\n")))
def test_quoted_text_keeps_its_lines(text):
    shown, kinds = texts_of(_quoted(text))
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    expected = [" ".join(line.split()) for line in text.strip().splitlines()]
    assert [line for line in lines if line] == ([line for line in expected if line] or ["(an empty answer)"])
    assert not {"heading_open", "html_block", "fence", "code_block", "hr", "em_open", "list_item_open"} & kinds


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_whatever_is_in_a_cell_a_table_stays_one(rows):
    table = "\n\n".join(part for part in _table(Table("t", ("a", "b"), tuple(rows))) if part)
    html = PARSER.render(table)
    assert html.count("<td") == 2 * len(rows)
