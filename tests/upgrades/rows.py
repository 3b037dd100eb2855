"""Rows as each schema's own code wrote them, literally, and what they have to mean today.

Nothing here comes from today's models: a revision's rows are the first one's, with what each step since then
let the code say of them (``SAID``), and those of the tables that it brought (``NEW``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Row = dict[str, Any]
Tables = dict[str, list[Row]]

T: Final = "2026-03-01 08:00:00.000000"
LATER: Final = "2026-03-01 08:05:00.000000"
PACS: Final = "PACS@10.0.0.5:104"
SECOND: Final = "SECOND@10.0.0.6:11112"
READ: Final = "1.2.826.0.1.1"
OPEN: Final = "1.2.826.0.1.2"
HELD: Final = "1.2.826.0.1.3"


def _study(number: int, uid: str, state: str, completed: str | None) -> Row:
    return {
        "id": number,
        "study_instance_uid": uid,
        "accession_number": f"ACC {number}",
        "study_date": "20260301",
        "state": state,
        "receiving_since": T,
        "last_eligible_at": T,
        "completed_at": completed,
    }


def _instance(number: int, study: int, **others: Any) -> Row:
    return {
        "id": number,
        "study_id": study,
        "sop_instance_uid": f"1.2.826.0.2.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "series_instance_uid": f"1.2.826.0.3.{number}",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "digest": f"{number:064x}",
        "path": f"images/00/{number}.dcm",
        "size_bytes": 5_000_000_000,
        "state": "stored",
        "eligible": True,
        "reason": "",
        "calling_ae_title": "CT1",
        "received_at": T,
        **others,
    }


def _analysis(number: int, study: int, state: str, **others: Any) -> Row:
    return {
        "id": number,
        "study_id": study,
        "input_digest": f"{number:064x}",
        "model_id": "litegpt-phantom",
        "model_version": "0.3.0",
        "settings_digest": "5" * 64,
        "demonstration": True,
        "state": state,
        "attempt": 1,
        "failures": 0,
        "not_before": T,
        "error": "",
        "created_at": T,
        "started_at": T,
        "finished_at": LATER,
        **others,
    }


def _finding(number: int, label: str, score: float, box: tuple[float, ...]) -> Row:
    corners = dict(zip(("x_min", "y_min", "x_max", "y_max"), box or (None,) * 4, strict=True))
    return {"id": number, "analysis_id": 1, "instance_id": 1, "position": number, "label": label} | {
        "score": score,
        **corners,
    }


def _result(number: int, analysis: int) -> Row:
    return {
        "id": number,
        "analysis_id": analysis,
        "kind": "sr",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34",
        "sop_instance_uid": f"2.25.{number}",
        "template_version": "3",
        "path": f"results/00/{number}.dcm",
        "digest": f"{number:064x}",
        "created_at": LATER,
    }


def _delivery(number: int, result: int | None, destination: str, state: str, **others: Any) -> Row:
    return {
        "id": number,
        "result_id": result,
        "destination": destination,
        "state": state,
        "attempt": 1,
        "not_before": T,
        "error": "",
        "sent_at": LATER if state == "sent" else None,
        **others,
    }


FIRST: Final[Tables] = {
    "study": [
        _study(1, READ, "complete", LATER),
        _study(2, OPEN, "receiving", None),
        _study(3, HELD, "complete", LATER),
    ],
    "instance": [
        _instance(1, 1),
        _instance(2, 1, eligible=False, reason="lateral view"),
        _instance(3, 2),
        _instance(4, 3),
        _instance(5, 3, sop_instance_uid="1.2.826.0.2.4", state="conflict"),
    ],
    "analysis": [
        _analysis(1, 1, "done"),
        _analysis(2, 1, "queued", started_at=None, finished_at=None, attempt=0),
        _analysis(3, 3, "failed", error="a fault", failures=3, attempt=3),
    ],
    "analysis_image": [
        {"analysis_id": 1, "instance_id": 1, "position": 0, "not_read": ""},
        {"analysis_id": 2, "instance_id": 1, "position": 0, "not_read": ""},
        {"analysis_id": 3, "instance_id": 4, "position": 0, "not_read": "damaged: \N{SNOWMAN}"},
    ],
    "finding": [
        _finding(1, "Nodule/Mass", 0.1 + 0.2, (0.5, 1.5, 300.25, 400.0)),
        _finding(2, "No finding", 1e-9, ()),
    ],
    "result": [_result(1, 1), _result(2, 3)],
    "delivery": [
        _delivery(1, 1, PACS, "sent"),
        _delivery(2, 1, SECOND, "due", error="connection refused", attempt=4),
        _delivery(3, 2, PACS, "refused", error="answered A900"),
    ],
}
"""What 0001 kept: a study that was read and is to be read again, one that is still coming in, and one with a
conflict whose reading failed."""

_USERS: Final = {"created_at": T}
_DELIVERED: Final = {"attempt": 2, "not_before": T, "error": "", "created_at": T}

_FILTERS: Final = (
    '{"since":"2020-01-01","until":"2020-12-31","modalities":["CR","DX"],"body_part":"CHEST","patient_id":"",'
    '"accession_numbers":[]}'
)

NEW: Final[dict[str, Tables]] = {
    "0004": {
        "retrieval_job": [
            {
                "id": 1,
                "source": "ARCHIVE@10.0.0.9:104",
                "filters": _FILTERS,
                "method": "move",
                "again": False,
                "rate_per_hour": 12.5,
                "daily_window": "22:00-06:00",
                "state": "paused",
                "questions_answered": 7,
                "attempt": 3,
                "not_before": T,
                "away": 1,
                "failures": 2,
                "error": "three in a row failed",
                "created_at": T,
                "found_at": T,
                "finished_at": None,
            }
        ],
        "retrieval_study": [
            {
                "id": 1,
                "job_id": 1,
                "study_instance_uid": READ,
                "accession_number": "ACC 1",
                "study_date": "20260301",
                "state": "failed",
                "attempt": 2,
                "failures": 2,
                "not_before": T,
                "images_expected": 4,
                "images_come": 2,
                "error": "two images did not come",
                "finished_at": LATER,
            }
        ],
    },
    "0005": {
        "audit_event": [
            {"id": 1, "at": T, "who": "root", "action": "rerun", "asked": '{"days": 3}', "outcome": "{}"}
        ]
    },
    "0006": {
        "web_user": [
            {
                "id": 1,
                "name": "ann",
                "password_hash": "$argon2id$x",
                "role": "admin",
                "active": True,
                **_USERS,
            },
            {
                "id": 2,
                "name": "bob",
                "password_hash": "$argon2id$y",
                "role": "viewer",
                "active": False,
                **_USERS,
            },
        ],
        "web_session": [
            {
                "id": 1,
                "token_hash": "7" * 64,
                "user_id": 1,
                "created_at": T,
                "last_seen_at": T,
                "expires_at": LATER,
            }
        ],
    },
    "0009": {
        "api_token": [
            {
                "id": 1,
                "name": "ris",
                "role": "operator",
                "token_hash": "8" * 64,
                "created_at": T,
                "expires_at": LATER,
                "last_used_at": None,
                "revoked_at": None,
            }
        ]
    },
    "0011": {
        "model": [
            {
                "id": 1,
                "model_id": "litegpt-phantom",
                "model_version": "0.3.0",
                "folder": "phantom",
                "digest": "9" * 64,
                "demonstration": True,
                "state": "active",
                "shadow_to": "",
                "added_at": T,
                "activated_at": LATER,
            }
        ],
        "model_activation": [
            {"id": 1, "model_row_id": 1, "at": LATER, "who": "root", "rolled_back_at": None}
        ],
    },
    "0012": {
        "delivery": [
            _delivery(4, None, SECOND, "sent", instance_id=1, priority=2, looks=0),
            _delivery(5, None, PACS, "due", instance_id=3, priority=0, looks=3, attempt=4),
        ],
        "webhook_call": [
            {"id": 1, "analysis_id": 1, "webhook": "ris", "state": "sent", "body_digest": "a" * 64}
            | {**_DELIVERED, "sent_at": LATER},
            {"id": 2, "analysis_id": 3, "webhook": "ris", "state": "due", "body_digest": ""}
            | {**_DELIVERED, "sent_at": None, "error": "answered 503"},
        ],
    },
    "0013": {
        "peer_seen": [
            {
                "kind": "destination",
                "name": PACS,
                "last_success_at": LATER,
                "last_failure_at": T,
                "failure": "no association",
                "down_since": None,
            }
        ],
        "worker_process": [
            {
                "id": 1,
                "part": "delivery",
                "host": "node1",
                "pid": 42,
                "model": "",
                "device": "",
                "in_hand": 1,
                "busy_since": T,
                "started_at": T,
                "beaten_at": LATER,
            }
        ],
    },
    "0014": {
        "delivery_attempt": [
            {"id": 1, "delivery_id": 2, "webhook_call_id": None, "attempt": 4, "count": 4}
            | {"outcome": "no-association", "said": "connection refused", "seconds": None}
            | {"worker": "node1/42", "first_at": T, "last_at": LATER},
            {"id": 2, "delivery_id": None, "webhook_call_id": 2, "attempt": 2, "count": 1}
            | {"outcome": "try-again", "said": "answered 503", "seconds": 0.25}
            | {"worker": "node1/42", "first_at": T, "last_at": T},
        ]
    },
    "0017": {
        "commitment": [
            {"id": 1, "transaction_uid": "2.25.99", "destination": PACS, "asked_at": LATER}
            | {"answered_at": None, "error": ""}
        ],
        "safekeeping_request": [
            {"id": 1, "ae_title": "CT1", "transaction_uid": "1.2.9", "objects": "[]", "judged_at": None}
            | {"state": "due", "attempt": 0, "not_before": T, "error": "", "created_at": T, "sent_at": None}
        ],
    },
}
"""Rows of new tables, and of new kinds in old ones, that the code of a revision wrote."""

Key = tuple[str, int]
_PARENTS: Final = (
    *("study", "instance", "analysis", "analysis_image", "result", "commitment", "delivery", "webhook_call"),
    *("retrieval_job", "web_user", "model"),
)

_FACTS: Final = (
    '{"called_ae_title": "LITEGPT", "station_name": "", "modality": "DX", "body_part": "CHEST", '
    '"descriptions": ["Chest PA"], "age_years": 55.0}'
)

SAID: Final[dict[str, dict[Key, Row]]] = {
    "0002": {
        ("finding", 1): {"box_score": 0.75, "reported": True},
        ("finding", 2): {"box_score": None, "reported": False},
    },
    "0003": {("delivery", 3): {"state": "replaced", "error": "the destination takes no such objects"}},
    "0005": {
        ("study", 1): {"priority": 2},
        ("study", 2): {"priority": 0},
        ("analysis", 1): {"priority": 2},
        ("delivery", 2): {"priority": 2},
    },
    "0007": {("instance", 2): {"purged_at": LATER, "path": ""}, ("result", 2): {"purged_at": LATER}},
    "0008": {
        ("instance", 1): {"facts": _FACTS},
        ("analysis", 1): {"rule": "chest", "result_rule": "all"},
    },
    "0011": {
        ("analysis", 2): {"purpose": "shadow", "counts": False},
        ("analysis", 3): {"purpose": "named"},
    },
    "0014": {("instance", 5): {"state": "stored", "set_aside_at": LATER}},
    "0017": {
        ("delivery", 1): {
            "commitment_id": 1,
            "commitment_due_at": LATER,
            "commitment_asks": 2,
            "commitment_failures": 1,
        },
        ("instance", 4): {"committed_until": "2126-03-01 08:00:00.000000"},
    },
}
"""What the code of a revision wrote that the one before could not say."""

UNSAID: Final[dict[str, Row]] = {
    "study": {"priority": 1},
    "instance": {"purged_at": None, "facts": "", "set_aside_at": None, "committed_until": None},
    "analysis": {"priority": 1, "rule": "", "result_rule": "", "purpose": "regular", "counts": True},
    "finding": {"box_score": None, "reported": True},
    "result": {"purged_at": None},
    "delivery": (
        {"priority": 1, "instance_id": None, "looks": 0}
        | {"commitment_id": None, "commitment_due_at": None, "committed_at": None}
        | {"commitment_asks": 0, "commitment_failures": 0}
    ),
}
"""What today's code has to find where a row says nothing, since it is older than the column."""

LEARNT: Final[list[Row]] = [
    {"kind": "destination", "name": PACS, "last_success_at": LATER},
    {"kind": "destination", "name": SECOND, "last_success_at": LATER},
    {"kind": "webhook", "name": "ris", "last_success_at": LATER},
]
"""What 0013 says of peers by what had been sent; before 0012 nothing had been to SECOND, nor to a webhook."""


def rows_of(revision: str) -> Tables:
    """Every row of a database of that revision; parents before children within each table."""
    tables = {table: [dict(row) for row in rows] for table, rows in FIRST.items()}
    for step in sorted({*NEW, *SAID}):
        if step > revision:
            break
        for table, rows in NEW.get(step, {}).items():
            tables.setdefault(table, []).extend(dict(row) for row in rows)
        for (table, number), said in SAID.get(step, {}).items():
            (row,) = (row for row in tables[table] if row["id"] == number)
            row.update(said)
    return tables


def meaning_of(revision: str) -> Tables:
    """What a database of that revision has to hold at the present schema."""
    tables = rows_of(revision)
    for table, unsaid in UNSAID.items():
        tables[table] = [unsaid | row for row in tables[table]]
    if revision < "0013":
        learnt = LEARNT if revision >= "0012" else LEARNT[:1]
        tables["peer_seen"] = [
            {**row, "last_failure_at": None, "failure": "", "down_since": None} for row in learnt
        ]
    return tables


def inserts(tables: Tables) -> Iterator[tuple[str, Row]]:
    """The statements, in an order that foreign keys allow."""
    for table in sorted(tables, key=lambda name: _PARENTS.index(name) if name in _PARENTS else len(_PARENTS)):
        yield from ((_insert(table, row), row) for row in tables[table])


def _insert(table: str, row: Row) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"
