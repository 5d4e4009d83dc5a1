-- A worker that must end gives its leases up: they are free now, and its end is not the events' fault.
-- ARGV  queue, then id, owner for each lease
for i = 2, #ARGV, 2 do
  local id, owner = ARGV[i], ARGV[i + 1]
  if redis.call('HGET', event_key(id), 'owner') == owner and redis.call('ZSCORE', WAITS.running, id) then
    -- What runs out is counted as a crash by whoever finds it.
    redis.call('HINCRBY', event_key(id), 'crashes', -1)
    redis.call('ZADD', WAITS.running, 'XX', 0, id)
  end
end
return redis.status_reply('OK')
