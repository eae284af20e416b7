"""Files are written whole or not at all, and read with an error that says what is wrong."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

import rankselect as rs
from rankselect.files import field, json_text, read_document, read_fields, write_document, write_text


def test_what_is_written_is_read(tmp_path):
    body = {"text": "Größe …", "numbers": [1, 2.5, 1e-300], "none": None, "nested": {"a": [True]}}
    path = tmp_path / "file.json"
    document = {"format": "a kind", "version": 3, **body}
    write_document(path, document)
    assert read_document(path, "a kind", 3) == document
    assert path.read_text(encoding="utf-8") == json_text(document)
    assert "Größe …" in path.read_text(encoding="utf-8")


def test_older_versions_are_read_and_newer_ones_are_not(tmp_path):
    path = tmp_path / "file.json"
    write_document(path, {"format": "a kind", "version": 1})
    assert read_document(path, "a kind", 2)["version"] == 1
    write_document(path, {"format": "a kind", "version": 3})
    with pytest.raises(rs.errors.FileFormatError) as caught:
        read_document(path, "a kind", 2)
    assert str(caught.value) == (
        f"expected a a kind file (JSON, version 2 or older), got {path} of version 3. "
        "Upgrade rankselect, or create the file again with this version."
    )


@pytest.mark.parametrize("version", [None, "1", True, 0, -1, 1.0])
def test_a_version_that_is_none(tmp_path, version):
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"format": "kind", "version": version}))
    with pytest.raises(rs.errors.FileFormatError, match=f"of version {version!r}"):
        read_document(path, "kind", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "which is not JSON"),
        (b'{"format": "kind", "ver', "which is not JSON .* It is damaged or truncated"),
        (b"\x80\x81", "which is not JSON"),
        (b"[]", "whose format is 'list'"),
        (b'"kind"', "whose format is 'str'"),
        (b"{}", "whose format is None"),
        (b'{"format": "other", "version": 1}', "whose format is 'other'. Give the path of the right file"),
    ],
)
def test_another_file(tmp_path, content, message):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(rs.errors.FileFormatError, match=f"a kind file .* got .*file.json.*{message}"):
        read_document(path, "kind", 1)


class TestWriting:
    def test_replaces_a_file_and_leaves_nothing_beside_it(self, tmp_path):
        path = tmp_path / "file.txt"
        write_text(path, "old")
        write_text(str(path), "new")
        assert path.read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_failure_while_writing_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "file.txt"
        write_text(path, "old")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            write_text(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_an_interrupt_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "file.txt"
        write_text(path, "old")

        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "chmod", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": float("inf")}, {"x": object()}])
    def test_what_json_cannot_hold_leaves_the_old_file(self, tmp_path, body):
        path = tmp_path / "file.json"
        write_document(path, {"format": "kind", "version": 1, "x": 1})
        with pytest.raises((ValueError, TypeError)):
            write_document(path, body)
        assert read_document(path, "kind", 1)["x"] == 1
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_permissions_are_those_of_any_new_file(self, tmp_path, umask, mode):
        before = os.umask(umask)
        try:
            write_text(tmp_path / "file.txt", "text")
            assert os.umask(umask) == umask
        finally:
            os.umask(before)
        assert (tmp_path / "file.txt").stat().st_mode & 0o777 == mode

    def test_a_folder_that_is_not_there_is_the_systems_own_error(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            write_text(tmp_path / "nowhere" / "file.txt", "text")


class TestField:
    def test_gives_the_value(self):
        assert field({"a": 1}, "a", int, "f") == 1
        assert field({"a": None}, "a", (str, type(None)), "f") is None
        assert field({"a": True}, "a", bool, "f") is True
        assert field({"a": {"b": [1, None]}}, "a", dict[str, list[int | None]], "f") == {"b": [1, None]}
        assert field({"a": [{"any": "thing"}]}, "a", list[Any], "f") == [{"any": "thing"}]

    def test_what_json_cannot_say_is_restored(self):
        assert field({"a": [[1, 2]]}, "a", tuple[tuple[int, float], ...], "f") == ((1, 2.0),)
        assert isinstance(field({"a": 2}, "a", float, "f"), float)
        assert isinstance(field({"a": 2}, "a", (int, float), "f"), int)

    @pytest.mark.parametrize(
        ("document", "kind", "message"),
        [
            ({}, int, "a field 'a' of type int, got none in f.json. The file is damaged"),
            ({"a": "1"}, int, "a field 'a' of type int, got '1' in f.json"),
            ({"a": None}, (int, float), "a field 'a' of type int or float, got None in f.json"),
            ({"a": 1}, (str, type(None)), "a field 'a' of type str or NoneType, got 1 in f.json"),
            ({}, (str, type(None)), "a field 'a' of type str or NoneType, got none in f.json"),
            ({"a": True}, int, "a field 'a' of type int, got True in f.json"),
            ({"a": True}, float, "a field 'a' of type float, got True in f.json"),
            ({"a": float("nan")}, float, "a field 'a' of type float, got nan in f.json"),
            ({"a": "other"}, Literal["one", "two"], r"of type Literal\['one', 'two'\], got 'other' in f.json"),
            ({"a": [1, "2"]}, list[int], r"a field 'a' of type list\[int\], got '2' in f.json"),
            ({"a": {"b": 1}}, list[int], "got {'b': 1} in f.json"),
            ({"a": {"b": None}}, dict[str, int], r"of type dict\[str, int\], got None in f.json"),
            ({"a": [[1, 2, 3]]}, tuple[tuple[int, float], ...], r"got \[1, 2, 3\] in f.json"),
            ({"a": "x" * 200}, int, "got 'x{118}… in f.json"),
        ],
    )
    def test_names_what_is_missing_or_of_another_type(self, document, kind, message):
        with pytest.raises(rs.errors.FileFormatError, match=message):
            field(document, "a", kind, "f.json")


@dataclass(frozen=True)
class Point:
    x: float
    name: str = ""


@dataclass(frozen=True)
class Line:
    kind: Literal["solid", "dashed"]
    ends: tuple[Point, Point]
    label: str | None = None


class TestReadFields:
    WRITTEN: ClassVar = {
        "format": "line",
        "version": 1,
        "kind": "solid",
        "ends": [{"x": 0, "name": "a"}, {"x": 1.5, "name": "b"}],
        "label": None,
    }

    def test_makes_the_dataclass_and_those_in_it(self):
        assert read_fields(self.WRITTEN, Line, "f") == Line("solid", (Point(0.0, "a"), Point(1.5, "b")))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"kind": "dotted"}, "a field 'kind' of type .*, got 'dotted' in f.json. The file is damaged"),
            ({"ends": [{"x": 0, "name": "a"}]}, "a field 'ends' of type"),
            ({"ends": [{"x": "0", "name": "a"}] * 2}, "a field 'x' of type float, got '0' in f.json"),
            ({"ends": [{"x": 0}] * 2}, "a field 'name' of type str, got none in f.json"),
            ({"label": 3}, "a field 'label' of type str or NoneType, got 3 in f.json"),
        ],
    )
    def test_names_the_field_that_is_wrong(self, change, message):
        with pytest.raises(rs.FileFormatError, match=message):
            read_fields({**self.WRITTEN, **change}, Line, "f.json")

    @pytest.mark.parametrize("name", ["kind", "ends", "label"])
    def test_needs_every_field(self, name):
        document = {key: value for key, value in self.WRITTEN.items() if key != name}
        with pytest.raises(rs.FileFormatError, match=f"a field '{name}' of type .*, got none in f.json"):
            read_fields(document, Line, "f.json")


def test_a_new_folder_appears_whole_and_readable_or_not_at_all(tmp_path):
    from rankselect.errors import SaveError
    from rankselect.files import new_folder

    with new_folder(tmp_path / "deep" / "adapter") as folder:
        (folder / "weights").write_text("1", encoding="utf-8")
        (folder / "weights").chmod(0o600)
        assert not (tmp_path / "deep" / "adapter").exists()
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "deep" / "adapter" / "weights").stat().st_mode & 0o777 == 0o666 & ~umask
    with pytest.raises(SaveError, match="expected a new or empty folder, got .*adapter, which exists"):
        new_folder(tmp_path / "deep" / "adapter").__enter__()
    with pytest.raises(KeyError), new_folder(tmp_path / "other") as folder:
        (folder / "weights").write_text("1", encoding="utf-8")
        raise KeyError("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    abandoned, alive = tmp_path / ".late.999999999.partial", tmp_path / f".late.{os.getppid()}.partial"
    abandoned.mkdir()
    alive.mkdir()
    with new_folder(tmp_path / "late"):
        assert not abandoned.exists()
    assert alive.exists()


def test_a_disk_without_room_is_one_error_and_leaves_nothing(tmp_path):
    from rankselect.errors import SaveError
    from rankselect.files import new_folder

    with (
        pytest.raises(SaveError, match="expected a folder that can be written.*No space left"),
        new_folder(tmp_path / "other"),
    ):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SaveError, match="a folder that can be written"):
        new_folder(tmp_path / "file" / "adapter").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
