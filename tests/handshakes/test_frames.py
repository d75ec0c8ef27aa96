from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshakes.errors import RemoteProtocolError
from handshakes.frames import LARGEST_HEAD, FrameParser, pack_header
from handshakes.messages import Kind
from tests.handshakes.pair import STEPS, feed, frame

GOLDEN = b"\x07\x09\x02\x01\x03\0\0\0\x05\0\0\0headbody!"[:12] + b"cowabody"
"""kind 7 · flags 9 · operation 0x0102 · head of 3 bytes · body of 5 bytes"""


def parser(**options: Any) -> FrameParser:
    return FrameParser(**{"limit": 1000, "largest_head": 200, "capacity": 128, **options})


def test_the_layout_of_a_header() -> None:
    assert pack_header(Kind.MESSAGE, 9, 0x0102, 3, 5) == GOLDEN[:12]
    assert feed(parser(), GOLDEN) == [(7, 9, 0x0102, b"cow", b"abody")]


CASES = {
    "nothing in it": frame(Kind.GOODBYE),
    "golden": GOLDEN,
    "head only": frame(Kind.CREDIT, head=b"h" * 12),
    "body only": frame(Kind.PROOF, body=b"b" * 32),
    "fills the buffer": frame(Kind.MESSAGE, head=b"h" * 16, body=b"b" * 100),
    "one more than the buffer": frame(Kind.MESSAGE, head=b"h" * 16, body=b"b" * 101),
    "large body": frame(Kind.MESSAGE, 255, 65535, head=b"h", body=bytes(range(256)) * 3),
    "largest of all": frame(Kind.ITEMS, head=b"h" * 200, body=b"b" * 1000),
    "head outgrows the buffer": frame(Kind.OPEN, head=b"h" * 199),
    "head outgrows the buffer, and a body": frame(Kind.OPEN, head=b"h" * 150, body=b"b" * 3),
}


def read(data: bytes) -> list[tuple[int, int, int, bytes, bytes]]:
    """The frames in these bytes, in the plainest way."""
    found = []
    while data:
        head, body = int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:12], "little")
        end = 12 + head + body
        operation = int.from_bytes(data[2:4], "little")
        found.append((data[0], data[1], operation, data[12 : 12 + head], data[12 + head : end]))
        data = data[end:]
    return found


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", CASES)
@pytest.mark.parametrize("case", CASES)
def test_a_frame_and_the_next(case: str, after: str, step: int | None) -> None:
    both = CASES[case] + CASES[after]
    assert feed(parser(), both, step) == read(both)


@pytest.mark.parametrize("case", CASES)
def test_a_frame_cut_short_at_every_byte(case: str) -> None:
    for cut in range(len(CASES[case])):
        cut_short = parser()
        assert feed(cut_short, CASES[case][:cut]) == []
        assert cut_short.pending == (cut > 0)
        assert feed(cut_short, CASES[case][cut:]) == read(CASES[case])
        assert not cut_short.pending


FRAMES = st.lists(
    st.builds(
        frame,
        st.sampled_from(Kind),
        st.integers(0, 255),
        st.integers(0, 65535),
        st.binary(max_size=40) | st.integers(0, 200).map(bytes),
        st.binary(max_size=40) | st.integers(0, 1000).map(bytes),
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(FRAMES, st.integers(1, 300), st.integers(64, 300))
def test_frames_come_out_as_they_went_in(frames: list[bytes], step: int, capacity: int) -> None:
    data = b"".join(frames)
    assert feed(parser(capacity=capacity), data, step) == read(data)


@settings(max_examples=200)
@given(st.binary(max_size=200) | FRAMES.map(b"".join), st.binary(max_size=30), st.integers(1, 50))
def test_whatever_arrives_is_frames_or_an_error(data: bytes, tail: bytes, step: int) -> None:
    try:
        found = feed(parser(), data + tail, step)
    except RemoteProtocolError:
        return
    whole = b"".join(frame(*each) for each in found)
    assert (data + tail).startswith(whole)


# Large bodies have memory of their own


def receive_one(side: FrameParser, data: bytes) -> Any:
    while (found := side.next_frame()) is None:
        space = side.buffer()
        count = min(len(space), len(data))
        space[:count] = data[:count]
        side.advance(count)
        data = data[count:]
    assert not data
    return found


def test_a_small_body_is_a_view_and_a_large_one_is_kept() -> None:
    side = parser()
    small = receive_one(side, frame(Kind.MESSAGE, body=b"small"))
    assert small.shared
    kept = bytes(small.body)
    large = receive_one(side, frame(Kind.MESSAGE, body=b"L" * 500))
    assert not large.shared
    assert kept != bytes(small.body)
    receive_one(side, frame(Kind.MESSAGE, body=b"M" * 500))
    assert bytes(large.body) == b"L" * 500
    large.body[0] = 5


def test_the_body_is_received_straight_into_its_memory() -> None:
    side = parser()
    data = frame(Kind.MESSAGE, body=b"x" * 900)
    assert feed(side, data[:100]) == []
    space = side.buffer()
    assert len(space) == 900 - 88
    space[:] = b"y" * len(space)
    side.advance(len(space))
    large = side.next_frame()
    assert large is not None
    assert bytes(large.body) == b"x" * 88 + b"y" * 812
    large.body[-1:] = b"z"  # type: ignore[index]
    assert bytes(space[-1:]) == b"z"


def test_after_a_large_frame_only_the_beginning_of_the_next_is_buffered() -> None:
    side = FrameParser(limit=100_000, capacity=65536)
    assert len(side.buffer()) == 65536
    receive_one(side, frame(Kind.MESSAGE, body=bytes(70_000)))
    assert len(side.buffer()) == 4096
    receive_one(side, frame(Kind.MESSAGE, body=bytes(10)))
    assert len(side.buffer()) > 60_000


def test_memory_that_is_given_back_receives_the_next() -> None:
    side = parser()
    first = receive_one(side, frame(Kind.MESSAGE, body=b"1" * 600)).body
    side.recycle(first)
    second = receive_one(side, frame(Kind.MESSAGE, body=b"2" * 500)).body
    assert len(second) == 500
    assert bytes(first[:500]) == b"2" * 500
    assert bytes(first[500:]) == b"1" * 100
    third = receive_one(side, frame(Kind.MESSAGE, body=b"3" * 500)).body
    assert bytes(second) == b"2" * 500
    side.recycle(third)
    fourth = receive_one(side, frame(Kind.MESSAGE, body=b"4" * 501)).body
    assert bytes(third) == b"3" * 500
    assert len(fourth) == 501


def test_the_largest_memory_is_kept_and_what_cannot_be_written_is_not() -> None:
    side = parser()
    large, small = memoryview(bytearray(900)), memoryview(bytearray(300))
    for given_back in (small, large, small, memoryview(bytes(990)), b"b" * 990, bytearray(990)):
        side.recycle(given_back)
    receive_one(side, frame(Kind.MESSAGE, body=b"5" * 800))
    assert bytes(large[:800]) == b"5" * 800


# Limits


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("head", "body", "text"),
    [
        (0, 1001, "a MESSAGE frame of 1001 bytes was announced; at most 1000 are accepted"),
        (0, 2**32 - 1, "of 4294967295 bytes was announced"),
        (201, 0, "a MESSAGE frame of 201 bytes was announced; at most 200 are accepted"),
        (2**32 - 1, 2**32 - 1, "of 4294967295 bytes was announced; at most 200"),
    ],
)
def test_no_more_is_accepted_than_the_limits(head: int, body: int, text: str, step: int | None) -> None:
    side = parser()
    with pytest.raises(RemoteProtocolError, match=text):
        feed(side, GOLDEN + pack_header(Kind.MESSAGE, 0, 0, head, body) + b"tail", step)


def test_an_announced_size_takes_no_memory_before_it_is_checked() -> None:
    sides = [parser(), parser(), parser()]
    tracemalloc.start()
    try:
        for side, head, body in ((sides[0], 0, 2**32 - 1), (sides[1], 2**32 - 1, 0)):
            with pytest.raises(RemoteProtocolError):
                feed(side, pack_header(Kind.MESSAGE, 0, 0, head, body))
        assert feed(sides[2], pack_header(Kind.MESSAGE, 0, 0, 200, 1000)) == []
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


def test_a_default_head_has_64_kib() -> None:
    side = FrameParser(limit=10)
    whole = frame(Kind.MESSAGE, head=bytes(LARGEST_HEAD), body=b"body")
    assert feed(side, whole) == read(whole)
    with pytest.raises(RemoteProtocolError, match="at most 65536"):
        feed(side, frame(Kind.MESSAGE, head=bytes(LARGEST_HEAD + 1)))


@pytest.mark.parametrize("cut", [0, 5, 12, 20, 128, 500])
def test_new_limits_keep_what_was_received(cut: int) -> None:
    side = parser()
    both = CASES["large body"] + CASES["golden"]
    found = feed(side, both[:cut])
    side.resize(limit=2000, largest_head=300, capacity=64)
    assert found + feed(side, both[cut:]) == read(both)
    with pytest.raises(RemoteProtocolError, match="at most 2000"):
        feed(side, pack_header(Kind.MESSAGE, 0, 0, 300, 2001))


# What is no frame


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00", r"TLS \(one side uses tls="),
        (b"\x15\x03\x03\x00\x02\x02\x28padding", "TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP arrived"),
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP arrived"),
        (b"POST /x HTTP/1.1\r\n", "HTTP arrived"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH arrived"),
        (b"\x16\x02" + bytes(10), r"an unknown kind of message \(16 02 00 00 00 00 00 00\)"),
        (bytes(12), r"an unknown kind of message \(00 00"),
        (b"\x0d" + bytes(11), r"\(0d 00"),
        (b"\xff" * 12, r"\(ff ff"),
    ],
)
def test_a_person_reads_what_arrived(data: bytes, text: str, step: int | None) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{text}.*"):
        feed(parser(), data, step)
    with pytest.raises(RemoteProtocolError, match=text):
        feed(parser(), GOLDEN + data, step)


def test_no_kind_can_be_taken_for_tls_or_http() -> None:
    assert not {*range(20, 24), *b"GPHODCTS"} & set(Kind)


def test_an_error_stays() -> None:
    side = parser()
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            feed(side, b"\xff" * 12)
