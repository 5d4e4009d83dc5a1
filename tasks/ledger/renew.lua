-- Say that the worker still lives: every lease it holds runs anew.
-- KEYS  running
-- ARGV  lease in microseconds, then the ids
local time = redis.call('TIME')
local until_ = string.format('%.0f', time[1] * 1000000 + time[2] + tonumber(ARGV[1]))
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', until_, ARGV[i])
end
return redis.status_reply('OK')
