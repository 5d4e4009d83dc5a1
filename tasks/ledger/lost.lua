-- Events whose ticket was lost (younger ones were claimed, or the queue is empty): a new ticket.
-- KEYS  accepted, queue list
-- ARGV  id, the score it was seen with, ticket ('' = none) for each event
-- Gives the ids that got a new ticket
local accepted, queue = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local woken = {}
for i = 1, #ARGV, 3 do
  local id, seen, ticket = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local score = redis.call('ZSCORE', accepted, id)
  if score and tonumber(score) == tonumber(seen) then
    redis.call('ZADD', accepted, now, id)
    if ticket ~= '' then redis.call('LPUSH', queue, ticket) end
    woken[#woken + 1] = id
  end
end
return woken
