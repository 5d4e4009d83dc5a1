-- Take events: back-pressure check, dedupe, envelope into the ledger, into its subject's line, tickets; all or nothing.
-- ARGV  queue, most that may wait, source, then id, label, type, envelope, subject ('' = none) for each event
-- Gives {'full'} or {'ok', unsent tickets, 1 or 0 for each event: new or duplicate}
local most, source = tonumber(ARGV[2]), ARGV[3]
local events = (#ARGV - 3) / 5
local waiting = 0
for _, key in pairs(WAITS) do waiting = waiting + redis.call('ZCARD', key) end
if waiting + events > most then
  return {'full'}
end
local answer, new, heads, label = {'ok', unsent}, 0, {}, nil
-- Each event has a time of its own: what is put back later is put back in this order.
local LAST = 'router:last'
local at_ = math.max(now, tonumber(redis.call('GET', LAST) or '0') + 1)
local function push_heads()
  if #heads == 0 then return end
  push_ticket(heads, #heads == 1 and label or source .. ' · ' .. #heads .. ' events')
  heads = {}
end
for i = 1, events do
  local at = 5 * i - 1
  local id, subject = ARGV[at], ARGV[at + 4]
  local event = event_key(id)
  answer[i + 2] = 1 - redis.call('EXISTS', event)
  if answer[i + 2] == 1 then
    new = new + 1
    redis.call('HSET', event, 'at', micros(at_), 'source', source, 'label', ARGV[at + 1], 'type', ARGV[at + 2],
      'env', ARGV[at + 3])
    at_ = at_ + 1
    local state = 'accepted'
    if subject ~= '' then
      redis.call('HSET', event, 'subject', subject)
      if redis.call('RPUSH', line_key(subject), id) > 1 then state = 'lined' end
    end
    redis.call('HSET', event, 'state', state)
    redis.call('ZADD', WAITS[state], micros(now), id)
    if state == 'accepted' then
      heads[#heads + 1], label = id, ARGV[at + 1]
      -- Enough to make Celery's cost of a message small, few enough that a thread is done with them soon.
      if #heads == 25 then push_heads() end
    end
  end
end
push_heads()
redis.call('SET', LAST, micros(at_))
count('source', source, 'accepted', events)
if new > 0 then count('source', source, 'waiting', new) end
if new < events then count('source', source, 'duplicate', events - new) end
return answer
