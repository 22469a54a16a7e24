"""What an event must look like: JSON in and out, schemas, violations, keys, and the examples of `kpipe send`.

    contracts = load_contracts(pipeline)                 # once; FindingsError when a schema is wrong
    value = decode_json(record.value)                    # Undecodable: not JSON
    contracts["orders.created"].violations(value)        # () when valid

Nothing in here knows Kafka, a clock or chance.
"""

from orchestrator.contracts.codec import Undecodable, Unencodable, decode_json, encode_json
from orchestrator.contracts.contract import Contract, Violation
from orchestrator.contracts.load import load_contracts, with_schemas
from orchestrator.contracts.outgoing import outgoing

__all__ = [
    "Contract",
    "Undecodable",
    "Unencodable",
    "Violation",
    "decode_json",
    "encode_json",
    "load_contracts",
    "outgoing",
    "with_schemas",
]
