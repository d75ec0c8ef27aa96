"""The store against a dictionary: whatever is done to it, in whatever order, both hold the same records."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from handshakes.records import Key, KeyRange
from pynetwork.series.store import SeriesStore
from tests.pynetwork.series.engine.small import Clock, Full, block, box, records, small_sizes

keys = st.tuples(st.integers(0, 1), st.integers(-1, 1), st.just(0), st.integers(0, 9), st.integers(0, 1))
payloads = st.sampled_from([b"", b"ab", b"cd", b"longer"])
even = st.lists(st.tuples(keys, st.sampled_from([b"ab", b"cd"])), min_size=1, max_size=12)
mixed = st.lists(st.tuples(keys, payloads), min_size=1, max_size=12)
boxes = st.builds(
    lambda cid, mid, cap: box(cid=cid, mid=mid, cap=cap),
    st.sampled_from([(0, 1), (0, 2), (1, 2)]),
    st.sampled_from([(-1, 0), (-1, 2), (0, 1)]),
    st.sampled_from([(0, 10), (3, 5), (2, 9), (9, 9)]),
)


class Model(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.sizes = small_sizes()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.model: dict[Full, bytes] = {}
        self.horizon = 0
        self.store = SeriesStore(self.folder / "store", clock=self.clock)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.sizes.close()
            shutil.rmtree(self.folder)

    def given(self, told: list[tuple[Full, bytes]], first: int) -> None:
        assert first >= self.horizon
        for number, (key, payload) in enumerate(told):
            self.model[(*key[:4], first + number)] = payload

    @rule(told=st.one_of(even, mixed))
    def put(self, told: list[tuple[Full, bytes]]) -> None:
        got = self.store.put(block(*told))
        assert (got.kept, got.acq_max - got.acq_min + 1) == (len(told), len(told))
        self.given(told, got.acq_min)

    @rule(told=st.one_of(even, mixed))
    def puta(self, told: list[tuple[Full, bytes]]) -> None:
        assert self.store.puta(block(*told)).acq_min == -1
        self.model.update(told)

    @rule(puts=st.lists(st.tuples(st.one_of(even, mixed), st.booleans()), max_size=5))
    def put_group(self, puts: list[tuple[list[tuple[Full, bytes]], bool]]) -> None:
        outcomes = self.store.put_group([(block(*told), with_acq) for told, with_acq in puts])
        for (told, with_acq), outcome in zip(puts, outcomes, strict=True):
            assert not isinstance(outcome, Exception)
            if with_acq:
                self.model.update(told)
            else:
                self.given(told, outcome.acq_min)

    @rule(puts=st.lists(st.one_of(even, mixed), max_size=4), with_acq=st.booleans(), keep=st.booleans())
    def stage(self, puts: list[list[tuple[Full, bytes]]], with_acq: bool, keep: bool) -> None:
        with self.store.stage(with_acq) as staging:
            for told in puts:
                staging.add(block(*told))
            if not keep:
                return
            got = staging.commit()
        together = [record for told in puts for record in told]
        if with_acq:
            self.model.update(together)
        elif together:
            self.given(together, got.acq_min)

    @rule()
    def fold(self) -> None:
        self.store._fold()

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule(after=st.integers(0, 9))
    def expire(self, after: int) -> None:
        before = len(self.model)
        self.model = {key: payload for key, payload in self.model.items() if key[3] >= after}
        report = self.store.retain(age=(self.clock.now - after) / 1e9)
        assert (report.records, report.records_left) == (before - len(self.model), len(self.model))

    @rule(step=st.integers(-100, 100))
    def set_clock(self, step: int) -> None:
        self.clock.now += step

    @rule()
    def answer_horizon(self) -> None:
        horizon = self.store.horizon()
        assert horizon >= self.horizon
        self.horizon = horizon

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = SeriesStore(self.folder / "store", clock=self.clock)

    @rule(box=boxes)
    def look(self, box: KeyRange) -> None:
        expected = {key: payload for key, payload in self.model.items() if box.holds(Key(*key))}
        found = [record for part in self.store.blocks(box) for record in records(part)]
        assert sorted(found) == sorted(expected.items())
        assert self.store.count(box) == len(expected)
        for order, newest in (("oldest", False), ("newest", True)):
            parts = [record for part in self.store.blocks(box, order=order) for record in records(part)]
            in_order = sorted(expected.items(), key=lambda record: (record[0][3], *record[0]), reverse=newest)
            assert [key[3] for key, _ in parts] == [key[3] for key, _ in in_order]
            # Those of one time of capture may be in any order where they alone are too many.
            assert sorted(parts) == sorted(in_order)

    @rule(box=boxes)
    def summarize(self, box: KeyRange) -> None:
        series: dict[tuple[int, int, int], list[Full]] = {}
        for key in sorted(self.model):
            if box.holds(Key(*key)):
                series.setdefault(key[:3], []).append(key)
        assert records(self.store.last(box)) == [(each[-1], self.model[each[-1]]) for each in series.values()]
        assert self.store.series(box).tolist() == [
            (*name, len(each), each[0][3], each[-1][3]) for name, each in series.items()
        ]

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def same(self) -> None:
        with self.store.snapshot() as snapshot:
            whole = snapshot.together()
        assert dict(records(whole)) == self.model
        assert len(whole) == len(self.model) == self.store.stats()["records"]


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=25, suppress_health_check=list(HealthCheck))
TestModel = pytest.mark.timeout(300)(Model.TestCase)
