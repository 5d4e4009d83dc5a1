-- Keep events that are invalid by their content: accepted, and dead at once.
-- KEYS  counts, dead, then one event hash for each event
-- ARGV  source, then id, label, type, envelope, record of the dead letter for each event
-- Gives 1 or 0 for each event: new or duplicate
local counts, dead, source = KEYS[1], KEYS[2], ARGV[1]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local answer, new, events = {}, 0, #KEYS - 2
for i = 1, events do
  local event, at = KEYS[2 + i], 5 * i - 3
  answer[i] = 1 - redis.call('EXISTS', event)
  if answer[i] == 1 then
    redis.call('HSET', event, 'state', 'dead', 'at', now, 'ended', now, 'source', source,
      'label', ARGV[at + 1], 'type', ARGV[at + 2], 'env', ARGV[at + 3], 's:-', 'dead', 'd:-', ARGV[at + 4])
    redis.call('ZADD', dead, now, ARGV[at] .. ':-')
    new = new + 1
  end
end
local row = 'source/' .. source .. '/'
redis.call('HINCRBY', counts, row .. 'accepted', events)
if new > 0 then
  redis.call('HINCRBY', counts, row .. 'dead', new)
  redis.call('HINCRBY', counts, 'route/-/accepted', new)
  redis.call('HINCRBY', counts, 'route/-/dead', new)
end
if new < events then
  redis.call('HINCRBY', counts, row .. 'duplicate', events - new)
end
return answer
