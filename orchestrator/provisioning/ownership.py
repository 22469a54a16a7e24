"""Whose topic is it: what the claims on the cluster say, and what they have to say after a sync. Pure functions.

Rules:
- A claim holds for the one topic with its id: a topic that was deleted and made again is nobody's until claimed.
- A topic belongs to the pipeline whose file declares it. Another one that declares it too is refused, unless it is
  told to take the topic over.
- Only the pipeline that created a topic may remove it, and only once no file declares it any more.
- Names that begin with `_` and Kafka's internal topics are never removed, whatever a claim says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.config.model import Pipeline
from orchestrator.records import Claim, ClusterState, TopicSpec, TopicState

#: A claim by its topic and its owner; None in an update removes it.
Key = tuple[str, str]
Update = Mapping[Key, Claim | None]


def owner_of(pipeline: Pipeline) -> str:
    """The pipeline's name with its namespace, as in the names of its consumer groups."""
    return f"{pipeline.namespace}.{pipeline.name}" if pipeline.namespace else pipeline.name


@dataclass(frozen=True, slots=True)
class Claims:
    """Every claim on the cluster, seen by one pipeline. `why_unknown` is not empty when they could not be read."""

    owner: str = ""
    all: Mapping[Key, Claim] = field(default_factory=dict)
    why_unknown: str = ""
    #: The claims of other pipelines, by topic.
    _others: Mapping[str, Sequence[Claim]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        others: dict[str, list[Claim]] = {}
        for (topic, owner), claim in self.all.items():
            if owner != self.owner:
                others.setdefault(topic, []).append(claim)
        object.__setattr__(self, "_others", others)

    def mine(self, state: TopicState) -> Claim | None:
        """This pipeline's claim on the topic as it is now."""
        return _holding(self.all.get((state.name, self.owner)), state)

    def rival(self, state: TopicState) -> Claim | None:
        """The claim of another pipeline that declares the topic, if there is one."""
        holding = (_holding(claim, state) for claim in self._others.get(state.name, ()))
        return next((claim for claim in holding if claim is not None and claim.declared), None)

    def left_over(self, declared: Iterable[TopicSpec]) -> tuple[str, ...]:
        """The topics that this pipeline created and its file does not declare any more, by name."""
        named = {spec.name for spec in declared}
        return tuple(
            sorted(
                claim.topic
                for claim in self.all.values()
                if claim.owner == self.owner
                and claim.created
                and claim.topic not in named
                and not claim.topic.startswith("_")
            )
        )

    def may_remove(self, state: TopicState) -> bool:
        """Whether a topic of `left_over` is really this pipeline's to remove."""
        mine = self.mine(state)
        return mine is not None and mine.created and not state.internal and self.rival(state) is None

    def void(self, declared: Iterable[TopicSpec], actual: ClusterState) -> tuple[str, ...]:
        """Those of `left_over` that are gone, or were made again by somebody; `actual` has to answer for them."""
        seen = [name for name in self.left_over(declared) if name not in actual.unknown]
        return tuple(n for n in seen if (state := actual.topics.get(n)) is None or self.mine(state) is None)


@dataclass(frozen=True, slots=True)
class Done:
    """What a sync did, as far as ownership goes: topics by name. `removed` are gone, by whoever it was."""

    created: Collection[str] = ()
    removed: Collection[str] = ()
    taken_over: Collection[str] = ()


def updates(claims: Claims, declared: Sequence[TopicSpec], actual: ClusterState, done: Done) -> Update:
    """The claims to write after a sync; empty when all of them are right already."""
    changed: dict[Key, Claim | None] = {}
    for spec in declared:
        state = actual.topics.get(spec.name)
        if state is None:
            continue
        rival = claims.rival(state) if spec.name in done.taken_over else None
        if rival is not None:
            changed[rival.topic, rival.owner] = None
        elif claims.rival(state) is not None:
            continue
        claim = _claim(claims, spec, state, spec.name in done.created or (rival is not None and rival.created))
        if claim != claims.all.get((spec.name, claims.owner)):
            changed[spec.name, claims.owner] = claim
    return changed | _let_go(claims, {spec.name for spec in declared}, done.removed)


def _claim(claims: Claims, spec: TopicSpec, state: TopicState, created: bool) -> Claim:
    mine = claims.mine(state)
    keys = set(spec.configs) | set(mine.configs if mine else ())
    if state.overrides is not None:
        keys &= state.overrides.keys()
    created = created or (mine is not None and mine.created)
    return Claim(spec.name, claims.owner, state.topic_id, created, True, tuple(sorted(keys)))


def _let_go(claims: Claims, named: Collection[str], removed: Collection[str]) -> dict[Key, Claim | None]:
    """Claims on topics that the file does not name: of what this pipeline created it stays on record."""
    changed: dict[Key, Claim | None] = {}
    for key, claim in claims.all.items():
        if claim.owner != claims.owner or claim.topic in named:
            continue
        if claim.topic in removed or not claim.created:
            changed[key] = None
        elif claim.declared:
            changed[key] = claim._replace(declared=False)
    return changed


def _holding(claim: Claim | None, state: TopicState) -> Claim | None:
    return claim if claim is not None and claim.topic_id == state.topic_id else None
