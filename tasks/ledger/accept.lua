-- Take events: back-pressure check, dedupe, envelope into the ledger, into its subject's line, tickets; all or nothing.
-- ARGV  queue, most that may wait, source, how long to wait for an event's person and to remember it (seconds), number of
--       events, then for each id, label, type, envelope, subject ('' = none), what the envelope says of its person
--       ('' = nothing), number of its correlation keys, the keys, its own first
-- Gives {'full'} or {'ok', unsent tickets, 1 or 0 for each event: new or duplicate}
local most, source = tonumber(ARGV[2]), ARGV[3]
local wait, remember, events = tonumber(ARGV[4]) * 1000000, ARGV[5], tonumber(ARGV[6])
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
local at = 7
for i = 1, events do
  local id, envelope, subject, said, keys = ARGV[at], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], {}
  local event, label_, type_ = event_key(id), ARGV[at + 1], ARGV[at + 2]
  for n = 1, tonumber(ARGV[at + 6]) do keys[n] = ARGV[at + 6 + n] end
  at = at + 7 + #keys
  answer[i + 2] = 1 - redis.call('EXISTS', event)
  if answer[i + 2] == 1 then
    new = new + 1
    local seeks = said == '' and subject == '' and #keys > 0
    local known = seeks and not others_wait(keys) and known_by(keys)
    if known then
      envelope, subject = completed(envelope, known), string.match(known, '^%S*')
    end
    redis.call('HSET', event, 'at', micros(at_), 'source', source, 'label', label_, 'type', type_, 'env', envelope)
    at_ = at_ + 1
    local state
    if seeks and not known then
      state = 'unidentified'
      redis.call('HSET', event, 'keys', table.concat(keys, ' '))
      redis.call('RPUSH', early_key(keys[1]), id)
    else
      state = enter(event, id, subject)
    end
    redis.call('HSET', event, 'state', state)
    redis.call('ZADD', WAITS[state], micros(state == 'unidentified' and now + wait or now), id)
    if said ~= '' then known = subject .. ' ' .. said end
    if known then teach(keys, known, remember, said ~= '') end
    if state == 'accepted' then
      heads[#heads + 1], label = id, label_
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
