"""What each property of librdkafka can do in a pipeline file that comes from somebody else: every one is decided here.

A property of a newer librdkafka that is not in the table fails: read its description, put it where it belongs, and
guard it (orchestrator/config/guarded.py) if it runs code.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from orchestrator.config.guarded import GUARDED, guarded_reason
from orchestrator.config.model import KafkaSettings
from orchestrator.config.owned import ALIASES, OWNED, canonical, owned_reason
from orchestrator.kafka.properties import ClientKind, client_properties
from tests.support.config import document, found, only
from tests.support.librdkafka import documented, hidden

#: Loads a library, or is run as a command: refused.
RUNS_CODE = """
    plugin.library.paths sasl.kerberos.kinit.cmd ssl.engine.id ssl.engine.location ssl.providers
"""
#: Becomes a part of the command `kinit …`, unquoted: refused with characters that a shell or `kinit` could misread.
IN_A_COMMAND = "sasl.kerberos.keytab sasl.kerberos.principal sasl.kerberos.service.name"
#: Takes a credential that neither the file nor the environment names (a cloud's metadata service): refused.
TAKES_CREDENTIALS = "sasl.oauthbearer.metadata.authentication.type"
#: Reads a file. The content goes to OpenSSL or into a signature, save for `assertion.file` and `jwt.template.file`,
#: which go to the token endpoint: as `${file:…}` in a password would, with which a file can do the same. Allowed.
READS_A_FILE = """
    https.ca.location sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.jwt.template.file
    sasl.oauthbearer.assertion.private.key.file ssl.ca.location ssl.certificate.location ssl.crl.location
    ssl.key.location ssl.keystore.location ssl.truststore.location
"""
#: Is a secret, or part of one. Allowed: a login has to stand somewhere.
SECRET = """
    sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.private.key.pem
    sasl.oauthbearer.client.credentials.client.id sasl.oauthbearer.client.credentials.client.secret
    sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config sasl.password sasl.username
    ssl.key.password ssl.key.pem ssl.keystore.password
"""
#: Decides to whom the login is sent, and how. Allowed: `kafka.bootstrap` in the same file names its receiver anyway,
#: librdkafka speaks HTTP and HTTPS only (no file:), and counts (`enable.metrics.push`) go to the cluster alone.
SENDS = """
    enable.metrics.push sasl.mechanism sasl.mechanisms sasl.oauthbearer.grant.type sasl.oauthbearer.method
    sasl.oauthbearer.token.endpoint.url security.protocol
"""
#: Switches a protection off: allowed, with a warning.
WEAKENS = """
    enable.sasl.oauthbearer.unsecure.jwt enable.ssl.certificate.verification ssl.cipher.suites
    ssl.endpoint.identification.algorithm
"""
#: Writes what clients do to kpipe's log. librdkafka redacts passwords there, and kpipe masks what is `${…}`. Allowed.
LOGS = "debug"
#: kpipe's own. Some are unsafe as well: files of offsets would be written anywhere, a mock takes the cluster's place.
OWN = """
    acks auto.commit.enable auto.offset.reset bootstrap.servers client.software.name client.software.version
    delivery.report.only.error enable.auto.commit enable.auto.offset.store enable.idempotence enable.partition.eof
    enable_sasl_queue enabled_events group.id group.instance.id internal.termination.signal isolation.level
    metadata.broker.list offset.store.method offset.store.path offset.store.sync.interval.ms request.required.acks
    test.mock.broker.rtt test.mock.num.brokers transactional.id
"""
#: No text: callbacks, and what librdkafka sets by functions of its own.
OBJECT = """
    background_event_cb closesocket_cb connect_cb consume_cb default_topic_conf dr_cb dr_msg_cb error_cb
    interceptors log_cb msg_order_cmp oauthbearer_token_refresh_cb offset_commit_cb opaque open_cb partitioner_cb
    rebalance_cb resolve_cb socket_cb ssl.certificate.verify_cb ssl_ca ssl_certificate ssl_engine_callback_data
    ssl_key stats_cb throttle_cb
"""
#: Sizes, times, names, choices and public certificates.
SAFE = """
    allow.auto.create.topics api.version.fallback.ms api.version.request api.version.request.timeout.ms
    auto.commit.interval.ms batch.num.messages batch.size broker.address.family broker.address.ttl
    broker.version.fallback builtin.features check.crcs client.dns.lookup client.id client.rack compression.codec
    compression.level compression.type connections.max.idle.ms consume.callback.max.messages
    coordinator.query.interval.ms delivery.timeout.ms enable.gapless.guarantee enable.random.seed
    enable.sparse.connections fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes
    fetch.queue.backoff.ms fetch.wait.max.ms group.protocol group.protocol.type group.remote.assignor
    heartbeat.interval.ms https.ca.pem linger.ms log.connection.close log.queue log.thread.name log_level
    max.in.flight max.in.flight.requests.per.connection max.partition.fetch.bytes max.poll.interval.ms
    max.poll.records message.copy.max.bytes message.max.bytes message.send.max.retries message.timeout.ms
    metadata.max.age.ms metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy
    metadata.request.timeout.ms partition.assignment.strategy partitioner produce.offset.report
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
    queue.buffering.max.ms queued.max.messages.kbytes queued.min.messages queuing.strategy receive.message.max.bytes
    reconnect.backoff.jitter.ms reconnect.backoff.max.ms reconnect.backoff.ms request.timeout.ms retries
    retry.backoff.max.ms retry.backoff.ms sasl.jaas.config sasl.kerberos.min.time.before.relogin
    sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.assertion.claim.aud
    sasl.oauthbearer.assertion.claim.exp.seconds sasl.oauthbearer.assertion.claim.iss
    sasl.oauthbearer.assertion.claim.jti.include sasl.oauthbearer.assertion.claim.nbf.seconds
    sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.extensions sasl.oauthbearer.scope
    sasl.oauthbearer.sub.claim.name session.timeout.ms share.acknowledgement.mode socket.blocking.max.ms
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable
    socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.ca.certificate.stores ssl.ca.pem
    ssl.certificate.pem ssl.curves.list ssl.sigalgs.list statistics.interval.ms sticky.partitioning.linger.ms
    topic.blacklist topic.metadata.propagation.max.ms topic.metadata.refresh.fast.cnt
    topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse
    transaction.timeout.ms
"""
REFUSED = [*RUNS_CODE.split(), *TAKES_CREDENTIALS.split()]
ALLOWED = " ".join((READS_A_FILE, SECRET, SENDS, WEAKENS, LOGS, SAFE)).split()
NO_VALUE = [*OWN.split(), *OBJECT.split()]
TABLE = [*REFUSED, *IN_A_COMMAND.split(), *ALLOWED, *NO_VALUE]


def test_every_property_of_the_installed_librdkafka_is_decided_once() -> None:
    installed = documented().keys() | hidden()
    assert len(installed) > 150
    assert sorted(installed - set(TABLE)) == []
    assert len(TABLE) == len(set(TABLE))


@pytest.mark.parametrize("name", REFUSED)
def test_what_runs_code_is_refused(name: str) -> None:
    assert guarded_reason(name, "x") and guarded_reason(f"topic.{name}", "x") and guarded_reason(name.upper(), "x")


@pytest.mark.parametrize("name", ALLOWED)
def test_everything_else_is_a_users_to_set(name: str) -> None:
    assert guarded_reason(name, "x; $(y)") is None and owned_reason(name) is None


@pytest.mark.parametrize("name", NO_VALUE)
def test_what_is_kpipes_own_is_a_finding_under_every_name(name: str) -> None:
    assert owned_reason(name) and owned_reason(f"topic.{name}")


def test_the_table_of_guarded_properties_has_no_other() -> None:
    assert sorted(GUARDED) == sorted(REFUSED)


def test_every_alias_of_what_kpipe_decides_about_is_there() -> None:
    pairs = {frozenset(pair) for pair in documented().items() if pair[1]}
    decided = {*OWNED, *GUARDED, *(n for k in ("consumer", "producer", "admin") for n in _defaults(k))}
    aliased = {pair for pair in pairs if pair & decided}
    assert aliased <= {frozenset(pair) for pair in ALIASES.items()}


def _defaults(kind: str) -> list[str]:
    kinds: dict[str, ClientKind] = {"consumer": "consumer", "producer": "producer", "admin": "admin"}
    return list(client_properties(KafkaSettings(), kinds[kind], "127.0.0.1:1"))


def test_topics_properties_are_taken_with_a_prefix_and_so_have_to_be_found_under_it() -> None:
    """`topic.acks: 0` once reached librdkafka, which takes it for `acks`."""
    Producer({"bootstrap.servers": "127.0.0.1:1", "topic.acks": "0"})
    assert canonical("topic.request.required.acks") == "acks"
    assert canonical("topic.metadata.refresh.interval.ms") == "topic.metadata.refresh.interval.ms"
    given = client_properties(KafkaSettings(producer={"topic.acks": "0"}), "producer", "127.0.0.1:1")
    assert given["acks"] == "all" and "topic.acks" not in given


def test_names_have_one_case_only() -> None:
    with pytest.raises(KafkaException, match="No such configuration property"):
        Producer({"bootstrap.servers": "127.0.0.1:1", "Acks": "all"})


@pytest.mark.parametrize("kind", ["client", "consumer", "producer", "admin"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_finding_with_its_place_and_the_way(tmp_path: Path, kind: str, name: str) -> None:
    tree = document(kafka={kind: {name: "/tmp/evil.so", "security.protocol": "SASL_SSL"}})
    finding = only(found(tmp_path, tree))
    assert (finding.severity, finding.code, finding.line) == ("error", "unsafe-property", 1)
    assert name in finding.message and f"KPIPE_ALLOW_PROPERTIES={name}" in finding.hint


def test_in_an_overlay_too(tmp_path: Path) -> None:
    from orchestrator.config import load

    first, second = tmp_path / "pipeline.yaml", tmp_path / "more.yaml"
    first.write_text("kpipe: 1\npipeline: p\n")
    second.write_text("kafka:\n  client:\n    plugin.library.paths: x\n")
    finding = only(list(load([first, second], {}).findings))
    assert (finding.file, finding.line, finding.column) == (str(second), 3, 5)


@pytest.mark.parametrize("listed", ["ssl.providers", "SSL.Providers", "a, ssl.providers", "x ssl.providers"])
def test_the_user_allows_it_by_name(tmp_path: Path, listed: str) -> None:
    tree = document(kafka={"client": {"ssl.providers": "legacy", "security.protocol": "SSL"}})
    assert found(tmp_path, tree, {"KPIPE_ALLOW_PROPERTIES": listed}) == []
    assert len(found(tmp_path, tree, {"KPIPE_ALLOW_PROPERTIES": "ssl.engine.location"})) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sasl.kerberos.principal", "x; touch /tmp/pwned"),
        ("sasl.kerberos.principal", "-c /home/user/.bashrc"),
        ("sasl.kerberos.principal", "$(id)"),
        ("sasl.kerberos.keytab", 'x"; id; "'),
        ("sasl.kerberos.keytab", "`id`"),
        ("sasl.kerberos.service.name", "kafka&id"),
    ],
)
def test_what_a_shell_would_run_as_a_part_of_kinit(tmp_path: Path, name: str, value: str) -> None:
    login = {"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}
    tree = document(kafka={"client": {**login, name: value}})
    assert only(found(tmp_path, tree)).code == "unsafe-property"
    assert found(tmp_path, tree, {"KPIPE_ALLOW_PROPERTIES": name}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sasl.kerberos.principal", "shop/host-1.example.com@EXAMPLE.COM"),
        ("sasl.kerberos.keytab", "/etc/security/shop.keytab"),
        ("sasl.kerberos.service.name", "kafka"),
    ],
)
def test_ordinary_kerberos_is_free(tmp_path: Path, name: str, value: str) -> None:
    login = {"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}
    assert found(tmp_path, document(kafka={"client": {**login, name: value}})) == []
