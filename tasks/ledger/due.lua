-- Retries whose time has come: back to the queue.
-- ARGV  queue, then the ids
-- Gives {unsent tickets, the ids put back}
local back = {}
for i = 2, #ARGV do
  local due = redis.call('ZSCORE', WAITS.retrying, ARGV[i])
  if due and tonumber(due) <= now then
    wake(ARGV[i])
    back[#back + 1] = ARGV[i]
  end
end
return {unsent, back}
