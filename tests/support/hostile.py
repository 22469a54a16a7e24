"""Projects that somebody hostile wrote: each case makes one in a folder, beside a folder that is none of its business.

The folder of a project is a git repository, so its files may name all that is in it, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

#: In every file outside of a project: it may appear in no output.
CANARY = "canary-7f3a"
FILE = """\
kpipe: 1
pipeline: shop
topics:
  orders: {schema: order.json, key: id, dlq: none}
events:
  order: {topic: orders, example: example.json}
handlers:
  pay: {python: "shop:pay", consumes: [orders], dlq: none}
"""
SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
EXAMPLE = {"id": "1"}


class Scene(NamedTuple):
    """`project` is the folder of the pipeline file, `outside` holds files with a canary, `url` leads to a server."""

    project: Path
    outside: Path
    url: str

    def write(self, name: str, content: str | bytes | Any) -> None:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = content if isinstance(content, bytes) else content if isinstance(content, str) else json.dumps(content)
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())

    def fifo(self, name: str) -> None:
        path = self.project / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    def link(self, name: str, target: Path | str) -> None:
        path = self.project / name
        path.unlink(missing_ok=True)
        path.symlink_to(target)


class Case(NamedTuple):
    """`make` puts what is hostile into a good project; `message` has to be in what `kpipe validate` prints."""

    make: Callable[[Scene], None]
    message: str = ""


def scene(folder: Path, url: str) -> Scene:
    """A good project in `folder`, and the folder beside it."""
    made = Scene(folder / "work" / "project", folder / "outside", url)
    made.write("pipeline.yaml", FILE)
    made.write("order.json", SCHEMA)
    made.write("example.json", EXAMPLE)
    made.outside.mkdir()
    (made.outside / "secret").write_text(CANARY)
    (made.outside / "schema.json").write_text(json.dumps({"title": CANARY, "type": CANARY}))
    (made.outside / "example.json").write_text(json.dumps({"id": 5, CANARY: CANARY}))
    subprocess.run(["git", "init", "-q", made.project], check=True)
    return made


def _schema(content: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.write("order.json", content)


def _with(**topic: str) -> str:
    return FILE.replace("schema: order.json", ", ".join(f"{key}: {value}" for key, value in topic.items()))


def _file(text: str) -> Callable[[Scene], None]:
    return lambda scene: scene.write("pipeline.yaml", text)


def _remote(schema: Callable[[str], Any]) -> Callable[[Scene], None]:
    return lambda scene: scene.write("order.json", schema(scene.url))


def _outside(schema: Callable[[str], Any]) -> Callable[[Scene], None]:
    return lambda scene: scene.write("order.json", schema((scene.outside / "schema.json").as_uri()))


def _nested(word: str, depth: int) -> str:
    return f'{{"{word}":' * depth + "true" + "}" * depth


def _doubling(levels: int) -> Any:
    pairs = {f"d{n}": {"properties": {s: {"$ref": f"#/$defs/d{n + 1}"} for s in "xy"}} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**pairs, f"d{levels}": {"type": "string"}}}


def _siblings(scene: Scene) -> None:
    scene.write("schemas/order.json", {**SCHEMA, "properties": {"id": {"$ref": "urn:nowhere"}}})
    scene.write("pipeline.yaml", _with(schema="schemas/order.json"))
    scene.fifo("schemas/a.json")
    scene.link("schemas/b.json", "/dev/zero")
    scene.link("schemas/c.json", scene.outside / "schema.json")
    scene.write("schemas/d.json", b"[" * 6_000_000)


def _modules(scene: Scene) -> None:
    code = f"import pathlib\npathlib.Path({str(scene.outside / 'ran')!r}).write_text('x')\n"
    names = (
        "shop",
        "yaml",
        "click",
        "json",
        "orjson",
        "jsonschema_rs",
        "orchestrator",
        "jmespath",
        "rstr",
        "usercustomize",
    )
    for name in names:
        scene.write(f"{name}.py", code)
    scene.write("shop/__init__.py", code)


def _state(scene: Scene) -> None:
    """State that nobody's `kpipe up` wrote: a lock, a broker, and a socket elsewhere."""
    scene.write(".kpipe/up.lock", {"pid": 1, "since": "2026-01-01T00:00:00Z"})
    scene.write(".kpipe/control.path", str(scene.outside / "socket"))
    scene.write(".kpipe/broker.json", {"kind": "local", "address": scene.url.removeprefix("http://"), "pid": 1})


def _git(scene: Scene) -> None:
    """Programs that git would run, were it asked for its opinion of the files."""
    program = scene.project / "run.sh"
    scene.write("run.sh", f"#!/bin/sh\ntouch {scene.outside / 'ran'}\n")
    program.chmod(0o755)
    with (scene.project / ".git/config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {program}\n\tpager = {program}\n\tsshCommand = {program}\n")
        config.write(f'[diff "x"]\n\ttextconv = {program}\n[filter "x"]\n\tsmudge = {program}\n\tclean = {program}\n')
    scene.write(".gitattributes", "* diff=x filter=x\n")


def _links_out(scene: Scene) -> None:
    scene.link("out", scene.outside)
    scene.write("pipeline.yaml", _with(schema="out/schema.json"))


#: Without a letter that is frequent: nothing makes comparing two of them shorter.
_WORD = "".join(map(chr, range(0x4E00, 0x9E00))) * 5
_DEEP_ANY = "[" * 200 + "]" * 200
_TOPICS = "".join(f"  t{n}: {{dlq: none}}\n" for n in range(9_000))
_HANDLERS = "".join(f'  h{n}: {{python: "a:b", consumes: [t{n}], dlq: none}}\n' for n in range(5_500))
_CONNECTED = "".join(
    f'  h{n}: {{python: "a:b", consumes: [orders], produces: [orders], dlq: none}}\n' for n in range(20)
)
_STEPS = '      - send: {event: order}\n      - expect: {topic: orders, where: "WHERE"}\n'
_SMOKE = f"smoke: 1\nscenarios:\n  all:\n    steps:\n{_STEPS}"
_HEAVY = {"properties": {f"p{n}": {"pattern": f"(?=a)\\w{{150}}{n}"} for n in range(20_000)}}
_ENUM = [f"value-{n}" for n in range(200_000)]
_MANY_FILES = {"properties": {f"p{n}": {"$ref": f"s{n}.json"} for n in range(40)}}


def _large_files(scene: Scene) -> None:
    scene.write("order.json", _MANY_FILES)
    for number in range(40):
        scene.write(f"s{number}.json", {"description": "x" * 1_000_000})


def _large_product(scene: Scene) -> None:
    scene.write("order.json", {"items": {"allOf": [{"pattern": f"a{n}"} for n in range(5_000)]}})
    scene.write("example.json", ["aaaa"] * 200_000)
    scene.write("pipeline.yaml", FILE.replace("key: id, ", ""))


def _topics_share(scene: Scene) -> None:
    """One schema, under as many names as fit into the file: each would be read and compiled anew."""
    scene.write("order.json", {"enum": _ENUM})
    topics = "".join(
        f"  t{n}: {{schema: {'./' * (n % 50)}s{n // 50}/../order.json, dlq: none}}\n" for n in range(2_000)
    )
    scene.write("pipeline.yaml", f"kpipe: 1\npipeline: shop\ntopics:\n{topics}")
    for number in range(40):
        (scene.project / f"s{number}").mkdir()


#: What nothing may be fetched, opened or run for. All of them are findings, or have no effect.
REACHES: Mapping[str, Case] = {
    "draft-http": Case(_remote(lambda url: {"$schema": f"{url}/draft"}), "the draft http://127.0.0.1"),
    "draft-file": Case(_outside(lambda url: {"$schema": url}), "is not known"),
    "draft-within": Case(_remote(lambda url: {"properties": {"id": {"$id": "urn:x", "$schema": url}}}), "is not known"),
    "draft-in-definitions": Case(_remote(lambda url: {"$defs": {"a": {"allOf": [{"$schema": url}]}}}), "is not known"),
    "draft-unknown": Case(_schema({"$schema": "urn:draft"}), "the draft urn:draft is not known"),
    "ref-http": Case(_remote(lambda url: {"properties": {"id": {"$ref": f"{url}/ref"}}}), "leads nowhere"),
    "ref-file": Case(_outside(lambda url: {"$ref": url}), "it is outside of the project"),
    "ref-up": Case(_schema({"$ref": "../../outside/schema.json"}), "it is outside of the project"),
    "id-http": Case(_remote(lambda url: {"$id": f"{url}/id", "properties": {"id": {"$ref": "x"}}}), "leads nowhere"),
    "id-file": Case(_outside(lambda url: {"$id": url, "$ref": "schema.json#/type"})),
    "dynamic-ref": Case(_remote(lambda url: {"$dynamicRef": f"{url}/d#x"}), "not supported"),
    "draft4-id": Case(
        _remote(lambda url: {"$schema": "http://json-schema.org/draft-04/schema#", "id": url, "items": {"$ref": "#/x"}})
    ),
    "siblings": Case(_siblings, "leads nowhere"),
    "schema-zero": Case(_file(_with(schema="/dev/zero")), "it is outside of the project"),
    "schema-stdin": Case(_file(_with(schema="/dev/stdin")), "it is outside of the project"),
    "schema-environ": Case(_file(_with(schema="/proc/self/environ")), "it is outside of the project"),
    "schema-up": Case(_file(_with(schema="../../outside/schema.json")), "it is outside of the project"),
    "schema-nul": Case(_file(_with(schema='"a\\0b"')), ""),
    "schema-link": Case(
        lambda scene: scene.link("order.json", scene.outside / "schema.json"), "outside of the project"
    ),
    "schema-loop": Case(lambda scene: scene.link("order.json", "order.json"), "cannot read"),
    "schema-fifo": Case(lambda scene: scene.fifo("order.json"), "it is no regular file"),
    "schema-folder": Case(_file(_with(schema=".git")), "Is a directory"),
    "schema-large": Case(_schema(b" " * 5_000_001), "it is larger than 5 MB"),
    "folder-link": Case(_links_out, "outside of the project"),
    "example-link": Case(
        lambda scene: scene.link("example.json", scene.outside / "example.json"), "outside of the proj"
    ),
    "example-fifo": Case(lambda scene: scene.fifo("example.json"), "it is no regular file"),
    "value-up": Case(_file(FILE.replace("shop\n", '"${file:../../outside/secret}"\n')), "it is outside of the project"),
    "value-fifo": Case(
        lambda scene: (scene.fifo("f"), scene.write("pipeline.yaml", FILE.replace("shop\n", '"${file:f}"\n')))[0],
        "it is no regular file",
    ),
    "pipeline-link": Case(
        lambda scene: scene.link("pipeline.yaml", scene.outside / "secret"), "outside of the project"
    ),
    "smoke-fifo": Case(lambda scene: scene.fifo("smoke.yaml"), "it is no regular file"),
    "smoke-link": Case(lambda scene: scene.link("smoke.yaml", scene.outside / "secret"), "outside of the project"),
    "smoke-folder": Case(lambda scene: scene.link("smoke", scene.outside)),
    "modules": Case(_modules, "ok"),
    "state": Case(_state, "ok"),
    "git": Case(_git, "ok"),
}

#: What would take hours or gigabytes. Those without a message are good projects.
COSTS: Mapping[str, Case] = {
    "alias-bomb": Case(
        _file(
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9))
        ),
        "once its aliases are expanded",
    ),
    "merge-bomb": Case(
        _file("a: &a {" + ", ".join(f"k{n}: 0" for n in range(20_000)) + "}\nb:\n" + "- {<<: *a}\n" * 10_000),
        "once `<<` is expanded",
    ),
    "text-bomb": Case(
        _file(f'a: &a "{"x" * 800_000}"\nb: [{",".join(["*a"] * 20_000)}]\n'), "once its aliases are expanded"
    ),
    "yaml-deep": Case(_file(f"a: {_DEEP_ANY}\n"), "nested deeper than 40 levels"),
    "value-bomb": Case(
        lambda scene: (
            scene.write("big", "x" * 900_000),
            scene.write("pipeline.yaml", FILE + '  s: {service: "' + "${file:big}" * 50_000 + '"}\n'),
        )[0],
        "come to more than 10 MB of text",
    ),
    "similar-words": Case(
        _file(
            FILE.replace("events:", f'  ? "{_WORD}"\n  : {{dlq: none}}\nevents:').replace("[orders]", f'["{_WORD}x"]')
        ),
        "nothing declares the topic",
    ),
    "smoke-references": Case(
        lambda scene: scene.write("smoke.yaml", _SMOKE.replace("WHERE", "x" + "${a:-" * 150_000)), "expression"
    ),
    "smoke-unknown": Case(
        lambda scene: scene.write("smoke.yaml", _SMOKE.replace("WHERE", "".join(f"${{a{n}}}" for n in range(100_000)))),
        "is not known here",
    ),
    "smoke-deep": Case(
        lambda scene: scene.write("smoke.yaml", _SMOKE.replace("WHERE", "(" * 4_000 + "a" + ")" * 4_000)),
        "nested too deeply",
    ),
    "smoke-long": Case(
        lambda scene: scene.write("smoke.yaml", _SMOKE.replace("WHERE", "a" + ".a" * 20_000)),
        "longer than 10,000 characters",
    ),
    "json-deep": Case(_schema("[" * 100_000), "is not JSON"),
    "not-deep": Case(_schema(_nested("not", 1_000)), "is not a JSON Schema"),
    "not-deep-200": Case(_schema(_nested("not", 240)), "nested deeper than 200 levels"),
    "ref-chain": Case(
        _schema({"$ref": "#/$defs/d0", "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1_000)}}),
        "nested deeper than 200 levels",
    ),
    "ref-doubling": Case(_schema(_doubling(30)), "more than 500,000 values"),
    "ref-files": Case(_large_files, "more than 20 MB of files"),
    "long-address": Case(
        _schema({"$id": "http://x/" + "a" * 2_000_000, "items": {"$ref": "#/x"}}), "longer than 4,000"
    ),
    "patterns-heavy": Case(_schema(_HEAVY), "are too large once compiled"),
    "pattern-nested": Case(_schema({"pattern": "(((a{1000}){1000}){1000})"}), "are too large once compiled"),
    "shared-schema": Case(_topics_share, "all schemas and examples are larger than 50 MB"),
    "example-large": Case(_large_product, "is too large for a contract of this size"),
    "topics": Case(_file(f"kpipe: 1\npipeline: shop\ntopics:\n{_TOPICS}handlers:\n{_HANDLERS}"), "ok"),
    "connected": Case(_file(FILE + _CONNECTED), "ok"),
    "enum": Case(_schema({"properties": {"id": {"enum": _ENUM}}}), "value-0"),
}


def _level(depth: int, least: int) -> Any:
    if not depth:
        return {"type": "string", "minLength": least}
    return {"type": "object", "properties": {"a": {"anyOf": [_level(depth - 1, least + n) for n in range(4)]}}}


def _ring(count: int) -> Any:
    links = {
        f"n{n}": {
            "properties": {"a": {"$ref": f"#/$defs/n{(n + 1) % count}"}, "b": {"$ref": f"#/$defs/n{n * 7 % count}"}}
        }
        for n in range(count)
    }
    return {"$ref": "#/$defs/n0", "$defs": links}


def _products(least: int) -> Any:
    return {
        "allOf": [{"anyOf": [{"properties": {f"p{i}": {"minimum": j + least}}} for j in range(30)]} for i in range(8)]
    }


_NOT_COMPARED = "too many cases within each other"
#: Two versions of a schema, and what `kpipe schemas check` says of them.
COMPARED: Mapping[str, tuple[Any, Any, str]] = {
    "products": (_products(0), _products(1), "changed"),
    "levels": (_level(6, 0), _level(6, 1), _NOT_COMPARED),
    "enum": ({"enum": _ENUM}, {"enum": _ENUM[1:]}, '"value-0" is not allowed'),
    "enums": (
        {"anyOf": [{"enum": list(range(n, 15_000 + n))} for n in range(30)]},
        {"anyOf": [{"enum": list(range(n + 1, 15_001 + n))} for n in range(30)]},
        _NOT_COMPARED,
    ),
    "rings": (_ring(60), _ring(59), ""),
    "members": (
        {"properties": {f"p{n}": True for n in range(50_000)}},
        {"properties": {f"p{n}": {"type": "string"} for n in range(50_000)}},
        "",
    ),
    "patterns": (
        {
            "properties": {f"p{n}": True for n in range(3_000)},
            "patternProperties": {f"x{n}": True for n in range(3_000)},
        },
        {"properties": {f"p{n}": {} for n in range(3_001)}, "patternProperties": {f"x{n}": {} for n in range(3_000)}},
        _NOT_COMPARED,
    ),
}


def _text(**rules: Any) -> Any:
    return {"type": "object", "properties": {"id": {"type": "string", **rules}}, "required": ["id"]}


def _arrays(depth: int) -> Any:
    return {"type": "array", "minItems": 90, "items": _arrays(depth - 1)} if depth else {"type": "string"}


#: Schemas of which no event can be made up within bounds.
MADE_UP: Mapping[str, Any] = {
    "long-text": _text(minLength=1_000_000_000),
    "many-members": {"type": "object", "minProperties": 1_000_000_000},
    "nested-repeats": _text(pattern="^((((a*)*)*)*)*b{50}$", minLength=900),
    "wide-range": _text(pattern="^[\\u0000-\\uffff]{90}[\\u0000-\\uffff]{90}$", minLength=181),
    "arrays": _text() | {"properties": {"id": _arrays(6)}},
}
