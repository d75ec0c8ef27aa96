"""Columns of structured arrays, mappings, pandas and Arrow."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy
import pandas
import pyarrow
import pytest

from handshakes.errors import ConfigurationError, ValueNotSupported
from pynetwork.series.tables import columns_of, frame_of, table_of

NESTED = numpy.arange(8, dtype="i2").reshape(2, 2, 2)
COLUMNS = {
    "number": numpy.array([1, 2]),
    "foreign": numpy.array([1, 2], ">f4"),
    "truth": numpy.array([True, False]),
    "text": numpy.array(["a", "é"]),
    "bytes": numpy.array([b"a", b"bc"]),
    "raw": numpy.array([b"a\0", b"bc"], "V2"),
    "time": numpy.array([0, 1], "M8[ns]"),
    "day": numpy.array([0, 1], "M8[s]"),
    "nested": NESTED,
    "objects": numpy.array([b"x", b"yz"], object),
}


def listed(columns: Any) -> dict[str, Any]:
    return {name: column.tolist() for name, column in columns.items()}


EXPECTED = {**listed(COLUMNS), "time": [0, 1], "day": [0, 10**9]}


@pytest.mark.parametrize("make", [frame_of, table_of])
def test_columns_come_back(make: Any) -> None:
    found = columns_of(make(COLUMNS))
    assert found is not None
    assert list(found) == list(COLUMNS)
    assert found["day"].dtype == "M8[s]"
    found["day"] = found["day"].astype("M8[ns]")
    found["nested"] = numpy.array([numpy.asarray(each).tolist() for each in found["nested"]])
    assert listed(found) == EXPECTED


@pytest.mark.parametrize("make", [frame_of, table_of])
def test_no_rows_and_no_columns(make: Any) -> None:
    found = columns_of(make({name: column[:0] for name, column in COLUMNS.items()}))
    assert found is not None
    assert {name: len(column) for name, column in found.items()} == dict.fromkeys(COLUMNS, 0)
    assert columns_of(make({})) == {}


def test_structured_arrays_and_mappings() -> None:
    array = numpy.array([(1, 2.0)], "i4,f8")
    assert listed(columns_of(array)) == {"f0": [1], "f1": [2.0]}
    assert listed(columns_of(numpy.rec.array(array))) == {"f0": [1], "f1": [2.0]}
    assert listed(columns_of({"a": [1, 2], "b": (3.0, 4.0)})) == {"a": [1, 2], "b": [3.0, 4.0]}
    assert columns_of([1]) is None
    assert columns_of("text") is None
    assert columns_of(pandas.Series([1])) is None


def test_a_batch_is_as_good_as_a_table() -> None:
    (batch,) = table_of(COLUMNS).to_batches()
    found, expected = columns_of(batch), columns_of(table_of(COLUMNS))
    assert found is not None
    assert expected is not None
    assert listed(found) == listed(expected)
    halves = pyarrow.concat_tables([table_of(COLUMNS).slice(0, 1), table_of(COLUMNS).slice(1, 1)])
    assert listed(columns_of(halves)) == listed(expected)


@pytest.mark.parametrize(
    "table",
    [
        pandas.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pandas.DataFrame({"a": [1, 2], "b": pandas.array([1, None], "Int64")}),
        pandas.DataFrame({"b": pandas.to_datetime(["2020-01-01", None])}),
        pyarrow.table({"a": [1, 2], "b": [1, None]}),
        pyarrow.table({"b": pyarrow.array([[1, 2], None], pyarrow.list_(pyarrow.int32(), 2))}),
        pyarrow.table({"b": pyarrow.array([None, 1.0])})
        .slice(1)
        .append_column("c", pyarrow.array([None]))
        .rename_columns(["a", "b"]),
    ],
)
def test_missing_values_are_named(table: Any) -> None:
    with pytest.raises(ValueNotSupported, match=r"column b, row [01]: there is no value"):
        columns_of(table)


def test_a_missing_float_of_pandas_is_no_number() -> None:
    found = columns_of(pandas.DataFrame({"a": [1.0, None]}))
    assert found is not None
    assert numpy.isnan(found["a"]).tolist() == [False, True]


def test_integers_that_might_have_been_missing() -> None:
    found = columns_of(
        pandas.DataFrame({"a": pandas.array([1, 2**60 + 1], "Int64"), "b": pandas.array([True, False], "boolean")})
    )
    assert found is not None
    assert (found["a"].dtype, found["b"].dtype) == (numpy.dtype("i8"), numpy.dtype("?"))
    assert listed(found) == {"a": [1, 2**60 + 1], "b": [True, False]}


def test_times_with_zones_are_in_utc() -> None:
    zoned = pandas.DataFrame({"a": pandas.to_datetime(["2020-01-01T09:00:00+09:00"]).tz_convert("Asia/Tokyo")})
    for table in (zoned, pyarrow.Table.from_pandas(zoned)):
        found = columns_of(table)
        assert found is not None
        assert found["a"].astype("M8[s]").tolist() == numpy.array(["2020-01-01"], "M8[s]").tolist()
    frame, table = frame_of(COLUMNS), table_of(COLUMNS)
    assert str(frame.dtypes["time"]) == "datetime64[ns, UTC]"
    assert table.schema.field("time").type == pyarrow.timestamp("ns", "UTC")


def test_what_arrow_does_not_have() -> None:
    with pytest.raises(ValueNotSupported, match="column a has no form in Arrow"):
        table_of({"a": numpy.array([1j])})


def test_times_of_other_units_stay_what_they_are() -> None:
    late = pyarrow.table({"a": pyarrow.array([2**62], pyarrow.timestamp("s", "UTC"))})
    found = columns_of(late)
    assert found is not None
    assert found["a"].dtype == "M8[s]"
    assert found["a"].astype("i8").tolist() == [2**62]


@pytest.mark.parametrize(("make", "package"), [(frame_of, "pandas"), (table_of, "pyarrow")])
def test_an_absent_package_is_named_with_the_way_to_it(
    make: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"needs the package {package}: pip install 'pynetwork\[store\]'"):
        make({})


def test_nothing_is_imported_for_those_who_have_no_tables() -> None:

    program = "import sys, pynetwork.series.conversions; print('pandas' in sys.modules or 'pyarrow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "False"
