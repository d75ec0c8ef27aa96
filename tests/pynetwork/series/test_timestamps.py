"""TStorage's times: exact to the nanosecond over all of 64 bits, in both directions."""

from __future__ import annotations

import datetime as dt
import math
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pynetwork.series.timestamps import (
    EPOCH,
    EPOCH_NS,
    Tstoragedatetime,
    from_datetime64,
    from_unix,
    from_unix_ns,
    now,
    now_ns,
    to_datetime64,
    to_unix,
    to_unix_ns,
)

UTC = dt.timezone.utc
LEAST, MOST = -(2**63), 2**63 - 1
times = st.integers(LEAST, MOST)
zones = st.one_of(
    st.timezones(),
    st.builds(
        lambda microseconds: dt.timezone(dt.timedelta(microseconds=microseconds)),
        st.integers(-86_399_999_999, 86_399_999_999),
    ),
)
# Away from the ends, where a zone's offset would leave the years that a datetime holds.
moments = st.builds(
    Tstoragedatetime,
    st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 12, 31), timezones=st.none() | zones),  # noqa: DTZ001
    st.integers(0, 999),
)

# Known times


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("2001-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00Z", -978_307_200_000_000_000),
        ("2016-08-09 12:34:00", 492_438_840_000_000_000),
        ("2016-08-09T14:34:00.123456789+02:00", 492_438_840_123_456_789),
        ("2000-12-31T23:59:59.999999999Z", -1),
        ("1708-09-22T00:12:43.145224192Z", LEAST),
        ("2293-04-11T23:47:16.854775807Z", MOST),
    ],
)
def test_known_times(text: str, timestamp: int) -> None:
    moment = Tstoragedatetime.fromisoformat(text)
    assert moment.to_tstorage_ns() == timestamp
    assert moment == Tstoragedatetime.from_tstorage_ns(timestamp)
    assert moment.to_unix_ns() == timestamp + 978_307_200 * 10**9


def test_the_epochs_are_the_calendars() -> None:
    assert (dt.datetime(2001, 1, 1, tzinfo=UTC) - dt.datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() == EPOCH
    assert EPOCH_NS == EPOCH * 10**9


def test_the_present() -> None:
    before = time.time_ns()
    found = [
        to_unix_ns(now_ns()),
        Tstoragedatetime.now().to_unix_ns(),
        Tstoragedatetime.now(tzinfo=ZoneInfo("Asia/Tokyo")).to_unix_ns(),
    ]
    assert before <= min(found) <= max(found) <= time.time_ns()
    assert abs(now() - now_ns() / 1e9) < 60
    assert Tstoragedatetime.now(tzinfo=ZoneInfo("Asia/Tokyo")).datetime.utcoffset() == dt.timedelta(hours=9)


# Round trips


@given(times, zones)
@example(LEAST, UTC)
@example(MOST, UTC)
def test_nanoseconds_come_back(timestamp: int, zone: dt.tzinfo) -> None:
    moment = Tstoragedatetime.from_tstorage_ns(timestamp, tzinfo=zone)
    assert moment.to_tstorage_ns() == timestamp
    assert Tstoragedatetime.from_unix_ns(timestamp, tzinfo=zone).to_unix_ns() == timestamp
    assert 0 <= moment.nanoseconds <= 999


@given(times, st.sampled_from([Fraction, Decimal]))
def test_exact_seconds_come_back(timestamp: int, kind: Any) -> None:
    seconds = Fraction(timestamp, 10**9) if kind is Fraction else Decimal(f"{timestamp}e-9")
    assert Tstoragedatetime.from_tstorage(seconds).to_tstorage_ns() == timestamp
    assert Tstoragedatetime.from_unix(seconds).to_unix_ns() == timestamp


@given(st.integers(LEAST // 10**9 + 1, MOST // 10**9))
def test_whole_seconds_come_back(seconds: int) -> None:
    assert Tstoragedatetime.from_tstorage(seconds).to_tstorage_ns() == seconds * 10**9
    assert Tstoragedatetime.from_unix(numpy.int64(seconds)).to_unix_ns() == seconds * 10**9


@given(moments)
def test_text_comes_back(moment: Tstoragedatetime) -> None:
    text = str(moment)
    assert Tstoragedatetime.fromisoformat(text) == moment
    assert Tstoragedatetime.fromisoformat(moment.isoformat(" ")) == moment
    assert len(text.partition(".")[2].partition("+")[0].partition("-")[0]) == 9


@given(moments)
def test_moments_come_back_in_unix_time(moment: Tstoragedatetime) -> None:
    back = Tstoragedatetime.from_unix_ns(moment.to_unix_ns())
    assert back == moment
    assert back.datetime.tzinfo is UTC


# Floats


@given(times)
def test_seconds_are_the_nearest_float(timestamp: int) -> None:
    moment = Tstoragedatetime.from_tstorage_ns(timestamp)
    assert moment.to_tstorage() == float(Fraction(timestamp, 10**9))
    assert moment.to_unix() == float(Fraction(timestamp + EPOCH_NS, 10**9))


@given(st.floats(-9e9, 9e9))
def test_a_float_is_the_number_that_it_is(seconds: float) -> None:
    found = Tstoragedatetime.from_tstorage(seconds).to_tstorage_ns()
    assert abs(Fraction(found) - Fraction(seconds) * 10**9) <= Fraction(1, 2)
    assert Tstoragedatetime.from_unix(seconds).to_unix_ns() == found


@pytest.mark.parametrize("seconds", [1234.123456789, 1234.000000001, 1234.000000999, 2742239340, 0.000000004])
def test_floats_with_digits_enough_come_back(seconds: float) -> None:
    assert Tstoragedatetime.from_unix(seconds).to_unix() == seconds
    assert Tstoragedatetime.from_unix(numpy.float64(seconds)).to_unix() == seconds


def test_a_path_by_floats_would_lose_what_is_kept_here() -> None:
    timestamp = 742_239_340_123_456_789
    assert int(from_unix(to_unix_ns(timestamp) / 10**9) * 10**9) != timestamp
    assert Tstoragedatetime.from_unix_ns(to_unix_ns(timestamp)).to_tstorage_ns() == timestamp


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, Decimal("nan"), Decimal("inf")])
def test_what_is_no_number_is_no_time(seconds: Any) -> None:
    with pytest.raises(ValueError, match="no time"):
        Tstoragedatetime.from_unix(seconds)


# Datetimes


def test_a_datetime_without_a_zone_is_in_utc() -> None:
    naive = Tstoragedatetime(dt.datetime(2016, 8, 9, 12, 34), 5)  # noqa: DTZ001
    assert naive == Tstoragedatetime(dt.datetime(2016, 8, 9, 12, 34, tzinfo=UTC), 5)
    assert str(naive) == "2016-08-09T12:34:00.000000005+00:00"


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    zone = ZoneInfo("Europe/Berlin")
    first = Tstoragedatetime(dt.datetime(2023, 10, 29, 2, 30, tzinfo=zone), 0)
    second = Tstoragedatetime(dt.datetime(2023, 10, 29, 2, 30, tzinfo=zone, fold=1), 0)
    assert second.to_unix_ns() - first.to_unix_ns() == 3600 * 10**9
    assert first < second


@given(times, times, zones, zones)
def test_order_and_equality_are_those_of_the_moments(one: int, other: int, here: dt.tzinfo, there: dt.tzinfo) -> None:
    first = Tstoragedatetime.from_tstorage_ns(one, tzinfo=here)
    second = Tstoragedatetime.from_tstorage_ns(other, tzinfo=there)
    assert (first < second, first == second, first >= second) == (one < other, one == other, one >= other)
    same = Tstoragedatetime.from_tstorage_ns(one, tzinfo=there)
    assert same == first
    assert hash(same) == hash(first)


def test_other_things_are_no_moments() -> None:
    moment = Tstoragedatetime.now()
    assert moment != moment.datetime
    with pytest.raises(TypeError):
        _ = moment < moment.datetime  # type: ignore[operator]


@pytest.mark.parametrize("nanoseconds", [-1, 1000])
def test_nanoseconds_are_below_a_microsecond(nanoseconds: int) -> None:
    with pytest.raises(ValueError, match=f"nanoseconds={nanoseconds}"):
        Tstoragedatetime(dt.datetime(2020, 1, 1, tzinfo=UTC), nanoseconds)


# Out of range


@pytest.mark.parametrize("timestamp", [LEAST - 1, MOST + 1])
def test_beyond_64_bits_there_are_no_times(timestamp: int) -> None:
    with pytest.raises(ValueError, match="1708 to 2293"):
        Tstoragedatetime.from_tstorage_ns(timestamp)
    with pytest.raises(ValueError, match="1708 to 2293"):
        Tstoragedatetime.from_tstorage(Fraction(timestamp, 10**9))
    with pytest.raises(ValueError, match="1708 to 2293"):
        Tstoragedatetime.from_unix_ns(timestamp + EPOCH_NS).to_tstorage_ns()


def test_unix_times_reach_as_far_as_datetimes() -> None:
    for moment in (dt.datetime(1, 1, 1, 1, tzinfo=UTC), dt.datetime.max.replace(tzinfo=UTC)):
        assert Tstoragedatetime.from_unix_ns(Tstoragedatetime(moment, 7).to_unix_ns()) == Tstoragedatetime(moment, 7)
    for timestamp in (-(10**23), 10**23, 10**40):
        with pytest.raises(ValueError, match="years 1 to 9999"):
            Tstoragedatetime.from_unix_ns(timestamp)


# Text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-02", 86_400 * 10**9),
        ("1970-01-01T01", None),
        ("1970-01-01 00:01", 60 * 10**9),
        ("1970-01-01T00:00:01", 10**9),
        ("1970-01-01T00:00:00.5", 500_000_000),
        ("1970-01-01T00:00:00,000000001z", 1),
        ("1970-01-01T00:00:00-0130", 5400 * 10**9),
        ("1970-01-01T00:00:00+01:30:15.000001", -5415 * 10**9 - 1000),
        ("1970-01-01T00:00:00.1234567890", None),
        ("1970-01-01T00:00:00.", None),
        ("1970-02-30", None),
        ("1970-01-01T24:00:00", None),
        ("1970-01-01T00:00:00+01:60", None),
        ("1970-01-01T00:00:00+24:00", None),
        ("\u0661970-01-01", None),
        ("1970-01-01\n", None),
        ("", None),
    ],
)
def test_iso_text(text: str, nanoseconds: int | None) -> None:
    if nanoseconds is None:
        with pytest.raises(ValueError, match="is no time"):
            Tstoragedatetime.fromisoformat(text)
    else:
        assert Tstoragedatetime.fromisoformat(text).to_unix_ns() == nanoseconds


# Numbers


@pytest.mark.parametrize(
    ("tstorage", "unix"),
    [
        (0, 978_307_200),
        (-EPOCH, 0),
        (
            Decimal("0.1234567890123456789012345678901234567890"),
            Decimal("978307200.1234567890123456789012345678901234567890"),
        ),
        (Fraction(1, 3), Fraction(2_934_921_601, 3)),
        (0.5, 978_307_200.5),
    ],
)
def test_seconds_keep_their_type_and_digits(tstorage: Any, unix: Any) -> None:
    assert to_unix(tstorage) == unix
    assert from_unix(unix) == tstorage
    assert type(to_unix(tstorage)) is type(from_unix(unix)) is type(tstorage)


@given(times)
def test_nanoseconds_are_shifted_exactly(timestamp: int) -> None:
    assert to_unix_ns(timestamp) - timestamp == EPOCH_NS
    assert from_unix_ns(to_unix_ns(timestamp)) == timestamp


@pytest.mark.parametrize("function", [to_unix_ns, from_unix_ns])
def test_nanoseconds_are_integers(function: Any) -> None:
    with pytest.raises(TypeError):
        function(1.5)
    with pytest.raises(ValueError, match="float64"):
        function(numpy.array([1.5]))


# Arrays


@given(arrays.arrays("i8", st.integers(0, 5), elements=st.integers(LEAST + 1, MOST - EPOCH_NS)))
def test_arrays_are_shifted_exactly(times: Any) -> None:
    assert to_unix_ns(times).tolist() == [time + EPOCH_NS for time in times.tolist()]
    assert from_unix_ns(to_unix_ns(times)).tolist() == times.tolist()
    assert to_datetime64(times).dtype == "M8[ns]"
    assert from_datetime64(to_datetime64(times)).tolist() == times.tolist()


def test_arrays_of_other_integers() -> None:
    assert to_unix_ns(numpy.array([1, 2], ">i4")).tolist() == [EPOCH_NS + 1, EPOCH_NS + 2]
    assert from_unix_ns(numpy.array([2**64 - 1 - 2**63 + EPOCH_NS], "u8")).tolist() == [2**63 - 1]


@pytest.mark.parametrize(
    ("function", "time"),
    [(to_unix_ns, MOST - EPOCH_NS + 1), (from_unix_ns, LEAST + EPOCH_NS - 1), (to_datetime64, MOST - EPOCH_NS + 1)],
)
def test_arrays_do_not_wrap_around(function: Any, time: int) -> None:
    with pytest.raises(ValueError, match=f"{time} \\(element 1\\)"):
        function(numpy.array([0, time, 0]))


def test_the_earliest_time_is_one_in_numpy() -> None:
    assert not numpy.isnat(to_datetime64(numpy.array([LEAST]))).any()


@pytest.mark.parametrize(
    ("text", "unit", "nanoseconds"),
    [
        ("2001-01-01", "D", 0),
        ("2001-01", "M", 0),
        ("2002", "Y", 365 * 86_400 * 10**9),
        ("2001-01-01T00:00:01", "s", 10**9),
        ("2001-01-01T00:00:00.000001", "us", 1000),
        ("9999-01-01", "D", None),
        ("1677-09-21", "D", None),
        ("30000", "Y", None),
        ("NaT", "ns", None),
    ],
)
def test_times_of_other_units(text: str, unit: str, nanoseconds: int | None) -> None:
    times = numpy.array(["2001-01-01", text], f"M8[{unit}]")
    if nanoseconds is None:
        with pytest.raises(ValueError, match="element 1"):
            from_datetime64(times)
    else:
        assert from_datetime64(times).tolist() == [0, nanoseconds]


def test_times_finer_than_a_nanosecond() -> None:
    assert from_datetime64(numpy.array(["1970-01-01T00:00:00.000000001000"], "M8[ps]")).tolist() == [1 - EPOCH_NS]
    with pytest.raises(ValueError, match="element 0"):
        from_datetime64(numpy.array(["1970-01-01T00:00:00.000000001001"], "M8[ps]"))


def test_what_is_no_time_of_numpy() -> None:
    for array in (numpy.array([1]), numpy.array(["NaT"], "M8")):
        with pytest.raises(ValueError, match="no datetime64"):
            from_datetime64(array)
