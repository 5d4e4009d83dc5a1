-- Throw one dead letter away. It stays counted as dead, and is counted as discarded beside that.
-- ARGV  queue, id, route, seconds to remember the id
-- Gives {unsent tickets, 1, or 0 when it is no dead letter (any more)}
local id, route, remember = ARGV[2], ARGV[3], ARGV[4]
local event, member = event_key(id), id .. ':' .. route
if redis.call('HGET', event, 's:' .. route) ~= 'dead' then
  return {unsent, 0}
end
redis.call('ZREM', DEAD, member)
redis.call('HSET', event, 's:' .. route, 'discarded')
redis.call('HDEL', event, 'd:' .. route)
count('route', route, 'discarded', 1)
unbury(event, route)
local subject, order = unpack(redis.call('HMGET', event, 'subject', 'o:' .. route))
if subject and order then leave(subject, order, id, route) end
if redis.call('HGET', event, 'state') ~= 'dead' then
  return {unsent, 1}
end
local hash = redis.call('HGETALL', event)
for i = 1, #hash, 2 do
  if string.sub(hash[i], 1, 2) == 's:' and hash[i + 1] == 'dead' then
    return {unsent, 1}
  end
end
count('source', redis.call('HGET', event, 'source'), 'discarded', 1)
redis.call('HSET', event, 'state', 'discarded')
redis.call('HDEL', event, 'env', 'crashes')
redis.call('EXPIRE', event, remember)
return {unsent, 1}
