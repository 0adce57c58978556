"""Rows that travel between tasks: cut into blobs in few bytes, joined again as they were."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flowlog_udfs.columns import joined, shared_codes, text_hashes, texts, without_placeholders
from flowlog_udfs.exchange import _inputs, blobs
from flowlog_udfs.sorting import sort_by

TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [("name", TEXT), ("nothing", TEXT), ("count", pa.int64()), ("port", pa.int32()), ("seen", pa.bool_()), ("hash", pa.uint64())]
)
ROW = st.fixed_dictionaries(
    {
        "name": st.sampled_from((None, "a", "b", "eni-1")),
        "nothing": st.none(),
        "count": st.one_of(st.none(), st.integers(-(1 << 62), 1 << 62), st.integers(-200, 200)),
        "port": st.integers(0, 65535),
        "seen": st.booleans(),
        "hash": st.integers(0, (1 << 64) - 1),
    }
)


def table_of(rows):
    plain = pa.schema([(f.name, pa.string() if f.type == TEXT else f.type) for f in SCHEMA])
    return pa.Table.from_pylist(rows, plain).cast(SCHEMA)


@given(st.lists(st.lists(ROW, min_size=1, max_size=8), min_size=1, max_size=3), st.integers(1, 4))
def test_rows_arrive_as_they_left(batches, partitions):
    sent: list[pa.RecordBatch] = []
    for rows in batches:
        table = table_of(rows)
        sent += blobs("rows", table, table.column("hash").to_numpy(), partitions)
    arrived = []
    for partition in {batch.column(0)[0].as_py() for batch in sent}:
        group = pa.Table.from_batches([batch for batch in sent if batch.column(0)[0].as_py() == partition])
        table = _inputs(group)["rows"]
        table.validate(full=True)
        arrived += table.to_pylist()
    left = [{name: row[name] for name in SCHEMA.names} for rows in batches for row in rows]
    assert sorted(map(repr, arrived)) == sorted(map(repr, left))


def indices_in_memory(column: pa.DictionaryArray) -> list[int]:
    """The indices as they lie in memory, those of nulls too."""
    values = np.frombuffer(column.indices.buffers()[1], column.indices.type.to_pandas_dtype())
    return values[column.offset : column.offset + len(column)].tolist()


def test_the_index_of_a_null_is_that_of_a_word():
    # Joining dictionaries looks every index up; one that is no word's makes Arrow read beyond the table.
    for codes, words in (([-1, 1, 0], ["x", "y"]), ([-1, -1], []), ([], [])):
        column = texts(np.array(codes, np.int64), pa.array(words, pa.string()))
        assert all(0 <= index < len(column.dictionary) for index in indices_in_memory(column))
    empty = pa.table({"name": pa.nulls(2, TEXT)})
    found = joined([empty, pa.table({"name": pa.array(["a", None]).cast(TEXT)}), empty]).column("name").chunk(0)
    assert found.to_pylist() == [None, None, "a", None, None, None]
    assert all(0 <= index < len(found.dictionary) for index in indices_in_memory(found))
    (one, other), words = shared_codes(pa.nulls(2, TEXT), pa.array(["a", None]))
    assert (one.tolist(), [words[code].as_py() if code >= 0 else None for code in other]) == ([-1, -1], ["a", None])


def test_no_placeholder_goes_to_a_file():
    # A word in use stays, be it the placeholder's.
    columns = [
        texts(np.array(codes), pa.array(words, pa.string()))
        for codes, words in (([-1, -1], []), ([1, -1], ["::", "b"]), ([0, 1], ["::", "b"]))
    ]
    found = without_placeholders(pa.table(columns, names=["none", "unused", "used"]))
    assert found.to_pylist() == [{"none": None, "unused": "b", "used": "::"}, {"none": None, "unused": None, "used": "b"}]
    assert [found.column(name).chunk(0).dictionary.to_pylist() for name in found.column_names] == [[], ["b"], ["::", "b"]]


@given(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.integers(-(1 << 62), 1 << 62), st.booleans(), st.integers(0, 3)), max_size=30))
def test_packed_keys_sort_like_the_keys(rows):
    kinds = (np.uint64, np.int64, bool, np.int32)
    keys = [np.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)]
    assert sort_by(*keys).tolist() == sorted(range(len(rows)), key=lambda place: rows[place])


@given(st.lists(st.text(max_size=5), max_size=20))
def test_texts_hash_by_what_they_say(words):
    column = pa.array(["", *words, "zz"], pa.string())
    hashes = text_hashes(column)
    assert len(set(hashes.tolist())) == len(set(column.to_pylist()))
    assert text_hashes(column.slice(1)).tolist() == hashes[1:].tolist()
