"""What a job's objects hold, and what is decided from them: pure."""

import contextlib
import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.errors import DamagedError, OutputError
from tritonbulk.job.fingerprint import canonical_json, difference, fingerprint
from tritonbulk.job.manifest import StoredPart, make_manifest, read_manifest
from tritonbulk.job.protocol import (
    Standing,
    StandingJob,
    Start,
    check_server,
    follows,
    inputs_to_score,
    start,
)
from tritonbulk.job.spec import InputIdentity, JobFile, JobSpec, ModelIdentity, read_job
from tritonbulk.job.statement import PartStatement, part_name, part_number, read_part, seal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
A = InputIdentity("a", 10, rows=250, mtime_ns=1, sha256_ends="aa")
B = InputIdentity("b", 20, rows=100, mtime_ns=2, sha256_ends="bb")
SPEC = JobSpec(
    inputs=(A, B),
    input_format="parquet",
    columns=(("x", "float"),),
    where=None,
    limit_rows=None,
    segment_rows=100,
    batch_rows=32,
    model=ModelIdentity("m", "1", "sha256:1", "sha256:2"),
    tensors={"inputs": [{"name": "x", "columns": [{"name": "x"}]}], "outputs": []},
    output=(("x", "float"), ("y", "float")),
    encoding="parquet-1",
    vectors="list",
)


def job_file(spec=SPEC):
    return JobFile(spec.to_plain(), spec.fingerprint, "0.1.0")


def statements(spec=SPEC, runs=((0, 0, 100), (0, 100, 200), (0, 200, 250), (1, 0, 100))):
    return [
        PartStatement(spec.fingerprint, index, *run, run[2] - run[1], 0, 0)
        for index, run in enumerate(runs, spec.segment_begin)
    ]


def finished(spec=SPEC, runs=((0, 0, 100), (0, 100, 200), (0, 200, 250), (1, 0, 100))):
    parts = [StoredPart("p", each, 7, "d" * 64) for each in statements(spec, runs)]
    return StandingJob(job_file(spec), make_manifest(job_file(spec), parts), "m" * 64)


def standing(*jobs, parts=()):
    return Standing("out", jobs, dict.fromkeys(parts, 7))


@given(JSON, JSON)
def test_values_differ_somewhere_unless_their_canonical_json_is_the_same(one, other):
    same = canonical_json(one) == canonical_json(other)
    assert (difference(one, other) == ()) == same
    assert (fingerprint(one) == fingerprint(other)) == same


def test_a_difference_names_the_place_and_both_values():
    found = difference({"a": [{"b": 1}], "c": 2}, {"a": [{"b": 3}, 4], "d": "x" * 99})
    assert found[:3] == ("a[0].b 1 → 3", "a[1] (absent) → 4", "c 2 → (absent)")
    assert found[3].startswith('d (absent) → "xxx')
    assert len(found[3]) < 90


MUTATIONS = {
    "inputs[a].size 10 → 11": {"inputs": (replace(A, size=11), B)},
    "inputs[a].mtime_ns": {"inputs": (replace(A, mtime_ns=5), B)},
    "inputs[a].sha256_ends": {"inputs": (replace(A, sha256_ends="ab"), B)},
    "inputs[a].etag": {"inputs": (replace(A, etag="e"), B)},
    "inputs[a].sha256 ": {"inputs": (replace(A, sha256="e"), B)},
    "inputs in another order": {"inputs": (B, A)},
    "inputs[a].rows": {"inputs": (replace(A, rows=251), B)},
    "inputs[b] removed": {"inputs": (A,)},
    "input_format": {"input_format": "csv"},
    "columns[x][1]": {"columns": (("x", "double"),)},
    "columns[z] added": {"columns": (("x", "float"), ("z", "float"))},
    "where": {"where": "x > 1"},
    "limit_rows": {"limit_rows": 5},
    "segment_rows 100 → 50": {"segment_rows": 50},
    "batch_rows": {"batch_rows": 16},
    "model.name": {"model": replace(SPEC.model, name="n")},
    "model.version": {"model": replace(SPEC.model, version="2")},
    "model.digest": {"model": replace(SPEC.model, digest="")},
    "model.config_digest": {"model": replace(SPEC.model, config_digest="")},
    "tensors.inputs[x].columns[q] added": {
        "tensors": {"inputs": [{"name": "x", "columns": [{"name": "q"}]}], "outputs": []}
    },
    "tensors.outputs[y] added": {"tensors": {**SPEC.tensors, "outputs": [{"name": "y"}]}},
    "output[score] added": {"output": (("x", "float"), ("score", "float"))},
    "output[x] removed": {"output": (("y", "float"),)},
    "encoding": {"encoding": "arrow-1"},
    "vectors": {"vectors": "binary"},
    "nan": {"nan": "fail"},
    "format_version": {"format_version": 2},
}


@pytest.mark.parametrize("place", MUTATIONS)
@pytest.mark.parametrize("is_finished", [False, True])
def test_anything_that_changes_values_is_refused_by_name(place, is_finished):
    begun = finished() if is_finished else StandingJob(job_file(), None)
    assert start(standing(begun), SPEC, is_fresh=False) is not Start.CREATE
    with pytest.raises(OutputError) as refused:
        start(standing(begun), replace(SPEC, **MUTATIONS[place]), is_fresh=False)
    assert place in str(refused.value)


def test_a_run_creates_continues_or_finds_its_job_finished():
    assert start(standing(), SPEC, is_fresh=False) is Start.CREATE
    assert start(standing(), SPEC, is_fresh=True) is Start.CREATE
    assert start(standing(StandingJob(job_file(), None)), SPEC, is_fresh=False) is Start.CONTINUE
    assert start(standing(finished()), SPEC, is_fresh=False) is Start.FINISHED
    for occupied in (standing(finished()), standing(parts=["part-00000000.parquet"])):
        with pytest.raises(
            OutputError, match=r"--fresh wants an empty output.*nothing was deleted"
        ):
            start(occupied, SPEC, is_fresh=True)
    with pytest.raises(OutputError, match="parts but no job"):
        start(standing(parts=["part-00000000.parquet"]), SPEC, is_fresh=False)
    with pytest.raises(OutputError, match="add --only-new"):
        start(
            standing(
                finished(replace(SPEC, inputs=(A,)), ((0, 0, 100), (0, 100, 200), (0, 200, 250)))
            ),
            SPEC,
            is_fresh=False,
        )


# Increments


def test_only_new_takes_the_files_that_no_job_holds():
    first = finished(replace(SPEC, inputs=(A,)), ((0, 0, 100), (0, 100, 200), (0, 200, 250)))
    assert inputs_to_score(standing(), (A, B)) == ((A, B), None)
    assert inputs_to_score(standing(first), (A, B)) == ((B,), follows(first))
    assert inputs_to_score(standing(first), (A,)) == ((), follows(first))
    with pytest.raises(OutputError, match=r"a has changed.*mtime_ns 1 → 9"):
        inputs_to_score(standing(first), (replace(A, mtime_ns=9), B))
    a = replace(A, name="/in/a b", mtime_ns=3_000_000_007)
    local = finished(replace(SPEC, inputs=(a,)), ((0, 0, 100), (0, 100, 200), (0, 200, 250)))
    with pytest.raises(OutputError, match=r"touch -d @3\.000000007 '/in/a b'"):
        inputs_to_score(standing(local), (replace(a, mtime_ns=9), B))
    with pytest.raises(OutputError, match="touch -d"):
        start(standing(local), replace(SPEC, inputs=(replace(a, mtime_ns=9),)), is_fresh=False)
    with pytest.raises(OutputError) as refused:
        inputs_to_score(standing(local), (replace(a, mtime_ns=9, size=11), B))
    assert "touch" not in str(refused.value)
    second = replace(SPEC, inputs=(B,), follows=follows(first))
    assert second.segment_begin == 3
    assert start(standing(first), second, is_fresh=False) is Start.CREATE
    begun = StandingJob(job_file(second), None)
    # A file that arrived since belongs to the next increment.
    c = replace(B, name="c")
    assert inputs_to_score(standing(first, begun), (A, B, c)) == ((B,), follows(first))
    assert start(standing(first, begun), second, is_fresh=False) is Start.CONTINUE
    with pytest.raises(OutputError, match="none of its 1 inputs is among those given"):
        inputs_to_score(standing(first, begun), (A,))
    done = finished(second, ((0, 0, 100),))
    assert done.manifest.segment_end == 4
    assert inputs_to_score(standing(first, done), (A, B, c)) == ((c,), follows(done))
    with pytest.raises(OutputError, match="add --only-new to go on"):
        start(standing(first, done), SPEC, is_fresh=False)
    with pytest.raises(OutputError, match="differs in nan"):
        start(standing(first, done), replace(SPEC, nan="fail"), is_fresh=False)
    changed = replace(second, model=replace(SPEC.model, version="2"))
    with pytest.raises(OutputError, match=r"model.version"):
        start(standing(first), changed, is_fresh=False)


# Bytes


def flips(data):
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            yield bytes(damaged)


def test_a_flipped_bit_anywhere_in_a_part_is_found():
    wanted = statements()[1]
    whole, sha256 = seal(b"PAR1 rows rows" + wanted.to_text().encode() + b"footer PAR1")
    assert sha256 == hashlib.sha256(whole).hexdigest()
    assert read_part(whole) == wanted
    missed = 0
    for damaged in flips(whole):
        try:
            read_part(damaged)
            missed += 1
        except DamagedError:
            pass
    assert missed == 0


def test_rows_that_look_like_a_statement_do_not_deceive():
    wanted = statements()[1]
    bait = statements()[2].to_text().encode()
    assert read_part(seal(bait + wanted.to_text().encode() + b"PAR1")[0]) == wanted
    strange = wanted.to_text().replace('"rows":', '"lines":')
    for other in (b"PAR1", seal(strange.encode())[0]):
        with pytest.raises(DamagedError, match="no statement"):
            read_part(other)


def test_a_flipped_bit_anywhere_in_a_manifest_or_a_fingerprinted_spec_is_found():
    manifest = finished().manifest
    data = manifest.to_bytes()
    assert read_manifest(data, "out/manifest.json").to_bytes() == data
    for damaged in flips(data):
        with pytest.raises((DamagedError, OutputError)):
            read_manifest(damaged, "out/manifest.json")
    file = job_file()
    assert read_job(file.to_bytes(), "out/job.json") == file
    spec_begin = file.to_bytes().index(b'"spec"') + 8
    for position, damaged in enumerate(flips(file.to_bytes())):
        if position // 8 > spec_begin:
            with contextlib.suppress(DamagedError, OutputError):
                assert read_job(damaged, "out/job.json") == file, "only space may differ"


def test_a_job_of_another_format_names_the_release_that_can_finish_it():
    plain = {**json.loads(job_file().to_bytes()), "format_version": 7, "release": "9.1"}
    with pytest.raises(OutputError, match=r"begun by tritonbulk 9\.1 in format 7.*finish it with"):
        read_job(json.dumps(plain).encode(), "out/job.json")


@pytest.mark.parametrize(
    "runs",
    [
        (),
        ((0, 0, 100), (0, 100, 200), (0, 200, 250)),
        ((0, 0, 100), (0, 200, 250), (1, 0, 100)),
        ((0, 0, 100), (0, 100, 200), (0, 200, 240), (1, 0, 100)),
        ((0, 0, 100), (0, 100, 200), (0, 200, 250), (1, 0, 100), (1, 100, 101)),
        ((1, 0, 100), (0, 0, 100), (0, 100, 200), (0, 200, 250)),
        ((0, 0, 100), (0, 100, 200), (0, 200, 250), (1, 10, 100)),
    ],
)
def test_parts_that_do_not_tile_the_inputs_make_no_manifest(runs):
    parts = [StoredPart("p", each, 7, "d" * 64) for each in statements(runs=runs)]
    with pytest.raises(DamagedError):
        make_manifest(job_file(), parts)


def test_a_limit_ends_the_tiling():
    spec = replace(SPEC, limit_rows=120)
    runs = ((0, 0, 100), (0, 100, 120))
    made = make_manifest(
        job_file(spec), [StoredPart("p", s, 7, "") for s in statements(spec, runs)]
    )
    assert (made.rows, made.segment_end) == (120, 2)


def test_part_names_are_numbers_that_sort():
    assert part_name(42, "parquet") == "part-00000042.parquet"
    assert part_number("part-00000042.parquet") == 42
    assert part_number("part-123456789.parquet") == 123456789
    assert part_number("part-42.parquet") is part_number("x-part-00000042.parquet") is None


def test_a_refusal_tells_what_the_user_changed_before_what_follows_from_it():
    other = replace(SPEC, columns=(("a", "float"), ("x", "float")), where="a > 1", inputs=(B, A))
    with pytest.raises(OutputError) as refused:
        start(standing(StandingJob(job_file(), None)), other, is_fresh=False)
    words = 'differs in inputs in another order; where null → "a > 1" (--where); run with'
    assert words in str(refused.value)
    wide = replace(SPEC, output=tuple((name, "float") for name in "abcdefgh"), limit_rows=7)
    with pytest.raises(OutputError) as refused:
        start(standing(StandingJob(job_file(wide), None)), SPEC, is_fresh=False)
    assert (
        "limit_rows 7 → null (--limit); output[x, y] added; "
        "output[a, b, c, d, e, and 3 more] removed (--keep, --rename); run"
    ) in str(refused.value)


def test_a_job_goes_on_with_the_kind_of_server_that_it_was_begun_with():
    embedded = replace(SPEC, model=replace(SPEC.model, files_digest="sha256:1"))
    check_server(standing(), is_embedded=True)
    for spec, is_embedded, told in (
        (embedded, False, "begun with the embedded server.*leave --endpoint out"),
        (SPEC, True, "begun with servers at --endpoint.*give --endpoint again"),
    ):
        check_server(standing(StandingJob(job_file(spec), None)), is_embedded=not is_embedded)
        with pytest.raises(OutputError, match=told):
            check_server(standing(StandingJob(job_file(spec), None)), is_embedded=is_embedded)


def test_a_job_file_or_manifest_that_is_no_json_is_told_in_words():
    for read in (read_job, read_manifest):
        for data in (b"{", b"\xff", b"[]", b"{}"):
            with pytest.raises(DamagedError, match=r"x is damaged \(it is no .*copy, or"):
                read(data, "x")
