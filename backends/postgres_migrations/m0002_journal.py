"""Schema 2: what is kept beside the keys. No trigger here: these writes are announced to nobody.

``{schema}`` stands for the schema's name, which holds no quotes itself.
"""

from typing import Final

__all__ = ["SQL"]

SQL: Final = """
CREATE TABLE "{schema}".usage_hours (
  key_id text COLLATE "C" NOT NULL,
  hour timestamptz NOT NULL,
  uses bigint NOT NULL,
  PRIMARY KEY (key_id, hour)
);
CREATE INDEX usage_hours_hour ON "{schema}".usage_hours (hour);

CREATE TABLE "{schema}".last_uses (
  key_id text COLLATE "C" PRIMARY KEY,
  last_used_at timestamptz NOT NULL,
  previous_secret_used_at timestamptz
);

CREATE TABLE "{schema}".audit (
  organization_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  at timestamptz NOT NULL,
  actor text NOT NULL,
  actor_organization_id text NOT NULL,
  action text NOT NULL,
  target text NOT NULL,
  client_ip text NOT NULL,
  request_id text NOT NULL,
  before text NOT NULL,
  after text NOT NULL,
  previous_hash text NOT NULL,
  hash text NOT NULL,
  PRIMARY KEY (organization_id, seq)
);

CREATE TABLE "{schema}".audit_heads (
  organization_id text COLLATE "C" PRIMARY KEY,
  seq bigint NOT NULL,
  hash text NOT NULL,
  pruned_seq bigint NOT NULL,
  pruned_hash text NOT NULL
);

CREATE TABLE "{schema}".claims (
  name text COLLATE "C" PRIMARY KEY,
  fingerprint text NOT NULL,
  answer text,
  until timestamptz NOT NULL
);
CREATE INDEX claims_until ON "{schema}".claims (until);
"""
