"""The thread that polls: hands events over, pauses and resumes, commits, and follows the group's decisions.

Rules (DESIGN section 5, steps 1, 2, 11 and 12):
- It never runs a handler and never waits for one, save while partitions are revoked or the worker stops, and then
  within a budget.
- Commits name explicit offsets, taken from the ledger under its lock, only for partitions that are owned.
- Revoked: drain within the budget, commit, let go. Lost: let go, commit nothing.
- A topic that was made anew ends the worker: it commits where the new topic starts, and its successor goes on there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from orchestrator.config.model import Handler
from orchestrator.delivery.admission import AdmissionLimits, paused_partitions
from orchestrator.delivery.dedup import Dedup
from orchestrator.delivery.offsets.checkpoint import Checkpoint, read_checkpoint
from orchestrator.delivery.offsets.start import Jump, StartReason, cut, is_remade
from orchestrator.delivery.partition import Partition
from orchestrator.errors import BrokerError
from orchestrator.kafka.consumer import CommitRequest, Committed, GroupConsumer, Membership, OffsetLost
from orchestrator.records import TopicPartition
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.consume.start_offsets import StartOffsets
from orchestrator.worker.consume.topic_identity import TopicIdentities
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.produce.transactional_barrier import TransactionalBarrier

log = logging.getLogger("kpipe.worker")

POLL_EVENTS = 2_000
POLL_SECONDS = 0.1
COMMIT_SECONDS = 1.0
#: What a partition needs not to run dry before the next poll (events).
AHEAD_EVENTS = 2_000
#: With so many waiting everywhere, or a partition full, nothing is polled for so long (seconds) at most: a handler that
#: is fast works them off. librdkafka throws away what it has fetched of a partition that is paused.
HOLD_SECONDS = 0.1
#: While it leaves, the group is listened to so often (seconds), and a refused last commit is repeated for so long.
FOLLOW_SECONDS = 0.1
LAST_COMMIT_SECONDS = 3.0
#: A transaction that holds an offset of a partition that is taken away gets so long to end (seconds).
TRANSACTION_SECONDS = 10.0


class PollerHooks:
    """What the poller tells its worker, and asks it. Called in the thread that polls; here each does nothing."""

    def assigned(self, partitions: Sequence[TopicPartition] | None) -> None:
        """The owned partitions after each change; None while they are taken away."""

    def opened(self, part: Partition) -> None:
        """A new epoch of a partition, before it begins: its events may be put under suspicion."""

    def rebuild(self, parts: Sequence[Partition]) -> None:
        """Partitions of an assignment that have to learn which event ids are taken.

        None of them runs until the ledger is told that this is done.
        """

    def tick(self) -> None:
        """About ten times a second. May end the process."""

    def halted(self) -> bool:
        """Whether every partition is to be paused (the breaker is open)."""
        return False

    def drained(self) -> None:
        """The worker stops, and still owns its partitions. Once."""


class Poller:
    """Owns the consumer. `run` polls until `stop`, then drains, commits and leaves the group."""

    def __init__(
        self,
        handler: Handler,
        sources: Mapping[str, Input],
        ledger: Assignments,
        facts: WorkerEvents,
        connect: Callable[[Poller], GroupConsumer],
        hooks: PollerHooks,
        *,
        drain_budget: float,
        transactions: TransactionalBarrier | None = None,
        topics: TopicIdentities | None = None,
        limits: AdmissionLimits = AdmissionLimits(),  # noqa: B008 - a frozen value
    ) -> None:
        """`connect` makes the consumer, given this object as its `AssignmentListener`.

        `drain_budget` (seconds) is what running events get when partitions are taken away. With `transactions` offsets
        are committed in those; their module says by whom. `topics` knows the ids of the handler's topics; without it
        none is known.
        """
        self._handler = handler
        self._sources = sources
        self._ledger = ledger
        self._facts = facts
        self._drain_budget = drain_budget
        self._hooks = hooks
        self._limits = limits
        self._transactions = transactions
        self._topics = topics or TopicIdentities()
        #: A topic was made anew: this worker ends, to be started again.
        self.renewing = False
        self._paused: frozenset[TopicPartition] = frozenset()
        self._commit_due = 0.0
        self._stopping = False
        self._leaving = False
        #: Who the consumer is in its group, for transactions: of now or a little before, for any thread to read.
        self.member: Membership | None = None
        #: What is left to be committed of epochs that ended because the worker leaves, as long as they are ours.
        self._last: dict[TopicPartition, Checkpoint] = {}
        self._consumer = connect(self)
        self._starts = StartOffsets(handler, sources, self._topics, self._consumer)
        self._consumer.on_commit_failure(self._commit_failed)

    def stop(self) -> None:
        """Safe to call from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        while not self._stopping:
            self._turn()
        asked = time.monotonic()
        self._await_calm()
        self._leave(asked)

    def _await_calm(self) -> None:
        """Go on as before until a rebalance that is under way is over: whoever leaves during one is not heard."""
        told = self._consumer.assignments_told
        if self._consumer.turbulent(told) and not self._consumer.alone():
            while self._consumer.turbulent(told):
                self._turn()

    def _turn(self) -> None:
        polled = self._consumer.poll(POLL_EVENTS, POLL_SECONDS)
        self._note_member()
        if polled.records:
            self._ledger.receive(polled.records)
        for end in polled.ends:
            self._ledger.reach_end(end.tp, end.offset)
        for lost in polled.lost:
            self._offset_lost(lost)
        self._check_topics()
        for trouble in polled.troubles:
            self._facts.trouble(f"Kafka: {trouble.code}: {trouble.message}")
        self._admit()
        self._commit_on_time()
        self._commit_wanted()
        self._hooks.tick()

    @property
    def paused(self) -> int:
        """How many partitions are paused."""
        return len(self._paused)

    def lags(self) -> dict[TopicPartition, int | None]:
        """Events between frontier and end of each owned partition; None where the end is not known."""
        ends = {tp: (at, self._consumer.known_end(tp)) for tp, at in self._ledger.frontiers().items()}
        return {tp: None if end is None else max(0, end - at) for tp, (at, end) in ends.items()}

    # -- admission and commits ------------------------------------------------------------------------------------

    def _admit(self) -> None:
        if not self._hooks.halted():
            self._ledger.await_progress(self._hungry, HOLD_SECONDS)
        wanted = self._to_pause()
        if wanted != self._paused:
            self._consumer.pause(sorted(wanted - self._paused))
            self._consumer.resume(sorted(self._paused - wanted))
            self._paused = wanted

    def _to_pause(self) -> frozenset[TopicPartition]:
        loads = self._ledger.loads()
        return frozenset(loads) if self._hooks.halted() else paused_partitions(loads, self._paused, self._limits)

    def _hungry(self) -> bool:
        """Whether to poll now: a partition has run dry, or soon will and none is full; or none has much to do.

        One of which everything is here may be dry: polling brings it nothing.
        """
        parts = self._ledger.partitions
        full = not self._to_pause() <= self._paused
        much = full or any(len(part.fresh) >= AHEAD_EVENTS for part in parts)
        if not much or self._ledger.commit_wanted:
            return True
        low = [part for part in parts if len(part.fresh) < AHEAD_EVENTS and self._has_more(part)]
        return not all(part.fresh for part in low) or bool(low and not full)

    def _has_more(self, part: Partition) -> bool:
        """Whether there may be events of `part` that have not arrived: the last fetch saw the end of its log."""
        end = self._consumer.known_end(part.tp)
        return end is None or end > max(part.received, part.end)

    def _commit_on_time(self) -> None:
        now = time.monotonic()
        if now >= self._commit_due:
            self._commit_due = now + COMMIT_SECONDS
            self._note_epochs()
            self.commit()

    def _commit_wanted(self) -> None:
        """Somebody waits for a commit before it goes on: make it now, and hear its answer."""
        if not self._ledger.commit_wanted or self._consumer.committing:
            return
        asked = self._ledger.commits_asked
        if self._transactions is not None:
            self._note_member()
            if self._transactions.commit_now():
                self._ledger.commits_made(asked)
            return
        changed = self._ledger.uncommitted()
        try:
            self._consumer.commit(_requests(changed), wait=True)
        except BrokerError as e:
            self._commit_failed(list(changed), e.message)
            return
        self._ledger.commits_made(asked)

    def commit(self) -> None:
        """Commit what settled since the last time; a refusal is told later and repeated."""
        if self._transactions is None and not self._consumer.committing:
            self._consumer.commit(_requests(self._ledger.uncommitted()), wait=False)

    def _commit_failed(self, tps: Sequence[TopicPartition], why: str) -> None:
        self._ledger.commit_failed(tps)
        log.warning("a commit was refused and will be repeated: %s", why)

    def _note_member(self) -> None:
        if self._transactions is not None:
            self.member = self._consumer.membership()

    def _close(self, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, Checkpoint]:
        """End the epochs; what is left to be committed for them. A transaction that holds one gets time to end."""
        ending = [part for part in self._ledger.partitions if part.tp in tps]
        patience = 0.0 if self._transactions is None else min(TRANSACTION_SECONDS, self._drain_budget)
        ended = self._ledger.close(tps, patience)
        # Their offsets are of a former topic. Without others, the successor finds that topic's id in the commit.
        stale = [part for part in ending if self._is_stale(part)]
        kept = {tp: checkpoint for tp, checkpoint in ended.items() if tp not in {part.tp for part in stale}}
        return kept | self._topics.recount([part for part in stale if not part.committing])

    def _commit_now(self, checkpoints: Mapping[TopicPartition, Checkpoint]) -> None:
        if self._transactions is None:
            self._consumer.commit(_requests(checkpoints), wait=True)
        else:
            self._note_member()
            self._transactions.commit(checkpoints)

    def _commit_last(self, ended: Mapping[TopicPartition, Checkpoint]) -> None:
        """The commit that ends an epoch. If it is refused, what it covered is delivered again, to whoever is next."""
        try:
            self._commit_now(ended)
        except BrokerError as e:
            self._facts.trouble(f"{e.message}; what it covered is delivered again")

    # -- what the group decides (called from within poll) ---------------------------------------------------------

    def assigned(self, committed: Sequence[Committed]) -> Mapping[TopicPartition, int]:
        """Open an epoch for each new partition; a group that never committed starts at `from` and commits it."""
        starts = {}
        begun = {}
        opened = []
        for one, start in zip(committed, self._starts.of(committed), strict=True):
            starts[one.tp] = start.checkpoint.offset
            known = read_checkpoint(one.offset, one.metadata, one.epoch) if one.offset is not None else None
            if start.jump is not None:
                known = None
                self._facts.jumped(one.tp, start.jump)
            opened.append(self._open(one.tp, start.checkpoint, known, rebuild=one.offset is not None))
            if known is None or opened[-1].suspects:
                # Who is under suspicion is told nobody else: it has to outlive this process from the start.
                begun[one.tp] = self._ledger.checkpoint(opened[-1])
        if begun:
            self._commit_start(begun)
        self._hooks.rebuild([part for part in opened if part.rebuilding])
        self._paused -= set(starts)
        self._hooks.assigned([part.tp for part in self._ledger.partitions])
        return starts

    def _commit_start(self, begun: Mapping[TopicPartition, Checkpoint]) -> None:
        """No event of these has run in this epoch, so that no transaction can hold an offset of them."""
        try:
            self._consumer.commit(_requests(begun), wait=True)
        except BrokerError as e:
            self._facts.trouble(f"where an epoch starts was not committed: {e.message}")

    def _open(self, tp: TopicPartition, start: Checkpoint, committed: Checkpoint | None, *, rebuild: bool) -> Partition:
        """An epoch begins with `start`; `committed` is what the group has of that. `rebuild`: ids may be taken."""
        source = self._sources[tp.topic]
        policy = self._handler.dedup if source.origins is None else None
        dedup = None if policy is None else Dedup(window=int(min(policy.window, 1e9) * 1000))
        part = Partition(tp, source.topic, start, dedup)
        # A group that never committed anything has settled nothing: there is nothing to learn.
        part.rebuilding = dedup is not None and rebuild
        part.draining = self._leaving
        self._hooks.opened(part)
        self._ledger.open(part, committed)
        return part

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Drain, commit, let go."""
        if not self._ledger.drain(partitions, self._drain_budget):
            log.warning("events still run past the drain budget of %.0f s; they will be run again", self._drain_budget)
        mine = {tp: self._last.pop(tp) for tp in partitions if tp in self._last}
        self._commit_last({**mine, **self._close(partitions)})
        self._paused -= set(partitions)
        self._hooks.assigned(None)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """The group went on without us: nothing of these partitions counts any more."""
        self._facts.trouble(f"the group took {len(partitions)} partition(s) away without waiting for this worker")
        self._ledger.close(partitions)
        for tp in partitions:
            self._last.pop(tp, None)
        self._paused -= set(partitions)
        self._hooks.assigned(None)

    def _offset_lost(self, lost: OffsetLost) -> None:
        """The offset to read next is gone: find out why, say so, and go on where that leads.

        What had arrived before retention passed is still here and still runs. What had arrived of a log that was cut
        runs again where it is still there.
        """
        part = next((p for p in self._ledger.partitions if p.tp == lost.tp), None)
        if part is None:
            return
        self._topics.look()
        if self._renew_if_remade():
            return
        low, high = self._consumer.ends_of(lost.tp)
        if part.received < low:
            self._facts.jumped(lost.tp, Jump(StartReason.REMOVED, part.received, low, low, high))
            self._consumer.go_on_at(lost.tp, low)
        elif part.received > high or lost.parted:
            self._go_on_after_cut(part, low, high)
        else:  # it exists again: the log has grown since
            self._consumer.go_on_at(lost.tp, part.received)

    def _go_on_after_cut(self, part: Partition, low: int, high: int) -> None:
        """The log lost its end (an unclean leader election), and may have grown again since."""
        wanted = part.received
        self._note_epochs()
        parting = self._topics.parted(part.tp, low, min(wanted, high), part.epoch)
        at = max(low, min(wanted, high if parting is None else parting))
        self._facts.jumped(part.tp, Jump(StartReason.TRUNCATED, wanted, at, low, high))
        self._close([part.tp])
        start = cut(self._ledger.checkpoint(part), at)
        self._hooks.rebuild([p for p in [self._open(part.tp, start, None, rebuild=True)] if p.rebuilding])
        self._consumer.go_on_at(part.tp, start.offset)

    # -- topics that were made anew -------------------------------------------------------------------------------

    def _check_topics(self) -> None:
        """Once a second: are these still the topics that this worker began with?"""
        if self._topics.ask_in_time():
            for part in self._ledger.partitions:
                part.arrivals.ask()
            return
        answered = self._topics.answered()
        if answered is None or self._renew_if_remade():
            return
        for part in self._ledger.partitions:
            if part.tp.topic in answered:
                self._ledger.identify(part, self._topics.id_of(part.tp.topic))
                part.arrivals.verify()

    def _renew_if_remade(self) -> bool:
        """Whether a topic was made anew: then this worker is about to end."""
        stale = [part for part in self._ledger.partitions if self._is_stale(part)]
        topics = sorted({part.tp.topic for part in stale} | set(self._topics.remade()))
        if topics and not self.renewing:
            self.renewing = self._stopping = True
            for topic in topics:
                waiting = sum(part.in_flight for part in stale if part.tp.topic == topic)
                self._facts.remade(topic, self._topics.id_of(topic), waiting)
        return bool(topics)

    def _is_stale(self, part: Partition) -> bool:
        return is_remade(self._topics.id_of(part.tp.topic), part.topic_id)

    def _note_epochs(self) -> None:
        epochs = self._consumer.epochs([part.tp for part in self._ledger.partitions])
        for part in self._ledger.partitions:
            self._ledger.note_epoch(part, epochs.get(part.tp, -1))

    def abandon(self) -> None:
        """Give up what runs, commit what is settled, leave the group: the process is about to be ended."""
        self._commit_last(self._close([part.tp for part in self._ledger.partitions]))
        self.member = None
        self._consumer.close()

    # -- the end --------------------------------------------------------------------------------------------------

    def _leave(self, asked: float) -> None:
        """Drain what runs, commit, leave the group. Until then the group's decisions are followed.

        A member that stopped polling would hold up the others' rebalance, and with it everybody's commits.
        """
        self._leaving = True
        self._consumer.pause([part.tp for part in self._ledger.partitions])
        if not self._drain_following(asked + self._drain_budget):
            log.warning("an event still runs past the drain budget of %.0f s; it will be run again", self._drain_budget)
        self._hooks.drained()
        self._commit_following()
        self._ledger.close([part.tp for part in self._ledger.partitions])
        self.member = None
        self._consumer.close()

    def _drain_following(self, deadline: float) -> bool:
        while not self._ledger.drain([part.tp for part in self._ledger.partitions], FOLLOW_SECONDS):
            if time.monotonic() > deadline:
                return False
            self._consumer.poll(POLL_EVENTS, 0)
            self._note_member()
        return True

    def _commit_following(self) -> None:
        """The last commit; a rebalance refuses it for a moment, until the group's new generation is known here."""
        deadline = time.monotonic() + LAST_COMMIT_SECONDS
        owned = [part.tp for part in self._ledger.partitions]
        # A transaction may still hold one, or an offset is of a former topic: then the epochs have to end first. While
        # it is listened to, the group may take partitions away: their next owner commits, and nothing of ours follows.
        if self.renewing:
            self._commit_before_recount(deadline)
        self._last = {} if self._transactions is None and not self.renewing else dict(self._close(owned))
        while changed := dict(self._last) or self._ledger.uncommitted():
            try:
                self._commit_now(changed)
                self._last.clear()
            except BrokerError as e:
                self._ledger.commit_failed(changed)
                if time.monotonic() > deadline:
                    self._facts.trouble(f"{e.message}; what it covered is delivered again")
                    return
                self._consumer.poll(POLL_EVENTS, FOLLOW_SECONDS)

    def _commit_before_recount(self, deadline: float) -> None:
        """What is not about a topic that was made anew does not wait for what is found out about that."""
        while self._consumer.committing and time.monotonic() < deadline:
            self._consumer.poll(POLL_EVENTS, FOLLOW_SECONDS)
        if self._transactions is not None:
            return
        stale = {part.tp for part in self._ledger.partitions if self._is_stale(part)}
        same = {tp: checkpoint for tp, checkpoint in self._ledger.uncommitted().items() if tp not in stale}
        try:
            self._consumer.commit(_requests(same), wait=True)
        except BrokerError:
            self._ledger.commit_failed(same)


def _requests(checkpoints: Mapping[TopicPartition, Checkpoint]) -> list[CommitRequest]:
    return [CommitRequest(tp, c.offset, c.metadata(), c.epoch) for tp, c in checkpoints.items()]
