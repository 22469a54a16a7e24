"""Apache Kafka as companies run it: TLS, logins, and nothing allowed that no ACL allows."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import trustme
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from orchestrator.brokers.install.distribution import provide_kafka
from orchestrator.brokers.install.java import find_java
from orchestrator.brokers.jvm import broker_argv, child_environment, format_argv
from orchestrator.brokers.model import LaunchSpec
from orchestrator.brokers.ports import choose_ports
from orchestrator.brokers.settings import SHARED, log4j2_properties
from orchestrator.brokers.storage import new_cluster_id
from tests.support.broker import tied
from tests.support.shell import eventually

PASSWORD = "Pass-5!w0rd"
USERS = tuple(f"u{number}" for number in range(150))
SCRAM_USER = "scram"


class Acl(NamedTuple):
    """One permission: `READ` on the `topic` `orders`."""

    operation: str
    kind: str
    name: str
    prefixed: bool = False

    def __str__(self) -> str:
        """As kpipe names it."""
        kind = self.kind.replace("-", " ")
        return f"{self.operation} on the {kind}{'s that begin with' if self.prefixed else ''} {self.name}"


@dataclass(frozen=True)
class Secured:
    """A running cluster. `client` are the properties of a user; `ca` is the file that its certificate is trusted by."""

    address: str
    ca: Path
    cluster_id: str = ""
    controller: int = 0

    @contextmanager
    def another_broker(self, folder: Path) -> Iterator[None]:
        """A second broker of the cluster, which leaves in good order when the block ends."""
        home = folder / "broker-2" / "kafka"
        home.mkdir(parents=True)
        (folder / "broker-2" / "ca.pem").write_bytes(self.ca.read_bytes())
        (home / "server.pem").write_bytes((self.ca.parent / "kafka" / "server.pem").read_bytes())
        own = choose_ports(home / "ports.json").broker
        listener = f"SASL_SSL://127.0.0.1:{own}"
        more = {"process.roles": "broker", "node.id": "2", "listeners": listener, "advertised.listeners": listener}
        lines = _properties(self.address, self.controller) | more
        with _started(home, f"127.0.0.1:{own}", lines, self.cluster_id):
            admin = self.admin()
            eventually(lambda: len(admin.list_topics(timeout=5).brokers) == 2, 60)
            yield

    def client(self, user: str, mechanism: str = "PLAIN", password: str = PASSWORD) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.ca),
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }

    def admin(self) -> AdminClient:
        quiet = {"log_level": "0", "reconnect.backoff.max.ms": "500"}
        return AdminClient({**self.client("admin"), **quiet, "bootstrap.servers": self.address})

    def allow(self, grants: Iterable[tuple[str, Iterable[Acl]]]) -> None:
        """Allow each user these, all in one request."""
        bindings = [_binding(user, acl) for user, acls in grants for acl in acls]
        if not bindings:
            return
        admin = self.admin()  # librdkafka drops what is under way when its handle goes
        for future in admin.create_acls(list(dict.fromkeys(bindings))).values():
            future.result()


def _binding(user: str, acl: Acl) -> AclBinding:
    kind = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.BROKER}
    kind |= {"transactional-id": ResourceType.TRANSACTIONAL_ID}
    return AclBinding(
        kind[acl.kind],
        acl.name,
        ResourcePatternType.PREFIXED if acl.prefixed else ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation[acl.operation],
        AclPermissionType.ALLOW,
    )


@contextmanager
def secured_kafka(folder: Path) -> Iterator[Secured]:
    """One node on loopback, SASL_SSL for clients (PLAIN and SCRAM-SHA-512), with Kafka's own authorizer."""
    home, ca = folder / "kafka", folder / "ca.pem"
    home.mkdir(parents=True)
    _certificates(home, ca)
    ports = choose_ports(home / "ports.json")
    address = f"127.0.0.1:{ports.broker}"
    cluster = Secured(address, ca, new_cluster_id(), ports.controller)
    with _started(home, address, _properties(address, ports.controller), cluster.cluster_id):
        admin = cluster.admin()
        eventually(lambda: _answers(admin), 60)
        credentials = UserScramCredentialUpsertion(
            SCRAM_USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        for future in admin.alter_user_scram_credentials([credentials]).values():
            future.result()
        yield cluster


@contextmanager
def _started(home: Path, address: str, lines: Mapping[str, str], cluster_id: str) -> Iterator[None]:
    """A broker with its data in `home` and its log beside it, from its first start to its end in good order."""
    java, kafka = find_java(os.environ), provide_kafka(os.environ)
    logs = home.parent / "logs"
    logs.mkdir()
    (home / "log4j2.properties").write_text(log4j2_properties())
    (home / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    environment = child_environment(os.environ)
    argv = format_argv(java.path, kafka, cluster_id, "server.properties")
    subprocess.run(argv, cwd=home, env=environment, check=True, capture_output=True)
    spec = LaunchSpec(
        argv=broker_argv(java, kafka, home, os.environ), env=environment, cwd=home, address=address,
        log=logs / "broker.log", log_start=0, version=kafka.version, cluster_id=cluster_id,
    )  # fmt: skip
    with tied(spec, home.parent / "printed"):
        yield


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def _certificates(home: Path, ca: Path) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.RSA)
    authority.cert_pem.write_to_path(str(ca))
    # Kafka takes PKCS #8 only, trustme writes the older form.
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    (home / "server.pem").write_bytes(key + chain)


def _properties(address: str, controller: int) -> dict[str, str]:
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    users = "".join(f' user_{user}="{PASSWORD}"' for user in ("admin", *USERS))
    return {
        **SHARED,
        "listeners": f"SASL_SSL://{address},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"SASL_SSL://{address}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_SSL",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": "data",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "server.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "../ca.pem",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{plain} username="admin" password="{PASSWORD}"{users};',
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The controller's own listener knows nobody by name.
        "super.users": "User:admin;User:ANONYMOUS",
    }
