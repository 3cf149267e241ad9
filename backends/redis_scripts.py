"""The scripts that write: each checks, writes, logs and announces in one step of the server.

Every one begins with the same lines: it writes nothing once its deadline has passed by the server's own clock (a server
that hung would else carry out, after it wakes, what its caller was told had failed), nor where the marker is another one
than the caller has just read. What a script says of a record it was told by its caller; it never makes one up, since
Lua's JSON cannot keep an empty list apart from an empty object.

Messages on the channel, fields parted by a space: ``k <at> <log id> <api_key>``, ``a <at> <log id>`` (anything may have
changed), and ``q <names>``: writes that change nothing for anybody (records of an import that is under way; ``*`` for the
lists of the disabled), about which the server's own tracking is not to be believed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

__all__ = [
    "ADD",
    "ADD_ORGANIZATION",
    "ANNOUNCE",
    "BEGIN",
    "INDEX",
    "LIST",
    "LOOK",
    "MIGRATE",
    "ORGANIZATIONS",
    "REMOVE",
    "SWAP",
    "SWITCH_ORGANIZATION",
    "Script",
    "script",
]


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the hash by which the server keeps it."""

    text: bytes
    sha: bytes


def script(*parts: str) -> Script:
    """The script of these parts."""
    text = "\n".join(parts).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


_NAMES: Final = """
local prefix = ARGV[1]
local function own(name) return prefix .. ':{m}:' .. name end
local function in_bucket(bucket, name) return string.format('%s:{b%03d}:%s', prefix, bucket, name) end
local function record_at(address) return prefix .. ':{b' .. string.sub(address, 1, 3) .. '}:' .. string.sub(address, 5) end
"""

_CLOCK: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local at = string.format('%.0f', now)
"""

BEGIN: Final = f"""{_NAMES}{_CLOCK}
local channel = ARGV[4]
if now > tonumber(ARGV[2]) then return {{'late'}} end
if redis.call('GET', own('epoch')) ~= ARGV[3] then return {{'moved'}} end
"""
"""Of every script that writes; its own arguments begin with the fifth."""

ANNOUNCE: Final = """
local function announce(kind, text)
  local id = redis.call('XADD', own('log'), 'MAXLEN', '~', 10000, '*', kind, text, 'at', at)
  redis.call('PUBLISH', channel, kind .. ' ' .. at .. ' ' .. id .. ' ' .. text)
end
local function quietly(names) redis.call('PUBLISH', channel, 'q ' .. names) end
"""
"""Needs ``channel`` and ``at`` from the lines before it."""

ORGANIZATIONS: Final = """
local function write_disabled()
  local listed = redis.call('SMEMBERS', own('inactive'))
  for _, id in ipairs(redis.call('SMEMBERS', own('imports'))) do table.insert(listed, 'import:' .. id) end
  table.sort(listed)
  local text = #listed == 0 and '[]' or cjson.encode(listed)
  local all = {own('disabled'), text}
  for bucket = 0, 255 do
    table.insert(all, in_bucket(bucket, 'disabled'))
    table.insert(all, text)
  end
  redis.call('MSET', unpack(all))
end
local function put_organization(id, raw, active)
  if redis.call('HSETNX', own('organizations'), id, raw) == 0 then return false end
  redis.call('ZADD', own('organizations:names'), 0, id)
  if active == '0' then redis.call('SADD', own('inactive'), id) end
  return true
end
"""
"""Whoever puts an organization that is not active, or changes which imports are under way, then writes the lists anew."""

INDEX: Final = """
local function forget_state(key_id)
  redis.call('SREM', own('state:disabled'), key_id)
  redis.call('SREM', own('state:revoked'), key_id)
  redis.call('ZREM', own('expiring'), key_id)
end
local function put_state(key_id, state, expires)
  forget_state(key_id)
  if state ~= 'active' then redis.call('SADD', own('state:' .. state), key_id) end
  if expires ~= '' then redis.call('ZADD', own('expiring'), expires, key_id) end
end
local function put(address, raw, key_id, organization, state, expires)
  redis.call('SET', record_at(address), raw)
  redis.call('HSET', own('ids'), key_id, address)
  redis.call('ZADD', own('keys'), 0, key_id)
  redis.call('ZADD', own('keys:' .. organization), 0, key_id)
  put_state(key_id, state, expires)
end
local function forget_place(key_id, organization)
  redis.call('HDEL', own('ids'), key_id)
  redis.call('ZREM', own('keys'), key_id)
  if organization then redis.call('ZREM', own('keys:' .. organization), key_id) end
  forget_state(key_id)
end
local function value_at(address)
  local held = redis.pcall('GET', record_at(address))
  if type(held) == 'table' then return '' end
  return held
end
local function import_of(raw) return string.match(raw, ',"import":"(%x+)"}$') end
local function is_pending(raw)
  local id = import_of(raw)
  return id and redis.call('SISMEMBER', own('imports'), id) == 1
end
local function organization_of(raw)
  local good, record = pcall(cjson.decode, raw)
  return good and type(record) == 'table' and record.organization_id or nil
end
"""

ADD: Final = script(
    BEGIN,
    ANNOUNCE,
    INDEX,
    """
local address, raw, key_id, organization, state, expires, api_key = unpack(ARGV, 5, 11)
if redis.call('HEXISTS', own('organizations'), organization) == 0 then return {'no organization'} end
local other = redis.call('HGET', own('ids'), key_id)
for _, taken in ipairs({address, other or address}) do
  local held = value_at(taken)
  if held then return {is_pending(held) and 'pending' or 'taken'} end
end
put(address, raw, key_id, organization, state, expires)
announce('k', api_key)
return {'done'}
""",
)
"""An identifier that leads to no record any more, deleted by hand, is free."""

SWAP: Final = script(
    BEGIN,
    ANNOUNCE,
    INDEX,
    """
local address, old, new, key_id, state, expires, api_key = unpack(ARGV, 5, 11)
if value_at(address) ~= old then return {'changed'} end
redis.call('SET', record_at(address), new)
put_state(key_id, state, expires)
announce('k', api_key)
return {'done'}
""",
)
"""Put a record in the place of exactly the one that the caller has read."""

REMOVE: Final = script(
    BEGIN,
    ANNOUNCE,
    INDEX,
    """
local key_id = ARGV[5]
local address = redis.call('HGET', own('ids'), key_id)
if not address then return {'none'} end
local held = value_at(address)
if held and is_pending(held) then return {'none'} end
local organization = held and organization_of(held)
redis.call('DEL', record_at(address))
forget_place(key_id, organization)
if not held then return {'none'} end
local name = string.sub(address, 5)
if string.sub(name, 1, 1) == ',' then name = string.sub(name, 2) end
announce('k', name)
return {'done'}
""",
)
"""Also of a record that nobody can decode, and of what is left of one that was deleted by hand."""

ADD_ORGANIZATION: Final = script(
    BEGIN,
    ANNOUNCE,
    ORGANIZATIONS,
    """
local id, raw, active = unpack(ARGV, 5, 7)
if not put_organization(id, raw, active) then return {'taken'} end
if active == '0' then
  write_disabled()
  quietly('*')
end
return {'done'}
""",
)

SWITCH_ORGANIZATION: Final = script(
    BEGIN,
    ANNOUNCE,
    ORGANIZATIONS,
    """
local id, old, new, active = unpack(ARGV, 5, 8)
if redis.call('HGET', own('organizations'), id) ~= old then return {'changed'} end
redis.call('HSET', own('organizations'), id, new)
redis.call(active == '1' and 'SREM' or 'SADD', own('inactive'), id)
write_disabled()
announce('a', '')
return {'done'}
""",
)

LOOK: Final = script(
    """
local held = redis.call('MGET', ARGV[2], ARGV[3], ARGV[4])
return {held[1], held[2], held[3], redis.call('TYPE', ARGV[2]).ok}
""",
)
"""What ``MGET`` says, and of which type its first key is. (``MULTI`` would do, but a full server refuses that.)"""

LIST: Final = script(
    _NAMES,
    """
local zset, from, count = ARGV[2], ARGV[3], ARGV[4]
local ids = redis.call('ZRANGEBYLEX', own(zset), from, '+', 'LIMIT', 0, count)
local addresses = #ids == 0 and {} or redis.call('HMGET', own('ids'), unpack(ids))
return {redis.call('GET', own('epoch')), redis.call('GET', own('disabled')), ids, addresses}
""",
)
"""One page of identifiers, and which imports were under way at that moment: of one either nothing is listed or all."""

MIGRATE: Final = script(
    _NAMES,
    _CLOCK,
    "local channel, schema, fresh = ARGV[2], tonumber(ARGV[3]), ARGV[4]",
    ANNOUNCE,
    ORGANIZATIONS,
    """
local names = {own('epoch')}
for bucket = 0, 255 do table.insert(names, in_bucket(bucket, 'epoch')) end
local held, missing, first, differ = redis.call('MGET', unpack(names)), 0, nil, false
for number = 1, #names do
  local marker = held[number]
  if not marker then
    missing = missing + 1
  else
    local good, value = pcall(cjson.decode, marker)
    local found = good and type(value) == 'table' and tonumber(value.schema)
    if found and found > schema then return {'newer', string.format('%.0f', found)} end
    if found ~= schema or (first and first ~= marker) then differ = true end
    first = first or marker
  end
end
local lists = {own('disabled')}
for bucket = 0, 255 do table.insert(lists, in_bucket(bucket, 'disabled')) end
local old, restored = redis.call('MGET', unpack(lists)), false
for number = 2, #lists do
  if not old[number] or old[number] ~= old[1] then restored = true end
end
if missing == 0 and not differ and old[1] and not restored then return {'done', 0, 0} end
write_disabled()
if missing > 0 or differ then
  local all = {}
  for _, name in ipairs(names) do
    table.insert(all, name)
    table.insert(all, fresh)
  end
  redis.call('MSET', unpack(all))
end
announce('a', '')
return {'done', (missing > 0 or differ) and 1 or 0, 1}
""",
)
"""Markers that are missing or differ become one new epoch: whoever had read under another one forgets what it knew."""
