"""The Apache Kafka that kpipe fetches. Changing the version means changing all of these, and compose.yaml."""

from __future__ import annotations

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
