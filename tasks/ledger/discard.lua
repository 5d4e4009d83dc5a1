-- Throw one dead letter away. It stays counted as dead, and is counted as discarded beside that.
-- KEYS  event hash, dead, counts
-- ARGV  id, route, seconds to remember the id
-- Gives 1, or 0 when it is no dead letter (any more)
local event, dead, counts = KEYS[1], KEYS[2], KEYS[3]
local id, route, remember = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', event, 's:' .. route) ~= 'dead' then
  return 0
end
redis.call('ZREM', dead, id .. ':' .. route)
redis.call('HSET', event, 's:' .. route, 'discarded')
redis.call('HDEL', event, 'd:' .. route)
redis.call('HINCRBY', counts, 'route/' .. route .. '/discarded', 1)
if redis.call('HGET', event, 'state') ~= 'dead' then
  return 1
end
local hash = redis.call('HGETALL', event)
for i = 1, #hash, 2 do
  if string.sub(hash[i], 1, 2) == 's:' and hash[i + 1] == 'dead' then
    return 1
  end
end
redis.call('HINCRBY', counts, 'source/' .. redis.call('HGET', event, 'source') .. '/discarded', 1)
redis.call('HSET', event, 'state', 'discarded')
redis.call('HDEL', event, 'env', 'crashes')
redis.call('EXPIRE', event, remember)
return 1
