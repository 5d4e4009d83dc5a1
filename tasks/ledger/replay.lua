-- Put one dead letter back: the same route only.
-- KEYS  event hash, accepted, retrying, dead, counts, queue list
-- ARGV  id, route, record of the delivery to go on with, ticket ('' = none)
-- Gives 1, or 0 when it is no dead letter (any more)
local event, accepted, retrying, dead, counts, queue = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, route, record, ticket = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', event, 's:' .. route) ~= 'dead' then
  return 0
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local row = 'route/' .. route .. '/'
redis.call('ZREM', dead, id .. ':' .. route)
redis.call('HINCRBY', counts, row .. 'dead', -1)
if route == '-' then
  -- It died before it had routes: as if it had never been tried.
  redis.call('HDEL', event, 's:-', 'd:-')
  redis.call('HINCRBY', counts, row .. 'accepted', -1)
else
  redis.call('HSET', event, 's:' .. route, 'pending', 'd:' .. route, record)
  redis.call('HINCRBY', counts, row .. 'waiting', 1)
end
redis.call('HDEL', event, 'crashes')
local state = redis.call('HGET', event, 'state')
if state == 'dead' then
  local source = 'source/' .. redis.call('HGET', event, 'source') .. '/'
  redis.call('HINCRBY', counts, source .. 'dead', -1)
  redis.call('HINCRBY', counts, source .. 'waiting', 1)
  redis.call('HSET', event, 'state', 'accepted')
  redis.call('HDEL', event, 'ended')
  redis.call('ZADD', accepted, now, id)
  if ticket ~= '' then redis.call('LPUSH', queue, ticket) end
elseif state == 'retrying' then
  redis.call('ZADD', retrying, now, id)
end
-- accepted: its ticket is on the way; running: settling finds the pending delivery and lets it go on.
return 1
