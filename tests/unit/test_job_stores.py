"""Stores: one conformance suite over all of them."""

import errno
import os
import threading
from pathlib import Path

import obstore
import pytest

from tritonbulk.errors import OptionError, OutputError, SinkError
from tritonbulk.job.protocol import Put
from tritonbulk.job.stores import local
from tritonbulk.job.stores.base import UnsureError
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.job.stores.object import ObjectStore
from tritonbulk.job.stores.opening import open_store
from tritonbulk.testing import MemoryStore


@pytest.fixture(
    params=[
        "local",
        "local-without-links",
        "local-single-writer",
        "memory",
        "s3",
        "s3-single-writer",
    ]
)
def store(request, tmp_path, monkeypatch):
    if request.param == "memory":
        return MemoryStore()
    if request.param.startswith("s3"):
        bucket = request.getfixturevalue("bucket")
        return ObjectStore(f"{bucket}/a/b", is_single_writer="single" in request.param)
    if request.param != "local":
        monkeypatch.setattr(Path, "hardlink_to", refuse_links)
    if request.param == "local-single-writer":
        monkeypatch.setattr(local, "rename_without_replace", refuse_renames)
    return LocalStore(tmp_path / "deep" / "out", "single" in request.param)


def refuse_links(*_):
    raise OSError(errno.EPERM, "Operation not permitted")


def refuse_renames(*_):
    raise OSError(errno.EINVAL, "Invalid argument")


def test_an_object_appears_whole_and_is_never_replaced(store):
    store.prepare()
    assert store.read("part") is None
    assert store.create("part", b"first" * 1000) is Put.CREATED
    assert store.create("part", b"second") is Put.EXISTS
    assert store.read("part") == b"first" * 1000
    assert store.create("_tritonbulk/runs/x", b"") is Put.CREATED
    assert store.read("_tritonbulk/runs/x") == b""


def test_names_are_those_directly_in_a_folder(store):
    store.prepare()
    assert store.names("") == store.names("_tritonbulk/runs") == []
    for name in ("b", "a", "_tritonbulk/job.json", "_tritonbulk/runs/1"):
        store.create(name, b"x")
    assert store.names("") == ["a", "b"]
    assert store.names("_tritonbulk") == ["job.json"]
    assert store.names("_tritonbulk/runs") == ["1"]


def test_of_many_writers_one_wins_and_all_see_its_bytes(store):
    if getattr(store, "_single_writer", False) or getattr(store, "is_single_writer", False):
        pytest.skip("a single writer has no rivals")
    store.prepare()
    outcomes = []

    def write(index):
        outcomes.append(store.create("part", b"%d" % index * 100_000))

    writers = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    # Where the store answers 409 to a rival, that rival has to look.
    assert outcomes.count(Put.CREATED) == 1
    stands = store.read("part")
    assert len(set(stands)) == 1
    assert len(stands) == 100_000


def test_what_is_set_aside_leaves_its_name_free(store):
    store.prepare()
    store.create("part", b"damaged")
    for _ in range(2):
        store.set_aside("part", "_tritonbulk/damaged/part", b"damaged")
    assert store.read("_tritonbulk/damaged/part") == b"damaged"
    assert store.create("part", b"whole") is Put.CREATED
    assert store.create("part", b"other") is Put.EXISTS
    assert store.read("part") == b"whole"


def test_what_another_run_has_put_in_its_place_is_not_set_aside(store):
    store.prepare()
    store.create("part", b"whole")
    store.set_aside("part", "_tritonbulk/damaged/part", b"damaged")
    store.set_aside("gone", "_tritonbulk/damaged/gone", b"damaged")
    assert store.read("part") == b"whole"
    assert store.names("_tritonbulk/damaged") == []
    assert store.create("part", b"other") is Put.EXISTS


def test_what_another_run_puts_there_at_the_last_moment_stays(store, monkeypatch):
    if getattr(store, "_single_writer", False) or getattr(store, "is_single_writer", False):
        pytest.skip("a single writer has no rivals")
    store.prepare()
    store.create("part", b"damaged")
    if isinstance(store, LocalStore):
        read_bytes = Path.read_bytes

        def replaced(path):
            found = read_bytes(path)
            if path.name == "part":
                path.unlink()
                path.write_bytes(b"whole")
            return found

        monkeypatch.setattr(Path, "read_bytes", replaced)
        store.set_aside("part", "_tritonbulk/damaged/part", b"damaged")
        monkeypatch.undo()
    else:
        store.set_aside("part", "_tritonbulk/damaged/part", b"damaged")
        if isinstance(store, ObjectStore):
            store._obstore.put(store._store, "part", b"whole")
        else:
            store.objects["part"] = b"whole"
    assert store.create("part", b"mine") is Put.EXISTS
    assert store.read("part") == b"whole"


def test_nothing_is_left_behind(store):
    store.prepare()
    store.create("part", b"x")
    store.create("part", b"y")
    store.tidy()
    assert store.names("_tritonbulk") == store.names("_tritonbulk/tmp") == []


# Local folders


def test_a_full_disk_is_a_sentence_and_leaves_no_part(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.prepare()
    for number, words in ((errno.ENOSPC, "the disk is full"), (errno.EIO, "Input/output error")):
        code = number

        def fail(_handle, code=code):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(local.os, "fsync", fail)
        with pytest.raises(SinkError, match=words):
            store.create("part", b"x")
        monkeypatch.undo()
    assert store.names("") == store.names("_tritonbulk/tmp") == []
    assert store.create("part", b"x") is Put.CREATED


def test_short_writes_are_gone_on_with(tmp_path):
    class Stingy:
        got = b""

        def write(self, data):
            self.got += bytes(data[:3])
            return min(3, len(data))

    file = Stingy()
    local._write_all(file, b"0123456789")
    assert file.got == b"0123456789"


def test_a_part_is_synced_before_it_is_seen_and_its_folder_after(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.prepare()
    calls = []
    fsync, link = os.fsync, Path.hardlink_to

    def spy_sync(handle):
        calls.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().parent.name))
        fsync(handle)

    def spy_link(path, target):
        calls.append(("link", path.name))
        link(path, target)

    monkeypatch.setattr(local.os, "fsync", spy_sync)
    monkeypatch.setattr(Path, "hardlink_to", spy_link)
    store.create("part", b"x")
    assert calls == [("sync", "tmp"), ("link", "part"), ("sync", tmp_path.parent.name)]


def test_folders_that_a_killed_run_has_made_are_synced(tmp_path, monkeypatch):
    (tmp_path / "a" / "out" / "_tritonbulk").mkdir(parents=True)
    synced, fsync = set(), os.fsync

    def spy(handle):
        synced.add(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr(local.os, "fsync", spy)
    LocalStore(tmp_path / "a" / "out").prepare()
    out = tmp_path / "a" / "out"
    assert {out / "_tritonbulk", out, out.parent, tmp_path} <= synced


def test_a_run_whose_scratch_folder_was_tidied_away_has_to_look(tmp_path, monkeypatch):
    store, make_folder = LocalStore(tmp_path), local.make_folder
    store.prepare()

    def make_and_lose(folder):
        make_folder(folder)
        store.tidy()

    monkeypatch.setattr(local, "make_folder", make_and_lose)
    assert store.create("part", b"x") is Put.UNKNOWN
    monkeypatch.undo()
    assert store.create("part", b"x") is Put.CREATED


def test_a_run_whose_scratch_file_was_tidied_away_has_to_look(tmp_path, monkeypatch):
    store, link = LocalStore(tmp_path), Path.hardlink_to
    store.prepare()

    def vanish(path, target):
        Path(target).unlink()
        link(path, target)

    monkeypatch.setattr(Path, "hardlink_to", vanish)
    assert store.create("part", b"x") is Put.UNKNOWN


def test_a_file_is_no_output_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        LocalStore(tmp_path / "out").prepare()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc")
def test_a_place_where_nothing_can_be_made_is_told_in_words():
    with pytest.raises(SinkError, match=r"^writing /proc/x failed: no file can be made there; ch"):
        LocalStore(Path("/proc/x")).prepare()


def test_a_file_system_without_links_and_exclusive_renames_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", refuse_links)
    LocalStore(tmp_path / "a").prepare()
    monkeypatch.setattr(local, "rename_without_replace", refuse_renames)
    with pytest.raises(OptionError, match=r"file system of .*b cannot.*--single-writer"):
        LocalStore(tmp_path / "b").prepare()
    assert list((tmp_path / "b" / "_tritonbulk" / "tmp").iterdir()) == []
    monkeypatch.setattr(local, "rename_without_replace", lambda old, new: old.replace(new))
    with pytest.raises(OptionError, match="--single-writer"):
        LocalStore(tmp_path / "c").prepare()


# Object stores


def test_the_deadline_of_a_put_grows_with_its_size(bucket):
    store, given = ObjectStore(f"{bucket}/x"), []
    make = store._from_url

    def spy(uri, **options):
        given.append(options["client_options"]["timeout"].total_seconds())
        return make(uri, **options)

    store._from_url = spy
    for size in (0, 2**20, 2**20 + 1, 100 * 2**20, 128 * 2**20):
        store._writer(size)
    assert given == [61.0, 62.0, 188.0]


def test_a_store_that_replaces_is_found_out(bucket, monkeypatch):
    store = ObjectStore(f"{bucket}/x")
    put = store._obstore.put

    class Careless:
        def __getattr__(self, name):
            return getattr(real, name)

        def put(self, *given, **options):
            return put(*given, **{**options, "mode": "overwrite"})

    real, store._obstore = store._obstore, Careless()
    with pytest.raises(OptionError, match="--single-writer"):
        store.prepare()


def test_a_probe_whose_first_put_meets_a_conflict_says_that_a_retry_may_help(bucket):
    store = ObjectStore(f"{bucket}/x")
    put, puts = store._obstore.put, []

    class Conflicting:
        def __getattr__(self, name):
            return getattr(real, name)

        def put(self, *given, **options):
            puts.append(given)
            if len(puts) == 1:
                raise real.exceptions.AlreadyExistsError("409 Conflict")
            return put(*given, **options)

    real, store._obstore = store._obstore, Conflicting()
    with pytest.raises(UnsureError, match="check the store"):
        store.prepare()
    store.prepare()
    assert len(puts) == 4


def test_a_probe_whose_first_reply_was_lost_holds(bucket):
    store = ObjectStore(f"{bucket}/x")
    put, puts = store._obstore.put, []

    class Losing:
        def __getattr__(self, name):
            return getattr(real, name)

        def put(self, *given, **options):
            puts.append(given)
            if len(puts) == 1:
                # As the library's own repetition after a lost reply does.
                put(*given, **options)
            return put(*given, **options)

    real, store._obstore = store._obstore, Losing()
    store.prepare()
    assert len(puts) == 2


def test_a_missing_bucket_and_a_dead_store_are_sentences_without_secrets(bucket, monkeypatch):
    for ask in (lambda store: store.prepare(), lambda store: store.sizes("")):
        with pytest.raises(SinkError, match="bucket of s3://no-such-bucket/x does not") as missing:
            ask(ObjectStore("s3://no-such-bucket/x"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("tritonbulk.job.stores.object.RETRIES", 0)
    dead = ObjectStore("s3://user:canary-secret@bucket/x?token=canary-secret")
    with pytest.raises(UnsureError, match="check the store") as gone:
        dead.prepare()
    assert dead.create("part", b"x") is Put.UNKNOWN
    for error in (missing, gone):
        assert "canary" not in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def test_an_output_is_a_folder_or_a_uri():
    assert isinstance(open_store("scored"), LocalStore)
    with pytest.raises(OptionError, match="no place that can be written to"):
        open_store("nonsense://a/b")
    for uri in ("http://host/x", "file:///tmp/x"):
        with pytest.raises(OptionError, match=f"output {uri} is no place .* give a folder, or a"):
            open_store(uri)


def test_missing_credentials_are_named_by_their_variables(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(OptionError, match="set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACC"):
        open_store("az://container/x")
    store = open_store("gs://bucket/x")

    def refuse(*_):
        raise obstore.exceptions.GenericError("Error performing token request: GET http://…")

    monkeypatch.setattr(obstore, "list_with_delimiter", refuse)
    with pytest.raises(UnsureError, match=r"no credentials were found.*set GOOGLE_APPLICATION"):
        store.sizes("")
