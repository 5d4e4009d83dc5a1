-- Retries whose time has come: back to the queue.
-- KEYS  accepted, retrying, queue list, then one event hash for each id
-- ARGV  id, ticket ('' = none) for each event
-- Gives the ids put back
local accepted, retrying, queue = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local back = {}
for i = 1, #KEYS - 3 do
  local event, id, ticket = KEYS[3 + i], ARGV[2 * i - 1], ARGV[2 * i]
  local due = redis.call('ZSCORE', retrying, id)
  if due and tonumber(due) <= now then
    redis.call('ZREM', retrying, id)
    redis.call('HSET', event, 'state', 'accepted')
    redis.call('ZADD', accepted, string.format('%.0f', now), id)
    if ticket ~= '' then redis.call('LPUSH', queue, ticket) end
    back[#back + 1] = id
  end
end
return back
