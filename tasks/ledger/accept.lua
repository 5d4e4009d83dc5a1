-- Take events: back-pressure check, dedupe, envelope into the ledger, tickets onto the queue; all or nothing.
-- KEYS  accepted, counts, queue list, running, retrying, then one event hash for each event
-- ARGV  most that may wait, source, number of tickets (0 = somebody else carries them), the tickets,
--       then id, label, type, envelope for each event
-- Gives {'full'} or {'ok', 1 or 0 for each event: new or duplicate}
local accepted, counts, queue = KEYS[1], KEYS[2], KEYS[3]
local most, source, tickets = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local events = #KEYS - 5
local waiting = redis.call('ZCARD', accepted) + redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5])
if waiting + events > most then
  return {'full'}
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local answer, new = {'ok'}, 0
for i = 1, events do
  local event, at = KEYS[5 + i], tickets + 4 * i
  if redis.call('EXISTS', event) == 1 then
    answer[i + 1] = 0
  else
    redis.call('HSET', event, 'state', 'accepted', 'at', now, 'source', source,
      'label', ARGV[at + 1], 'type', ARGV[at + 2], 'env', ARGV[at + 3])
    redis.call('ZADD', accepted, now, ARGV[at])
    answer[i + 1] = 1
    new = new + 1
  end
end
local row = 'source/' .. source .. '/'
redis.call('HINCRBY', counts, row .. 'accepted', events)
if new > 0 then
  redis.call('HINCRBY', counts, row .. 'waiting', new)
  for i = 1, tickets do
    redis.call('LPUSH', queue, ARGV[3 + i])
  end
end
if new < events then
  redis.call('HINCRBY', counts, row .. 'duplicate', events - new)
end
return answer
