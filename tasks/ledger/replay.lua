-- Put one dead letter back: the same route only, at the end of its subject's line.
-- ARGV  queue, id, route, record of the delivery to go on with
-- Gives {unsent tickets, 1, or 0 when it is no dead letter (any more)}
local id, route, record = ARGV[2], ARGV[3], ARGV[4]
local event, member = event_key(id), id .. ':' .. route
if redis.call('HGET', event, 's:' .. route) ~= 'dead' then
  return {unsent, 0}
end
redis.call('ZREM', DEAD, member)
count('route', route, 'dead', -1)
measure('route_replayed_total', route)
local state = redis.call('HGET', event, 'state')
if route == '-' then
  -- It died before it had routes: as if it had never been tried.
  redis.call('HDEL', event, 's:-', 'd:-')
  count('route', route, 'accepted', -1)
  unbury(event, route)
  -- Whoever puts it back wants it, whatever its publisher's time was.
  redis.call('HSET', event, 'from', micros(now), 'again', '1')
else
  redis.call('HSET', event, 's:' .. route, 'pending', 'd:' .. route, record, 'f:' .. route, micros(now))
  count('route', route, 'waiting', 1)
end
redis.call('HDEL', event, 'crashes')
if state == 'dead' then
  local source = redis.call('HGET', event, 'source')
  count('source', source, 'dead', -1)
  count('source', source, 'waiting', 1)
  measure('source_replayed_total', source)
  redis.call('HDEL', event, 'ended')
end
-- accepted: its ticket is on the way; running: settling finds the pending delivery and lets it go on.
wake_in_line(id)
return {unsent, 1}
