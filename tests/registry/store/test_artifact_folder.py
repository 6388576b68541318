"""A folder of artifacts as a registry: which version a reference means there, and what is none."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from following_support import until_true
from tests_support import EXAMPLE, registry_here

from carla_mlflow import open_artifact, write_artifact
from carla_mlflow.artifact.artifact import seal, sha256
from carla_mlflow.artifact.naming import is_artifact_folder, split_folder_reference
from carla_mlflow.errors import ArtifactError, IntegrityError, NotFoundError, RefusedError, UnreachableError
from registry.rules.pins import parse_pins
from registry.rules.reference import parse_reference
from registry.store.artifact_folder import ArtifactFolder, NotYetError
from registry.store.cache import fetch_to_cache

Put = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    return tmp_path / "policies"


@pytest.fixture
def put(folder: Path) -> Put:
    """Puts the example into the folder, as this version of this policy; returns its digest."""

    def put(subfolder: str, version: str, name: str = "mine", description: str = "") -> str:
        artifact = open_artifact(EXAMPLE)
        card = msgspec.structs.replace(artifact.card, name=name, version=version, description=description)
        files = {file: data for file, data in artifact.files.items() if file in card.files}
        return write_artifact(folder / subfolder, seal(card, files)).digest

    return put


def resolve(folder: Path | ArtifactFolder, selector: str, patience_s: float = 60.0) -> str:
    source = folder if isinstance(folder, ArtifactFolder) else ArtifactFolder(f"{folder}/", patience_s)
    return source.resolve(parse_reference(f"policies/@{selector}")).semver


@pytest.mark.parametrize(
    ("selector", "version"),
    [("^1", "1.10.0"), ("1.x", "1.10.0"), ("~1.2.0", "1.2.0"), ("1.2.0", "1.2.0"), (">=1,<3", "2.0.0"), ("*", "")],
)
def test_a_range_means_the_highest_version_in_it(folder: Path, put: Put, selector: str, version: str):
    for subfolder in ("mine-1.2.0", "v1.10.0", "mine-2.0.0", "v2.1.0-rc.1"):
        put(subfolder, subfolder.lstrip("vmine-"))
    (folder / "notes").mkdir()
    (folder / "v9").mkdir()
    (folder / ".mine-9.0.0.partial").mkdir()
    (folder / "mine-9.9.9").touch()  # no folder
    if version:
        assert resolve(folder, selector) == version
    else:
        with pytest.raises(RefusedError):
            resolve(folder, selector)


@pytest.mark.parametrize("selector", ["production", "staging", "latest"])
def test_a_stage_is_refused_with_the_versions_that_are_there(folder: Path, put: Put, selector: str):
    put("v1.0.0", "1.0.0")
    with pytest.raises(RefusedError, match=r"no stages and no aliases.* has 1\.0\.0"):
        resolve(folder, selector)


def test_what_is_not_there_is_said_with_what_is(folder: Path, put: Put, tmp_path: Path):
    with pytest.raises(NotFoundError, match="has no subfolder such as name-1"):
        resolve(folder, "^1")
    put("v1.0.0", "1.0.0")
    with pytest.raises(NotFoundError, match=r"there is no such range; .*policies/ has 1\.0\.0"):
        resolve(folder, "^2")
    with pytest.raises(NotFoundError, match="there is no such version"):
        resolve(folder, "1.0.1")
    with pytest.raises(UnreachableError, match="can't be read: No such file"):
        resolve(tmp_path / "nowhere", "^1")


@pytest.mark.parametrize("name", ["model.pt", "model_card.yaml", "golden.npz"])
def test_an_incomplete_subfolder_is_waited_for_as_long_as_it_changes(folder: Path, put: Put, name: str):
    put("v1.0.0", "1.0.0")
    put("v1.1.0", "1.1.0")
    file = folder / "v1.1.0" / name
    whole = file.read_bytes()
    for part in (None, b"", whole[: len(whole) // 2], whole[:-1] + b"?"):
        file.unlink(missing_ok=True)
        if part is not None:
            file.write_bytes(part)
        source = ArtifactFolder(f"{folder}/", 60.0)
        assert resolve(source, "^1") == "1.0.0"
        [unusable] = source.unusable
        assert (unusable.version, unusable.waits) == ("1.1.0", True)
        with pytest.raises(NotYetError, match=r"v1\.1\.0 is waited for: "):
            resolve(source, "1.1.0")
        file.write_bytes(whole)
        assert resolve(source, "^1") == "1.1.0"
        assert source.unusable == []


def test_one_that_changes_no_more_is_refused_until_it_changes_again(folder: Path, put: Put):
    put("v1.0.0", "1.0.0")
    put("v1.1.0", "1.1.0")
    graph = folder / "v1.1.0" / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1])
    source = ArtifactFolder(f"{folder}/", 0.0)
    assert resolve(source, "^1") == "1.0.0"
    assert [(each.waits, str(each).partition(" expected")[0]) for each in source.unusable] == [
        (False, "v1.1.0 is refused: model.onnx: its bytes differ from model_card.yaml:")
    ]
    graph.write_bytes(whole)
    assert resolve(source, "^1") == "1.1.0"


def test_an_unchanged_subfolder_is_read_once(folder: Path, put: Put):
    put("v1.0.0", "1.0.0")
    source = ArtifactFolder(f"{folder}/")
    reference = parse_reference("policies/@^1")
    assert source.resolve(reference) is source.resolve(reference)
    os.utime(folder / "v1.0.0" / "model.pt")
    again = source.resolve(reference)
    assert again is source.resolve(reference)


@pytest.mark.parametrize(
    ("subfolder", "version", "name", "reason"),
    [
        ("v1.1.0", "1.2.0", "mine", "its card says version 1.2.0"),
        ("mine-1.1.0", "1.2.0", "mine", "its card says version 1.2.0"),
        ("mine-1.1.0", "1.1.0", "other", "its card says that it is other"),
    ],
)
def test_a_card_that_is_not_its_subfolders_is_refused(
    folder: Path, put: Put, subfolder: str, version: str, name: str, reason: str
):
    put("mine-1.0.0", "1.0.0")
    put(subfolder, version, name)
    source = ArtifactFolder(f"{folder}/")
    assert resolve(source, "^1") == "1.0.0"
    assert [(each.waits, each.reason) for each in source.unusable] == [(False, reason)]


def test_two_subfolders_of_one_version_are_refused(folder: Path, put: Put):
    put("mine-1.0.0", "1.0.0")
    put("v1.0.0", "1.0.0", description="another")
    with pytest.raises(NotYetError, match=r"mine-1\.0\.0 and v1\.0\.0 are both version 1\.0\.0"):
        resolve(folder, "^1")


@pytest.mark.parametrize(("first", "second"), [("mine-1.0.0", "other-0.1.0"), ("v1.0.0", "v0.1.0")])
def test_two_policies_in_one_folder_are_refused(folder: Path, put: Put, first: str, second: str):
    put(first, "1.0.0")
    put(second, "0.1.0", "other")
    text = rf"more than one policy: mine \({first}\), other \({second}\)"
    with pytest.raises(NotYetError, match=text):
        resolve(folder, "^1")


def test_pins_say_what_may_drive(folder: Path, put: Put):
    one, two, three = (put(f"v1.{n}.0", f"1.{n}.0") for n in range(3))
    pins = folder / "PINS"
    source = ArtifactFolder(f"{folder}/")
    assert resolve(source, "^1") == "1.2.0"
    assert source.pins.lines is None
    pins.write_text(f"# released\n1.0.0 {one}   # the first\n\n1.1.0\t{two}\n")
    assert resolve(source, "^1") == "1.1.0"
    assert [each.reason for each in source.unusable] == ["PINS has no line for 1.2.0"]
    pins.write_text(f"1.0.0 {one}\n1.1.0 {three}\n")
    assert resolve(source, "^1") == "1.0.0"
    assert [each.reason for each in source.unusable][1] == f"it is {two}, but PINS says {three}"
    pins.write_text(f"1.2.0 {three}\n")
    assert resolve(source, "^1") == "1.2.0"
    with pytest.raises(NotYetError, match=r"PINS has no line for 1\.0\.0"):
        resolve(source, "1.0.0")
    pins.unlink()
    pins.symlink_to(folder / "v1.0.0" / "model_card.yaml")
    with pytest.raises(NotYetError, match="PINS: line 1: "):  # a link is followed, as every ConfigMap has one
        resolve(source, "^1")
    pins.unlink()
    pins.symlink_to(folder / "nowhere")
    with pytest.raises(NotYetError, match="PINS is a link to a file that is not there"):
        resolve(source, "^1")
    pins.unlink()
    with pytest.raises(NotYetError, match="PINS is gone; until it is back nothing new is taken"):
        resolve(source, "^1")
    os.mkfifo(pins)
    with pytest.raises(NotYetError, match="PINS can't be read: not a plain file"):
        resolve(source, "^1")


def test_the_word_that_is_no_pin_is_named_and_a_byte_order_mark_is_none(folder: Path, put: Put):
    digest = put("v1.0.0", "1.0.0")
    pins = folder / "PINS"
    pins.write_text(f"1.0.0 {digest}\n", encoding="utf-8-sig")
    assert resolve(folder, "^1") == "1.0.0"
    for line, said in (
        (f"v1.0.0 {digest}", "'v1.0.0' is no version"),
        (
            f"1.0.0 sha256:{digest[7:].upper()}",
            "is no digest: hex digits must be lower case; expected VERSION sha256:… with 64 hex",
        ),
        ("1.0.0 sha256:12", "'sha256:12' is no digest"),
    ):
        with pytest.raises(RefusedError, match=said):
            parse_pins(line)


def test_a_line_that_is_gone_holds_until_it_was_gone_for_a_while(folder: Path, put: Put):
    one, two = (put(f"v1.{n}.0", f"1.{n}.0") for n in range(2))
    pins, settle_s = folder / "PINS", 0.3
    pins.write_text(f"1.0.0 {one}\n1.1.0 {two}\n")
    source = ArtifactFolder(f"{folder}/", 60.0, settle_s)
    assert resolve(source, "^1") == "1.1.0"
    until_true(lambda: resolve(source, "^1") == "1.1.0" and not source.settles)
    pins.write_text(f"1.0.0 {one}\n")
    assert resolve(source, "^1") == "1.1.0"
    assert (source.settles, source.pins.revokes("1.1.0")) == (True, False)
    until_true(lambda: resolve(source, "^1") == "1.0.0")
    assert source.pins.revokes("1.1.0")


def test_a_card_that_is_still_being_written_is_no_version(folder: Path, put: Put, tmp_path: Path):
    whole = Path(put("v1.0.0", "1.0.0") and folder / "v1.0.0")
    put("v1.1.0", "1.1.0")
    card = folder / "v1.1.0" / "model_card.yaml"
    text = card.read_bytes()
    cut = next(size for size in range(len(text) - 1, 0, -1) if _is_card(folder / "v1.1.0", text[:size]))
    source = ArtifactFolder(f"{folder}/", 60.0, 0.5)
    source.knows([open_artifact(whole).digest])
    card.write_bytes(text[:cut])
    assert resolve(source, "^1") == "1.0.0"
    assert [(each.waits, each.settles) for each in source.unusable] == [(True, True)]
    card.write_bytes(text)
    found: list[str] = []
    until_true(lambda: found.append(resolve(source, "^1")) or found[-1] == "1.1.0")
    assert source.resolve(parse_reference("policies/@^1")).digest == sha256(text)


def _is_card(path: Path, text: bytes) -> bool:
    (path / "model_card.yaml").write_bytes(text)
    try:
        open_artifact(path)
    except ArtifactError:
        return False
    return True


def test_a_file_that_was_repaired_with_its_old_times_is_read_again(folder: Path, put: Put):
    put("v1.0.0", "1.0.0")
    model = folder / "v1.0.0" / "model.onnx"
    whole, times = model.read_bytes(), model.stat()
    model.write_bytes(b"?" * len(whole))
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
    source = ArtifactFolder(f"{folder}/", 0.0)
    with pytest.raises(NotYetError, match="its bytes differ"):
        resolve(source, "^1")
    model.write_bytes(whole)
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert resolve(source, "^1") == "1.0.0"


def test_a_stray_subfolder_is_reported_and_stops_nothing(folder: Path, put: Put):
    put("mine-1.0.0", "1.0.0")
    put("mine-old-1.0.0", "1.0.0")
    (folder / "backup-2.0.0").mkdir()
    source = ArtifactFolder(f"{folder}/", 0.0)
    assert resolve(source, ">=0") == "1.0.0"
    assert [str(each) for each in source.unusable] == [
        "backup-2.0.0 is refused: model_card.yaml: is missing, so 'backup-2.0.0' is no policy artifact: "
        "carla-export makes one",
        "mine-old-1.0.0 is refused: its card says that it is mine",
    ]


def test_a_large_file_is_not_held_in_memory(folder: Path, put: Put):
    put("v1.0.0", "1.0.0")
    with open(folder / "v1.0.0" / "model.onnx", "wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    with pytest.raises(NotYetError, match="its bytes differ"):
        resolve(folder, "^1")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_build_metadata_is_refused(folder: Path):
    (folder / "v1.0.0+b").mkdir()
    with pytest.raises(NotYetError, match="no order by build metadata"):
        resolve(folder, ">=0")


def test_no_error_of_a_copy_shows_a_path(folder: Path, put: Put, tmp_path: Path):
    put("v1.0.0", "1.0.0")
    source = ArtifactFolder(f"{folder}/")
    version = source.resolve(parse_reference("policies/@^1"))
    shutil.rmtree(folder / "v1.0.0")
    with pytest.raises(ArtifactError) as raised:
        source.fetch(version, tmp_path / "copy")
    assert str(raised.value) == "v1.0.0: there is no such folder"


@pytest.mark.parametrize(("selector", "meant"), [("*", ">=0"), ("v1.0.0", "1.0.0")])
def test_what_was_meant_is_said(selector: str, meant: str):
    with pytest.raises(RefusedError, match=f"write policies/@{meant}"):
        parse_reference(f"policies/@{selector}")


@pytest.mark.parametrize(
    "text",
    ["1.0.0", "1.0.0 sha256:12", "^1 sha256:" + "0" * 64, "1.0.0 sha256:" + "0" * 64 + " more", "\0"],
)
def test_a_line_that_is_no_pin_is_named(text: str):
    with pytest.raises(RefusedError, match=r"PINS: line 2: .*; expected VERSION sha256:… with 64 hex digits"):
        parse_pins(f"# all of them\n{text}\n")


def test_a_version_has_one_pin():
    line = f"1.0.0 sha256:{'0' * 64}\n"
    assert parse_pins(line + line) == {"1.0.0": f"sha256:{'0' * 64}"}
    with pytest.raises(RefusedError, match=r"line 2 pins 1\.0\.0 to another digest"):
        parse_pins(line + line.replace("0" * 64, "1" * 64))


def test_what_is_fetched_is_what_was_verified(folder: Path, put: Put, tmp_path: Path):
    digest = put("v1.0.0", "1.0.0")
    source = ArtifactFolder(f"{folder}/")
    version = source.resolve(parse_reference("policies/@^1"))
    graph = folder / "v1.0.0" / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + b"?")  # after it was resolved
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        fetch_to_cache(source, version, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.onnx"))
    graph.write_bytes(whole)
    assert fetch_to_cache(source, version, tmp_path / "cache").digest == digest
    shutil.rmtree(folder)
    assert fetch_to_cache(source, version, tmp_path / "cache").digest == digest  # it is in the cache


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("policies/@^1.2", ("policies/", "^1.2")),
        ("/opt/a@b/@1.x", ("/opt/a@b/", "1.x")),
        ("./@1.0.0", ("./", "1.0.0")),
        ("policies/@1.2/", None),
        ("policies@^1.2", None),
        ("models:/mine/@1", None),
        ("mine@production", None),
    ],
)
def test_the_form_alone_says_that_a_folder_of_artifacts_is_meant(text: str, parts: tuple[str, str] | None):
    assert split_folder_reference(text) == parts


def test_a_folder_that_is_called_like_a_reference_is_named_with_a_slash(tmp_path: Path):
    (tmp_path / "@1.2").mkdir()
    assert not is_artifact_folder(f"{tmp_path}/@1.2")
    assert is_artifact_folder(f"{tmp_path}/@1.2/")


def test_the_commands_take_a_version_in_a_folder(mlflow_home: Path, folder: Path, put: Put):
    digest = put("v1.0.0", "1.0.0")
    put("v1.1.0", "1.1.0")
    resolved = registry_here("resolve", f"{folder}/@1.0.x", "--json")
    assert msgspec.json.decode(resolved.out)["digest"] == digest
    assert registry_here("resolve", f"{folder}/@^1").out.endswith(f"({folder}/v1.1.0)\n")
    assert "patch" in registry_here("diff", f"{folder}/@1.0.0", f"{folder}/@^1").out
    assert registry_here("verify", f"{folder}/@^1").code == 0
    for command in (["promote", f"{folder}/@^1", "--to", "production"], ["archive", f"{folder}/@1.0.0"]):
        done = registry_here(*command)
        assert (done.code, "has no stages and no history" in done.err) == (1, True)
