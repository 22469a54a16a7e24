from __future__ import annotations

import socket
from pathlib import Path

import pytest

from orchestrator.brokers.ports import Ports, accepts, choose_ports, is_free, remembered_ports


def listener(host: str = "127.0.0.1") -> socket.socket:
    server = socket.socket()
    server.bind((host, 0))
    server.listen()
    return server


def test_two_different_free_ports_below_the_ephemeral_range(tmp_path: Path) -> None:
    ports = choose_ports(tmp_path / "ports.json")
    assert ports.broker != ports.controller
    assert all(1024 < port < 32768 and is_free(port) for port in ports)


def test_the_same_ports_again(tmp_path: Path) -> None:
    first = choose_ports(tmp_path / "ports.json")
    assert choose_ports(tmp_path / "ports.json") == first == remembered_ports(tmp_path / "ports.json")


def test_other_ports_when_one_is_taken_and_those_are_remembered(tmp_path: Path) -> None:
    first = choose_ports(tmp_path / "ports.json")
    with socket.socket() as server:
        server.bind(("127.0.0.1", first.controller))
        server.listen()
        second = choose_ports(tmp_path / "ports.json")
        assert first.controller not in second
    assert choose_ports(tmp_path / "ports.json") == second


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"broker": "x", "controller": 1}', '{"broker": 5, "controller": 5}',
                                  '{"broker": 0, "controller": 70000}'])  # fmt: skip
def test_a_spoilt_file_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert remembered_ports(tmp_path / "ports.json") is None
    assert isinstance(choose_ports(tmp_path / "ports.json"), Ports)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_somebody_listens_on_is_not_free(host: str) -> None:
    with listener(host) as server:
        port = server.getsockname()[1]
        assert accepts(port) and not is_free(port)
    assert not accepts(port) and is_free(port)


def test_a_port_that_is_only_bound_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        assert not is_free(server.getsockname()[1])
