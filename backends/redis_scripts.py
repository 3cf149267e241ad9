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
    "APPEND_AUDIT",
    "BEGIN_IMPORT",
    "CLAIM",
    "COMMIT_IMPORT",
    "COUNT_USES",
    "FORGET_USES",
    "LIST",
    "LOOK",
    "MIGRATE",
    "PRUNE_AUDIT",
    "PRUNE_CLAIMS",
    "PRUNE_USES",
    "RELEASE",
    "REMOVE",
    "SETTLE",
    "STAGE",
    "SWAP",
    "SWITCH_ORGANIZATION",
    "UNSTAGE",
    "Script",
]


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the hash by which the server keeps it."""

    text: bytes
    sha: bytes


def _script(*parts: str) -> Script:
    text = "\n".join(parts).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


_NAMES: Final = """
local prefix = ARGV[1]
local function own(name) return prefix .. ':{m}:' .. name end
local function in_bucket(bucket, name) return string.format('%s:{b%03d}:%s', prefix, bucket, name) end
local function record_at(address) return prefix .. ':{b' .. string.sub(address, 1, 3) .. '}:' .. string.sub(address, 5) end
"""

_BEGIN: Final = f"""{_NAMES}
local channel = ARGV[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if now > tonumber(ARGV[2]) then return {{'late'}} end
if redis.call('GET', own('epoch')) ~= ARGV[3] then return {{'moved'}} end
local at = string.format('%.0f', now)
"""

_ANNOUNCE: Final = """
local function announce(kind, text)
  local id = redis.call('XADD', own('log'), 'MAXLEN', '~', 10000, '*', kind, text, 'at', at)
  redis.call('PUBLISH', channel, kind .. ' ' .. at .. ' ' .. id .. ' ' .. text)
end
local function quietly(names) redis.call('PUBLISH', channel, 'q ' .. names) end
"""

_DISABLED: Final = """
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
"""

_INDEX: Final = """
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

ADD: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _INDEX,
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

SWAP: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _INDEX,
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

REMOVE: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _INDEX,
    """
local key_id = ARGV[5]
local address = redis.call('HGET', own('ids'), key_id)
if not address then return {'none'} end
local held = value_at(address)
if held and is_pending(held) then return {'none'} end
local organization = held and organization_of(held)
redis.call('DEL', record_at(address))
redis.call('HDEL', own('ids'), key_id)
redis.call('ZREM', own('keys'), key_id)
if organization then redis.call('ZREM', own('keys:' .. organization), key_id) end
forget_state(key_id)
if not held then return {'none'} end
local name = string.sub(address, 5)
if string.sub(name, 1, 1) == ',' then name = string.sub(name, 2) end
announce('k', name)
return {'done'}
""",
)
"""Also of a record that nobody can decode, and of what is left of one that was deleted by hand."""

ADD_ORGANIZATION: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _DISABLED,
    """
local id, raw, active = unpack(ARGV, 5, 7)
if redis.call('HSETNX', own('organizations'), id, raw) == 0 then return {'taken'} end
redis.call('ZADD', own('organizations:names'), 0, id)
if active == '0' then
  redis.call('SADD', own('inactive'), id)
  write_disabled()
end
return {'done'}
""",
)

SWITCH_ORGANIZATION: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _DISABLED,
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

LOOK: Final = _script(
    """
local held = redis.call('MGET', ARGV[2], ARGV[3], ARGV[4])
return {held[1], held[2], held[3], redis.call('TYPE', ARGV[2]).ok}
""",
)
"""What ``MGET`` says, and of which type its first key is. (``MULTI`` would do, but a full server refuses that.)"""

LIST: Final = _script(
    _NAMES,
    """
local zset, from, count = ARGV[2], ARGV[3], ARGV[4]
local ids = redis.call('ZRANGEBYLEX', own(zset), from, '+', 'LIMIT', 0, count)
local addresses = #ids == 0 and {} or redis.call('HMGET', own('ids'), unpack(ids))
return {redis.call('GET', own('epoch')), redis.call('GET', own('disabled')), ids, addresses}
""",
)
"""One page of identifiers, and which imports were under way at that moment: of one either nothing is listed or all."""

BEGIN_IMPORT: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _DISABLED,
    """
local id, lease = ARGV[5], ARGV[6]
local holder = redis.call('GET', own('import'))
if holder and holder ~= id then return {'busy'} end
for _, other in ipairs(redis.call('SMEMBERS', own('imports'))) do
  if other ~= id then return {'left', other} end
end
redis.call('SET', own('import'), id, 'PX', lease)
redis.call('SADD', own('imports'), id)
write_disabled()
quietly('*')
return {'done'}
""",
)
"""Only one import writes at a time. ``left``: a process died in the middle of one, which is to be taken back first."""

STAGE: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _INDEX,
    """
local id, lease = ARGV[5], ARGV[6]
if redis.call('GET', own('import')) ~= id or redis.call('SISMEMBER', own('imports'), id) == 0 then return {'lost'} end
local total, names, key_ids, absent = (#ARGV - 6) / 6, {}, {}, {}
if total == 0 then return {'done', 0} end
for number = 1, total do
  names[number] = record_at(ARGV[6 * number + 1])
  key_ids[number] = ARGV[6 * number + 3]
end
local held = redis.call('MGET', unpack(names))
local others = redis.call('HMGET', own('ids'), unpack(key_ids))
for number = 1, total do
  if not held[number] then table.insert(absent, names[number]) end
end
if #absent > 0 and redis.call('EXISTS', unpack(absent)) > 0 then  -- MGET is silent about what is no text
  for number = 1, total do
    if not held[number] and redis.call('EXISTS', names[number]) == 1 then held[number] = '' end
  end
end
local verdict, owners, used, new = 'done', {}, {}, {}
local written, records, places, listed, by_owner = {}, {}, {}, {}, {}
for number = 1, total do
  local address, raw, key_id, organization = unpack(ARGV, 6 * number + 1, 6 * number + 4)
  local name = names[number]
  local owner = owners[name] or held[number] and (organization_of(held[number]) or '')
  if owner then
    if owner ~= organization then
      verdict = owner == '' and 'corrupt' or 'taken'
      break
    end
  elseif used[key_id] or others[number] and value_at(others[number]) then
    verdict = 'taken'
    break
  else
    owners[name], used[key_id] = organization, true
    by_owner[organization] = by_owner[organization] or {}
    for _, value in ipairs({address, key_id, organization}) do table.insert(written, value) end
    for _, value in ipairs({name, raw}) do table.insert(records, value) end
    for _, value in ipairs({key_id, address}) do table.insert(places, value) end
    for _, value in ipairs({0, key_id}) do
      table.insert(listed, value)
      table.insert(by_owner[organization], value)
    end
    table.insert(new, number)
  end
end
if #new > 0 then
  redis.call('RPUSH', own('import:' .. id), unpack(written))
  redis.call('MSET', unpack(records))
  redis.call('HSET', own('ids'), unpack(places))
  redis.call('ZADD', own('keys'), unpack(listed))
  for organization, members in pairs(by_owner) do redis.call('ZADD', own('keys:' .. organization), unpack(members)) end
  for _, number in ipairs(new) do
    local state, expires = unpack(ARGV, 6 * number + 5, 6 * number + 6)
    if others[number] or state ~= 'active' or expires ~= '' then put_state(key_ids[number], state, expires) end
  end
  local staged = {}
  for at_name = 1, #records, 2 do table.insert(staged, records[at_name]) end
  quietly(table.concat(staged, ' '))
end
redis.call('PEXPIRE', own('import'), lease)  -- last: a server that is full refuses a script at its first growing write only
return {verdict, #new}
""",
)
"""Some records of an import, in order, with few commands. Nobody sees them before it is committed."""

UNSTAGE: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _DISABLED,
    _INDEX,
    """
local id = ARGV[5]
if redis.call('SISMEMBER', own('imports'), id) == 0 then return {'done'} end
local batch = redis.call('LPOP', own('import:' .. id), 3 * ARGV[6])
if not batch or #batch == 0 then
  redis.call('SREM', own('imports'), id)
  if redis.call('GET', own('import')) == id then redis.call('DEL', own('import')) end
  write_disabled()
  quietly('*')
  return {'done'}
end
local names = {}
for number = 1, #batch, 3 do
  local address, key_id, organization = unpack(batch, number, number + 2)
  local held = value_at(address)
  if held and import_of(held) == id then
    redis.call('DEL', record_at(address))
    table.insert(names, record_at(address))
    if redis.call('HGET', own('ids'), key_id) == address then
      redis.call('HDEL', own('ids'), key_id)
      redis.call('ZREM', own('keys'), key_id)
      redis.call('ZREM', own('keys:' .. organization), key_id)
      forget_state(key_id)
    end
  end
end
if #names > 0 then quietly(table.concat(names, ' ')) end
return {'more'}
""",
)
"""Take back some of what an import has written; when nothing is left, the import itself."""

COMMIT_IMPORT: Final = _script(
    _BEGIN,
    _ANNOUNCE,
    _DISABLED,
    """
local id, changes = ARGV[5], tonumber(ARGV[6])
if redis.call('GET', own('import')) ~= id or redis.call('SISMEMBER', own('imports'), id) == 0 then return {'lost'} end
for number = 7, #ARGV, 3 do
  local organization, raw, active = unpack(ARGV, number, number + 2)
  if redis.call('HSETNX', own('organizations'), organization, raw) == 1 then
    redis.call('ZADD', own('organizations:names'), 0, organization)
    if active == '0' then redis.call('SADD', own('inactive'), organization) end
    changes = changes + 1
  end
end
redis.call('SREM', own('imports'), id)
write_disabled()
if changes > 0 then announce('a', '') else quietly('*') end
redis.call('DEL', own('import'))
redis.call('UNLINK', own('import:' .. id))
return {'done'}
""",
)
"""From here on its records exist, all at once: their import's id stands in no list any more."""

MIGRATE: Final = _script(
    _NAMES,
    _DISABLED,
    """
local channel, schema, fresh = ARGV[2], tonumber(ARGV[3]), ARGV[4]
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
local clock = redis.call('TIME')
local at = string.format('%.0f', clock[1] * 1000000 + clock[2])
local id = redis.call('XADD', own('log'), 'MAXLEN', '~', 10000, '*', 'a', '', 'at', at)
redis.call('PUBLISH', channel, 'a ' .. at .. ' ' .. id .. ' ')
return {'done', (missing > 0 or differ) and 1 or 0, 1}
""",
)
"""Markers that are missing or differ become one new epoch: whoever had read under another one forgets what it knew."""

COUNT_USES: Final = _script(
    _BEGIN,
    """
local function later(one, other)
  if one == '' or (other ~= '' and tonumber(other) > tonumber(one)) then return other end
  return one
end
for number = 5, #ARGV, 5 do
  local key_id, hour, count, last, previous = unpack(ARGV, number, number + 4)
  redis.call('HINCRBY', own('usage:' .. key_id), hour, count)
  redis.call('ZADD', own('usage'), 'LT', hour, key_id)
  local held = redis.call('HGET', own('last_use'), key_id) or ' '
  local held_last, held_previous = string.match(held, '^(%-?%d*) (%-?%d*)$')
  redis.call('HSET', own('last_use'), key_id, later(last, held_last or '') .. ' ' .. later(previous, held_previous or ''))
end
return {'done'}
""",
)

FORGET_USES: Final = _script(
    _BEGIN,
    """
local key_id = ARGV[5]
redis.call('DEL', own('usage:' .. key_id))
redis.call('ZREM', own('usage'), key_id)
redis.call('HDEL', own('last_use'), key_id)
return {'done'}
""",
)

PRUNE_USES: Final = _script(
    _BEGIN,
    """
local before, pruned = tonumber(ARGV[5]), 0
for number = 6, #ARGV do
  local key_id, first = ARGV[number], nil
  for _, hour in ipairs(redis.call('HKEYS', own('usage:' .. key_id))) do
    if tonumber(hour) < before then
      pruned = pruned + redis.call('HDEL', own('usage:' .. key_id), hour)
    elseif not first or tonumber(hour) < tonumber(first) then
      first = hour
    end
  end
  if first then redis.call('ZADD', own('usage'), first, key_id) else redis.call('ZREM', own('usage'), key_id) end
end
return {'done', pruned}
""",
)

APPEND_AUDIT: Final = _script(
    _BEGIN,
    """
local organization, seq, previous, hash, raw, nothing = unpack(ARGV, 5, 10)
local held = redis.call('HGET', own('audit'), organization)
local head = held and cjson.decode(held) or {'0', nothing, '0', nothing}
if tonumber(seq) ~= tonumber(head[1]) + 1 or previous ~= head[2] then return {'grown'} end
redis.call('XADD', own('audit:' .. organization), seq .. '-0', 'entry', raw)
redis.call('HSET', own('audit'), organization, cjson.encode({seq, hash, head[3], head[4]}))
return {'done'}
""",
)
"""A head is four texts: seq and hash of the last entry, and of the last one that was pruned."""

PRUNE_AUDIT: Final = _script(
    _BEGIN,
    """
local organization, seq, hash, kept = unpack(ARGV, 5, 8)
local held = redis.call('HGET', own('audit'), organization)
local head = held and cjson.decode(held)
if not head or tonumber(head[3]) >= tonumber(seq) then return {'done', 0} end
local pruned = redis.call('XTRIM', own('audit:' .. organization), 'MINID', kept)
redis.call('HSET', own('audit'), organization, cjson.encode({head[1], head[2], seq, hash}))
return {'done', pruned}
""",
)

CLAIM: Final = _script(
    _BEGIN,
    """
local name, fingerprint, moment, till = unpack(ARGV, 5, 8)
local held = redis.call('HGET', own('claims'), name)
if held and tonumber(string.match(held, '^%-?%d+')) > tonumber(moment) then
  return {'held', held, redis.call('HGET', own('claims:answers'), name)}
end
redis.call('HSET', own('claims'), name, till .. ' ' .. fingerprint)
redis.call('HDEL', own('claims:answers'), name)
redis.call('ZADD', own('claims:until'), till, name)
return {'done'}
""",
)

SETTLE: Final = _script(
    _BEGIN,
    """
local name, answer, till = unpack(ARGV, 5, 7)
local held = redis.call('HGET', own('claims'), name)
if held then
  redis.call('HSET', own('claims'), name, till .. string.match(held, '^%-?%d+(.*)$'))
  redis.call('HSET', own('claims:answers'), name, answer)
  redis.call('ZADD', own('claims:until'), till, name)
end
return {'done'}
""",
)

_FORGET_CLAIM: Final = """
local function forget(name)
  redis.call('ZREM', own('claims:until'), name)
  redis.call('HDEL', own('claims:answers'), name)
  return redis.call('HDEL', own('claims'), name)
end
"""

RELEASE: Final = _script(_BEGIN, _FORGET_CLAIM, "forget(ARGV[5])", "return {'done'}")

PRUNE_CLAIMS: Final = _script(
    _BEGIN,
    _FORGET_CLAIM,
    """
local pruned = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', own('claims:until'), '-inf', ARGV[5], 'LIMIT', 0, ARGV[6])) do
  pruned = pruned + forget(name)
end
return {'done', pruned}
""",
)
