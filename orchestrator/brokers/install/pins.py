"""The Apache Kafka that kpipe fetches. Another version changes all of these, kafka.sha256 and compose.yaml."""

from __future__ import annotations

from pathlib import Path

SCALA = "2.13"
VERSION = "4.3.1"
#: What the release itself ships behind SLF4J (its libs/ folder): Kafka's own classes expect log4j2 at run time.
LOG4J = "2.25.4"
SLF4J_BINDING = "log4j-slf4j-impl"

NAME = f"kafka_{SCALA}-{VERSION}"
ARCHIVE = f"{NAME}.tgz"
#: As published next to the archive (ARCHIVE.sha512), compared with the value that other projects pin.
SHA512 = (
    "c7d7b2318cb51aa0c61d3246a51c349210073c5c9b754947ef965a439f2f939e"
    "8600f204e134a75ac31faf3829c9370960ef7c6a9886c8a1dbf0339a21f4c54c"
)
#: Base URLs, tried in order: the content network holds current releases only, the archive all of them.
RELEASE_URLS = ("https://dlcdn.apache.org/kafka", "https://archive.apache.org/dist/kafka")

#: The Maven plug-in that copies the jars. Without a version Maven takes whatever its own version names.
MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.10.0"
_JARS = Path(__file__).with_name("kafka.sha256")


def jars() -> dict[str, str]:
    """Kafka's jars as they are in Maven's repositories, by name, with their SHA-256 in hex.

    The file has the form of sha256sum(1): `sha256sum -c` checks a folder of jars with it.
    """
    pairs = (line.split() for line in _JARS.read_text("ascii").splitlines())
    return {name: checksum for checksum, name in pairs}
