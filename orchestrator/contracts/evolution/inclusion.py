"""Does every value that keeps one schema keep another? And if not, where and why.

    misfits(old, new)     # () when each value of `old` is one of `new`

The answer () is a proof; a misfit is either a counterexample that exists or something that cannot be proven, and says
which keyword it is about. Schemas are `dialect.modern(resolve.resolved(...))`.

The rules, keyword by keyword, in the words of draft 2020-12:
- What a value may be is read from *all* that holds for it (`allOf`, `$ref` and neighbours at once). `anyOf`, `oneOf`
  and a list of types are gone through case by case where the whole cannot be proven.
- `enum` and `const` on the first side: each value is tried on the second.
- Bounds, lengths, `required`, `multipleOf`: compared. `pattern`, `format`, `contains`, `unevaluated…`: have to be there
  already. `if`: both outcomes are demanded. `not` and `oneOf`: only what is provably apart.
- What is nested too deeply, or has too many cases within each other, is not proven: see `steps`.
- A member that the first schema neither names nor forbids, and the second names, is an *assumption*, not a misfit:
  see `Misfit.certain`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs

from orchestrator.config.budget import Budget, TooMuch, size
from orchestrator.config.drafts import OFFLINE
from orchestrator.contracts.evolution import schema_facts
from orchestrator.contracts.evolution.schema_facts import Conjunction, SchemaReader
from orchestrator.contracts.paths import Step, json_path
from orchestrator.contracts.unusable import body, impossible, matching, work

#: Cases of `anyOf`, `oneOf` and types within each other, and cases on one level.
_MOST_NESTED = 4
_MOST_CASES = 32
_MOST_SHOWN = 60
#: Checks within each other: each takes up to six of Python's 1,000 frames.
_DEEPEST = 120
#: Steps of all comparisons that share a budget: a step is a pair of schemas, or ten values of an `enum`.
_MOST_STEPS = 300_000
#: JSON values of two schemas that jsonschema-rs compares.
_MOST_VALUES = 10_000


class Misfit(NamedTuple):
    """Why a value of the first schema may not keep the second, and where in the value.

    `certain` is false for a member that the first schema is open to without knowing it: only a value that happens to
    have such a member, of another kind, would fail.
    """

    path: str
    reason: str
    certain: bool = True


def steps() -> Budget:
    """What comparing may cost; for one comparison, or for several that share it."""
    return Budget(_MOST_STEPS, "is not compared: it has too many cases within each other")


def misfits(old: Any, new: Any, budget: Budget | None = None) -> tuple[Misfit, ...]:
    """All that keeps values of `old` from being values of `new`, () when nothing does."""
    if covered(old, new):
        return ()
    comparison = _Inclusion(SchemaReader(old), SchemaReader(new), steps() if budget is None else budget)
    try:
        return tuple(dict.fromkeys(comparison.check((body(old),), body(new), ())))
    except TooMuch as problem:
        return (Misfit(json_path(()), str(problem)),)


def covered(old: Any, new: Any) -> bool:
    """Whether jsonschema-rs proves it. It has no answer for schemas that refer to themselves.

    It is not asked about large schemas: it takes quadratic time for their enums and patterns.
    """
    if size(old) + size(new) > _MOST_VALUES:
        return False
    try:
        first, second = (jsonschema_rs.canonicalize(schema, validate_formats=True, **OFFLINE) for schema in (old, new))
        return second.covers(first) == jsonschema_rs.canonical.Containment.YES
    except (jsonschema_rs.canonical.CanonicalizationError, ValueError):
        return False


class _Inclusion:
    """One comparison. `check` returns what is wrong with every value of the conjunction `olds` that `new` refuses."""

    def __init__(self, old: SchemaReader, new: SchemaReader, budget: Budget) -> None:
        self._old = old
        self._new = new
        self._budget = budget
        # Pairs that are proven (-1) or being checked, with the depth in the value. To assume what is being checked is
        # sound for what is inside of the value, and a circle without a step into it. An id is only good as long as
        # what has it lives, so the pair itself stands there, too.
        self._assumed: dict[tuple[frozenset[int], int], tuple[int, Conjunction, Any]] = {}
        self._depth = 0
        self._nested = 0
        self._rules: dict[str, Callable[[Conjunction, Any, tuple[Step, ...]], Iterator[Misfit]]] = {
            "anyOf": self._any_of,
            "oneOf": self._one_of,
            "not": self._not,
        }

    def check(self, olds: Conjunction, new: Any, path: tuple[Step, ...]) -> list[Misfit]:
        if self._depth == _DEEPEST:
            return [Misfit(json_path(path), "is nested too deeply to be judged")]
        self._depth += 1
        try:
            return self._checked(olds, new, path)
        finally:
            self._depth -= 1

    def _checked(self, olds: Conjunction, new: Any, path: tuple[Step, ...]) -> list[Misfit]:
        flat = self._old.flat(olds)
        self._budget.spend(work(flat))
        if new is True or new == {} or impossible(flat, self._old):
            return []
        if new is False:
            return [Misfit(json_path(path), "is not allowed")]
        pair = (frozenset(map(id, flat)), id(new))
        if pair in self._assumed:
            inside = len(path) > self._assumed[pair][0]
            return [] if inside else [Misfit(json_path(path), "may differ, which cannot be judged")]
        before = len(self._assumed)
        self._assumed[pair] = len(path), flat, new
        few = schema_facts.few_values(flat, self._old)
        if few is not None:
            valid = self._new.validator((new,)).is_valid
            wrong = islice((value for value in few if not valid(value)), _MOST_SHOWN)
            found = [Misfit(json_path(path), f"{_shown(value)} is not allowed") for value in wrong]
        else:
            found = self._parts(flat, new, path)
        if not found:
            self._assumed[pair] = -1, flat, new
        while found and len(self._assumed) > before:
            self._assumed.popitem()  # whatever was proven meanwhile may rest on this pair
        return found

    def _parts(self, flat: Conjunction, new: Any, path: tuple[Step, ...]) -> list[Misfit]:
        """Every part of `new` has to hold; each may need its own cases of `olds`."""
        found: list[Misfit] = []
        for part in self._new.flat((new,)):
            wrong = [Misfit(json_path(path), "is not allowed")] if part is False else self._part(flat, part, path)
            found += (self._by_cases(flat, part, path) or []) if wrong and self._has_cases(flat, part) else wrong
            if len(found) >= _MOST_SHOWN:
                break
        return found

    def _part(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> list[Misfit]:
        self._budget.spend(1 + len(flat) // 10)
        if any(_alike(old, part) for old in flat) and not (_refers(part) and self._old.defs != self._new.defs):
            return []
        named = schema_facts.named_types(part["type"]) if "type" in part else None
        beyond = frozenset[str]() if named is None else schema_facts.types(flat) - named
        if beyond:
            wanted = part["type"] if isinstance(part["type"], str) else " or ".join(part["type"])
            return [Misfit(json_path(path), f"may be {_names(beyond)}, and has to be {wanted}")]
        found: list[Misfit] = []
        for word in part:
            found += self._rules.get(word, _nothing)(flat, part, path)
        kinds = schema_facts.types(flat)
        if kinds & {"integer", "fraction"}:
            found += _numbers(flat, part, path)
        if "string" in kinds:
            found += _strings(flat, part, path)
        if "array" in kinds:
            found += self._arrays(flat, part, path)
        if "object" in kinds:
            found += self._objects(flat, part, path)
        return [*found, *self._general(flat, part, path)]

    # -- cases ------------------------------------------------------------------------------------------------------

    def _has_cases(self, flat: Conjunction, part: Any) -> bool:
        if self._nested >= _MOST_NESTED:
            return False
        split_types = len(_kinds(flat)) > 1 and not {"anyOf", "oneOf"}.isdisjoint(part) and flat != ()
        return split_types or next(_unions(flat), None) is not None

    def _by_cases(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> list[Misfit]:
        self._nested += 1
        try:
            found: list[Misfit] = []
            for case in _cases(flat):
                found += self.check(case, part, path)
                if len(found) >= _MOST_SHOWN:
                    break
            return found
        finally:
            self._nested -= 1

    def _any_of(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
        tries = [self.check(flat, branch, path) for branch in part["anyOf"]]
        yield from _closest(tries, path)

    def _one_of(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
        branches = part["oneOf"]
        tries = []
        for index, branch in enumerate(branches):
            wrong = self.check(flat, branch, path)
            others = [other for at, other in enumerate(branches) if at != index]
            if not wrong and not all(self._apart(flat, other) for other in others):
                wrong = [Misfit(json_path(path), "may fit more than one case of `oneOf`")]
            tries.append(wrong)
        yield from _closest(tries, path)

    def _not(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
        if not self._apart(flat, part["not"]) and not any(_alike(o.get("not"), part["not"]) for o in flat):
            yield Misfit(json_path(path), "may be what `not` excludes")

    def _apart(self, flat: Conjunction, schema: Any) -> bool:
        """Whether no value of `flat` keeps `schema`, as far as that can be proven."""
        other = self._new.flat((schema,))
        if not schema_facts.types(flat) & schema_facts.types(other):
            return True
        few = schema_facts.few_values(flat, self._old)
        if few is not None:
            return not any(map(self._new.validator((schema,)).is_valid, few))
        if schema_facts.types(flat) != {"object"}:
            return False
        return any(self._member_apart(flat, other, name) for name in schema_facts.required(flat))

    def _member_apart(self, flat: Conjunction, other: Conjunction, name: str) -> bool:
        mine, theirs = schema_facts.member(flat, name), schema_facts.member(other, name)
        if mine is None or theirs is None:
            return True
        few = schema_facts.few_values(self._old.flat(mine), self._old)
        return few is not None and not any(map(self._new.validator(theirs).is_valid, few))

    # -- arrays and objects -----------------------------------------------------------------------------------------

    def _arrays(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
        yield from _counts(flat, part, path, "Items", "items")
        if part.get("uniqueItems") and not any(old.get("uniqueItems") for old in flat):
            yield Misfit(json_path(path), "may have an item twice, and `uniqueItems` is set")
        prefix = part.get("prefixItems", [])
        fixed = max([len(prefix), *(len(old.get("prefixItems", [])) for old in flat)])
        for index in range(fixed + 1):
            wanted = prefix[index] if index < len(prefix) else part.get("items", True)
            item = schema_facts.item(flat, index)
            if item is not None:
                yield from self.check(item, wanted, (*path, index))

    def _objects(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
        yield from _counts(flat, part, path, "Properties", "members", least=len(schema_facts.required(flat)))
        for name in sorted(set(part.get("required", ())) - schema_facts.required(flat)):
            yield Misfit(json_path((*path, name)), "may be missing, and is required")
        yield from self._dependent(flat, part, path)
        named = dict.fromkeys([*part.get("properties", {}), *(n for old in flat for n in old.get("properties", {}))])
        for name in named:
            yield from self._member(flat, part, name, path)
        yield from self._unnamed(flat, part, path)

    def _member(self, flat: Conjunction, part: Any, name: str, path: tuple[Step, ...]) -> Iterator[Misfit]:
        self._budget.spend(1 + matching((*flat, part)))
        have = schema_facts.member(flat, name)
        if have is None:
            return
        for wanted in schema_facts.own_member(part, name):
            found = self.check(have, wanted, (*path, name))
            if found and not have and name not in schema_facts.required(flat) and name in part.get("properties", {}):
                reason = "may be anything, because it is not named on the other side, and is named here"
                yield Misfit(json_path((*path, name)), reason, certain=False)
            else:
                yield from found

    def _unnamed(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
        """Members that neither side names under `properties`."""
        patterns = part.get("patternProperties", {})
        for pattern, wanted in patterns.items():
            have = tuple(
                old["patternProperties"][pattern] for old in flat if pattern in old.get("patternProperties", {})
            )
            where = (*path, f"/{pattern}/")
            yield from self.check(have, wanted, where) if not _closed(flat) or have else ()
        if "additionalProperties" in part:
            wanted = part["additionalProperties"]
            known = [old for old in flat if set(old.get("patternProperties", {})) <= set(patterns)]
            have = tuple(old["additionalProperties"] for old in known if "additionalProperties" in old)
            if not any(schema is False for schema in have):
                found = self.check(have, wanted, (*path, "*"))
                only = wanted is False and bool(found)
                yield from [Misfit(json_path(path), "may have members that are not named")] if only else found
        if "propertyNames" in part:
            have = (*(old["propertyNames"] for old in flat if "propertyNames" in old), _STRING)
            yield from self.check(have, part["propertyNames"], (*path, "*"))

    def _dependent(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
        for name, needed in part.get("dependentRequired", {}).items():
            given = schema_facts.required(flat).union(*(old.get("dependentRequired", {}).get(name, ()) for old in flat))
            for missing in [] if schema_facts.member(flat, name) is None else sorted(set(needed) - given):
                yield Misfit(json_path((*path, missing)), f"may be missing beside `{name}`, and is required there")
        for name, schema in part.get("dependentSchemas", {}).items():
            if schema_facts.member(flat, name) is not None:
                yield from self.check((*flat, {"required": [name]}), schema, path)

    # -- the rest ---------------------------------------------------------------------------------------------------

    def _general(self, flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
        if "enum" in part or "const" in part:
            listed = part.get("enum", [part.get("const")])
            yield Misfit(json_path(path), f"may be more than {', '.join(map(_shown, listed[:5]))}")
        if "if" in part and not any(_same_words(old, part, ("if", "then", "else")) for old in flat):
            for word in ("then", "else"):
                yield from self.check(flat, part.get(word, True), path)
        for words in _TOGETHER:
            if words[0] in part and not any(_same_words(old, part, words) for old in flat):
                yield Misfit(json_path(path), f"may not keep `{words[0]}`, which cannot be judged by the schema alone")
        for word in _WITH_ALL:
            if word in part:  # the whole part was not found on the other side
                yield Misfit(json_path(path), f"may not keep `{word}`, which cannot be judged by the schema alone")


_STRING = {"type": "string"}
_TOGETHER = (("contains", "minContains", "maxContains"), ("contentEncoding",), ("contentMediaType",))
_WITH_ALL = ("unevaluatedItems", "unevaluatedProperties")


def _nothing(_flat: Conjunction, _part: Any, _path: tuple[Step, ...]) -> Iterator[Misfit]:
    return iter(())


def _numbers(flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
    whole = "fraction" not in schema_facts.types(flat)
    mine, wanted = schema_facts.lower(flat, whole), schema_facts.lower((part,), whole)
    if wanted is not None and (mine is None or (mine.value, mine.open) < (wanted.value, wanted.open)):
        yield Misfit(json_path(path), f"may be less than what `{_word(part, 'inimum')}` allows")
    mine, wanted = schema_facts.upper(flat, whole), schema_facts.upper((part,), whole)
    if wanted is not None and (mine is None or (mine.value, not mine.open) > (wanted.value, not wanted.open)):
        yield Misfit(json_path(path), f"may be more than what `{_word(part, 'aximum')}` allows")
    if "multipleOf" in part:
        step = schema_facts.exactly(part["multipleOf"])
        steps = [schema_facts.exactly(old["multipleOf"]) for old in flat if "multipleOf" in old]
        steps += [schema_facts.exactly(1)] if whole else []
        if not any((have / step).denominator == 1 for have in steps):
            yield Misfit(json_path(path), f"may be no multiple of {part['multipleOf']}")


def _word(part: Any, end: str) -> str:
    return next(str(word) for word in part if word.endswith(end))


def _strings(flat: Conjunction, part: Any, path: tuple[Step, ...]) -> Iterator[Misfit]:
    yield from _counts(flat, part, path, "Length", "characters")
    for word in ("pattern", "format"):
        if word in part and not any(old.get(word) == part[word] for old in flat):
            yield Misfit(json_path(path), f"may not keep the {word} {_shown(part[word])}")


def _counts(
    flat: Conjunction, part: Any, path: tuple[Step, ...], end: str, what: str, least: int = 0
) -> Iterator[Misfit]:
    low, high = part.get(f"min{end}"), part.get(f"max{end}")
    if low is not None and low > max(least, schema_facts.at_least(flat, f"min{end}")):
        yield Misfit(json_path(path), f"may have fewer than {low} {what}")
    if high is not None and high < schema_facts.at_most(flat, f"max{end}"):
        yield Misfit(json_path(path), f"may have more than {high} {what}")


def _closest(tries: list[list[Misfit]], path: tuple[Step, ...]) -> Iterator[Misfit]:
    """The branch that lacks least; one that only rests on an assumption counts as fitting with it."""
    best = min(tries, key=lambda found: (any(one.certain for one in found), len(found)), default=None)
    if best is None:
        yield Misfit(json_path(path), "is not allowed")
    elif len(best) > 1 and any(one.certain for one in best):
        yield Misfit(json_path(path), "may fit none of the cases that are allowed")
    else:
        yield from best


def _cases(flat: Conjunction) -> Iterator[Conjunction]:
    """Conjunctions that together have every value of `flat`."""
    union = next(_unions(flat), None)
    if union is None:
        yield from ((*flat, _BY_TYPE[kind]) for kind in _kinds(flat))
        return
    index, word = union
    rest = {name: value for name, value in flat[index].items() if name != word}
    for branch in flat[index][word]:
        yield (*flat[:index], *([rest] if rest else []), branch, *flat[index + 1 :])


def _unions(flat: Conjunction) -> Iterator[tuple[int, str]]:
    for index, schema in enumerate(flat):
        for word in ("anyOf", "oneOf"):
            if isinstance(schema, dict) and 0 < len(schema.get(word, ())) <= _MOST_CASES:
                yield index, word


_BY_TYPE = {kind: {"type": kind} for kind in (*sorted(schema_facts.TYPES - {"fraction"}), "number")}


def _kinds(flat: Conjunction) -> list[str]:
    """The types of `flat` as a schema names them."""
    left = schema_facts.types(flat)
    return sorted(left if "fraction" not in left else left - {"integer", "fraction"} | {"number"})


def _closed(flat: Conjunction) -> bool:
    return any(old.get("additionalProperties") is False and not old.get("patternProperties") for old in flat)


def _alike(first: Any, second: Any) -> bool:
    # True == 1 in Python: JSON tells them apart.
    return bool(first == second) and json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def _same_words(old: Any, part: Any, words: tuple[str, ...]) -> bool:
    return all(_alike(old.get(word), part.get(word)) for word in words) and not _refers(part)


def _refers(schema: Any) -> bool:
    return '"$ref"' in json.dumps(schema)


def _names(kinds: frozenset[str]) -> str:
    if kinds >= {"integer", "fraction"}:
        kinds = kinds - {"integer", "fraction"} | {"number"}
    return " or ".join(sorted(kind.replace("fraction", "a number that is not whole") for kind in kinds))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"
