-- A worker that must end gives its leases up: they run out now, and its end is not the events' fault.
-- KEYS  running, then one event hash for each lease
-- ARGV  id, owner for each lease
-- The first command needs no memory: after it a full Redis carries out the others too.
redis.call('PERSIST', KEYS[1])
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
for i = 2, #KEYS do
  local id, owner = ARGV[2 * i - 3], ARGV[2 * i - 2]
  if redis.call('HGET', KEYS[i], 'owner') == owner and redis.call('ZSCORE', KEYS[1], id) then
    -- What runs out is counted as a crash by whoever finds it.
    redis.call('HINCRBY', KEYS[i], 'crashes', -1)
    redis.call('ZADD', KEYS[1], 'XX', now, id)
  end
end
return redis.status_reply('OK')
