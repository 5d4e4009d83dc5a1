-- Events whose ticket was lost (younger ones were claimed, or the queue is empty): a new ticket.
-- ARGV  queue, then id, the score it was seen with, for each event
-- Gives {unsent tickets, the ids that got a new ticket}
local woken = {}
for i = 2, #ARGV, 2 do
  local score = redis.call('ZSCORE', WAITS.accepted, ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    wake(ARGV[i])
    woken[#woken + 1] = ARGV[i]
  end
end
return {unsent, woken}
