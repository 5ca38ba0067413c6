CREATE TABLE cerebro_schema (version INTEGER NOT NULL);
CREATE TABLE collections (name VARCHAR(200) NOT NULL, model TEXT NOT NULL, dimension INTEGER NOT NULL, changed_at
    DOUBLE PRECISION NOT NULL, PRIMARY KEY (name));
CREATE TABLE servers (host VARCHAR(120) NOT NULL, address TEXT NOT NULL, model TEXT NOT NULL, served INTEGER NOT
    NULL, is_most BOOLEAN NOT NULL, noted_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (host, address, model));
CREATE TABLE tasks (id VARCHAR(12) NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, status VARCHAR(16) NOT NULL,
    total_items INTEGER, processed_items INTEGER NOT NULL, ok_items INTEGER NOT NULL, failed_items INTEGER NOT NULL,
    metadata TEXT NOT NULL, manifest TEXT NOT NULL, results TEXT, created_at DOUBLE PRECISION NOT NULL, updated_at
    DOUBLE PRECISION NOT NULL, finished_at DOUBLE PRECISION, lease_holder VARCHAR(120), lease_until DOUBLE
    PRECISION, PRIMARY KEY (id));
CREATE INDEX ix_tasks_created_at ON tasks (created_at);
CREATE TABLE attempts (task_id VARCHAR(12) NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL, step
    VARCHAR(32) NOT NULL, backend VARCHAR(32), model TEXT, request TEXT, reply TEXT, error TEXT, started_at DOUBLE
    PRECISION, PRIMARY KEY (task_id, position, number), FOREIGN KEY(task_id) REFERENCES tasks (id));
CREATE TABLE chunks (collection VARCHAR(200) NOT NULL, source TEXT NOT NULL, number INTEGER NOT NULL, text TEXT NOT
    NULL, sha256 VARCHAR(64) NOT NULL, start_at INTEGER NOT NULL, end_at INTEGER NOT NULL, page INTEGER, PRIMARY KEY
    (collection, source, number), FOREIGN KEY(collection) REFERENCES collections (name));
CREATE INDEX chunks_by_sha256 ON chunks (collection, sha256);
CREATE TABLE items (task_id VARCHAR(12) NOT NULL, position INTEGER NOT NULL, key VARCHAR(64) NOT NULL, input TEXT,
    status VARCHAR(16) NOT NULL, output TEXT, error TEXT, attempts INTEGER DEFAULT '0' NOT NULL, step VARCHAR(32),
    finish_reason VARCHAR(32), prompt_tokens INTEGER, completion_tokens INTEGER, mark VARCHAR(16), edited TEXT,
    started_at DOUBLE PRECISION, finished_at DOUBLE PRECISION, PRIMARY KEY (task_id, position), FOREIGN KEY(task_id)
    REFERENCES tasks (id));
CREATE INDEX items_by_key ON items (key) WHERE status = 'ok' AND step IN ('call', 'repair', 'reuse');
CREATE TABLE vectors (collection VARCHAR(200) NOT NULL, sha256 VARCHAR(64) NOT NULL, vector {vector} NOT NULL,
    PRIMARY KEY (collection, sha256), FOREIGN KEY(collection) REFERENCES collections (name));
CREATE TABLE jobs (task_id VARCHAR(12) NOT NULL, run VARCHAR(12) NOT NULL, job TEXT NOT NULL, is_open BOOLEAN NOT NULL, PRIMARY KEY (task_id),
    FOREIGN KEY(task_id) REFERENCES tasks (id));
CREATE TABLE leases (task_id VARCHAR(12) NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, size INTEGER NOT NULL, holder VARCHAR(120),
    deaths INTEGER NOT NULL, PRIMARY KEY (task_id, first), FOREIGN KEY(task_id) REFERENCES tasks (id));
CREATE TABLE workers (name VARCHAR(120) NOT NULL, task_id VARCHAR(12), only_task VARCHAR(12), at_once INTEGER NOT
    NULL, ended INTEGER NOT NULL, refused TEXT NOT NULL, seen_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (name));
CREATE TABLE endings (task_id VARCHAR(12) NOT NULL, holder VARCHAR(120) NOT NULL, number INTEGER NOT NULL, told TEXT
    NOT NULL, PRIMARY KEY (task_id, holder, number), FOREIGN KEY(task_id) REFERENCES tasks (id));
INSERT INTO cerebro_schema VALUES (8);
INSERT INTO tasks VALUES ('0123456789ab', '"qa_generation"', '"copywriting"', 'completed', 1, 1, 1, 0, '{}', '{}',
    NULL, 1, 2, 2, 'elsewhere:1:abc', 1);
INSERT INTO items VALUES ('0123456789ab', 0, 'k', '"x"', 'ok', '{"question":"Why?"}', NULL, 1, 'call', 'stop', 7,
    11, 'accepted', '{"question":"Why so?"}', 1, 2);
INSERT INTO attempts VALUES ('0123456789ab', 0, 1, 'call', 'ollama', '"tiny"', '{}', '{}', NULL, 1);
INSERT INTO collections VALUES ('notes', '"a model"', 2, 1);
INSERT INTO vectors VALUES ('notes', 'abc', {value});
INSERT INTO chunks VALUES ('notes', '"a.txt"', 0, '"Why?"', 'abc', 0, 4, NULL);
INSERT INTO servers VALUES ('a host', '"http://somewhere"', '"tiny"', 4, TRUE, 1);
INSERT INTO workers VALUES ('a host:1:abc', NULL, NULL, 8, 3, '{}', 1);
