-- Say that a worker still lives: the leases it holds run anew.
-- KEYS  running, then one event hash for each lease
-- ARGV  lease in microseconds, then id, owner for each lease
local time = redis.call('TIME')
local until_ = string.format('%.0f', time[1] * 1000000 + time[2] + tonumber(ARGV[1]))
for i = 2, #KEYS do
  if redis.call('HGET', KEYS[i], 'owner') == ARGV[2 * i - 1] then
    redis.call('ZADD', KEYS[1], 'XX', until_, ARGV[2 * i - 2])
  end
end
return redis.status_reply('OK')
