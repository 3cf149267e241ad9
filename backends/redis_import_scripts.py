"""The scripts of an import: its beginning, its steps, and the one moment from which its records exist.

None of their small steps is announced: the server's own tracking, which hears of them, is told that nothing has changed.
"""

from __future__ import annotations

from typing import Final

from backends.redis_scripts import ANNOUNCE, BEGIN, INDEX, ORGANIZATIONS, script

__all__ = ["BEGIN_IMPORT", "COMMIT_IMPORT", "STAGE", "UNSTAGE"]

BEGIN_IMPORT: Final = script(
    BEGIN,
    ANNOUNCE,
    ORGANIZATIONS,
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

STAGE: Final = script(
    BEGIN,
    ANNOUNCE,
    INDEX,
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

UNSTAGE: Final = script(
    BEGIN,
    ANNOUNCE,
    ORGANIZATIONS,
    INDEX,
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
      forget_place(key_id, organization)
    end
  end
end
if #names > 0 then quietly(table.concat(names, ' ')) end
return {'more'}
""",
)
"""Take back some of what an import has written; when nothing is left, the import itself."""

COMMIT_IMPORT: Final = script(
    BEGIN,
    ANNOUNCE,
    ORGANIZATIONS,
    """
local id, changes = ARGV[5], tonumber(ARGV[6])
if redis.call('GET', own('import')) ~= id or redis.call('SISMEMBER', own('imports'), id) == 0 then return {'lost'} end
for number = 7, #ARGV, 3 do
  local organization, raw, active = unpack(ARGV, number, number + 2)
  if put_organization(organization, raw, active) then changes = changes + 1 end
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
