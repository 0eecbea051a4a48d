"""Packed records are like a list of records, but for what is changed in them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.data.memory.packed_records import PackedRecords, packed

RECORDS = st.lists(
    st.dictionaries(st.text(max_size=5), st.integers() | st.lists(st.floats(allow_nan=False), max_size=4), max_size=4),
    max_size=6,
)


@given(RECORDS, st.data())
def test_they_are_read_like_a_list(records, data):
    found = PackedRecords(records)
    assert len(found) == len(records) and bool(found) == bool(records)
    assert list(found) == records and list(pickle.loads(pickle.dumps(found))) == records
    for place in range(-len(records), len(records)):
        assert found[place] == records[place]
    chosen = data.draw(st.slices(len(records)))
    assert found[chosen] == records[chosen]
    with pytest.raises(IndexError):
        found[len(records)]
    order = data.draw(st.lists(st.integers(0, len(records) - 1), max_size=9)) if records else []
    assert list(found.in_order(order)) == [records[place] for place in order]


def test_a_record_that_is_changed_changes_nothing():
    found = PackedRecords([{"annotations": []}])
    found[0]["annotations"].append(1)
    assert found[0] == {"annotations": []}
    assert packed(found) is found and list(packed([{"a": 1}])) == [{"a": 1}]
