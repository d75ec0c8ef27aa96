"""The plan of a job."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from handshakes.chunks import TRIES, Assembly, ChunkPlan, Compare, LargeFile, Pack, Piece, Run, Seal, Work
from handshakes.errors import RemoteProtocolError
from handshakes.manifest import Entry, digest

CHUNK = 10
NOTHING = bytes(16)


def entry(size: int, path: str = "file") -> Entry:
    return Entry(path, size, 1, 0o644)


def plan_of(*sizes: int, lanes: int = 1) -> tuple[ChunkPlan, list[LargeFile]]:
    plan = ChunkPlan(lanes)
    files = [LargeFile(entry(size, f"file{number}"), CHUNK) for number, size in enumerate(sizes)]
    for file in files:
        plan.add_file(file)
    return plan, files


def known_plan(size: int, known: int, lanes: int = 1, chunk: int = CHUNK) -> tuple[ChunkPlan, LargeFile]:
    """A plan with one file, of which something is there already."""
    plan, file = ChunkPlan(lanes), LargeFile(entry(size), chunk, known=known)
    plan.add_file(file)
    return plan, file


def comparison(plan: ChunkPlan) -> Compare:
    work = plan.take(CHUNK)
    assert isinstance(work, Compare)
    return work


def taken(plan: ChunkPlan, budget: int = CHUNK) -> Run:
    work = plan.take(budget)
    assert isinstance(work, Run)
    return work


def arrive(plan: ChunkPlan, run: Run) -> None:
    for index in range(run.first, run.first + run.count):
        plan.chunk_arrived(run, index, bytes([index]) * 16)


def seal_of(plan: ChunkPlan) -> Seal:
    work = plan.take(CHUNK)
    assert isinstance(work, Seal)
    return work


def test_the_digest_of_a_file_is_that_of_its_chunks_digests_in_order() -> None:
    assembly = Assembly(3)
    for index in (2, 0, 1):
        assert assembly.missing
        assert assembly.accept(index, bytes([index]) * 16)
    assert not assembly.missing
    assert assembly.digest() == digest(bytes([0] * 16 + [1] * 16 + [2] * 16))
    single = Assembly(1)
    single.accept(0, b"x" * 16)
    assert single.digest() == b"x" * 16
    assert Assembly(0).digest() == digest(b"")


def test_a_chunk_arrives_once() -> None:
    assembly = Assembly(2)
    assert not assembly.has(0)
    assert assembly.get(1) is None
    assert assembly.accept(1, b"a" * 16)
    assert not assembly.accept(1, b"b" * 16)
    assert assembly.get(1) == b"a" * 16
    assert assembly.get(0) is None
    for index in (-1, 2, 1 << 40):
        with pytest.raises(RemoteProtocolError, match="of 2 chunks"):
            assembly.accept(index, NOTHING)


def test_chunks_that_never_arrive_take_no_memory() -> None:
    assert Assembly(1 << 60).missing == 1 << 60


def test_a_file_is_cut_into_runs_that_fit_the_budget() -> None:
    plan, (file,) = plan_of(95)
    runs = []
    while isinstance(work := plan.take(3 * CHUNK), Run):
        runs.append((work.first, work.count, work.size))
        arrive(plan, work)
    assert sum(count for _, count, _ in runs) == 10
    assert sum(size for _, _, size in runs) == 95
    assert [first for first, _, _ in runs] == [sum(count for _, count, _ in runs[:at]) for at in range(len(runs))]
    assert isinstance(work, Seal)
    assert plan.take(CHUNK) is None
    assert not plan.finished
    assert plan.settle_file(file, done=True)
    assert not plan.settle_file(file, done=True)
    assert plan.finished
    assert (plan.files_done, plan.files_total, plan.bytes_done, plan.bytes_total) == (1, 1, 95, 95)
    assert (plan.chunks, plan.chunks_again) == (10, 0)


def test_towards_the_end_runs_become_smaller() -> None:
    plan, _ = plan_of(1000, lanes=4)
    counts = []
    while isinstance(work := plan.take(500), Run):
        counts.append(work.count)
        arrive(plan, work)
    assert counts[0] == 12
    assert counts[-1] == 1
    assert counts == sorted(counts, reverse=True)


def test_what_a_lane_gives_back_another_takes_in_whole_runs() -> None:
    plan, _ = plan_of(100)
    run = taken(plan, 50)
    plan.chunk_arrived(run, run.first, NOTHING)
    plan.give_back(Run(run.file, run.generation, run.first + 1, run.count - 1))
    again = taken(plan, 20)
    assert (again.first, again.count) == (1, 2)
    rest = taken(plan, 100)
    assert (rest.first, rest.count) == (3, run.count - 3)
    assert plan.chunks_again == run.count - 1


def test_chunks_that_arrived_meanwhile_are_not_taken_again() -> None:
    plan, _ = plan_of(1000)
    run = taken(plan, 50)
    assert run.count == 5
    plan.chunk_arrived(run, 2, NOTHING)
    plan.give_back(run)
    parts = [taken(plan, 100) for _ in range(2)]
    assert [(part.first, part.count) for part in parts] == [(0, 2), (3, 2)]
    plan.give_back(Run(run.file, 0, 0, 0))
    plan.chunk_arrived(run, 2, b"y" * 16)
    assert plan.chunks == 1


def test_a_file_whose_chunks_were_all_taken_is_taken_up_again() -> None:
    plan, _ = plan_of(15, 15)
    runs = [taken(plan) for _ in range(3)]
    assert runs[2].file is not runs[0].file
    plan.give_back(runs[1])
    assert taken(plan).file is runs[0].file


def test_a_seal_is_given_back_too() -> None:
    plan, (file,) = plan_of(5)
    arrive(plan, taken(plan))
    seal = seal_of(plan)
    plan.give_back(seal)
    assert seal_of(plan) is seal
    plan.settle_file(file, done=True)
    assert seal.void
    plan.give_back(seal)
    assert plan.take(CHUNK) is None


def test_large_files_come_before_packs_and_not_too_many_at_once() -> None:
    plan, files = plan_of(*[20] * 15)
    plan.add_pack(Pack(b"", 3, 30))
    runs = [taken(plan) for _ in range(2 * 12)]
    assert {run.file for run in runs} == set(files[:12])
    pack = plan.take(CHUNK)
    assert isinstance(pack, Pack)
    assert plan.take(CHUNK) is None
    plan.settle_file(files[0], done=False)
    assert taken(plan).file is files[12]


def test_a_damaged_chunk_is_moved_again_but_not_for_ever() -> None:
    plan, (file,) = plan_of(25)
    run = taken(plan)
    for _ in range(TRIES - 1):
        assert plan.chunk_damaged(run, run.first)
        run = taken(plan)
        assert run.first == 0
    assert not plan.chunk_damaged(run, 0)
    assert plan.chunks_again == TRIES - 1
    plan.chunk_arrived(run, 0, NOTHING)
    assert plan.chunk_damaged(run, 0)
    assert plan.settle_file(file, done=False)
    assert plan.chunk_damaged(run, 0)
    assert plan.finished
    assert (plan.files_total, plan.bytes_total, plan.bytes_done) == (0, 0, 0)
    plan.give_back(run)
    assert plan.take(CHUNK) is None


def test_a_file_that_changed_begins_again() -> None:
    plan, (file,) = plan_of(25)
    first = taken(plan)
    arrive(plan, first)
    late = taken(plan)
    assert plan.bytes_done == 10
    assert plan.begin_again(late, entry(12))
    assert (plan.bytes_done, plan.bytes_total, plan.chunks_again) == (0, 12, 1)
    assert late.void
    arrive(plan, late)
    plan.give_back(late)
    assert plan.bytes_done == 0
    runs = [taken(plan), taken(plan)]
    assert [run.size for run in runs] == [10, 2]
    for run in runs:
        arrive(plan, run)
    seal = seal_of(plan)
    assert plan.begin_again(seal, entry(0))
    empty = seal_of(plan)
    assert empty.generation == 2
    assert not plan.begin_again(empty, entry(5))
    assert plan.settle_file(file, done=True)
    assert (plan.files_done, plan.bytes_done, plan.bytes_total) == (1, 0, 0)


def test_the_bytes_that_have_arrived() -> None:
    file = LargeFile(entry(25), CHUNK)
    assert file.arrived == 0
    file.assembly.accept(2, NOTHING)
    assert file.arrived == 5
    file.assembly.accept(0, NOTHING)
    assert file.arrived == 15
    file.assembly.accept(1, NOTHING)
    assert file.arrived == 25


def test_files_of_a_pack_settle_together() -> None:
    plan = ChunkPlan(2)
    plan.add_pack(Pack(b"table", 5, 500))
    assert not plan.finished
    pack = plan.take(1)
    assert isinstance(pack, Pack)
    plan.give_back(pack)
    assert plan.take(1) is pack
    assert plan.chunks_again == 5
    again = Pack(b"one", 1, 100, tries=1)
    plan.add_pack(again)
    plan.settle_pack(pack, 3, 290)
    assert (plan.files_done, plan.files_total, plan.bytes_done, plan.bytes_total) == (3, 4, 290, 390)
    assert plan.take(1) is again
    plan.settle_pack(again, 0, 0)
    assert plan.finished
    assert (plan.files_done, plan.files_total, plan.bytes_done, plan.bytes_total) == (3, 3, 290, 290)


def test_a_file_with_too_many_chunks_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        LargeFile(entry(1 << 60), CHUNK)


# What is there already


def test_what_may_be_there_is_compared_before_anything_is_moved() -> None:
    plan, file = known_plan(45, 25)
    work = comparison(plan)
    assert (work.file, work.first, work.count, work.size, work.void) == (file, 0, 3, 0, False)
    assert [(run.first, run.count) for run in (taken(plan), taken(plan))] == [(3, 1), (4, 1)]
    assert plan.take(CHUNK) is None
    for index, there in enumerate((True, False, True)):
        if there:
            plan.chunk_arrived(work, index, NOTHING)
        else:
            plan.chunk_differs(work, index)
    again = taken(plan, 100)
    assert (again.first, again.count) == (1, 1)
    assert plan.take(CHUNK) is None
    assert plan.chunks_again == 0, "it was not moved before"


@pytest.mark.parametrize(("known", "count"), [(0, 0), (1, 1), (10, 1), (11, 2), (95, 10), (10_000, 10)])
def test_how_much_is_compared(known: int, count: int) -> None:
    plan, _ = known_plan(95, known)
    work = plan.take(1000)
    assert (work.count if isinstance(work, Compare) else 0) == count


@pytest.mark.parametrize(("chunk", "count"), [(1 << 20, 32), (8 << 20, 4), (CHUNK, 1024)])
def test_not_too_much_is_compared_at_once(chunk: int, count: int) -> None:
    plan, _ = known_plan(5000 * chunk, 5000 * chunk, chunk=chunk)
    works = [comparison(plan) for _ in range(2)]
    assert [(work.first, work.count) for work in works] == [(0, count), (count, count)]


def test_a_file_that_is_all_there_is_sealed_at_once() -> None:
    plan, file = known_plan(25, 25)
    work = comparison(plan)
    assert plan.take(CHUNK) is None
    for index in range(3):
        plan.chunk_arrived(work, index, NOTHING)
    assert (plan.chunks, plan.bytes_done) == (3, 25)
    assert seal_of(plan).file is file


def test_what_a_lane_did_not_compare_another_does() -> None:
    plan, _ = known_plan(50, 50)
    work = comparison(plan)
    plan.chunk_arrived(work, 0, NOTHING)
    plan.give_back(Compare(work.file, work.generation, 1, work.count - 1))
    again = comparison(plan)
    assert (again.first, again.count) == (1, 4)
    plan.give_back(Compare(work.file, work.generation, 5, 0))
    assert plan.take(CHUNK) is None


def test_a_chunk_that_arrived_meanwhile_does_not_differ() -> None:
    plan, _ = known_plan(25, 25)
    work = comparison(plan)
    plan.chunk_arrived(work, 1, NOTHING)
    plan.chunk_differs(work, 1)
    assert plan.take(CHUNK) is None


def test_the_end_of_a_chunk_that_can_not_be_had_is_compared_anew() -> None:
    plan, file = known_plan(25, 25)
    work = comparison(plan)
    piece = Piece(file, 0, 2, 3)
    assert not piece.void
    plan.give_back(piece)
    again = comparison(plan)
    assert (again.first, again.count) == (2, 1)
    plan.chunk_arrived(Piece(file, 0, 2, 3), 2, NOTHING)
    assert (plan.chunks, plan.bytes_done) == (1, 5)
    assert plan.chunk_damaged(Piece(file, 0, 1, 3), 1)
    moved = taken(plan)
    assert (moved.first, moved.count, plan.chunks_again) == (1, 1, 1)
    assert not work.void


def test_what_was_compared_of_a_file_that_changed_counts_for_nothing() -> None:
    plan, file = known_plan(45, 45)
    work, piece = comparison(plan), Piece(file, 0, 1, 3)
    plan.chunk_arrived(work, 0, NOTHING)
    file.known = 15
    assert plan.begin_again(work, entry(35))
    assert work.void
    assert piece.void
    for late in (work, piece):
        plan.chunk_arrived(late, 1, NOTHING)
        assert plan.chunk_damaged(late, 1)
        plan.give_back(late)
    plan.chunk_differs(work, 1)
    assert (plan.chunks, plan.bytes_done) == (1, 0)
    anew = comparison(plan)
    assert (anew.generation, anew.first, anew.count) == (1, 0, 2)
    assert [taken(plan).first for _ in range(2)] == [2, 3]
    assert plan.take(CHUNK) is None


def test_nothing_of_a_settled_file_is_compared() -> None:
    plan, file = known_plan(45, 45)
    work = comparison(plan)
    plan.give_back(work)
    assert plan.settle_file(file, done=False)
    assert work.void
    assert not file.pending
    assert plan.take(CHUNK) is None
    plan.give_back(work)
    assert plan.take(CHUNK) is None


# Plans that are still being filled


def test_a_plan_that_is_open_does_not_finish() -> None:
    plan = ChunkPlan()
    plan.open = True
    assert (plan.finished, plan.unsettled) == (False, 0)
    plan.add_pack(Pack(b"", 1, 1))
    plan.add_file(LargeFile(entry(5), CHUNK))
    assert plan.unsettled == 2
    run = taken(plan)
    arrive(plan, run)
    assert plan.settle_file(seal_of(plan).file, done=True)
    assert plan.unsettled == 1
    pack = plan.take(CHUNK)
    assert isinstance(pack, Pack)
    plan.settle_pack(pack, 1, 1)
    assert (plan.finished, plan.unsettled) == (False, 0)
    assert plan.take(CHUNK) is None
    plan.open = False
    assert plan.finished


class Lanes(RuleBasedStateMachine):
    """Lanes that take, finish, lose and damage work in any order: in the end everything has arrived once."""

    @initialize(
        sizes=st.lists(st.tuples(st.integers(1, 120), st.integers(0, 150)), max_size=6),
        packs=st.lists(st.integers(1, 9), max_size=4),
    )
    def begin(self, sizes: list[tuple[int, int]], packs: list[int]) -> None:
        self.plan = ChunkPlan(3)
        for number, (size, known) in enumerate(sizes):
            self.plan.add_file(LargeFile(entry(size, f"file{number}"), CHUNK, known=known))
        for count in packs:
            self.plan.add_pack(Pack(b"", count, count * 3))
        self.expected = (len(sizes) + sum(packs), sum(size for size, _ in sizes) + 3 * sum(packs))
        self.held: list[Work] = []

    @rule(budget=st.integers(1, 60))
    def take(self, budget: int) -> None:
        work = self.plan.take(budget)
        if work is not None:
            self.held.append(work)

    def _finish(self, work: Work) -> None:
        if isinstance(work, Run):
            arrive(self.plan, work)
        elif isinstance(work, Compare):
            self._compare(work, [1] * work.count)
        elif isinstance(work, Piece):
            self.plan.chunk_arrived(work, work.first, NOTHING)
        elif isinstance(work, Seal):
            assert not work.file.assembly.missing
            self.plan.settle_file(work.file, done=True)
        else:
            self.plan.settle_pack(work, work.count, work.size)

    def _compare(self, work: Compare, found: list[int]) -> None:
        """Of each chunk: it is another (0), it is there (1), its beginning is there (2)."""
        for index, what in zip(range(work.first, work.first + work.count), found, strict=True):
            if what == 0:
                self.plan.chunk_differs(work, index)
            elif what == 1 or work.file.length(index) < 2:
                self.plan.chunk_arrived(work, index, NOTHING)
            else:
                self.held.append(Piece(work.file, work.generation, index, 1))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        work = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if isinstance(work, Compare):
            self._compare(work, data.draw(st.lists(st.integers(0, 2), min_size=work.count, max_size=work.count)))
        else:
            self.held.append(work)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self._finish(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        work = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if isinstance(work, Run) and work.count > 1:
            self.plan.chunk_arrived(work, work.first, NOTHING)
            work = Run(work.file, work.generation, work.first + 1, work.count - 1)
        self.plan.give_back(work)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        work = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if isinstance(work, Piece):
            work = Run(work.file, work.generation, work.first, 1)
        if not isinstance(work, Run):
            self.held.append(work)
            return
        for index in range(work.first, work.first + work.count):
            if not self.plan.chunk_damaged(work, index):
                self.plan.chunk_arrived(work, index, NOTHING)

    @invariant()
    def figures_agree(self) -> None:
        if hasattr(self, "plan"):
            assert 0 <= self.plan.bytes_done <= self.plan.bytes_total
            assert 0 <= self.plan.files_done <= self.plan.files_total

    def teardown(self) -> None:
        if not hasattr(self, "plan"):
            return
        while self.held or not self.plan.finished:
            work = self.held.pop() if self.held else self.plan.take(CHUNK)
            assert work is not None, "nothing is left to take, but the job has not finished"
            self._finish(work)
        assert (self.plan.files_done, self.plan.bytes_done) == self.expected
        assert (self.plan.files_total, self.plan.bytes_total) == self.expected


TestLanes = Lanes.TestCase
TestLanes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
