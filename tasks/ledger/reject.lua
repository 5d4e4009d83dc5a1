-- Keep events that are invalid by their content: accepted, and dead at once.
-- ARGV  queue, source, then id, label, type, envelope, record of the dead letter for each event
-- Gives 1 or 0 for each event: new or duplicate
local source = ARGV[2]
local answer, new, events = {}, 0, (#ARGV - 2) / 5
for i = 1, events do
  local at = 5 * i - 2
  local event = event_key(ARGV[at])
  answer[i] = 1 - redis.call('EXISTS', event)
  if answer[i] == 1 then
    redis.call('HSET', event, 'state', 'dead', 'at', micros(now), 'ended', micros(now), 'source', source,
      'label', ARGV[at + 1], 'type', ARGV[at + 2], 'env', ARGV[at + 3], 's:-', 'dead', 'd:-', ARGV[at + 4])
    redis.call('ZADD', DEAD, micros(now), ARGV[at] .. ':-')
    new = new + 1
    measure('source_dead_letters_total', source, reason_in(ARGV[at + 4]))
    measure('route_dead_letters_total', '-', '-', reason_in(ARGV[at + 4]))
  end
end
count('source', source, 'accepted', events)
if new > 0 then
  count('source', source, 'dead', new)
  count('route', '-', 'accepted', new)
  count('route', '-', 'dead', new)
end
if new < events then count('source', source, 'duplicate', events - new) end
return answer
