-- Say that a worker still lives: the leases it holds run anew.
-- ARGV  queue, lease in microseconds, then id, owner for each lease
-- Gives 1 or 0 for each: still its own, or lost
local until_ = micros(now + tonumber(ARGV[2]))
local kept = {}
for i = 3, #ARGV, 2 do
  local own = redis.call('HGET', event_key(ARGV[i]), 'owner') == ARGV[i + 1]
  own = own and redis.call('ZSCORE', WAITS.running, ARGV[i])
  if own then redis.call('ZADD', WAITS.running, 'XX', until_, ARGV[i]) end
  kept[#kept + 1] = own and 1 or 0
end
return kept
