"""Schema 1: organizations, keys, the epoch marker, and what announces every change, however it was made.

``{schema}`` stands for the schema's name, which holds no quotes itself.
"""

from typing import Final

__all__ = ["SQL"]

SQL: Final = """
CREATE TABLE "{schema}".migrations (
  version integer PRIMARY KEY,
  title text NOT NULL,
  compatible_from integer NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The epoch marker: one row. Without it no answer is believed, and with another epoch every cache is emptied.
CREATE TABLE "{schema}".meta (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  epoch text NOT NULL,
  schema_version integer NOT NULL,
  compatible_from integer NOT NULL
);

CREATE TABLE "{schema}".organizations (
  organization_id text COLLATE "C" PRIMARY KEY,
  is_active boolean NOT NULL,
  name text NOT NULL,
  created_at timestamptz NOT NULL
);
-- A look-up reads an organization's state from this index alone.
CREATE UNIQUE INDEX organizations_state ON "{schema}".organizations (organization_id) INCLUDE (is_active);

CREATE TABLE "{schema}".keys (
  key_id text COLLATE "C" PRIMARY KEY,
  organization_id text COLLATE "C" NOT NULL REFERENCES "{schema}".organizations,
  api_key text COLLATE "C" NOT NULL CONSTRAINT keys_api_key UNIQUE,
  secret text NOT NULL,
  previous_secret text,
  previous_expires_at timestamptz,
  previous_grace bigint,
  rotated_at timestamptz,
  domains text[] NOT NULL,
  scopes text[] NOT NULL,
  origins text[] NOT NULL,
  networks text[] NOT NULL,
  state text NOT NULL CONSTRAINT keys_state CHECK (state IN ('active', 'disabled', 'revoked')),
  expires_at timestamptz,
  critical boolean NOT NULL,
  name text NOT NULL,
  metadata text NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  version bigint NOT NULL
);
CREATE INDEX keys_of_organization ON "{schema}".keys (organization_id, key_id);

-- The list of changes behind the announcements; api_key NULL means "anything".
CREATE TABLE "{schema}".changes (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  api_key text
);
CREATE INDEX changes_transaction ON "{schema}".changes (transaction_id);
CREATE INDEX changes_at ON "{schema}".changes (at);

-- SECURITY DEFINER in all of these: whoever may change a key announces it, without rights of his own on the list.
CREATE FUNCTION "{schema}".announce_key(changed text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  change "{schema}".changes;
BEGIN
  INSERT INTO "{schema}".changes (api_key) VALUES (changed) RETURNING * INTO change;
  PERFORM pg_notify('gatekey_{schema}', json_build_object(
    'kind', 'key', 'seq', change.seq, 'at', extract(epoch FROM change.at), 'api_key', changed)::text);
END $$;

-- Once in a transaction, however many statements it has.
CREATE FUNCTION "{schema}".announce_everything() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  change "{schema}".changes;
BEGIN
  -- A restored row may bear this number, too, but not of this time.
  IF EXISTS (SELECT FROM "{schema}".changes
    WHERE transaction_id = pg_current_xact_id() AND api_key IS NULL AND at >= transaction_timestamp()) THEN
    RETURN;
  END IF;
  INSERT INTO "{schema}".changes (api_key) VALUES (NULL) RETURNING * INTO change;
  PERFORM pg_notify('gatekey_{schema}', json_build_object(
    'kind', 'bulk', 'seq', change.seq, 'at', extract(epoch FROM change.at))::text);
END $$;

-- A statement that changes more than 20 keys, or a transaction that says so (SET LOCAL gatekey.bulk = 'on'), is one
-- message. So is an api_key that would not fit into a message (8,000 bytes) with room to spare.
CREATE FUNCTION "{schema}".keys_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changed text[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    changed := ARRAY(SELECT api_key FROM new_keys LIMIT 21);
  ELSIF TG_OP = 'DELETE' THEN
    changed := ARRAY(SELECT api_key FROM old_keys LIMIT 21);
  ELSIF TG_OP = 'UPDATE' THEN
    changed := ARRAY(SELECT api_key FROM new_keys UNION ALL SELECT api_key FROM old_keys LIMIT 42);
    changed := ARRAY(SELECT DISTINCT handle FROM unnest(changed) AS handle);
  END IF;
  IF TG_OP <> 'TRUNCATE' AND cardinality(changed) = 0 THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'TRUNCATE'
    OR cardinality(changed) > 20
    OR current_setting('gatekey.bulk', true) = 'on'
    OR EXISTS (SELECT FROM unnest(changed) AS handle WHERE handle IS NULL OR octet_length(handle) > 1000)
  THEN
    PERFORM "{schema}".announce_everything();
  ELSE
    PERFORM "{schema}".announce_key(handle) FROM unnest(changed) AS handle;
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION "{schema}".organizations_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    -- Only what a look-up reads counts: a new name empties no cache.
    IF NOT EXISTS (
      SELECT organization_id, is_active FROM new_organizations
      EXCEPT SELECT organization_id, is_active FROM old_organizations
    ) THEN
      RETURN NULL;
    END IF;
  ELSIF TG_OP = 'DELETE' THEN
    IF NOT EXISTS (SELECT FROM old_organizations) THEN
      RETURN NULL;
    END IF;
  END IF;
  PERFORM "{schema}".announce_everything();
  RETURN NULL;
END $$;

CREATE FUNCTION "{schema}".meta_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM "{schema}".announce_everything();
  RETURN NULL;
END $$;

CREATE TRIGGER gatekey_insert AFTER INSERT ON "{schema}".keys
  REFERENCING NEW TABLE AS new_keys
  FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".keys_changed();
CREATE TRIGGER gatekey_update AFTER UPDATE ON "{schema}".keys
  REFERENCING OLD TABLE AS old_keys NEW TABLE AS new_keys
  FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".keys_changed();
CREATE TRIGGER gatekey_delete AFTER DELETE ON "{schema}".keys
  REFERENCING OLD TABLE AS old_keys
  FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".keys_changed();
CREATE TRIGGER gatekey_truncate AFTER TRUNCATE ON "{schema}".keys
  FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".keys_changed();

CREATE TRIGGER gatekey_update AFTER UPDATE ON "{schema}".organizations
  REFERENCING OLD TABLE AS old_organizations NEW TABLE AS new_organizations
  FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".organizations_changed();
CREATE TRIGGER gatekey_delete AFTER DELETE ON "{schema}".organizations
  REFERENCING OLD TABLE AS old_organizations
  FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".organizations_changed();
CREATE TRIGGER gatekey_truncate AFTER TRUNCATE ON "{schema}".organizations
  FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".organizations_changed();

CREATE TRIGGER gatekey_epoch AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF epoch ON "{schema}".meta
  FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".meta_changed();
"""
