-- Say that a worker still lives: the leases it holds run anew.
-- ARGV  queue, lease in microseconds, then id, owner for each lease
local until_ = micros(now + tonumber(ARGV[2]))
for i = 3, #ARGV, 2 do
  if redis.call('HGET', event_key(ARGV[i]), 'owner') == ARGV[i + 1] then
    redis.call('ZADD', WAITS.running, 'XX', until_, ARGV[i])
  end
end
return redis.status_reply('OK')
