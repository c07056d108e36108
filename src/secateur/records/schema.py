"""The schema of a run's database, as the migrations that made it. Needs no PyTorch."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE sweeps (
        id INTEGER PRIMARY KEY,
        spec TEXT NOT NULL,
        command TEXT NOT NULL,
        started_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE environments (
        id INTEGER PRIMARY KEY,
        host TEXT NOT NULL,
        machine TEXT NOT NULL,
        cpu TEXT NOT NULL,
        cores INTEGER NOT NULL,
        versions TEXT NOT NULL,
        UNIQUE (host, machine, cpu, cores, versions)
    ) STRICT;
    CREATE TABLE networks (
        key TEXT PRIMARY KEY,
        device TEXT NOT NULL,
        precision TEXT NOT NULL,
        seconds REAL NOT NULL,
        epochs INTEGER NOT NULL,
        resumed_from TEXT NOT NULL,
        data_digest TEXT NOT NULL,
        data_source TEXT NOT NULL,
        parameters INTEGER NOT NULL,
        file_bytes INTEGER NOT NULL,
        validation_top1 REAL NOT NULL,
        validation_top5 REAL,
        validation_n INTEGER NOT NULL,
        test_top1 REAL NOT NULL,
        test_top5 REAL,
        test_n INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE cells (
        id TEXT PRIMARY KEY,
        model TEXT NOT NULL,
        data TEXT NOT NULL,
        method TEXT NOT NULL,
        scope TEXT NOT NULL,
        ratio REAL NOT NULL,
        seed INTEGER NOT NULL,
        spec TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rows (
        id INTEGER PRIMARY KEY,
        cell_id TEXT NOT NULL UNIQUE REFERENCES cells (id),
        network_key TEXT NOT NULL REFERENCES networks (key),
        environment_id INTEGER NOT NULL REFERENCES environments (id),
        validation_top1 REAL NOT NULL,
        validation_top5 REAL,
        validation_n INTEGER NOT NULL,
        test_top1 REAL NOT NULL,
        test_top5 REAL,
        test_n INTEGER NOT NULL,
        file_bytes INTEGER NOT NULL,
        peak_memory INTEGER,
        held_memory INTEGER,
        pytorch_file_bytes INTEGER,
        pytorch_peak_memory INTEGER,
        pytorch_held_memory INTEGER,
        seconds REAL NOT NULL,
        measured_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE layers (
        row_id INTEGER NOT NULL REFERENCES rows (id),
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        kept INTEGER NOT NULL,
        total INTEGER NOT NULL,
        macs INTEGER NOT NULL,
        nonzero_macs INTEGER NOT NULL,
        PRIMARY KEY (row_id, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE latencies (
        row_id INTEGER NOT NULL REFERENCES rows (id),
        engine TEXT NOT NULL,
        batch INTEGER NOT NULL,
        threads INTEGER NOT NULL,
        median_ms REAL NOT NULL,
        low_ms REAL NOT NULL,
        high_ms REAL NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (row_id, engine, batch, threads)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE failures (
        cell_id TEXT PRIMARY KEY REFERENCES cells (id),
        environment_id INTEGER NOT NULL REFERENCES environments (id),
        error TEXT NOT NULL,
        traceback TEXT NOT NULL,
        failed_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    "ALTER TABLE rows ADD COLUMN packed_bytes INTEGER",
    """
    ALTER TABLE cells ADD COLUMN pattern TEXT NOT NULL DEFAULT 'unstructured';
    ALTER TABLE cells ADD COLUMN repair TEXT NOT NULL DEFAULT 'none';
    ALTER TABLE cells ADD COLUMN calibration_images INTEGER NOT NULL DEFAULT 1024;
    ALTER TABLE cells ADD COLUMN calibration_seed INTEGER;
    """,
    """
    ALTER TABLE cells ADD COLUMN retraining TEXT NOT NULL DEFAULT 'none';
    ALTER TABLE rows ADD COLUMN retrained_epochs INTEGER;
    ALTER TABLE rows ADD COLUMN retrained_seconds REAL;
    ALTER TABLE rows ADD COLUMN retrained_resumed_from TEXT;
    """,
    "ALTER TABLE layers ADD COLUMN milliseconds REAL",
    "ALTER TABLE rows ADD COLUMN timing_environment_id INTEGER REFERENCES environments (id)",
    """
    CREATE TABLE searches (
        id INTEGER PRIMARY KEY,
        spec TEXT NOT NULL,
        command TEXT NOT NULL,
        started_at TEXT NOT NULL,
        outcome TEXT
    ) STRICT;
    CREATE TABLE findings (
        cell_id TEXT NOT NULL REFERENCES cells (id),
        what TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (cell_id, what)
    ) STRICT, WITHOUT ROWID;
    """,
    "ALTER TABLE cells ADD COLUMN method_source TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE cells ADD COLUMN model_source TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE rows ADD COLUMN left_dense TEXT NOT NULL DEFAULT '[]'",
    """
    ALTER TABLE networks ADD COLUMN mean TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE networks ADD COLUMN std TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE networks ADD COLUMN augment TEXT NOT NULL DEFAULT '';
    ALTER TABLE rows ADD COLUMN checksum TEXT;
    ALTER TABLE findings ADD COLUMN checksum TEXT;
    ALTER TABLE searches ADD COLUMN checksum TEXT;
    """,
    """
    ALTER TABLE cells ADD COLUMN quantize TEXT NOT NULL DEFAULT 'none';
    ALTER TABLE rows ADD COLUMN quantised TEXT;
    """,
    "ALTER TABLE networks ADD COLUMN metric TEXT NOT NULL DEFAULT ''",
)
"""Each brings the schema from one version to the next; docs/store.md says what the tables hold."""

SCHEMA_VERSION = len(MIGRATIONS)
