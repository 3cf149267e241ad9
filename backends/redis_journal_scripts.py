"""The scripts of use counts, audit trail and claims; none of them touches a bucket or announces anything."""

from __future__ import annotations

from typing import Final

from backends.redis_scripts import BEGIN, script

__all__ = [
    "APPEND_AUDIT",
    "CLAIM",
    "COUNT_USES",
    "FORGET_USES",
    "PRUNE_AUDIT",
    "PRUNE_CLAIMS",
    "PRUNE_USES",
    "RELEASE",
    "SETTLE",
]

COUNT_USES: Final = script(
    BEGIN,
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

FORGET_USES: Final = script(
    BEGIN,
    """
local key_id = ARGV[5]
redis.call('DEL', own('usage:' .. key_id))
redis.call('ZREM', own('usage'), key_id)
redis.call('HDEL', own('last_use'), key_id)
return {'done'}
""",
)

PRUNE_USES: Final = script(
    BEGIN,
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

APPEND_AUDIT: Final = script(
    BEGIN,
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

PRUNE_AUDIT: Final = script(
    BEGIN,
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

CLAIM: Final = script(
    BEGIN,
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

SETTLE: Final = script(
    BEGIN,
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

RELEASE: Final = script(BEGIN, _FORGET_CLAIM, "forget(ARGV[5])", "return {'done'}")

PRUNE_CLAIMS: Final = script(
    BEGIN,
    _FORGET_CLAIM,
    """
local pruned = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', own('claims:until'), '-inf', ARGV[5], 'LIMIT', 0, ARGV[6])) do
  pruned = pruned + forget(name)
end
return {'done', pruned}
""",
)
